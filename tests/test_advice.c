/* advice: every sentence is reached by a reply as real smarthosts send it,
 * with the scope and the rest that its cause deserves; what no row knows has
 * the scope of its step; and no bytes of a smarthost's confuse it. */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "../advice.h"
#include "../config.h"
Suite *suite_advice(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

#define NAME     ADVICE_AT_NAME
#define CONNECT  ADVICE_AT_CONNECT
#define TLS      ADVICE_AT_TLS
#define GREETING ADVICE_AT_GREETING
#define EHLO     ADVICE_AT_EHLO
#define STARTTLS ADVICE_AT_STARTTLS
#define AUTH     ADVICE_AT_AUTH
#define MAIL     ADVICE_AT_MAIL
#define RCPT     ADVICE_AT_RCPT
#define DATA     ADVICE_AT_DATA
#define DOT      ADVICE_AT_DOT

#define ROUTE     ADVICE_FOR_ROUTE
#define MESSAGE   ADVICE_FOR_MESSAGE
#define RECIPIENT ADVICE_FOR_RECIPIENT

#define LOGIN ROUTE_AUTH_SECONDS

/* A tail of Microsoft's, and one of Google's. */
#define OUTLOOK                                                                \
    " [AM0PR07CA0021.eurprd07.prod.outlook.com 2026-11-22T05:10:49.120Z "      \
    "08DE29A1B2C3D4E5]"
#define GSMTP " 5b1f17b1804b1-4778-20020a05600c - gsmtp"

struct reply_case {
    enum advice_step step;
    const char *reply;
    enum advice_scope scope;
    int rest_s;
    const char *piece; /* of the sentence; NULL: there is none */
};

static const struct reply_case logins[] = {
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is "
     "disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for "
     "more information." OUTLOOK,
     ROUTE, LOGIN, "tick Authenticated SMTP"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is "
     "disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for "
     "more information." OUTLOOK,
     ROUTE, LOGIN, "tick Authenticated SMTP"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, basic authentication is "
     "disabled." OUTLOOK,
     ROUTE, LOGIN, "nor an app password"},
    {AUTH,
     "550 5.7.30 Basic authentication is not supported for Client "
     "Submission." OUTLOOK,
     ROUTE, LOGIN, "switch them on again"},
    {MAIL,
     "550 5.7.30 Basic authentication is not supported for Client "
     "Submission.",
     ROUTE, LOGIN, "switch them on again"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, user is locked by your "
     "organization's security defaults policy. Contact your "
     "administrator." OUTLOOK,
     ROUTE, LOGIN, "Security Defaults"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, the request did not meet the "
     "criteria to be authenticated successfully. Contact your "
     "administrator." OUTLOOK,
     ROUTE, LOGIN, "a policy refused it"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, the user credentials were "
     "incorrect." OUTLOOK,
     ROUTE, LOGIN, "not an alias"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, federated STS service was "
     "unreachable." OUTLOOK,
     ROUTE, LOGIN, "AD FS"},
    {AUTH,
     "535 5.7.139 Authentication unsuccessful, the STS endpoint does not "
     "support "
     "HTTPS." OUTLOOK,
     ROUTE, LOGIN, "AD FS"},
    {AUTH, "535 5.7.139 Authentication unsuccessful, something new." OUTLOOK,
     ROUTE, LOGIN, "Microsoft 365 refused the login"},
    {AUTH, "535 5.7.3 Authentication unsuccessful" OUTLOOK, ROUTE, LOGIN,
     "Microsoft refused the login: check"},
    {MAIL, "530 5.7.57 Client not authenticated to send mail." OUTLOOK, ROUTE,
     LOGIN, "Microsoft got no login"},
    {MAIL,
     "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail "
     "during MAIL FROM" OUTLOOK,
     ROUTE, LOGIN, "Microsoft got no login"},
    {MAIL,
     "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 "
     "Authentication unsuccessful, SmtpClientAuthentication is disabled for "
     "the Tenant. Visit https://aka.ms/smtp_auth_disabled for more "
     "information." OUTLOOK,
     ROUTE, LOGIN, "tick Authenticated SMTP"},
    {MAIL,
     "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 "
     "Authentication unsuccessful, basic authentication is "
     "disabled." OUTLOOK,
     ROUTE, LOGIN, "nor an app password"},
    {MAIL,
     "530 5.7.57 Client not authenticated to send mail. Error: 454 4.7.0 "
     "Temporary authentication failure" OUTLOOK,
     ROUTE, 60, "cannot check logins"},
    {AUTH,
     "534 5.7.9 Application-specific password required. For more information, "
     "go to https://support.google.com/mail/?p=InvalidSecondFactor" GSMTP,
     ROUTE, LOGIN, "2-step verification"},
    {AUTH,
     "535 5.7.8 Username and Password not accepted. For more information, go "
     "to https://support.google.com/mail/?p=BadCredentials" GSMTP,
     ROUTE, LOGIN, "must be an app password"},
    {AUTH, "454 4.7.0 Too many login attempts, please try again later." GSMTP,
     ROUTE, LOGIN, "it is tried again, rarely"},
    {MAIL, "530 5.7.0 Must issue a STARTTLS command first." GSMTP, ROUTE, LOGIN,
     "wants encryption"},
    {AUTH, "538 5.7.11 Encryption required for requested authentication", ROUTE,
     LOGIN, "wants encryption"},
    {AUTH, "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", ROUTE, LOGIN,
     "wrong user name or password: check"},
    {MAIL, "535 5.7.0 Invalid login or password", ROUTE, LOGIN,
     "wrong user name or password: check"},
    {DOT, "535 no", ROUTE, LOGIN, "wrong user name or password: check"},
    {MAIL, "530 5.7.0 Authentication required", ROUTE, LOGIN,
     "or another kind of it"},
    {RCPT, "534 5.7.9 Please log in via your web browser", ROUTE, LOGIN,
     "or another kind of it"},
    {DATA, "538 no", ROUTE, LOGIN, "or another kind of it"},
    {AUTH, "504 5.7.4 Unrecognized authentication type" OUTLOOK, ROUTE, LOGIN,
     "this kind of login"},
    {AUTH, "454 4.7.0 Temporary authentication failure", ROUTE, 60,
     "cannot check logins"},
    {AUTH, "550 5.7.1 Access denied", ROUTE, LOGIN, "what its words say"},
    {AUTH, "501 5.5.124 Invalid XOAUTH2 auth data", ROUTE, LOGIN,
     "what its words say"},
};

