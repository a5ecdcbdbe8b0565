/* See advice.h. */
#include "advice.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* How long a fault of the route rests at least. BY_STEP: it is none by itself;
 * the step says whom it concerns. */
#define BY_STEP (-1)
#define AT_ONCE 0
#define BUSY_S  60
#define SETUP_S 900 /* a person has to change something */
#define LOGIN_S ROUTE_AUTH_SECONDS
#define QUOTA_S 3600

struct row {
    unsigned steps;       /* 0: any */
    const char *codes;    /* "530 534-538"; of a fault: ports; NULL: any */
    const char *statuses; /* "5.7.511 5.7.606-649"; NULL: any, and none */
    const char *words;    /* "these|those", in any case; NULL: any */
    int rest_s;
    const char *text; /* no two are the same; no quotes: log lines hold it */
};

static const struct row replies[] = {
    /* Logins. Their codes end with this part, so that no row further down can
     * take a fault of ours for one of the mail. */
    {0, NULL, "5.7.139", "SmtpClientAuthentication is disabled", LOGIN_S,
     "sending by SMTP is off in Microsoft 365: admin centre, Users, the "
     "mailbox, Mail, Manage email apps, tick Authenticated SMTP"},
    {0, NULL, "5.7.139", "basic authentication is disabled", LOGIN_S,
     "Microsoft takes no password of this mailbox, nor an app password: use a "
     "connector on port 25, or another smarthost"},
    {0, NULL, "5.7.30", "basic authentication", LOGIN_S,
     "Microsoft has switched passwords off for sending: an admin may switch "
     "them on again for now, else use a connector or another smarthost"},
    {0, NULL, "5.7.139", "security defaults", LOGIN_S,
     "the Security Defaults of your Microsoft 365 block passwords: use a "
     "connector on port 25, or Conditional Access in their place"},
    {0, NULL, "5.7.139", "did not meet the criteria", LOGIN_S,
     "the password may be right, but a policy refused it: look at "
     "Authenticated SMTP, MFA and Conditional Access of this mailbox"},
    {0, NULL, "5.7.139", "credentials were incorrect", LOGIN_S,
     "wrong user name or password: smarthost_user is the full sign-in address "
     "of the mailbox, not an alias"},
    {0, NULL, "5.7.139", "federated STS|does not support HTTPS", LOGIN_S,
     "your organization's own sign-in server, AD FS, is down, or too old for "
     "TLS 1.2"},
    {0, NULL, "5.7.139", NULL, LOGIN_S,
     "Microsoft 365 refused the login: its words say why; then look at "
     "Authenticated SMTP of this mailbox"},
    {0, "535", "5.7.3", NULL, LOGIN_S,
     "Microsoft refused the login: check smarthost_user, which is the full "
     "address, the password, and Authenticated SMTP of the mailbox"},
    {0, NULL, "5.7.57", NULL, LOGIN_S,
     "Microsoft got no login: set smarthost_user and smarthost_password, or "
     "use a connector on port 25, which needs none"},
    {0, "534", NULL, "application-specific password", LOGIN_S,
     "Google wants an app password: switch 2-step verification on, make one, "
     "and put it into smarthost_password"},
    {0, "535", NULL, "username and password not accepted", LOGIN_S,
     "Google refused the login: smarthost_password must be an app password, "
     "not that of the account"},
    {0, "530 538", NULL, "STARTTLS|encrypt", LOGIN_S,
     "the smarthost wants encryption: set smarthost_tls = starttls, or "
     "implicit on port 465"},
    {0, "535", NULL, NULL, LOGIN_S,
     "wrong user name or password: check smarthost_user and "
     "smarthost_password"},
    {0, "530 534 538", NULL, NULL, LOGIN_S,
     "the smarthost wants a login, or another kind of it: check "
     "smarthost_user, smarthost_password and smarthost_auth"},
    {ADVICE_AT_AUTH, "504", NULL, NULL, LOGIN_S,
     "this kind of login is not taken: set smarthost_auth = auto, or no "
     "smarthost_user where the port wants no login"},
    {0, "454", "4.7.0", "too many login attempts", LOGIN_S,
     "too many logins: it is tried again, rarely; see that no other program "
     "tries a wrong password for this account"},

    /* Too much, too fast, or just now. */
    {ADVICE_AT_RCPT | ADVICE_AT_DOT, "432", "4.3.2", "recipient thread limit",
     BY_STEP, "the recipient gets too much mail at a time: it is tried again"},
    {0, "432", "4.3.2", NULL, BUSY_S,
     "more than three connections use this mailbox: it is tried again; lower "
     "connections_max if this stays"},
    /* Not at RCPT: there the words may be an address, which anyone can type. */
    {ADVICE_AT_MAIL | ADVICE_AT_DATA | ADVICE_AT_DOT, NULL, NULL,
     "SubmissionQuotaExceeded|submission quota exceeded", QUOTA_S,
     "the mailbox has sent all it may in a day, and may again within a day: "
     "see that nobody misuses it"},
    {0, NULL, "5.1.90", NULL, QUOTA_S,
     "the mailbox has reached its recipients of a day, and opens again within "
     "a day: see that nobody misuses it"},
    {0, NULL, "5.7.232-233", NULL, QUOTA_S,
     "your organization has used up its outside recipients of a day: "
     "it opens again within a day, and more licences raise the limit"},
    {0, NULL, "5.7.236", NULL, QUOTA_S,
     "onmicrosoft.com addresses reach 100 outside recipients a day: set "
     "sender to an address of your own domain"},
    {0, NULL, "5.4.5", "daily", QUOTA_S,
     "the Google account has sent all it may in a day, and may again within "
     "a day: see that nobody misuses it"},
    {0, NULL, "4.7.650-651", NULL, BUSY_S,
     "Microsoft mistrusts your public address, as it does most home lines: "
     "log in at smtp.office365.com:587 instead"},
    {0, NULL, "4.7.500-699 4.7.850-899", NULL, BUSY_S,
     "Microsoft slows your public address down, for hours or days: it is "
     "tried again; a connector ends that"},
    {0, "451", "4.7.0", "temporary server error", BUSY_S,
     "Microsoft has a hiccup: it is tried again; if it lasts more than an "
     "hour, check user name and password"},
    {0, "452", "4.3.1", "system resources", BUSY_S,
     "the smarthost is short of resources: it is tried again"},
    {0, NULL, "4.3.2 4.3.111", NULL, BUSY_S,
     "the smarthost is out of service for a while: it is tried again"},
    {ADVICE_AT_EHLO, "421", "4.7.0", NULL, BUSY_S,
     "at smtp-relay.gmail.com: register your public address there, and set "
     "hostname to a name in your own domain"},
    {0, "421", "4.7.0", NULL, BUSY_S,
     "the smarthost wants fewer or slower connections: it is tried again; "
     "lower connections_max if this stays"},

    /* The account, or this box, is not let in. */
    {0, NULL, "5.2.2", "STOREDRV.Submission", SETUP_S,
     "the sending mailbox is full, often of sent copies: empty its Sent Items "
     "or give it a retention policy"},
    {0, NULL, "5.1.8", "bad outbound sender", SETUP_S,
     "Microsoft blocked this mailbox for spam: change its password, then free "
     "it in Defender under Restricted entities"},
    {0, NULL, "5.7.501-503", NULL, SETUP_S,
     "Microsoft has banned this account as a spammer: an admin must open a "
     "ticket with Microsoft Support"},
    {0, NULL, "5.7.705", NULL, SETUP_S,
     "Microsoft blocks your whole organization, for spam or a renewed "
     "subscription: end the cause, then wait a day or ask its support"},
    {0, NULL, "5.7.708", NULL, SETUP_S,
     "Microsoft mistrusts new or trial organizations: assign licences, or ask "
     "Microsoft Support for an exception"},
    {0, NULL, "5.7.750", NULL, SETUP_S,
     "add the sender's domain to your Microsoft 365 and verify it, or set "
     "sender to one of a verified domain"},
    {0, NULL, "5.7.64", NULL, SETUP_S,
     "Microsoft does not know this box: check the connector's public address "
     "or certificate name, and that the sender's domain is verified"},
    {0, NULL, "5.7.54", NULL, SETUP_S,
     "no connector fits, and the recipient is outside, where Direct Send does "
     "not reach: make a connector, or log in on port 587"},
    {0, NULL, "5.7.68", NULL, SETUP_S,
     "your organization has closed Direct Send: make a connector for this box "
     "in Microsoft 365, or log in on port 587"},
    {0, NULL, "4.4.62", NULL, SETUP_S,
     "this is not the MX of your domain: copy its name from the Microsoft 365 "
     "admin centre into smarthost"},
    {0, "450", "4.7.1", "ATTR14|unable to relay", SETUP_S,
     "Microsoft finds no connector for this box: make one, and check that "
     "smarthost is the MX of your own domain"},
    {0, NULL, "5.7.511 5.7.606-649", NULL, SETUP_S,
     "Microsoft has banned your public address: have it freed at "
     "https://sender.office.com"},
    {0, NULL, "4.7.25-26", "IPv6", SETUP_S,
     "IPv6 mail needs a reverse name, SPF or DKIM: set smarthost_family = "
     "ipv4"},
    {0, NULL, NULL, "not accept email over IPv6", SETUP_S,
     "the smarthost takes no mail over IPv6: set smarthost_family = ipv4"},
    {0, NULL, "5.7.506", NULL, SETUP_S,
     "this box greets with the smarthost's own name: set hostname to a name "
     "of your own"},
    {ADVICE_AT_EHLO, NULL, "5.5.4", NULL, SETUP_S,
     "set hostname to a proper name with a dot, such as nas.example.com"},
    {0, NULL, NULL, "invalid credentials for relay", SETUP_S,
     "Google does not know this box: register its public address there, and "
     "set hostname and sender to your own domain"},
    {0, "421", "4.7.66", NULL, SETUP_S,
     "the smarthost saw a TLS older than 1.2, which lanpost never speaks: "
     "look for a proxy in between, or at the TLS library"},
    {ADVICE_AT_STARTTLS, NULL, "4.5.0", NULL, SETUP_S,
     "commands stood behind STARTTLS: somebody in between tampers with the "
     "connection, or lanpost has a fault: report it"},
    {ADVICE_AT_STARTTLS, NULL, NULL, NULL, AT_ONCE,
     "the smarthost cannot encrypt now, and nothing is sent in clear: if this "
     "stays, use port 465 with smarthost_tls = implicit"},
    {ADVICE_AT_GREETING, "500-599", NULL, NULL, SETUP_S,
     "the smarthost turns your public address away, as many do with home "
     "lines: use port 587 or 465 with a login"},
    {ADVICE_AT_AUTH, "400-499", NULL, NULL, BUSY_S,
     "the smarthost cannot check logins now: it is tried again"},
    {ADVICE_AT_AUTH, "500-599", NULL, NULL, LOGIN_S,
     "the smarthost refused the login: check smarthost_user and "
     "smarthost_password, and what its words say"},

    /* The mail, its sender or its recipient. */
    {0, NULL, "5.7.60", NULL, BY_STEP,
     "the device sends as another than smarthost_user: set sender to that "
     "mailbox and sender_rewrite = always, or grant it SendAs"},
    {0, NULL, NULL, "SendAsDenied", BY_STEP,
     "this mailbox may send only as itself: set sender to it and "
     "sender_rewrite = always, or grant it SendAs"},
    {0, NULL, "5.7.509", NULL, BY_STEP,
     "the sender's domain forbids others to send for it (DMARC): set sender "
     "to an address of your own domain, and sender_rewrite = always"},
    {0, NULL, "5.7.512", NULL, BY_STEP,
     "the mail has no valid From: set sender, and sender_rewrite = always"},
    {0, NULL, "5.1.20", NULL, BY_STEP,
     "the mail has several From addresses: set sender, and sender_rewrite = "
     "always"},
    {0, "550", "5.7.1", "missing a valid", BY_STEP,
     "Google does not take the device's From or Message-ID: set sender, and "
     "sender_rewrite = always"},
    {0, NULL, "5.6.11", NULL, BY_STEP,
     "the mail has broken line ends, which lanpost mends: report this as a "
     "fault of lanpost"},
    {0, NULL, "5.3.4 5.2.3", NULL, BY_STEP,
     "the mail is too large for the smarthost: scan with fewer dpi or in "
     "grey, send less at a time, or raise the limit of the mailbox"},
    {0, NULL, "5.7.703", NULL, BY_STEP,
     "a recipient is on your own Tenant Allow/Block List: send again without "
     "it, or free it there"},
    {0, NULL, "5.1.3", NULL, BY_STEP,
     "the recipient's address is mistyped: correct it on the device"},
    {0, NULL, "5.1.7", NULL, BY_STEP,
     "the sender's address is mistyped: correct it on the device, or set "
     "sender"},
    {0, NULL, "5.1.1 5.1.10", NULL, BY_STEP,
     "there is no such recipient: check the address on the device"},
    {0, NULL, "5.4.1", "recipient address rejected", BY_STEP,
     "the recipient's domain knows no such address: check it on the device"},
    {0, NULL, "4.5.3", NULL, BY_STEP,
     "too many recipients at a time: the others are tried again; raise the "
     "limit of the account, or send to fewer"},
    {ADVICE_AT_RCPT, "550-554", NULL,
     "relay access denied|relaying denied|relay not permitted", BY_STEP,
     "the smarthost passes mail to others on only after a login: set "
     "smarthost_user and smarthost_password"},
};

