/* config.h: every number, name and switch of this build.
 *
 * Each value can be overridden by -DNAME=value, or by a file config_local.h
 * beside this one. With WITH_SETTINGS_FILE 1 the settings file overrides
 * the values in part 1, never the sizes in part 2. The guards stand at the
 * end, each with its cure. */
#ifndef LANPOST_CONFIG_H
#define LANPOST_CONFIG_H

#include <assert.h>
#include <stdint.h>

#if defined(__has_include)
#if __has_include("config_local.h")
#include "config_local.h"
#endif
#endif

#define LANPOST_VERSION "0.1.0"

/* ==== Part 1: values. Each is a setting of the same name in lower case ==== */

/* ---- Towards the devices ------------------------------------------------- */
#ifndef LISTEN /* a start without the right to port 25 takes 2525 instead */
#define LISTEN "0.0.0.0:25 [::]:25"
#endif
#ifndef LISTEN_TLS /* for devices that know no STARTTLS: "0.0.0.0:465" */
#define LISTEN_TLS ""
#endif
#ifndef TLS_DETECT_MS /* cost: so long before the banner, each time */
#define TLS_DETECT_MS 200
#endif
#ifndef TLS_CERT_FILE /* empty: we make one and keep it in STATE_FOLDER */
#define TLS_CERT_FILE ""
#endif
#ifndef TLS_KEY_FILE
#define TLS_KEY_FILE ""
#endif
#ifndef NO_STARTTLS_TO /* devices whose TLS is too old to be offered any */
#define NO_STARTTLS_TO ""
#endif
#ifndef REQUIRE_TLS
#define REQUIRE_TLS ""
#endif
#ifndef REQUIRE_AUTH
#define REQUIRE_AUTH ""
#endif
#ifndef USERS_FILE
#define USERS_FILE ""
#endif
#ifndef ACCEPT_ANY_AUTH /* auto: while there is no USERS_FILE */
#define ACCEPT_ANY_AUTH "auto"
#endif
#ifndef HOSTNAME /* empty: the system's name, else an address literal */
#define HOSTNAME ""
#endif
#ifndef ALLOW_FROM /* risk: whoever is in here can send mail as you */
#define ALLOW_FROM                                                             \
    "127.0.0.0/8 ::1 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 "                 \
    "169.254.0.0/16 fc00::/7 fe80::/10"
#endif
#ifndef POSTMASTER /* empty: mail to <postmaster> is refused */
#define POSTMASTER ""
#endif
#ifndef SENDER /* the mailbox that the smarthost lets us send from */
#define SENDER ""
#endif
#ifndef SENDER_REWRITE /* risk: all but "never" may break a DKIM signature */
#define SENDER_REWRITE "unqualified"
#endif
#ifndef SENDER_DOMAINS /* empty: any */
#define SENDER_DOMAINS ""
#endif
#ifndef DEFAULT_DOMAIN /* "root" becomes root@DEFAULT_DOMAIN */
#define DEFAULT_DOMAIN ""
#endif
#ifndef REWRITE_FROM /* "192.168.1.9=scanner@example.com ..." */
#define REWRITE_FROM ""
#endif
#ifndef REWRITE_TO /* "root=admin@example.com @old.example=@new.example ..." */
#define REWRITE_TO ""
#endif
#ifndef MESSAGE_MAX_BYTES /* told to devices as SIZE; scans are 5 to 25 MB */
#define MESSAGE_MAX_BYTES (25 * 1024 * 1024)
#endif
#ifndef RECIPIENTS_MAX /* RFC 5321 section 4.5.3.1.8: not below 100 */
#define RECIPIENTS_MAX 100
#endif
#ifndef CLIENTS_PER_ADDRESS /* one broken device cannot take all slots */
#define CLIENTS_PER_ADDRESS 16
#endif