static const struct reply_case throttles[] = {
    {DOT,
     "432 4.3.2 Concurrent connections limit exceeded. Visit "
     "https://aka.ms/concurrent_sending for more information." OUTLOOK,
     ROUTE, 60, "more than three connections"},
    {AUTH, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
     ROUTE, 60, "more than three connections"},
    {DOT, "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
     MESSAGE, 0, "the recipient gets too much"},
    {DOT,
     "554 5.2.0 STOREDRV.Submission.Exception:"
     "SubmissionQuotaExceededException; Failed to process message due to a "
     "permanent exception with message The message can't be submitted because "
     "the sender's submission quota was exceeded." OUTLOOK,
     ROUTE, 3600, "all it may in a day, and may again within a day: see"},
    {DOT, "550 5.2.2 Submission quota exceeded", ROUTE, 3600,
     "the mailbox has sent all it may"},
    {RCPT,
     "550 5.1.90 Your message can't be sent because you've reached your daily "
     "limit for message recipients",
     ROUTE, 3600, "recipients of a day, and opens"},
    {DOT,
     "550 5.7.233 Your message can't be sent because your tenant exceeded its "
     "daily limit for sending email to external recipients (tenant external "
     "recipient rate limit)",
     ROUTE, 3600, "more licences"},
    {DOT,
     "550 5.7.232 Your message can't be sent because your trial tenant has "
     "exceeded its daily limit for sending email to external recipients",
     ROUTE, 3600, "more licences"},
    {DOT,
     "550 5.7.236 Your message can't be sent because your tenant exceeded its "
     "daily limit for sending from an onmicrosoft.com domain",
     ROUTE, 3600, "onmicrosoft.com"},
    {DOT,
     "550 5.4.5 Daily user sending limit exceeded. For more information on "
     "Gmail sending limits go to "
     "https://support.google.com/a/answer/166852" GSMTP,
     ROUTE, 3600, "the Google account has sent"},
    {MAIL,
     "451 4.7.650 The mail server [192.0.2.7] has been temporarily rate "
     "limited due to IP reputation. For e-mail delivery information, see "
     "https://aka.ms/postmaster (S843)",
     ROUTE, 60, "most home lines"},
    {MAIL,
     "451 4.7.651 The mail server [192.0.2.7] has been temporarily rate "
     "limited due to IP reputation. (S3114)",
     ROUTE, 60, "most home lines"},
    {RCPT,
     "451 4.7.500 Server busy. Please try again later from [192.0.2.7]. "
     "(S77719)",
     ROUTE, 60, "a connector ends that"},
    {RCPT, "451 4.7.699 Server busy (AS77713)", ROUTE, 60,
     "a connector ends that"},
    {RCPT, "451 4.7.850 Access denied, rate limited", ROUTE, 60,
     "a connector ends that"},
    {RCPT, "451 4.7.899 Access denied, rate limited", ROUTE, 60,
     "a connector ends that"},
    {AUTH,
     "451 4.7.0 Temporary server error. Please try again later. "
     "PRX4" OUTLOOK,
     ROUTE, 60, "has a hiccup"},
    {DOT, "452 4.3.1 Insufficient system resources (UsedDiskSpace[C:])", ROUTE,
     60, "short of resources"},
    {MAIL, "451 4.3.2 Temporary server error. Please try again later ATTR17",
     ROUTE, 60, "out of service"},
    {MAIL, "451 4.3.2 Temporary server error. Please try again later ATTR18",
     ROUTE, 60, "out of service"},
    {DOT, "451 4.3.111 Service is busy", ROUTE, 60, "out of service"},
    {MAIL, "421 4.3.2 Service not available, closing transmission channel",
     ROUTE, 60, "out of service"},
    {EHLO, "421 4.7.0 Try again later, closing connection. (EHLO)" GSMTP, ROUTE,
     60, "at smtp-relay.gmail.com"},
    {MAIL, "421 4.7.0 Too many messages on this connection", ROUTE, 60,
     "fewer or slower connections"},
    {GREETING, "421 4.7.0 mx.example.net Error: too many connections", ROUTE,
     60, "fewer or slower connections"},
};