/* The words are those of trust, tls, dns, route, smtp_courier, and of both
 * glibc's and musl's strerror(). */
static const struct row faults[] = {
    {ADVICE_AT_TLS, NULL, NULL,
     "is valid only from|clock says 1|clock says 200|clock says 201|"
     "clock says 2020|clock says 2021|clock says 2022|clock says 2023|"
     "clock says 2024|clock says 2025",
     AT_ONCE,
     "check this box's clock: with a wrong date no certificate can be "
     "trusted"},
    {ADVICE_AT_TLS, NULL, NULL, "expired on", AT_ONCE,
     "the smarthost's certificate has run out: if this box's clock is right, "
     "who runs the smarthost must renew it"},
    {ADVICE_AT_TLS, NULL, NULL, "its certificate is for", AT_ONCE,
     "set smarthost to the name that the certificate bears, or "
     "smarthost_tls_name where that cannot be"},
    {ADVICE_AT_TLS, NULL, NULL, "is self-signed", AT_ONCE,
     "if this is a server of your own, put its certificate into "
     "smarthost_ca_file; else somebody may stand in between"},
    {ADVICE_AT_TLS, NULL, NULL, "smarthost_ca_file does not know", AT_ONCE,
     "the CA bundle of this box is too old, or lacks this authority: update "
     "ca-certificates, or set smarthost_ca_file"},
    {ADVICE_AT_TLS, NULL, NULL, "too weak to trust", AT_ONCE,
     "the smarthost needs a new certificate: the key or signature of this one "
     "protects nobody any more"},
    {ADVICE_AT_TLS, NULL, NULL, "may not be used for this", AT_ONCE,
     "the smarthost shows a certificate that is none for servers: tell who "
     "runs it"},
    {ADVICE_AT_TLS, NULL, NULL, "in clear where TLS was due", AT_ONCE,
     "this port does not begin with TLS: set smarthost_tls = starttls, or use "
     "port 465"},
    {ADVICE_AT_TLS, NULL, NULL, "no TLS 1.2|too old a TLS|no cipher", AT_ONCE,
     "the smarthost and lanpost have no safe TLS in common: the smarthost "
     "needs an update, or is not the one you mean"},
    {ADVICE_AT_TLS, NULL, NULL, "tampered with", AT_ONCE,
     "bytes changed on the way: a firewall or virus scanner in between "
     "meddles with TLS, or the line is bad"},
    {0, NULL, NULL, "no memory is left for TLS", AT_ONCE,
     "this box has no memory for one more TLS connection: lower "
     "connections_max"},
    {ADVICE_AT_TLS, NULL, NULL, "hung up|stalled|closed|reset", AT_ONCE,
     "the smarthost broke off before TLS was up: a firewall in between may "
     "block it, or smarthost_tls does not fit the port"},

    {ADVICE_AT_NAME, NULL, NULL, "does not exist", AT_ONCE,
     "there is no such server: check the spelling of smarthost"},
    {ADVICE_AT_NAME, NULL, NULL, "no name server answers", AT_ONCE,
     "this box reaches no name server: check its network, and the addresses "
     "in resolv_file"},
    {ADVICE_AT_NAME, NULL, NULL,
     "refuse or fail|makes no sense|too many aliases", AT_ONCE,
     "the name servers do not find the smarthost: try others in resolv_file, "
     "or check the spelling of smarthost"},
    {ADVICE_AT_NAME, NULL, NULL, "smarthost_family wants", AT_ONCE,
     "set smarthost_family = any, or check the spelling of smarthost"},
    {ADVICE_AT_NAME, NULL, NULL, "no usable address|no mail exchanger", AT_ONCE,
     "no server has this name: set smarthost to the one that your provider "
     "names for sending"},
    {ADVICE_AT_NAME, NULL, NULL, "not a name|can have this address", AT_ONCE,
     "smarthost must be host:port, such as smtp.example.com:587"},

    {ADVICE_AT_CONNECT, "25", NULL, "does not answer|timed out", AT_ONCE,
     "your provider may block port 25: use port 587 with a login"},
    {ADVICE_AT_CONNECT, NULL, NULL, "does not answer|timed out", AT_ONCE,
     "check the name and port of smarthost, and that no firewall holds this "
     "box back"},
    {ADVICE_AT_CONNECT, NULL, NULL, "refused", AT_ONCE,
     "nobody takes mail on this port: check smarthost, which is mostly on "
     "port 587, or on 465 with smarthost_tls = implicit"},
    {ADVICE_AT_CONNECT, NULL, NULL, "unreachable|no route to host", AT_ONCE,
     "this box has no way to the smarthost: check its network, or set "
     "smarthost_family = ipv4 where IPv6 does not work"},
    {ADVICE_AT_CONNECT, NULL, NULL, "permission denied|not permitted", AT_ONCE,
     "a firewall on this box forbids the connection: let lanpost out"},
    {ADVICE_AT_CONNECT, NULL, NULL, "open files|file descriptors", AT_ONCE,
     "lanpost may not open enough files: raise its limit of open files"},

    {ADVICE_AT_GREETING, "465 2465", NULL, NULL, AT_ONCE,
     "this port begins with TLS: set smarthost_tls = implicit if it is not, "
     "or use port 587"},
    {ADVICE_AT_GREETING, NULL, NULL, "no SMTP reply", AT_ONCE,
     "another service than mail is on this port: check smarthost and its "
     "port"},
    {ADVICE_AT_GREETING, NULL, NULL, "no greeting", AT_ONCE,
     "the smarthost is there but silent: it may be overloaded, or a firewall "
     "in between holds mail back"},
    {0, NULL, NULL, "no STARTTLS", AT_ONCE,
     "use port 587; if it is that already, a firewall or virus scanner in "
     "between takes the encryption away"},
    {0, NULL, NULL, "behind the reply to STARTTLS", AT_ONCE,
     "somebody in between tampers with the connection: try another network"},
    {0, NULL, NULL, "no login that we can use", LOGIN_S,
     "use port 587 or 465 with smarthost_auth = auto, or no smarthost_user "
     "where no login is wanted"},
};