#ifndef ACK_WAIT_SECONDS /* risk: a device that waits less sends it again */
#define ACK_WAIT_SECONDS 25
#endif
#ifndef ACK_WAIT_AT /* listeners that differ: "465=60 2525=0" */
#define ACK_WAIT_AT ""
#endif
#ifndef ACK_LATE /* risk: "queue" promises what a power cut loses */
#define ACK_LATE "queue"
#endif

/* ---- Towards the smarthost ----------------------------------------------- */
#ifndef SMARTHOST /* host:port; empty: refuse to start */
#define SMARTHOST ""
#endif
#ifndef SMARTHOST_FAMILY
#define SMARTHOST_FAMILY "any"
#endif
#ifndef SMARTHOST_TLS /* risk: "none" sends mail and password in clear */
#define SMARTHOST_TLS "starttls"
#endif
#ifndef SMARTHOST_TLS_NAME /* empty: the smarthost's name */
#define SMARTHOST_TLS_NAME ""
#endif
#ifndef SMARTHOST_CA_FILE /* cost: about 0.5 MiB of heap for a full bundle */
#define SMARTHOST_CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#endif
#ifndef SMARTHOST_AUTH
#define SMARTHOST_AUTH "auto"
#endif
#ifndef SMARTHOST_USER
#define SMARTHOST_USER ""
#endif
#ifndef SMARTHOST_PASSWORD /* risk: stands readable in the binary */
#define SMARTHOST_PASSWORD ""
#endif
#ifndef SMARTHOST_PASSWORD_FILE
#define SMARTHOST_PASSWORD_FILE ""
#endif
#ifndef CONNECTIONS_MAX /* Microsoft 365 takes three at most per mailbox */
#define CONNECTIONS_MAX 2
#endif
#ifndef RETRY_FIRST_SECONDS
#define RETRY_FIRST_SECONDS 15
#endif
#ifndef RETRY_MAX_SECONDS
#define RETRY_MAX_SECONDS 900
#endif
#ifndef EXPIRE_HOURS /* RFC 5321 section 4.5.4.1: four to five days */
#define EXPIRE_HOURS 96
#endif
#ifndef NOTICE_SECONDS /* the failures of that time leave as one mail */
#define NOTICE_SECONDS 900
#endif
#ifndef NOTICES_PER_DAY /* 0: none, the log alone has them */
#define NOTICES_PER_DAY 24
#endif

/* ---- The house ----------------------------------------------------------- */
#ifndef RESOLV_FILE
#define RESOLV_FILE "/etc/resolv.conf"
#endif
#ifndef HOSTS_FILE
#define HOSTS_FILE "/etc/hosts"
#endif
#ifndef STATE_FOLDER /* what must outlive a restart: our certificate */
#define STATE_FOLDER "/var/lib/lanpost"
#endif
#ifndef STATUS_LISTEN /* who can reach it can read who mails whom */
#define STATUS_LISTEN "127.0.0.1:8025"
#endif
#ifndef LOG
#define LOG "stderr"
#endif
#ifndef LOG_LEVEL
#define LOG_LEVEL "info"
#endif
#ifndef RUN_AS /* empty: stay who we are */
#define RUN_AS ""
#endif

#ifndef WITH_SETTINGS_FILE /* 0 seals the binary: no settings file is read */
#define WITH_SETTINGS_FILE 1
#endif
#ifndef SETTINGS_FILE /* read when it exists and -c names no other */
#define SETTINGS_FILE "/etc/lanpost.conf"
#endif

/* The settings as named rows. Each: key, default, bounds or room or choices,
 * unit, what it means. The kinds:
 *   TEXT       up to so many bytes
 *   SECRET     the same; never printed
 *   NUMBER     low to high
 *   CHOICE     one of the words
 *   ENDPOINTS  address:port list; so many at most
 *   NETWORKS   CIDR list; so many at most
 *   PAIRS      "left=right" list of up to so many bytes; in the file also as
 *              lines of their own, "key left = right" */
/* clang-format off */
#define SETTINGS_ROWS(TEXT, SECRET, NUMBER, CHOICE, ENDPOINTS, NETWORKS, PAIRS)\
ENDPOINTS(listen, LISTEN, LISTENERS_MAX,                                       \
    "where devices connect, in plain SMTP")                                    \