static const struct reply_case setups[] = {
    {DOT,
     "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:"
     "QuotaExceededException; Failed to process message due to a permanent "
     "exception with message Cannot submit message." OUTLOOK,
     ROUTE, 900, "empty its Sent Items"},
    {DOT,
     "550 5.1.8 Access denied, bad outbound sender. For more information "
     "please go to http://go.microsoft.com/fwlink/?LinkId=875724. AS(42004)",
     ROUTE, 900, "Restricted entities"},
    {DOT, "550 5.7.501 Access denied, spam abuse detected", ROUTE, 900,
     "banned this account"},
    {MAIL, "550 5.7.502 Access denied, banned sender", ROUTE, 900,
     "banned this account"},
    {MAIL, "550 5.7.503 Access denied, banned sender[scan@example.com]", ROUTE,
     900, "banned this account"},
    {DOT,
     "550 5.7.705 Access denied, tenant has exceeded threshold. Please "
     "contact support",
     ROUTE, 900, "blocks your whole organization"},
    {RCPT,
     "550 5.7.708 Service unavailable. Access denied, traffic not accepted "
     "from this IP. For more information please go to "
     "http://go.microsoft.com/fwlink/?LinkId=526653 AS(7230)",
     ROUTE, 900, "assign licences"},
    {MAIL,
     "550 5.7.750 Service unavailable. Client blocked from sending from "
     "unregistered domain. AS(7550)",
     ROUTE, 900, "one of a verified domain"},
    {RCPT, "550 5.7.64 TenantAttribution; Relay Access Denied [ATTR36]", ROUTE,
     900, "does not know this box: check the connector"},
    {RCPT, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
     ROUTE, 900, "where Direct Send does not reach"},
    {MAIL,
     "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this "
     "organization from unauthorized sources" OUTLOOK,
     ROUTE, 900, "closed Direct Send"},
    {RCPT,
     "451 4.4.62 Mail sent to the wrong Office 365 region. ATTR35. For more "
     "information please go to https://go.microsoft.com/fwlink/?linkid=865268",
     ROUTE, 900, "not the MX of your domain"},
    {RCPT, "450 4.7.1 Unable to relay", ROUTE, 900, "finds no connector"},
    {RCPT, "450 4.7.1 No. ATTR14", ROUTE, 900, "finds no connector"},
    {RCPT, "450 4.7.1 Unable to relay. ATTR14", ROUTE, 900,
     "finds no connector"},
    {RCPT,
     "550 5.7.606 Access denied, banned sending IP [192.0.2.7]. To request "
     "removal from this list please visit https://sender.office.com/",
     ROUTE, 900, "https://sender.office.com"},
    {RCPT, "550 5.7.649 Access denied, banned sending IP [192.0.2.7]", ROUTE,
     900, "https://sender.office.com"},
    {MAIL, "550 5.7.511 Access denied, banned sender[192.0.2.7]", ROUTE, 900,
     "https://sender.office.com"},
    {MAIL,
     "450 4.7.25 Service unavailable, sending IPv6 address [2001:db8::7] must "
     "have reverse DNS record",
     ROUTE, 900, "IPv6 mail needs"},
    {DOT,
     "450 4.7.26 Service unavailable, message sent over IPv6 [2001:db8::7] "
     "must pass either SPF or DKIM validation",
     ROUTE, 900, "IPv6 mail needs"},
    {RCPT,
     "550 5.7.510 Access denied, example.com does not accept email over IPv6",
     ROUTE, 900, "takes no mail over IPv6"},
    {EHLO, "550 5.7.506 Access Denied, Bad HELO", ROUTE, 900,
     "greets with the smarthost's own name"},
    {EHLO, "501 5.5.4 Invalid domain name" OUTLOOK, ROUTE, 900,
     "such as nas.example.com"},
    {EHLO, "501-5.5.4 HELO/EHLO argument invalid, closing connection." GSMTP,
     ROUTE, 900, "such as nas.example.com"},
    {MAIL,
     "550 5.7.1 Invalid credentials for relay [192.0.2.7]. The IP address "
     "you've registered in your Workspace SMTP Relay service doesn't match "
     "the domain of the account this email is being sent from." GSMTP,
     ROUTE, 900, "Google does not know this box"},
    {RCPT,
     "550 5.7.0 Mail relay denied [192.0.2.7]. Invalid credentials for relay "
     "for one of the domains in: localhost (as obtained from HELO and MAIL "
     "FROM)." GSMTP,
     ROUTE, 900, "Google does not know this box"},
    {AUTH, "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade",
     ROUTE, 900, "TLS older than 1.2"},
    {STARTTLS,
     "454 4.5.0 SMTP protocol violation, no commands allowed to pipeline "
     "after STARTTLS" GSMTP,
     ROUTE, 900, "commands stood behind STARTTLS"},
    {STARTTLS, "454 4.7.0 TLS not available due to local problem", ROUTE, 0,
     "cannot encrypt now"},
    {STARTTLS, "502 5.5.1 Unrecognized command", ROUTE, 0,
     "cannot encrypt now"},
    {GREETING,
     "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using "
     "zen.spamhaus.org",
     ROUTE, 900, "turns your public address away"},
};

