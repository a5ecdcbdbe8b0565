/* See reason.h. */
#include "reason.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients.h"
#include "log.h"

static const struct {
    const char *why, *advice;
} reasons[REASONS] = {
    [REASON_STRANGER] = {"its address is not in allow_from",
                         "add it to allow_from if it is one of yours"},
    [REASON_FOREIGN_PROTOCOL] = {"it speaks another protocol than SMTP",
                                 "this port takes mail only"},
    [REASON_TLS_HELLO] = {"TLS hello on the plain port",
                          "set the device to STARTTLS, or to a port of "
                          "listen_tls, or raise tls_detect_ms"},
    [REASON_TLS_TOO_OLD] = {"its TLS is too old: TLS 1.2 is the least",
                            "update the device, or add it to no_starttls_to "
                            "and switch its encryption off"},
    [REASON_TLS_NO_CIPHER] = {"its TLS has no cipher in common with ours",
                              "update the device, or add it to "
                              "no_starttls_to and switch its encryption off"},
    [REASON_TLS_DISTRUST] = {"it does not trust our certificate",
                             "switch certificate checks off on the device, or "
                             "set tls_cert_file to one that it trusts"},
    [REASON_TLS_NOT] = {"it answered in clear where TLS was due",
                        "set the device to the same encryption as this port"},
    [REASON_TLS_GONE] = {"it hung up during the TLS handshake",
                         "it may not trust our certificate: switch its checks "
                         "off, or set tls_cert_file"},
    [REASON_TLS_LEFT] = {"it hung up right after the TLS handshake",
                         "it may not trust our certificate: switch its checks "
                         "off, or set tls_cert_file"},
    [REASON_TLS_SLOW] = {"its TLS handshake took too long", NULL},
    [REASON_TLS_FAILED] = {"its TLS handshake failed:", NULL},
    [REASON_TLS_FULL] = {"all TLS sessions are taken",
                         "raise CLIENT_TLS_MAX in the build, or have fewer "
                         "devices encrypt"},
    [REASON_TLS_NONE] = {"TLS hello on the plain port, and we have no "
                         "certificate",
                         "set tls_cert_file, or make state_folder writable, or "
                         "switch encryption off on the device"},
    [REASON_TLS_PIPELINED] = {"it sent commands behind STARTTLS",
                              "somebody may be tampering with the connection"},
    [REASON_LOGIN_ABANDONED] = {"login abandoned at",
                                "check user and password on the device, or "
                                "switch its login off"},
    [REASON_LOGIN_WRONG] = {"wrong user or password, as",
                            "check the login on the device against users_file"},
    [REASON_LOGIN_MISSING] = {"it did not log in, and must",
                              "set user and password on the device, or take "
                              "it out of require_auth"},
    [REASON_TLS_MISSING] = {"it did not encrypt, and must",
                            "set the device to STARTTLS, or take it out of "
                            "require_tls"},
    [REASON_SILENT] = {"silent for too long", NULL},
    [REASON_SILENT_IN_DATA] = {"silent in DATA, or too slow, after",
                               "the device stopped in mid-mail: send less at "
                               "a time, or update it"},
    [REASON_HUNG_UP_IN_DATA] = {"hung up in DATA, after",
                                "the device or its network stopped in "
                                "mid-mail"},
    [REASON_TOO_LARGE] = {"message too large:",
                          "send less at a time, or raise message_max_bytes"},
    [REASON_REFUSED] = {"message refused:", NULL},
    [REASON_QUEUE_FULL] = {"the queue is full",
                           "mail waits for the smarthost: see why"},
    [REASON_ROUTE_RESTS] = {"the smarthost cannot be reached now, and ack_late "
                            "refuses",
                            "it will send again; see route=paused for why"},
    [REASON_TOO_MANY_RECIPIENTS] = {"too many recipients",
                                    "raise recipients_max"},
    [REASON_TOO_MANY_ERRORS] = {"too many errors", NULL},
    [REASON_NO_MESSAGE] = {"too many commands without a message", NULL},
    [REASON_STOPPING] = {"lanpost stops before it could pass the message on",
                         "send it again"},
};

const char *reason_why(enum reason reason)
{
    return reasons[reason].why;
}

void reason_tell(enum reason reason, const struct ip_address *client,
                 const char *helo, const char *detail, const char *advice)
{
    char address[IP_TEXT_BYTES], name[64], why[320];
    snprintf(why, sizeof why, "%s%s%s", reasons[reason].why,
             detail != NULL ? " " : "", detail != NULL ? detail : "");
    if (advice == NULL)
        advice = reasons[reason].advice;
    log_clean(name, sizeof name, helo, strlen(helo));
    log_line(LOG_AT_WARN, "in",
             "client=%s helo=\"%s\" refused why=\"%s\"%s%s%s",
             ip_format(client, address), name, why,
             advice != NULL ? " advice=\"" : "", advice != NULL ? advice : "",
             advice != NULL ? "\"" : "");
    clients_note_failure(client, why, advice, (int64_t)time(NULL));
}