ENDPOINTS(listen_tls, LISTEN_TLS, LISTENERS_MAX,                               \
    "where devices connect that speak TLS at once")                            \
NUMBER(tls_detect_ms, TLS_DETECT_MS, 0, 5000, "ms",                            \
    "wait for a device that speaks TLS on a plain port; 0: none is served")    \
TEXT(tls_cert_file, TLS_CERT_FILE, 255, "file",                                \
    "PEM certificate shown to devices; empty: a self-signed one is made")      \
TEXT(tls_key_file, TLS_KEY_FILE, 255, "file",                                  \
    "its PEM key; empty: it stands in tls_cert_file")                          \
NETWORKS(no_starttls_to, NO_STARTTLS_TO, NETWORKS_MAX,                         \
    "devices whose TLS is too old: none is offered, none required")            \
NETWORKS(require_tls, REQUIRE_TLS, NETWORKS_MAX,                               \
    "devices that must encrypt")                                               \
NETWORKS(require_auth, REQUIRE_AUTH, NETWORKS_MAX,                             \
    "devices that must log in")                                                \
TEXT(users_file, USERS_FILE, 255, "file",                                      \
    "name:hash lines for devices that log in (lanpost hash-password)")         \
CHOICE(accept_any_auth, ACCEPT_ANY_AUTH, "auto no yes",                        \
    "any login is good; auto: while there is no users_file")                   \
TEXT(hostname, HOSTNAME, 255, "name",                                          \
    "our name in EHLO and Received; empty: the system's")                      \
NETWORKS(allow_from, ALLOW_FROM, NETWORKS_MAX,                                 \
    "who may relay; everyone else is refused")                                 \
TEXT(postmaster, POSTMASTER, 254, "address",                                   \
    "where mail to <postmaster> goes")                                         \
TEXT(sender, SENDER, 254, "address",                                           \
    "sender that takes the place of others, as sender_rewrite says")           \
CHOICE(sender_rewrite, SENDER_REWRITE, "never unqualified always",             \
    "which senders it replaces; unqualified: those without a domain")          \
TEXT(sender_domains, SENDER_DOMAINS, 511, "domains",                           \
    "domains that the smarthost lets us send from; empty: any")                \
TEXT(default_domain, DEFAULT_DOMAIN, 255, "domain",                            \
    "completes addresses that have no domain")                                 \
PAIRS(rewrite_from, REWRITE_FROM, 1023,                                        \
    "network=address: the sender of all mail of these devices")                \
PAIRS(rewrite_to, REWRITE_TO, 1023,                                            \
    "recipient=recipient; root, an address or @domain")                        \
NUMBER(message_max_bytes, MESSAGE_MAX_BYTES, 65536, MESSAGE_MAX_BYTES, "bytes",\
    "the largest message taken from a device")                                 \
NUMBER(recipients_max, RECIPIENTS_MAX, 1, RECIPIENTS_MAX, "recipients",        \
    "recipients of one message")                                               \
NUMBER(clients_per_address, CLIENTS_PER_ADDRESS, 1, CLIENTS_MAX, "connections",\
    "connections one device may hold at a time")                               \
NUMBER(ack_wait_seconds, ACK_WAIT_SECONDS, 0, 600, "s",                        \
    "how long a device waits for the smarthost's verdict; 0: not at all")      \
PAIRS(ack_wait_at, ACK_WAIT_AT, 255,                                           \
    "port=seconds; the same for single listeners")                             \
CHOICE(ack_late, ACK_LATE, "queue refuse",                                     \
    "when that time is over: 250 and go on trying, or 451 and forget")         \
TEXT(smarthost, SMARTHOST, 261, "host:port",                                   \
    "the one server that takes our mail")                                      \
CHOICE(smarthost_family, SMARTHOST_FAMILY, "any ipv4 ipv6",                    \
    "which addresses of the smarthost to use")                                 \