/* ---- Matching ------------------------------------------------------------ */

struct said {
    char code[8];     /* "535", or "" */
    char status[12];  /* "5.7.139", or "" */
    const char *text; /* all of it */
};

/* "5.7.511 5.7.606-649" has "5.7.620"; what is before the last dot stands as it
 * is. */
static bool list_has(const char *list, const char *number)
{
    const char *dot = strrchr(number, '.');
    size_t stem = dot != NULL ? (size_t)(dot - number) + 1 : 0;
    unsigned long is = strtoul(number + stem, NULL, 10);
    for (const char *at = list; at != NULL; at = strchr(at, ' ')) {
        at += *at == ' ';
        if (strncmp(at, number, stem) != 0)
            continue;
        char *end;
        unsigned long from = strtoul(at + stem, &end, 10);
        unsigned long to = *end == '-' ? strtoul(end + 1, NULL, 10) : from;
        if (from <= is && is <= to)
            return true;
    }
    return false;
}

static bool contains(const char *text, const char *word, size_t count)
{
    for (; *text != '\0'; text++)
        if (strncasecmp(text, word, count) == 0)
            return true;
    return false;
}

static bool list_is_said(const char *list, const char *text)
{
    for (const char *at = list;; at++) {
        size_t count = strcspn(at, "|");
        if (contains(text, at, count))
            return true;
        at += count;
        if (*at == '\0')
            return false;
    }
}