static const struct reply_case mails[] = {
    {DOT,
     "550 5.7.60 SMTP; Client does not have permissions to send as this "
     "sender" OUTLOOK,
     MESSAGE, 0, "as another than smarthost_user"},
    {MAIL,
     "550 5.7.60 SMTP; Client does not have permissions to send as this "
     "sender" OUTLOOK,
     MESSAGE, 0, "as another than smarthost_user"},
    {DOT,
     "554 5.2.252 SendAsDenied; relay@example.com not allowed to send as "
     "printer@example.com; STOREDRV.Submission.Exception:"
     "SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process "
     "message due to a permanent exception with message Cannot submit "
     "message. 0.35250:0A002885, 1.36674:0A000000" OUTLOOK,
     MESSAGE, 0, "may send only as itself"},
    {DOT,
     "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException."
     "MapiExceptionSendAsDenied; Failed to process message" OUTLOOK,
     MESSAGE, 0, "may send only as itself"},
    {DOT,
     "550 5.7.509 Access denied, sending domain example.com does not pass "
     "DMARC verification and has a DMARC policy of reject.",
     MESSAGE, 0, "(DMARC)"},
    {DOT,
     "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 "
     "compliant and include a valid From address",
     MESSAGE, 0, "no valid From"},
    {DOT, "550 5.1.20 Multiple From addresses are not allowed without Sender",
     MESSAGE, 0, "several From addresses"},
    {DOT,
     "550 5.7.1 Messages missing a valid Message-ID header are not accepted. "
     "For more information, go to "
     "https://support.google.com/mail/?p=RfcMessageNonCompliant" GSMTP,
     MESSAGE, 0, "From or Message-ID"},
    {DOT,
     "550 5.7.1 Messages missing a valid address in From: header, or having "
     "no From: header, are not accepted." GSMTP,
     MESSAGE, 0, "From or Message-ID"},
    {DOT,
     "550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare "
     "linefeeds, which cannot be sent via DATA",
     MESSAGE, 0, "broken line ends"},
    {MAIL, "552 5.3.4 Message size exceeds fixed maximum message size", MESSAGE,
     0, "too large for the smarthost"},
    {DOT, "552 5.2.3 Your message exceeded Google's message size limits." GSMTP,
     MESSAGE, 0, "too large for the smarthost"},
    {DOT,
     "550 5.7.703 Your message can't be delivered because one or more "
     "recipients are blocked by your organization using Tenant Allow Block "
     "List.",
     MESSAGE, 0, "Tenant Allow/Block List"},
    {RCPT, "501 5.1.3 Invalid address" OUTLOOK, RECIPIENT, 0,
     "the recipient's address is mistyped"},
    {MAIL, "501 5.1.7 Invalid address" OUTLOOK, MESSAGE, 0,
     "the sender's address is mistyped"},
    {RCPT,
     "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP "
     "address lookup",
     RECIPIENT, 0, "no such recipient"},
    {RCPT,
     "550 5.1.1 <who@example.com>: Recipient address rejected: User "
     "unknown",
     RECIPIENT, 0, "no such recipient"},
    {DOT, "550 5.1.1 The email account that you tried to reach does not exist",
     MESSAGE, 0, "no such recipient"},
    {RCPT, "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
     RECIPIENT, 0, "knows no such address"},
    {RCPT,
     "452 4.5.3 Your message has too many recipients. For more information, "
     "go to https://support.google.com/mail/?p=TooManyRecipients" GSMTP,
     RECIPIENT, 0, "too many recipients"},
    {RCPT, "550 5.7.1 <who@example.org>... Relaying denied", RECIPIENT, 0,
     "only after a login"},
    {RCPT, "550 relay not permitted", RECIPIENT, 0, "only after a login"},
    {RCPT, "554 5.7.1 <who@example.org>: Relay access denied", RECIPIENT, 0,
     "only after a login"},
};

/* Not one of these is in a row: the same codes in other mouths, or next to
 * those of a row. */