CHOICE(smarthost_tls, SMARTHOST_TLS, "starttls implicit none",                 \
    "how the connection is encrypted; none is for test nets")                  \
TEXT(smarthost_tls_name, SMARTHOST_TLS_NAME, 255, "name",                      \
    "name its certificate must bear; empty: the host name")                    \
TEXT(smarthost_ca_file, SMARTHOST_CA_FILE, 255, "file",                        \
    "PEM file of the authorities that we trust")                               \
CHOICE(smarthost_auth, SMARTHOST_AUTH, "auto none plain login",                \
    "login mechanism; auto takes the best one offered")                        \
TEXT(smarthost_user, SMARTHOST_USER, 255, "name",                              \
    "login name at the smarthost")                                             \
SECRET(smarthost_password, SMARTHOST_PASSWORD, 255,                            \
    "login password at the smarthost")                                         \
TEXT(smarthost_password_file, SMARTHOST_PASSWORD_FILE, 255, "file",            \
    "file that holds the password in its first line")                          \
NUMBER(connections_max, CONNECTIONS_MAX, 1, CONNECTION_SLOTS, "connections",   \
    "connections to the smarthost at a time")                                  \
NUMBER(retry_first_seconds, RETRY_FIRST_SECONDS, 1, 86400, "s",                \
    "first wait before a message is tried again")                              \
NUMBER(retry_max_seconds, RETRY_MAX_SECONDS, 1, 86400, "s",                    \
    "longest wait between two tries")                                          \
NUMBER(expire_hours, EXPIRE_HOURS, 1, 240, "h",                                \
    "a message older than this is given up")                                   \
NUMBER(notice_seconds, NOTICE_SECONDS, 60, 86400, "s",                         \
    "time between two notices of failed mail to the postmaster")               \
NUMBER(notices_per_day, NOTICES_PER_DAY, 0, 1000, "notices",                   \
    "such notices in a day; 0: none")                                          \
TEXT(resolv_file, RESOLV_FILE, 255, "file",                                    \
    "where the name servers are named")                                        \
TEXT(hosts_file, HOSTS_FILE, 255, "file",                                      \
    "names that need no name server")                                          \
TEXT(state_folder, STATE_FOLDER, 255, "folder",                                \
    "what must outlive a restart: our certificate")                            \
ENDPOINTS(status_listen, STATUS_LISTEN, 1,                                     \
    "where `lanpost status` asks")                                             \
CHOICE(log, LOG, "stderr syslog",                                              \
    "where the log goes")                                                      \
CHOICE(log_level, LOG_LEVEL, "error warn info debug",                          \
    "how much is logged")                                                      \
TEXT(run_as, RUN_AS, 31, "user",                                               \
    "user to become once the ports are bound")
/* clang-format on */

/* ==== Part 2: sizes. Memory is static: `lanpost settings` prints the sum == */

/* ---- Queue: QUEUE_BLOCKS * QUEUE_BLOCK_BYTES, touched only when used ----- */
#ifndef QUEUE_BLOCKS
#define QUEUE_BLOCKS 8192 /* shared by all waiting messages: 32 MiB */
#endif
#ifndef QUEUE_BLOCK_BYTES
#define QUEUE_BLOCK_BYTES 4096 /* small = less waste, more links */
#endif
#ifndef QUEUE_MESSAGES
#define QUEUE_MESSAGES 2048 /* a message takes two blocks at least */
#endif
#ifndef QUEUE_SMALL_BYTES
#define QUEUE_SMALL_BYTES 65536 /* up to this a message is an alert */
#endif
#ifndef QUEUE_SMALL_BLOCKS
#define QUEUE_SMALL_BLOCKS 512 /* only alerts may take the last of these */
#endif

#ifndef QUEUE_YIELD_MS /* so long big messages give way to alerts */
#define QUEUE_YIELD_MS 30000
#endif
#ifndef PROMISES_REMEMBERED /* answers that never arrived; 0.6 KiB each */
#define PROMISES_REMEMBERED 64
#endif
#ifndef PROMISE_SECONDS /* so long a resend is known again */
#define PROMISE_SECONDS 900
#endif