static const struct row *find(const struct row *rows, size_t count,
                              enum advice_step step, const struct said *s)
{
    for (const struct row *r = rows; r < rows + count; r++)
        if ((r->steps == 0 || (r->steps & (unsigned)step) != 0) &&
            (r->codes == NULL || list_has(r->codes, s->code)) &&
            (r->statuses == NULL || list_has(r->statuses, s->status)) &&
            (r->words == NULL || list_is_said(r->words, s->text)))
            return r;
    return NULL;
}

/* ---- Replies ------------------------------------------------------------- */

#define DIGITS "0123456789"

/* "5.7.139" at the start of a text (RFC 3463 section 2). */
static void read_status(const char *text, struct said *s)
{
    size_t at = 0;
    for (int part = 0; part < 3; part++) {
        size_t digits = strspn(text + at, DIGITS);
        at += digits;
        if (digits == 0 || digits > 3 || (part < 2 && text[at++] != '.'))
            return;
    }
    memcpy(s->status, text, at);
}

static struct said read_reply(const char *reply)
{
    struct said s = {.text = reply};
    if (strspn(reply, DIGITS) != 3)
        return s;
    memcpy(s.code, reply, 3);
    if (reply[3] == ' ' || reply[3] == '-')
        read_status(reply + 4, &s);
    return s;
}