static const struct reply_case strange[] = {
    {NAME, "550 no", ROUTE, 0, NULL},
    {CONNECT, "550 no", ROUTE, 0, NULL},
    {TLS, "550 no", ROUTE, 0, NULL},
    {GREETING, "450 4.7.1 later", ROUTE, 0, NULL},
    {EHLO, "550 5.7.1 no", ROUTE, 0, NULL},
    {MAIL, "550 5.7.1 no", MESSAGE, 0, NULL},
    {RCPT, "550 5.7.1 no", RECIPIENT, 0, NULL},
    {DATA, "554 no valid recipients", MESSAGE, 0, NULL},
    {DOT, "554 5.6.0 no", MESSAGE, 0, NULL},
    {MAIL, "421 bye", ROUTE, 0, NULL},
    {RCPT, "421 4.4.2 timeout", ROUTE, 0, NULL},
    {DATA, "421 bye", ROUTE, 0, NULL},
    {DOT, "421 4.4.2 timeout", ROUTE, 0, NULL},
    {RCPT, "421 5.1.1 bye", ROUTE, 0, "no such recipient"},
    {AUTH, "334 what", ROUTE, 0, NULL},
    {AUTH, "", ROUTE, 0, NULL},
    {MAIL, "450 4.1.8 Domain of sender address not found", MESSAGE, 0, NULL},
    {MAIL, "550 5.1.8 Domain of sender address not found", MESSAGE, 0, NULL},
    {RCPT, "552 5.2.2 mailbox full", RECIPIENT, 0, NULL},
    {RCPT, "452 4.2.2 mailbox full", RECIPIENT, 0, NULL},
    {RCPT, "450 4.7.1 Greylisted, see http://example.net/", RECIPIENT, 0, NULL},
    {MAIL, "452 4.3.1 Insufficient system storage", MESSAGE, 0, NULL},
    {DOT, "550 5.4.5 congestion", MESSAGE, 0, NULL},
    {DOT, "550 5.7.30 REQUIRETLS support required", MESSAGE, 0, NULL},
    {RCPT, "550 5.4.1 No answer from host", RECIPIENT, 0, NULL},
    {RCPT, "550 5.7.605 no", RECIPIENT, 0, NULL},
    {RCPT, "550 5.7.650 no", RECIPIENT, 0, NULL},
    {RCPT, "451 4.7.499 no", RECIPIENT, 0, NULL},
    {RCPT, "451 4.7.700 no", RECIPIENT, 0, NULL},
    {RCPT, "451 4.7.849 no", RECIPIENT, 0, NULL},
    {RCPT, "451 4.7.900 no", RECIPIENT, 0, NULL},
    {RCPT, "550 5.7.500 no", RECIPIENT, 0, NULL},
    {MAIL, "501 5.5.4 Unsupported option", MESSAGE, 0, NULL},
    {MAIL, "504 5.5.4 no", MESSAGE, 0, NULL},
    {DOT, "550 5.7.1 Error: 535 5.7.139 basic authentication is disabled",
     MESSAGE, 0, NULL},
};

struct fault_case {
    enum advice_step step;
    unsigned port;
    const char *why;
    int rest_s;
    const char *piece;
};