/* ---- Devices: about 15 KiB each ------------------------------------------ */
#ifndef CLIENTS_MAX
#define CLIENTS_MAX 64
#endif
#ifndef CLIENT_IN_BYTES
#define CLIENT_IN_BYTES 4096
#endif
#ifndef CLIENT_OUT_BYTES
#define CLIENT_OUT_BYTES 4096
#endif
#ifndef LISTENERS_MAX
#define LISTENERS_MAX 8
#endif
#ifndef NETWORKS_MAX
#define NETWORKS_MAX 32
#endif
#ifndef COMMAND_MAX_BYTES /* RFC 5321 4.5.3.1.4 wants 512 plus extensions */
#define COMMAND_MAX_BYTES 2048
#endif
#ifndef RECEIVED_MAX /* RFC 5321 section 6.3: a loop is 100 hops or more */
#define RECEIVED_MAX 100
#endif
#ifndef CLIENT_TLS_MAX /* devices that encrypt at a time; 56 KiB of heap each */
#define CLIENT_TLS_MAX 16
#endif
#ifndef CLIENT_TLS_SECONDS /* to shake hands */
#define CLIENT_TLS_SECONDS 30
#endif
#ifndef CLIENT_HEAVY_PER_TURN   /* handshakes and password slices of a turn: */
#define CLIENT_HEAVY_PER_TURN 4 /* it stays short under a storm of them */
#endif
#ifndef CLIENT_LOGINS_MAX /* failed ones of a session, then 421 */
#define CLIENT_LOGINS_MAX 3
#endif
#ifndef ADDRESS_LOGINS_MAX /* failed ones of an address, then it must wait */
#define ADDRESS_LOGINS_MAX 5
#endif
#ifndef ADDRESS_LOGINS_SECONDS
#define ADDRESS_LOGINS_SECONDS 60
#endif
#ifndef CLIENTS_REMEMBERED /* addresses, 300 bytes each, for people who ask */
#define CLIENTS_REMEMBERED 64
#endif
#ifndef CLIENT_ERRORS_MAX /* refused commands, then 421 */
#define CLIENT_ERRORS_MAX 20
#endif
#ifndef CLIENT_JUNK_MAX /* commands that send no mail, then 421 */
#define CLIENT_JUNK_MAX 100
#endif

/* ---- Deadlines for devices ----------------------------------------------- */
#ifndef CLIENT_IDLE_SECONDS /* RFC 5321 section 4.5.3.2.7: five minutes */
#define CLIENT_IDLE_SECONDS 300
#endif
#ifndef CLIENT_IDLE_CROWDED_SECONDS /* while three quarters of the slots are */
#define CLIENT_IDLE_CROWDED_SECONDS 10 /* taken, as Postfix does under stress */
#endif
#ifndef CLIENT_PATIENCE_SECONDS /* without a message, however busy */
#define CLIENT_PATIENCE_SECONDS 900
#endif
#ifndef CLIENT_PATIENCE_CROWDED_SECONDS
#define CLIENT_PATIENCE_CROWDED_SECONDS 60
#endif
#ifndef CLIENT_EVICT_SECONDS /* no slot is left: the laziest one gives way */
#define CLIENT_EVICT_SECONDS 2
#endif
#ifndef CLIENT_MESSAGE_SECONDS /* a whole message, however fast */
#define CLIENT_MESSAGE_SECONDS 3600
#endif
#ifndef CLIENT_RATE_BYTES /* a second, after the grace: slower is an attack */
#define CLIENT_RATE_BYTES 500
#endif
#ifndef CLIENT_RATE_GRACE_SECONDS /* a scanner may start DATA, then scan */
#define CLIENT_RATE_GRACE_SECONDS 30
#endif
#ifndef CLIENT_RATE_GRACE_CROWDED_SECONDS
#define CLIENT_RATE_GRACE_CROWDED_SECONDS 10
#endif