static enum advice_scope scope_of(enum advice_step step, const char *code)
{
    if (step <= ADVICE_AT_AUTH || strcmp(code, "421") == 0)
        return ADVICE_FOR_ROUTE;
    return step == ADVICE_AT_RCPT ? ADVICE_FOR_RECIPIENT : ADVICE_FOR_MESSAGE;
}

static struct advice advice_of(const struct row *row, enum advice_scope scope)
{
    if (row == NULL)
        return (struct advice){scope, 0, NULL};
    if (row->rest_s == BY_STEP)
        return (struct advice){scope, 0, row->text};
    return (struct advice){ADVICE_FOR_ROUTE, row->rest_s, row->text};
}

/* Microsoft's 530 to MAIL may quote how the login before it was refused:
 * "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 ...".
 * That reply, or NULL. */
static const char *quoted_reply(const char *reply)
{
    static const char QUOTES[] = "Error: ";
    const char *at =
        strncmp(reply, "530", 3) == 0 ? strstr(reply, QUOTES) : NULL;
    if (at == NULL)
        return NULL;
    at += strlen(QUOTES);
    bool is_reply = (*at == '4' || *at == '5') && strspn(at, DIGITS) == 3;
    return is_reply ? at : NULL;
}

struct advice advice_on_reply(enum advice_step step, const char *reply)
{
    const char *quoted = quoted_reply(reply);
    if (quoted != NULL) {
        reply = quoted;
        step = ADVICE_AT_AUTH;
    }
    struct said s = read_reply(reply);
    return advice_of(find(replies, COUNT(replies), step, &s),
                     scope_of(step, s.code));
}

struct advice advice_on_fault(enum advice_step step, unsigned port,
                              const char *why)
{
    struct said s = {.text = why};
    snprintf(s.code, sizeof s.code, "%u", port);
    return advice_of(find(faults, COUNT(faults), step, &s), ADVICE_FOR_ROUTE);
}

size_t advice_rows(void)
{
    return COUNT(replies) + COUNT(faults);
}

const char *advice_row_text(size_t row)
{
    return row < COUNT(replies) ? replies[row].text
                                : faults[row - COUNT(replies)].text;
}