static const struct fault_case fault_cases[] = {
    {TLS, 587,
     "its certificate is valid only from 2025-10-01, and our clock says "
     "2026-01-02",
     0, "check this box's clock"},
    {TLS, 587,
     "its certificate is valid only from 2025-10-01, and our clock says "
     "1970-01-01",
     0, "check this box's clock"},
    {TLS, 587,
     "192.0.2.1:587: its certificate expired on 2016-03-01, and our clock "
     "says 2019-08-14",
     0, "check this box's clock"},
    {TLS, 587,
     "its certificate expired on 2025-03-01, and our clock says 2025-12-31", 0,
     "check this box's clock"},
    {TLS, 587,
     "its certificate expired on 2026-03-01, and our clock says 2026-11-22", 0,
     "has run out"},
    {TLS, 587,
     "its certificate is for mail.example.org *.example.org, not for "
     "smtp.example.com",
     0, "name that the certificate bears"},
    {TLS, 587,
     "its certificate is for no name at all (subjectAltName is missing), not "
     "for smtp.example.com",
     0, "name that the certificate bears"},
    {TLS, 587,
     "its certificate is self-signed; put it into smarthost_ca_file if you "
     "trust it",
     0, "server of your own"},
    {TLS, 587,
     "its certificate comes from C=US, O=DigiCert Inc, CN=DigiCert Global G2 "
     "TLS RSA SHA256 2020 CA1, which smarthost_ca_file does not know; a "
     "private authority belongs in there, else the server fails to send its "
     "intermediate certificate",
     0, "CA bundle of this box"},
    {TLS, 587,
     "its certificate leads to C=US, O=DigiCert Inc, CN=DigiCert Global Root "
     "G2, which smarthost_ca_file does not know",
     0, "CA bundle of this box"},
    {TLS, 587, "its certificate has a key or signature too weak to trust", 0,
     "needs a new certificate"},
    {TLS, 587, "its certificate may not be used for this", 0,
     "none for servers"},
    {TLS, 587, "the server answered in clear where TLS was due (wrong port?)",
     0, "does not begin with TLS"},
    {TLS, 465, "the server knows no TLS 1.2 or later", 0, "no safe TLS"},
    {TLS, 465, "the server refused the TLS handshake (too old a TLS version?)",
     0, "no safe TLS"},
    {TLS, 465, "the server knows no cipher of ours", 0, "no safe TLS"},
    {TLS, 465, "the server and we have no cipher or key in common", 0,
     "no safe TLS"},
    {TLS, 465, "the TLS connection was tampered with", 0, "virus scanner"},
    {STARTTLS, 587, "no memory is left for TLS", 0, "no memory for one more"},
    {TLS, 465, "the server hung up during the TLS handshake", 0,
     "broke off before TLS was up"},
    {TLS, 465, "the TLS handshake stalled", 0, "broke off before TLS was up"},
    {TLS, 465, "Connection reset by peer", 0, "broke off before TLS was up"},
    {TLS, 465, "the connection was closed", 0, "broke off before TLS was up"},

    {NAME, 587, "smtp.exmaple.com: the name does not exist", 0,
     "there is no such server"},
    {NAME, 587, "smtp.example.com: no name server answers", 0,
     "reaches no name server"},
    {NAME, 587, "smtp.example.com: the name servers refuse or fail to answer",
     0, "try others in resolv_file"},
    {NAME, 587, "the name server's answer makes no sense", 0,
     "try others in resolv_file"},
    {NAME, 587, "the name is an alias of too many aliases", 0,
     "try others in resolv_file"},
    {NAME, 587,
     "smtp.example.com: the name has no address of the family that "
     "smarthost_family wants",
     0, "smarthost_family = any"},
    {NAME, 587, "smtp.example.com: the name has no usable address", 0,
     "no server has this name"},
    {NAME, 587, "the name has no mail exchanger", 0, "no server has this name"},
    {NAME, 587, "this is not a name that can be looked up", 0,
     "must be host:port"},
    {NAME, 587, "no host can have this address", 0, "must be host:port"},

    {CONNECT, 25, "192.0.2.1:25: it does not answer", 0,
     "may block port 25: use port 587"},
    {CONNECT, 25, "Connection timed out", 0, "may block port 25"},
    {CONNECT, 587, "192.0.2.1:587: it does not answer", 0,
     "no firewall holds this box back"},
    {CONNECT, 2525, "Operation timed out", 0,
     "no firewall holds this box back"},
    {CONNECT, 587, "192.0.2.1:587: Connection refused", 0,
     "nobody takes mail on this port"},
    {CONNECT, 25, "Connection refused", 0, "nobody takes mail on this port"},
    {CONNECT, 587, "No route to host", 0, "no way to the smarthost"},
    {CONNECT, 587, "Network is unreachable", 0, "no way to the smarthost"},
    {CONNECT, 587, "Host is unreachable", 0, "no way to the smarthost"},
    {CONNECT, 587, "Network unreachable", 0, "no way to the smarthost"},
    {CONNECT, 587, "Permission denied", 0, "a firewall on this box"},
    {CONNECT, 587, "Operation not permitted", 0, "a firewall on this box"},
    {CONNECT, 587, "Too many open files", 0, "limit of open files"},
    {CONNECT, 587, "No file descriptors available", 0, "limit of open files"},

    {GREETING, 465, "no greeting came", 0, "this port begins with TLS"},
    {GREETING, 2465, "the connection was closed", 0,
     "this port begins with TLS"},
    {GREETING, 8080, "no SMTP reply: HTTP/1.1 400 Bad Request", 0,
     "another service than mail"},
    {GREETING, 587, "no greeting came", 0, "there but silent"},
    {EHLO, 587,
     "the smarthost offers no STARTTLS (wrong port, or somebody in between "
     "hides it); nothing is sent in clear",
     0, "takes the encryption away"},
    {STARTTLS, 587,
     "somebody put words behind the reply to STARTTLS: an attack; nothing is "
     "sent",
     0, "try another network"},
    {EHLO, 25, "the smarthost offers no login that we can use", LOGIN,
     "smarthost_auth = auto"},
    {AUTH, 25, "the smarthost offers no login that we can use", LOGIN,
     "smarthost_auth = auto"},

    {CONNECT, 587, "Address family not supported by protocol", 0, NULL},
    {CONNECT, 254, "", 0, NULL},
    {TLS, 587, "TLS failed: SSL - Bad input parameters to function", 0, NULL},
    {MAIL, 587, "the connection was closed", 0, NULL},
    {DOT, 25, "no verdict on the message came", 0, NULL},
    {NAME, 587, "Connection refused", 0, NULL},
};

/* ---- The tables ---------------------------------------------------------- */

static void expect_text(const char *text, const char *piece, const char *of)
{
    if (piece == NULL)
        ck_assert_msg(text == NULL, "%s -> %s", of, text);
    else
        ck_assert_msg(text != NULL && strstr(text, piece) != NULL, "%s -> %s",
                      of, text != NULL ? text : "nothing");
}

static void expect_reply(const struct reply_case *c)
{
    struct advice a = advice_on_reply(c->step, c->reply);
    expect_text(a.text, c->piece, c->reply);
    ck_assert_msg(a.scope == c->scope, "%s: scope %d", c->reply, (int)a.scope);
    ck_assert_msg(a.rest_s == c->rest_s, "%s: rest_s %d", c->reply, a.rest_s);
}

static const struct {
    const struct reply_case *cases;
    size_t count;
} tables[] = {
    {logins, COUNT(logins)},   {throttles, COUNT(throttles)},
    {setups, COUNT(setups)},   {mails, COUNT(mails)},
    {strange, COUNT(strange)},
};

START_TEST(replies_as_seen)
{
    for (size_t i = 0; i < tables[_i].count; i++)
        expect_reply(&tables[_i].cases[i]);
}
END_TEST