/* ---- Connections to the smarthost: about 25 KiB each, and a TLS session -- */
#ifndef CONNECTION_SLOTS
#define CONNECTION_SLOTS 4
#endif
#ifndef CONNECTION_IN_BYTES /* the longest reply line that we bear */
#define CONNECTION_IN_BYTES 4096
#endif
#ifndef CONNECTION_OUT_BYTES /* a full TLS record */
#define CONNECTION_OUT_BYTES 16384
#endif
#ifndef CONNECTION_MESSAGES_MAX /* then a fresh connection */
#define CONNECTION_MESSAGES_MAX 100
#endif
#ifndef REPLY_LINES_MAX /* RFC 5321 sets none; a flood is a fault */
#define REPLY_LINES_MAX 64
#endif

/* ---- Deadlines at the smarthost: RFC 5321 section 4.5.3.2 ---------------- */
#ifndef CONNECT_SECONDS
#define CONNECT_SECONDS 30
#endif
#ifndef CONNECT_NEXT_SECONDS /* while another address is left to try */
#define CONNECT_NEXT_SECONDS 5
#endif
#ifndef SETUP_NEXT_SECONDS /* for each reply up to the login, likewise */
#define SETUP_NEXT_SECONDS 30
#endif
#ifndef HANDSHAKE_SECONDS
#define HANDSHAKE_SECONDS 30
#endif
#ifndef REPLY_SECONDS /* greeting, EHLO, AUTH, MAIL, RCPT */
#define REPLY_SECONDS 300
#endif
#ifndef REPLY_DATA_SECONDS /* STARTTLS, DATA */
#define REPLY_DATA_SECONDS 120
#endif
#ifndef REPLY_BLOCK_SECONDS /* no byte of the body taken */
#define REPLY_BLOCK_SECONDS 180
#endif
#ifndef REPLY_DOT_SECONDS
#define REPLY_DOT_SECONDS 600
#endif
#ifndef HANG_SECONDS    /* a message that takes longer steps aside: another */
#define HANG_SECONDS 60 /* connection goes on with the rest */
#endif
#ifndef REPLY_QUIT_SECONDS
#define REPLY_QUIT_SECONDS 2
#endif
#ifndef TRANSACTION_SECONDS /* a whole message, however slow */
#define TRANSACTION_SECONDS 3600
#endif
#ifndef CONNECTION_IDLE_SECONDS /* smarthosts hang up on idle ones anyway */
#define CONNECTION_IDLE_SECONDS 5
#endif
#ifndef CONNECTION_WARM_SECONDS /* while a device still uploads */
#define CONNECTION_WARM_SECONDS 300
#endif
#ifndef ROUTE_AUTH_SECONDS /* three logins an hour never lock an account */
#define ROUTE_AUTH_SECONDS 1200
#endif
#ifndef DRAIN_SECONDS /* procd and systemd kill after five and more */
#define DRAIN_SECONDS 4
#endif

/* ---- Notices of failed mail: about 1.2 KiB a failure --------------------- */
#ifndef NOTICE_FAILURES /* told with their words; more are counted */
#define NOTICE_FAILURES 32
#endif
#ifndef NOTICE_DELAY_SECONDS /* failures come in bunches */
#define NOTICE_DELAY_SECONDS 30
#endif

/* ---- Logins of devices: about 0.9 KiB each ------------------------------- */
#ifndef USERS_MAX
#define USERS_MAX 32
#endif
#ifndef USER_NAME_BYTES /* with its NUL */
#define USER_NAME_BYTES 65
#endif
#ifndef USER_SENDERS_BYTES /* the list of one user, with its NUL */
#define USER_SENDERS_BYTES 320
#endif
#ifndef USERS_FILE_BYTES /* the largest users_file */
#define USERS_FILE_BYTES 16384
#endif
#ifndef USERS_ROUNDS /* PBKDF2 rounds of a new line of the users_file */
#define USERS_ROUNDS 20000
#endif
#ifndef PASSWORD_SLICE_ROUNDS /* of them in a turn of the loop: about 1 ms */
#define PASSWORD_SLICE_ROUNDS 1000
#endif

/* ---- Names --------------------------------------------------------------- */
#ifndef DNS_SLOTS /* questions under way */
#define DNS_SLOTS 4
#endif
#ifndef DNS_ADDRESSES_MAX
#define DNS_ADDRESSES_MAX 16
#endif
#ifndef DNS_SERVERS_MAX
#define DNS_SERVERS_MAX 3
#endif
#ifndef DNS_CACHE_ENTRIES
#define DNS_CACHE_ENTRIES 8
#endif
#ifndef DNS_TIMEOUT_SECONDS /* one server, one try */
#define DNS_TIMEOUT_SECONDS 3
#endif

/* ---- The rest ------------------------------------------------------------ */
#ifndef LOG_LINE_BYTES /* below PIPE_BUF: a line is written whole or not */
#define LOG_LINE_BYTES 1024
#endif
#ifndef LOG_PATIENCE_MS /* for the lines that name lost mail */
#define LOG_PATIENCE_MS 2000
#endif
#ifndef STATUS_SLOTS /* people who ask at a time */
#define STATUS_SLOTS 2
#endif
/* The devices' sessions and the smarthost's never take each other's place:
 * about 56 KiB of heap each with a distribution's library, at most. */
#define TLS_SESSIONS_MAX (CONNECTION_SLOTS + CLIENT_TLS_MAX)
#define POLLER_FDS_MAX                                                         \
    (2 * LISTENERS_MAX + CLIENTS_MAX + CONNECTION_SLOTS + 2 * DNS_SLOTS +      \
     STATUS_SLOTS + 8)

/* ==== Part 3: guards ====================================================== */

static_assert(MESSAGE_MAX_BYTES / QUEUE_BLOCK_BYTES + QUEUE_SMALL_BLOCKS + 64 <=
                  QUEUE_BLOCKS,
              "the largest message does not fit: raise QUEUE_BLOCKS");
static_assert(QUEUE_BLOCK_BYTES >= 1024 && QUEUE_BLOCK_BYTES % 64 == 0,
              "QUEUE_BLOCK_BYTES: a multiple of 64, at least 1024");
static_assert(QUEUE_BLOCKS < UINT32_MAX, "QUEUE_BLOCKS: too many");
static_assert(QUEUE_MESSAGES <= 65535, "QUEUE_MESSAGES: 65535 at most");
static_assert(RECIPIENTS_MAX >= 100 && RECIPIENTS_MAX <= 10000,
              "RECIPIENTS_MAX: 100 to 10000 (RFC 5321 section 4.5.3.1.8)");
static_assert(COMMAND_MAX_BYTES >= 512 && COMMAND_MAX_BYTES < CLIENT_IN_BYTES,
              "a command must fit the client's buffer: raise CLIENT_IN_BYTES");
static_assert(CLIENT_OUT_BYTES >= 1024,
              "the EHLO reply leaves in one piece: raise CLIENT_OUT_BYTES");
static_assert(CONNECTION_IN_BYTES >= 512 && CONNECTION_OUT_BYTES >= 1024,
              "RFC 5321 section 4.5.3.1.5: reply lines have up to 512 bytes");
static_assert(USERS_ROUNDS >= 1000 && USERS_ROUNDS <= 1000000,
              "USERS_ROUNDS: 1000 to 1000000, the bounds of the users_file");
static_assert(PASSWORD_SLICE_ROUNDS > 0, "a login would never end");
static_assert(NOTICE_FAILURES >= 2 && NOTICE_FAILURES <= 1000,
              "NOTICE_FAILURES: 2 to 1000");
static_assert(LOG_LINE_BYTES >= 256 && LOG_LINE_BYTES <= 4096 - 64,
              "a log line goes out in one write: 256 to 4096");

#endif