START_TEST(faults_as_we_say_them)
{
    for (size_t i = 0; i < COUNT(fault_cases); i++) {
        const struct fault_case *c = &fault_cases[i];
        struct advice a = advice_on_fault(c->step, c->port, c->why);
        expect_text(a.text, c->piece, c->why);
        ck_assert_int_eq(a.scope, ADVICE_FOR_ROUTE);
        ck_assert_msg(a.rest_s == c->rest_s, "%s: rest_s %d", c->why, a.rest_s);
    }
}
END_TEST

/* No certificate is to be judged by a clock that stands before this program
 * was written. */
START_TEST(a_clock_of_long_ago)
{
    for (int year = 1970; year < 2032; year++) {
        char why[120];
        snprintf(why, sizeof why,
                 "its certificate expired on 1969-12-31, and our clock says "
                 "%d-06-01",
                 year);
        struct advice a = advice_on_fault(TLS, 587, why);
        expect_text(a.text, year < 2026 ? "this box's clock:" : "has run out",
                    why);
    }
}
END_TEST

static bool is_hit(const char *text)
{
    struct advice a;
    for (size_t t = 0; t < COUNT(tables); t++)
        for (size_t i = 0; i < tables[t].count; i++) {
            const struct reply_case *c = &tables[t].cases[i];
            a = advice_on_reply(c->step, c->reply);
            if (a.text != NULL && strcmp(a.text, text) == 0)
                return true;
        }
    for (size_t i = 0; i < COUNT(fault_cases); i++) {
        const struct fault_case *c = &fault_cases[i];
        a = advice_on_fault(c->step, c->port, c->why);
        if (a.text != NULL && strcmp(a.text, text) == 0)
            return true;
    }
    return false;
}

START_TEST(no_row_is_out_of_reach)
{
    ck_assert_uint_gt(advice_rows(), 60);
    for (size_t i = 0; i < advice_rows(); i++)
        ck_assert_msg(is_hit(advice_row_text(i)), "%s", advice_row_text(i));
}
END_TEST

/* They stand between quotes in the log, and in one line of a reply. */
START_TEST(sentences_fit_where_they_go)
{
    for (size_t i = 0; i < advice_rows(); i++) {
        const char *text = advice_row_text(i);
        size_t length = strlen(text);
        ck_assert_msg(length > 20 && length <= 160, "%zu: %s", length, text);
        for (const char *c = text; *c; c++)
            ck_assert_msg(*c >= ' ' && *c < 0x7f && *c != '"' && *c != '\\',
                          "%s", text);
        ck_assert_msg(text[length - 1] != '.' && text[length - 1] != ' ', "%s",
                      text);
        for (size_t k = 0; k < i; k++)
            ck_assert_str_ne(text, advice_row_text(k));
    }
}
END_TEST

/* ---- Whatever a smarthost may send --------------------------------------- */

START_TEST(case_and_separator_do_not_matter)
{
    for (size_t i = 0; i < COUNT(logins); i++) {
        char text[512];
        struct reply_case c = logins[i];
        snprintf(text, sizeof text, "%s", c.reply);
        c.reply = text;
        text[3] = '-';
        expect_reply(&c);
        if (strstr(text, "mail. Error: ") != NULL)
            continue; /* the words that quote are Microsoft's alone */
        for (char *at = text; *at; at++)
            if (*at >= 'a' && *at <= 'z')
                *at = (char)(*at - 'a' + 'A');
        expect_reply(&c);
    }
}
END_TEST

START_TEST(scopes_that_always_hold)
{
    static const enum advice_step steps[] = {NAME, CONNECT,  TLS,  GREETING,
                                             EHLO, STARTTLS, AUTH, MAIL,
                                             RCPT, DATA,     DOT};
    static const char *const ours[] = {"530", "534", "535", "538", "421"};
    for (size_t s = 0; s < COUNT(steps); s++)
        for (size_t t = 0; t < COUNT(tables); t++)
            for (size_t i = 0; i < tables[t].count; i++) {
                char text[512];
                snprintf(text, sizeof text, "%s", tables[t].cases[i].reply);
                enum advice_scope scope = advice_on_reply(steps[s], text).scope;
                ck_assert(steps[s] > AUTH || scope == ROUTE);
                ck_assert(steps[s] == RCPT || scope != RECIPIENT);
                ck_assert(steps[s] != RCPT || scope != MESSAGE);
                for (size_t k = 0; k < COUNT(ours); k++) {
                    memcpy(text, ours[k], 3);
                    scope = advice_on_reply(steps[s], text).scope;
                    ck_assert_msg(scope == ROUTE, "%s", text);
                }
            }
}
END_TEST

START_TEST(a_login_that_fails_always_rests)
{
    static const char *const replies[] = {
        "530",          "534",      "535",          "538",
        "535 ",         "535-",     "535 5.1.1 no", "535-5.7.60 no",
        "530 5.7.64 x", "535 \xff", "535 5.7",      "538 5.3.4 big",
    };
    static const enum advice_step steps[] = {AUTH, MAIL, RCPT, DATA, DOT};
    for (size_t i = 0; i < COUNT(replies); i++)
        for (size_t s = 0; s < COUNT(steps); s++) {
            struct advice a = advice_on_reply(steps[s], replies[i]);
            ck_assert_msg(a.scope == ADVICE_FOR_ROUTE && a.rest_s == LOGIN &&
                              a.text != NULL,
                          "%s", replies[i]);
        }
    ck_assert_int_eq(advice_on_reply(AUTH, "555 what").rest_s, LOGIN);
}
END_TEST

START_TEST(hostile_replies)
{
    static const char *const replies[] = {
        "",
        " ",
        "5",
        "55",
        "550",
        "550 ",
        "550-",
        "550 5",
        "550 5.",
        "550 5.7",
        "550 5.7.",
        "550 5.7.x",
        "550 .7.1",
        "550 5..1",
        "550 5.7.1111",
        "550 5555.7.60",
        "550 5.0000007.60",
        "5500 5.7.60 no",
        "5350 no",
        "550\t5.7.60",
        "550  5.7.60",
        "HTTP/1.1 400 Bad Request",
        "\x16\x03\x01\x02",
        "550 \xe9\xff\x80 5.7.60",
        "550 -5.7.60",
        "550 5.-7.60",
        "99999999999999999999",
        "550 99999999999999999999.7.60",
        "Error: 535",
        "550 Error: 535 5.7.139 basic authentication is disabled",
    };
    for (size_t i = 0; i < COUNT(replies); i++) {
        struct advice a = advice_on_reply(DOT, replies[i]);
        ck_assert_msg(a.scope == ADVICE_FOR_MESSAGE && a.rest_s == 0 &&
                          a.text == NULL,
                      "%s", replies[i]);
        a = advice_on_reply(EHLO, replies[i]);
        ck_assert_msg(a.scope == ADVICE_FOR_ROUTE && a.text == NULL, "%s",
                      replies[i]);
    }
}
END_TEST

/* What quotes nothing usable is taken as it stands. */
START_TEST(quotes_of_nothing)
{
    static const char *const replies[] = {
        "530 5.7.57 Client not authenticated to send mail. Error: ",
        "530 5.7.57 Client not authenticated to send mail. Error: 53",
        "530 5.7.57 Client not authenticated to send mail. Error: 5355 no",
        "530 5.7.57 Client not authenticated to send mail. Error: 250 Ok",
        "530 5.7.57 Client not authenticated to send mail. Error: \xff",
    };
    for (size_t i = 0; i < COUNT(replies); i++)
        expect_reply(&(struct reply_case){MAIL, replies[i], ROUTE, LOGIN,
                                          "Microsoft got no login"});
    expect_reply(&(struct reply_case){MAIL, "530 Error: 535 Error: 550", ROUTE,
                                      LOGIN, "wrong user name or password"});
}
END_TEST

START_TEST(status_at_the_edges)
{
    expect_reply(
        &(struct reply_case){DOT, "550 5.7.60", MESSAGE, 0, "as another than"});
    expect_reply(&(struct reply_case){DOT, "550-5.7.60-what", MESSAGE, 0,
                                      "as another than"});
    expect_reply(&(struct reply_case){DOT, "550-5.7.60\xff", MESSAGE, 0,
                                      "as another than"});
    expect_reply(&(struct reply_case){DOT, "550 5.7.600 x", MESSAGE, 0, NULL});
    expect_reply(&(struct reply_case){DOT, "550 5.17.60 x", MESSAGE, 0, NULL});
    expect_reply(&(struct reply_case){DOT, "550 4.7.60 x", MESSAGE, 0, NULL});
}
END_TEST

START_TEST(ten_kilobytes_of_words)
{
    static const char last[] = " INVALID CREDENTIALS FOR RELAY";
    static char text[10240];
    memset(text, 'i', sizeof text);
    memcpy(text, "550 ", 4);
    text[sizeof text - 1] = '\0';
    expect_reply(&(struct reply_case){DOT, text, MESSAGE, 0, NULL});
    memcpy(text + sizeof text - sizeof last, last, sizeof last);
    expect_reply(
        &(struct reply_case){DOT, text, ROUTE, 900, "Google does not"});
    text[sizeof text - 2] = 'x';
    expect_reply(&(struct reply_case){DOT, text, MESSAGE, 0, NULL});
    memset(text, '5', sizeof text - 1);
    expect_reply(&(struct reply_case){DOT, text, MESSAGE, 0, NULL});
    ck_assert_ptr_null(advice_on_fault(CONNECT, 4294967295U, text).text);
}
END_TEST

Suite *suite_advice(void)
{
    Suite *s = suite_create("advice");
    TCase *c = tcase_create("advice");
    tcase_add_loop_test(c, replies_as_seen, 0, (int)COUNT(tables));
    tcase_add_test(c, faults_as_we_say_them);
    tcase_add_test(c, a_clock_of_long_ago);
    tcase_add_test(c, no_row_is_out_of_reach);
    tcase_add_test(c, sentences_fit_where_they_go);
    tcase_add_test(c, case_and_separator_do_not_matter);
    tcase_add_test(c, scopes_that_always_hold);
    tcase_add_test(c, a_login_that_fails_always_rests);
    tcase_add_test(c, hostile_replies);
    tcase_add_test(c, quotes_of_nothing);
    tcase_add_test(c, status_at_the_edges);
    tcase_add_test(c, ten_kilobytes_of_words);
    suite_add_tcase(s, c);
    return s;
}
