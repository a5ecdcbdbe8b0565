/* settings: what is taken, what is refused with which words, and that a
 * broken file changes nothing. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../settings.h"
Suite *suite_settings(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define SECRET       "hunter2-is-secret"
#define A_16         "aaaaaaaaaaaaaaaa"
#define A_64         A_16 A_16 A_16 A_16
#define A_256        A_64 A_64 A_64 A_64

/* The first two lines of nearly every text: what every file needs. */
#define BASE "smarthost = smtp.example.net:587\nsmarthost_ca_file = /dev/null\n"

static char error[SETTINGS_ERROR_BYTES];
static char folder[] = "/tmp/test_settings.XXXXXX";
static char file[64], password_file[64];

static void setup(void)
{
    strcpy(strrchr(folder, '.'), ".XXXXXX");
    ck_assert(mkdtemp(folder) != NULL);
    snprintf(file, sizeof file, "%s/conf", folder);
    snprintf(password_file, sizeof password_file, "%s/password", folder);
    error[0] = '\0';
}

static void teardown(void)
{
    unlink(file);
    unlink(password_file);
    rmdir(folder);
}

static bool load(const char *text)
{
    return settings_load_text("the.conf", text, strlen(text), error);
}

static void load_good(const char *text)
{
    ck_assert_msg(load(text), "%s", error);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *out = fopen(name, "w");
    ck_assert(out != NULL);
    fputs(text, out);
    fclose(out);
    ck_assert_int_eq(chmod(name, mode), 0);
}

/* What settings_print() says; static. */
static const char *printed(void)
{
    static char text[16384];
    FILE *out = fmemopen(text, sizeof text, "w");
    ck_assert(out != NULL);
    settings_print(out);
    fclose(out);
    return text;
}

/* ---- Taken --------------------------------------------------------------- */

START_TEST(every_kind)
{
    static const char text[] =
        "# a comment\r\n"
        "\n"
        "  smarthost=smtp.example.net:465  \n"
        "SMARTHOST_TLS\t=\tIMPLICIT\n"
        "smarthost_ca_file = /dev/null\n"
        "listen = 127.0.0.1:2525 [::1]:2525\t192.0.2.1:25\n"
        "allow_from = 192.168.0.0/16\n"
        "  # indented comment\n"
        "message_max_bytes = 65536\n"
        "smarthost_user = a user = with an equals sign\n"
        "smarthost_password = # no comment " SECRET "\n"
        "hostname =\n"
        "expire_hours = 240";
    load_good(text);
    const struct settings *s = settings();
    ck_assert_str_eq(s->smarthost, "smtp.example.net:465");
    ck_assert_str_eq(s->smarthost_name, "smtp.example.net");
    ck_assert_uint_eq(s->smarthost_port, 465);
    ck_assert_uint_eq(s->smarthost_tls, TLS_IMPLICIT);
    ck_assert_uint_eq(s->listen.count, 3);
    ck_assert_uint_eq(s->listen.items[1].port, 2525);
    ck_assert(!s->listen_is_preset);
    ck_assert_uint_eq(s->allow_from.count, 1);
    ck_assert_uint_eq(s->allow_from.items[0].prefix_bits, 16);
    ck_assert_int_eq(s->message_max_bytes, 65536);
    ck_assert_str_eq(s->smarthost_user, "a user = with an equals sign");
    ck_assert_str_eq(s->smarthost_password, "# no comment " SECRET);
    ck_assert_str_eq(s->hostname, "");
    ck_assert_int_eq(s->expire_hours, 240);
    ck_assert_int_eq(s->connections_max, CONNECTIONS_MAX); /* untouched */
}
END_TEST

START_TEST(smarthosts)
{
    static const struct {
        const char *text, *name; /* NULL: refused */
        uint16_t port;
    } table[] = {
        {"smtp.example.net:587", "smtp.example.net", 587},
        {"relay_1:25", "relay_1", 25},
        {"192.0.2.1:25", "192.0.2.1", 25},
        {"[2001:db8::1]:25", "2001:db8::1", 25},
        {"smtp.example.net:65535", "smtp.example.net", 65535},
        {"smtp.example.net", NULL, 0},
        {"smtp.example.net:", NULL, 0},
        {"smtp.example.net:0", NULL, 0},
        {"smtp.example.net:65536", NULL, 0},
        {"smtp.example.net:-1", NULL, 0},
        {"smtp.example.net:smtp", NULL, 0},
        {"smtp.example.net:25x", NULL, 0},
        {":25", NULL, 0},
        {"2001:db8::1", NULL, 0},
        {"a:b:25", NULL, 0},
        {"smtp example:25", NULL, 0},
        {"smtp/example:25", NULL, 0},
        {"m\xc3\xbcller.de:25", NULL, 0},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "smarthost = %s\nsmarthost_ca_file = /dev/null\n",
                 table[i].text);
        bool good = load(text);
        ck_assert_msg(good == (table[i].name != NULL), "%s: %s", table[i].text,
                      error);
        if (good) {
            ck_assert_str_eq(settings()->smarthost_name, table[i].name);
            ck_assert_uint_eq(settings()->smarthost_port, table[i].port);
        } else {
            ck_assert_msg(strstr(error, "the.conf line 1: smarthost: ") != NULL,
                          "%s", error);
        }
    }
}
END_TEST

/* ---- Refused: file, line, key and cure ----------------------------------- */

static const struct {
    const char *text, *where, *cure;
} bad[] = {
    {"", "the.conf: smarthost: ", "smarthost = smtp.example.com:587"},
    {"smarthost =\n", "the.conf line 1: smarthost: ", "is not set; name the"},
    {BASE "nonsense\n", "the.conf line 3: ", "is no \"key = value\" line"},
    {BASE "= 5\n", "the.conf line 3: ", "there is no setting \"\""},
    {BASE "\n\nsmart_host = x\n", "the.conf line 5: ",
     "there is no setting \"smart_host\"; `lanpost settings` lists them"},
    {BASE "log = stderr\nLOG = syslog\n",
     "the.conf line 4: log: ", "was set in line 3 already; keep one"},
    {BASE "hostname = " A_256 "\n",
     "the.conf line 3: hostname: ", "is too long: 255 bytes at most"},
    {BASE "hostname = a\x01z\n",
     "the.conf line 3: hostname: ", "holds a control character; take it out"},
    {BASE "hostname = a\x7fz\n",
     "the.conf line 3: hostname: ", "control character"},
    {BASE "hostname = a\tz\n",
     "the.conf line 3: hostname: ", "control character"},
    {BASE "hostname = a\rz\n",
     "the.conf line 3: hostname: ", "control character"},
    {BASE "# " A_256 A_256 A_256 A_256 A_256 "\n",
     "the.conf line 3: ", "is too long: 1087 bytes at most"},
    {BASE "expire_hours = soon\n", "the.conf line 3: expire_hours: ",
     "\"soon\" is no whole number (unit: h)"},
    {BASE "expire_hours =\n",
     "the.conf line 3: expire_hours: ", "is no whole number"},
    {BASE "expire_hours = 1.5\n",
     "the.conf line 3: expire_hours: ", "is no whole number"},
    {BASE "expire_hours = 4 days\n",
     "the.conf line 3: expire_hours: ", "\"4 days\" is no whole number"},
    {BASE "expire_hours = 99999999999999999999\n",
     "the.conf line 3: expire_hours: ", "is no whole number"},
    {BASE "expire_hours = 0\n",
     "the.conf line 3: expire_hours: ", "0 is out of bounds: 1 to 240 h"},
    {BASE "expire_hours = 241\n",
     "the.conf line 3: expire_hours: ", "241 is out of bounds: 1 to 240 h"},
    {BASE "expire_hours = -1\n",
     "the.conf line 3: expire_hours: ", "-1 is out of bounds"},
    {BASE "message_max_bytes = 1\n",
     "the.conf line 3: message_max_bytes: ", "1 is out of bounds: 65536 to "},
    {BASE "log_level = loud\n", "the.conf line 3: log_level: ",
     "\"loud\" is none of: error warn info debug"},
    {BASE "log_level =\n", "the.conf line 3: log_level: ", "is none of: error"},
    {BASE "log_level = error warn\n",
     "the.conf line 3: log_level: ", "\"error warn\" is none of"},
    {BASE "listen = 127.0.0.1\n", "the.conf line 3: listen: ",
     "\"127.0.0.1\" is no address:port (such as 0.0.0.0:25"},
    {BASE "listen = 127.0.0.1:25 lan:25\n",
     "the.conf line 3: listen: ", "\"lan:25\" is no address:port"},
    {BASE "listen = 127.0.0.1:25,[::1]:25\n",
     "the.conf line 3: listen: ", "is no address:port"},
    {BASE "listen = " A_256 "\n",
     "the.conf line 3: listen: ", "is no address:port"},
    {BASE "listen = 1.1.1.1:1 1.1.1.1:2 1.1.1.1:3 1.1.1.1:4 1.1.1.1:5 "
          "1.1.1.1:6 1.1.1.1:7 1.1.1.1:8 1.1.1.1:9\n",
     "the.conf line 3: listen: ", "has more than 8 entries"},
    {BASE "listen =\n",
     "the.conf line 3: listen: ", "is empty; no device could connect"},
    {BASE "allow_from = 192.168.1.9/16\n", "the.conf line 3: allow_from: ",
     "\"192.168.1.9/16\" is no network (such as 192.168.0.0/16; no bits"},
    {BASE "allow_from = lan\n",
     "the.conf line 3: allow_from: ", "\"lan\" is no network"},
    {BASE "allow_from =\n",
     "the.conf line 3: allow_from: ", "is empty; no device could send"},
    /* names and addresses */
    {BASE "hostname = my relay\n",
     "the.conf line 3: hostname: ", "\"my relay\" is no host name"},
    {BASE "hostname = relay..example\n",
     "the.conf line 3: hostname: ", "is no host name"},
    {BASE "hostname = b\xc3\xbcro\n",
     "the.conf line 3: hostname: ", "is no host name"},
    {BASE "hostname = relay:25\n",
     "the.conf line 3: hostname: ", "is no host name"},
    {BASE "hostname = <relay>\n",
     "the.conf line 3: hostname: ", "is no host name"},
    {BASE "postmaster = Me <me@example.com>\n",
     "the.conf line 3: postmaster: ", "is no plain address such as me@"},
    {BASE "postmaster = <me@example.com>\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    {BASE "postmaster = me\n",
     "the.conf line 3: postmaster: ", "\"me\" is no plain address"},
    {BASE "postmaster = me@\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    {BASE "postmaster = m\xc3\xbc@example.com\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    {BASE "postmaster = me@example.com you@example.com\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    {BASE "postmaster = me@example.com,you@example.com\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    {BASE "postmaster = @a:me@example.com\n",
     "the.conf line 3: postmaster: ", "is no plain address"},
    /* a comment behind a value would become part of it */
    {BASE "hostname = relay.example # ours\n", "the.conf line 3: hostname: ",
     "holds \" #\"; a comment needs its own line"},
    {BASE "smarthost_user = me # you\n",
     "the.conf line 3: smarthost_user: ", "a comment needs its own line"},
    {"smarthost = a:25 # ours\nsmarthost_ca_file = /dev/null\n",
     "the.conf line 1: smarthost: ", "a comment needs its own line"},
    {BASE "retry_first_seconds = 901\n",
     "the.conf line 3: retry_first_seconds: ",
     "is above retry_max_seconds; lower it"},
    {BASE "retry_max_seconds = 5\n",
     "the.conf: retry_first_seconds: ", "is above retry_max_seconds"},
    {"smarthost = a:25\nsmarthost_ca_file = /nonexistent/ca.pem\n",
     "the.conf line 2: smarthost_ca_file: ",
     "cannot read /nonexistent/ca.pem: No such file or directory; install "
     "ca-certificates, or name the file"},
    /* logins */
    {BASE "smarthost_user = me\n", "the.conf line 3: smarthost_user: ",
     "needs both smarthost_user and a password"},
    {BASE "smarthost_password = " SECRET "\n",
     "the.conf: smarthost_user: ", "needs both smarthost_user and a password"},
    {BASE "smarthost_auth = none\nsmarthost_user = me\n",
     "the.conf line 3: smarthost_auth: ",
     "is none, but a login is set; take one out"},
    {BASE "smarthost_auth = none\nsmarthost_password = " SECRET "\n",
     "the.conf line 3: smarthost_auth: ", "is none, but a login is set"},
    {BASE "smarthost_auth = plain\n", "the.conf line 3: smarthost_auth: ",
     "needs smarthost_user and a password"},
    {BASE "smarthost_auth = login\nsmarthost_user = me\n",
     "the.conf line 3: smarthost_auth: ",
     "needs smarthost_user and a password"},
    {BASE "smarthost_tls = none\nsmarthost_user = me\n"
          "smarthost_password = " SECRET "\n",
     "the.conf line 3: smarthost_tls: ",
     "none would send the password in clear; use starttls"},
    /* what goes wrong in the line of a secret never shows it */
    {BASE "smarthost_password " SECRET "\n",
     "the.conf line 3: ", "is no \"key = value\" line"},
    {BASE "smarthost_password = " SECRET "\x01\n",
     "the.conf line 3: smarthost_password: ", "holds a control character"},
    {BASE "smarthost_password = " SECRET A_256 "\n",
     "the.conf line 3: smarthost_password: ", "is too long: 255 bytes"},
    {BASE "smarthost_password = " SECRET "\nsmarthost_password = " SECRET "\n",
     "the.conf line 4: smarthost_password: ", "was set in line 3 already"},
    {BASE "smarthost_pass = " SECRET "\n",
     "the.conf line 3: ", "there is no setting \"smarthost_pass\""},
    {BASE "smarthost_password = " SECRET "\nsmarthost_password_file = /x\n",
     "the.conf line 4: smarthost_password_file: ",
     "smarthost_password is set too; keep one of them"},
    /* senders and recipients */
    {BASE "sender = me\n", "the.conf line 3: sender: ",
     "\"me\" is no plain address such as me@example.com"},
    {BASE "sender = <me@example.com>\n",
     "the.conf line 3: sender: ", "is no plain address"},
    {BASE "sender = m\xc3\xbc@example.com\n",
     "the.conf line 3: sender: ", "is no plain address"},
    {BASE "sender_rewrite = always\n", "the.conf line 3: sender_rewrite: ",
     "is always, but no sender is set; set one"},
    {BASE "sender_rewrite = sometimes\n", "the.conf line 3: sender_rewrite: ",
     "\"sometimes\" is none of: never unqualified always"},
    {BASE "default_domain = example..com\n",
     "the.conf line 3: default_domain: ", "\"example..com\" is no domain"},
    {BASE "default_domain = @example.com\n",
     "the.conf line 3: default_domain: ", "is no domain"},
    {BASE "default_domain = b\xc3\xbcro.example\n",
     "the.conf line 3: default_domain: ", "is no domain"},
    {BASE "sender_domains = example.com @example.net\n",
     "the.conf line 3: sender_domains: ", "\"@example.net\" is no domain"},
    {BASE "sender_domains = example.com,example.net\n",
     "the.conf line 3: sender_domains: ", "is no domain"},
    {BASE "sender_domains = " A_256 "\n",
     "the.conf line 3: sender_domains: ", "is no domain"},
    {BASE "rewrite_from = 192.168.1.9\n",
     "the.conf line 3: rewrite_from: ", "\"192.168.1.9\" is no left=right"},
    {BASE "rewrite_from = 192.168.1.9=\n",
     "the.conf line 3: rewrite_from: ", "is no left=right"},
    {BASE "rewrite_from = =me@example.com\n",
     "the.conf line 3: rewrite_from: ", "is no left=right"},
    {BASE "rewrite_from = 192.168.1.9 = me@example.com\n",
     "the.conf line 3: rewrite_from: ", "is no left=right"},
    {BASE "rewrite_from = printer=me@example.com\n",
     "the.conf line 3: rewrite_from: ",
     "\"printer=me@example.com\" is no network=address such as "
     "192.168.1.9=scanner@example.com"},
    {BASE "rewrite_from 192.168.1.9/16 = me@example.com\n",
     "the.conf line 3: rewrite_from: ", "is no network=address"},
    {BASE "rewrite_from 192.168.1.9 = me\n",
     "the.conf line 3: rewrite_from: ", "is no network=address"},
    {BASE "rewrite_from 192.168.1.9 = @example.com\n",
     "the.conf line 3: rewrite_from: ", "is no network=address"},
    {BASE "rewrite_from 192.168.1.9 = a@b.example c@d.example\n",
     "the.conf line 3: rewrite_from: ",
     "\"192.168.1.9=a@b.example c@d.example\" is no \"left = right\""},
    {BASE "rewrite_from 192.168.1.9 192.168.1.8 = a@b.example\n",
     "the.conf line 3: rewrite_from: ", "is no \"left = right\""},
    {BASE "rewrite_from 192.168.1.9 =\n",
     "the.conf line 3: rewrite_from: ", "is no left=right"},
    {BASE "rewrite_to root = admin@example.com\n"
          "rewrite_to me = you\nrewrite_to a = b@c.example\n",
     "the.conf line 5: rewrite_to: ",
     "\"me=you\" is none of root=me@example.com, a@old.example=b@example.com, "
     "@old.example=@new.example"},
    {BASE "rewrite_to @old.example = me@example.com\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to me@example.com = @new.example\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to @old..example = @new.example\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to m\xc3\xbc = me@example.com\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to <root> = me@example.com\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to root = <me@example.com>\n",
     "the.conf line 3: rewrite_to: ", "is none of root="},
    {BASE "rewrite_to root = me@example.com # us\n",
     "the.conf line 3: rewrite_to: ", "is no \"left = right\""},
    {BASE "rewrite_to " A_256 " = me@example.com\n",
     "the.conf line 3: rewrite_to: ", "is no left=right"},
    {BASE "rewrite_to " A_256 A_256 " = me@example.com\n",
     "the.conf line 3: rewrite_to: ", "is no \"left = right\""},
    {BASE "rewrite_to a = b@c.example\nrewrite_to = d=e@f.example\n",
     "the.conf line 4: rewrite_to: ", "was set in line 3 already; keep one"},
    {BASE "hostname a = b\n",
     "the.conf line 3: ", "there is no setting \"hostname\""},
    {BASE "rewrite_too a = b@c.example\n",
     "the.conf line 3: ", "there is no setting \"rewrite_too\""},
    /* what devices must do they must be able to do */
    {BASE "no_starttls_to = 10.0.0.0/8\nrequire_tls = 10.1.0.0/16\n",
     "the.conf line 4: require_tls: ",
     "names devices that no_starttls_to names too; take them out of one"},
    {BASE "require_tls = 192.168.0.0/16 10.0.0.0/8\n"
          "no_starttls_to = 10.0.0.0/8\n",
     "the.conf line 3: require_tls: ", "names devices that no_starttls_to"},
    {BASE "require_auth = 10.0.0.0/8\naccept_any_auth = no\n",
     "the.conf line 3: require_auth: ", "needs a users_file"},
    {BASE "require_auth = 10.0.0.0/8\n", /* any login would do */
     "the.conf line 3: require_auth: ", "needs a users_file"},
    {BASE "tls_key_file = /dev/null\n",
     "the.conf line 3: tls_key_file: ", "needs a tls_cert_file"},
    {BASE "accept_any_auth = maybe\n",
     "the.conf line 3: accept_any_auth: ", "\"maybe\" is none of: auto no yes"},
    {BASE "tls_detect_ms = 5001\n",
     "the.conf line 3: tls_detect_ms: ", "5001 is out of bounds: 0 to 5000 ms"},
    {BASE "status_listen = 127.0.0.1:1 127.0.0.1:2\n",
     "the.conf line 3: status_listen: ", "has more than 1 entries"},
    /* the wait for the smarthost's verdict */
    {BASE "ack_wait_seconds = 601\n",
     "the.conf line 3: ack_wait_seconds: ", "601 is out of bounds: 0 to 600 s"},
    {BASE "ack_late = drop\n", "the.conf line 3: ack_late: ", "queue refuse"},
    {BASE "ack_wait_at = 465=601\n", "the.conf line 3: ack_wait_at: ",
     "\"465=601\" is no port=seconds such as 465=60, 0 to 600 seconds"},
    {BASE "ack_wait_at = 25=5 0=5\n",
     "the.conf line 3: ack_wait_at: ", "\"0=5\" is no port=seconds"},
    {BASE "ack_wait_at = 65536=5\n",
     "the.conf line 3: ack_wait_at: ", "\"65536=5\" is no port=seconds"},
    {BASE "ack_wait_at = 25=-1\n",
     "the.conf line 3: ack_wait_at: ", "\"25=-1\" is no port=seconds"},
    {BASE "ack_wait_at = 25=5s\n",
     "the.conf line 3: ack_wait_at: ", "\"25=5s\" is no port=seconds"},
    {BASE "ack_wait_at = smtp=5\n",
     "the.conf line 3: ack_wait_at: ", "\"smtp=5\" is no port=seconds"},
    {BASE "ack_wait_at = 25=\n", "the.conf line 3: ack_wait_at: ", ""},
    {BASE "ack_wait_at = 25\n", "the.conf line 3: ack_wait_at: ", ""},
    {BASE "ack_wait_seconds = 0\nack_late = refuse\n",
     "the.conf line 4: ack_late: ",
     "refuse needs ack_wait_seconds (and each of ack_wait_at) above 0"},
    {BASE "ack_late = refuse\nack_wait_at = 25=5 465=0\n",
     "the.conf line 3: ack_late: ", "refuse needs ack_wait_seconds"},
};

/* The same that do not contradict. */
START_TEST(what_is_no_contradiction)
{
    static const char *const table[] = {
        "listen =\nlisten_tls = 127.0.0.1:465\n",
        "no_starttls_to = 10.1.0.0/16\nrequire_tls = 10.0.0.0/8\n",
        "no_starttls_to = 10.0.0.1\nrequire_tls = 10.0.0.2 fd00::/8\n",
        "require_auth = 10.0.0.0/8\naccept_any_auth = yes\n",
        "require_auth = 10.0.0.0/8\naccept_any_auth = no\nusers_file = /x\n",
        "tls_cert_file = /x\n",
        "tls_cert_file = /x\ntls_key_file = /y\n",
        "sender_rewrite = always\nsender = a@b.example\n",
        "sender_rewrite = never\nsender = a@b.example\n",
        "sender_domains = example.com  example.net  b.example\n",
        "status_listen =\ntls_detect_ms = 0\n",
        "default_domain = lan\n",
        "ack_late = refuse\n",
        "ack_late = refuse\nack_wait_seconds = 1\nack_wait_at = 25=1 465=600\n",
        "ack_wait_seconds = 0\nack_wait_at = 25=0 465=9\n",
        "rewrite_to = a=b@c.example\nrewrite_to d = e@f.example\n",
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char text[512];
        snprintf(text, sizeof text, BASE "%s", table[i]);
        ck_assert_msg(load(text), "row %zu: %s", i, error);
    }
}
END_TEST

START_TEST(the_wait_of_each_port)
{
    ck_assert(load(BASE "ack_wait_seconds = 7\n"));
    ck_assert_int_eq(settings_ack_wait_ms(25), 7000);
    ck_assert(load(BASE "ack_wait_seconds = 7\n"
                        "ack_wait_at = 25=0 465=600 65535=1\n"));
    ck_assert_int_eq(settings_ack_wait_ms(25), 0);
    ck_assert_int_eq(settings_ack_wait_ms(465), 600000);
    ck_assert_int_eq(settings_ack_wait_ms(65535), 1000);
    ck_assert_int_eq(settings_ack_wait_ms(26), 7000);
    ck_assert_int_eq(settings_ack_wait_ms(0), 7000);
}
END_TEST

/* Pairs: in one line, in lines of their own, or both; always the same. */
START_TEST(pairs)
{
    static const struct {
        const char *text, *from, *to;
    } table[] = {
        {"", REWRITE_FROM, REWRITE_TO},
        {"rewrite_from = 192.168.1.9=a@b.example fd00::/8=c@d.example\n"
         "rewrite_to = root=me@example.com @old.example=@new.example\n",
         "192.168.1.9=a@b.example fd00::/8=c@d.example",
         "root=me@example.com @old.example=@new.example"},
        {"rewrite_from 192.168.1.9 = a@b.example\n"
         "rewrite_to root = me@example.com\r\n"
         "REWRITE_FROM\tfd00::/8\t=\tc@d.example\n"
         "rewrite_to @old.example=@new.example\n",
         "192.168.1.9=a@b.example fd00::/8=c@d.example",
         "root=me@example.com @old.example=@new.example"},
        {"rewrite_from =\t192.168.1.9=a@b.example   fd00::/8=c@d.example  \n"
         "rewrite_to = root=me@example.com\n"
         "  rewrite_to   @old.example   =   @new.example  \n",
         "192.168.1.9=a@b.example fd00::/8=c@d.example",
         "root=me@example.com @old.example=@new.example"},
        {"rewrite_to =\nrewrite_to a = b=c@d.example\n", "", "a=b=c@d.example"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        static char text[16384];
        snprintf(text, sizeof text, BASE "%s", table[i].text);
        load_good(text);
        ck_assert_str_eq(settings()->rewrite_from, table[i].from);
        ck_assert_str_eq(settings()->rewrite_to, table[i].to);
        snprintf(text, sizeof text, "%s", printed());
        load_good(text);
        ck_assert_str_eq(settings()->rewrite_from, table[i].from);
        ck_assert_str_eq(settings()->rewrite_to, table[i].to);
    }
}
END_TEST

/* As many pairs as there is room for, however they were said, can be printed
 * and read again; one more is refused. */
START_TEST(as_many_pairs_as_fit)
{
    static char text[16384], many[16384];
    size_t used = (size_t)snprintf(many, sizeof many, BASE);
    for (int i = 0; i < 67; i++) /* 15 bytes each, and a blank */
        used += (size_t)snprintf(many + used, sizeof many - used,
                                 "rewrite_to r%d = me@b.cd\n", 10000 + i);
    static const char *const last[] = {"ab", "abc", "abcd"};
    for (size_t i = 0; i < COUNT(last); i++) {
        snprintf(many + used, sizeof many - used,
                 "rewrite_to %s = me@example.com\n", last[i]);
        bool good = load(many);
        ck_assert_msg(good == (i < 2), "%s", error);
        if (!good)
            break;
        struct settings before = *settings();
        ck_assert_uint_eq(strlen(before.rewrite_to), 1022 + i);
        snprintf(text, sizeof text, "%s", printed());
        load_good(text);
        ck_assert_str_eq(before.rewrite_to, settings()->rewrite_to);
    }
    ck_assert_str_eq(error, "the.conf line 70: rewrite_to: is too long: 1023 "
                            "bytes at most");
}
END_TEST

START_TEST(refusals_name_file_line_key_and_cure)
{
    for (size_t i = 0; i < COUNT(bad); i++) {
        load_good(BASE "hostname = before.example\n");
        struct settings before = *settings();
        ck_assert_msg(!load(bad[i].text), "row %zu was taken:\n%s", i,
                      bad[i].text);
        ck_assert_msg(strncmp(error, bad[i].where, strlen(bad[i].where)) == 0,
                      "row %zu: %s", i, error);
        ck_assert_msg(strstr(error, bad[i].cure) != NULL, "row %zu: %s", i,
                      error);
        ck_assert_msg(strstr(error, "hunter2") == NULL, "%s", error);
        ck_assert_mem_eq(&before, settings(), sizeof before);
        ck_assert(strstr(printed(), "from the.conf line 3") != NULL);
    }
}
END_TEST

START_TEST(nul_byte)
{
    static const char text[] = BASE "hostname = a\0b\n";
    ck_assert(!settings_load_text("the.conf", text, sizeof text - 1, error));
    ck_assert(strstr(error, "the.conf line 3: holds a NUL byte") == error);
}
END_TEST

/* The longest of everything leaves the error whole. */
START_TEST(long_file_name)
{
    char name[400];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert(!settings_load_text(name, "expire_hours = 0", 16, error));
    ck_assert(strstr(error, " line 1: expire_hours: 0 is out of bounds") !=
              NULL);
    ck_assert_uint_lt(strlen(error), sizeof error);
}
END_TEST

/* A password is whatever it is; a name may hold the sign, too. */
START_TEST(number_signs_that_are_no_comments)
{
    load_good(BASE "smarthost_user = me#you\n"
                   "smarthost_password = pass # word\n"
                   "postmaster = me@example.com\n");
    ck_assert_str_eq(settings()->smarthost_user, "me#you");
    ck_assert_str_eq(settings()->smarthost_password, "pass # word");
    ck_assert_str_eq(settings()->postmaster, "me@example.com");
}
END_TEST

/* ---- The last say -------------------------------------------------------- */

static char asked_about[256];

static const char *agree(const struct settings *s, char why[SETTINGS_WHY_BYTES])
{
    (void)why;
    snprintf(asked_about, sizeof asked_about, "%s", s->hostname);
    return NULL;
}

static const char *disagree(const struct settings *s,
                            char why[SETTINGS_WHY_BYTES])
{
    snprintf(why, SETTINGS_WHY_BYTES, "%s is not to our liking", s->hostname);
    return "hostname";
}

/* At fault may be what the file does not name. */
static const char *disagree_with_all(const struct settings *s,
                                     char why[SETTINGS_WHY_BYTES])
{
    (void)s;
    memset(why, 'w', SETTINGS_WHY_BYTES - 1);
    why[SETTINGS_WHY_BYTES - 1] = '\0';
    return "users_file";
}

START_TEST(the_last_say)
{
    load_good(BASE "hostname = before.example\n");
    struct settings before = *settings();
    write_file(file, BASE "\nhostname = after.example\n", 0600);
    ck_assert(!settings_load(file, disagree, error));
    char want[SETTINGS_ERROR_BYTES];
    snprintf(want, sizeof want,
             "%s line 4: hostname: after.example is not to our liking", file);
    ck_assert_str_eq(error, want);
    ck_assert_mem_eq(&before, settings(), sizeof before);
    ck_assert(strstr(printed(), "from the.conf line 3") != NULL);
    ck_assert(!settings_load(file, disagree_with_all, error));
    snprintf(want, sizeof want, "%s: users_file: www", file);
    ck_assert_msg(strncmp(error, want, strlen(want)) == 0, "%s", error);
    ck_assert_mem_eq(&before, settings(), sizeof before);
    ck_assert_msg(settings_load(file, agree, error), "%s", error);
    ck_assert_str_eq(asked_about, "after.example");
    ck_assert_str_eq(settings()->hostname, "after.example");
    /* It is asked about good values alone. */
    asked_about[0] = '\0';
    write_file(file, BASE "hostname = bad..example\n", 0600);
    ck_assert(!settings_load(file, agree, error));
    ck_assert_str_eq(asked_about, "");
    ck_assert_str_eq(settings()->hostname, "after.example");
}
END_TEST

START_TEST(preset)
{
    load_good(BASE "expire_hours = 7\nsmarthost_user = me\n"
                   "smarthost_password = " SECRET "\nlog = syslog\n");
    settings_preset();
    const struct settings *s = settings();
    ck_assert_str_eq(s->smarthost, SMARTHOST); /* none is no fault here */
    ck_assert_str_eq(s->smarthost_password, SMARTHOST_PASSWORD);
    ck_assert_int_eq(s->expire_hours, EXPIRE_HOURS);
    ck_assert_uint_eq(s->log, LOG_STDERR);
    ck_assert_uint_ge(s->listen.count, 1);
    ck_assert_uint_ge(s->allow_from.count, 1);
    ck_assert(strstr(printed(), "hunter2") == NULL);
}
END_TEST

/* ---- Files --------------------------------------------------------------- */

START_TEST(file_modes)
{
    static const struct {
        mode_t mode;
        bool has_secret, good;
    } table[] = {
        {0600, true, true},  {0400, true, true},
        {0640, true, true}, /* its group is the service's */
        {0644, true, false}, {0604, true, false},
        {0660, true, false}, /* who may write it may ask for the password */
        {0644, false, true}, {0666, false, true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        write_file(file,
                   table[i].has_secret ? BASE "smarthost_user = me\n"
                                              "smarthost_password = " SECRET
                                              "\n"
                                       : BASE,
                   table[i].mode);
        bool good = settings_load(file, NULL, error);
        ck_assert_msg(good == table[i].good, "row %zu: %s", i, error);
        if (good)
            continue;
        ck_assert_msg(strstr(error, "conf line 4: smarthost_password: others "
                                    "can read this file; chmod 600 it"),
                      "%s", error);
        ck_assert(strstr(error, "hunter2") == NULL);
    }
}
END_TEST

START_TEST(password_files)
{
    static const struct {
        const char *content;
        mode_t mode;
        const char *password; /* NULL: refused */
        const char *cure;
    } table[] = {
        {SECRET "\n", 0600, SECRET, ""},
        {SECRET, 0400, SECRET, ""},
        {SECRET "\r\nsecond line\n", 0600, SECRET, ""},
        {"with blanks \n", 0600, "with blanks ", ""},
        {SECRET "\n", 0644, NULL, "can be read by others; chmod 600 it"},
        {SECRET "\n", 0602, NULL, "can be read by others; chmod 600 it"},
        {SECRET "\x01\n", 0600, NULL, "holds a control character"},
        {SECRET A_256 "\n", 0600, NULL, "too "}, /* "File too large" */
        {"\n", 0600, NULL, "a login needs both smarthost_user and a password"},
        {"", 0600, NULL, "a login needs both smarthost_user and a password"},
    };
    char text[256];
    snprintf(text, sizeof text,
             BASE "smarthost_user = me\nsmarthost_password_file = %s\n",
             password_file);
    for (size_t i = 0; i < COUNT(table); i++) {
        write_file(password_file, table[i].content, table[i].mode);
        bool good = load(text);
        ck_assert_msg(good == (table[i].password != NULL), "row %zu: %s", i,
                      error);
        if (good)
            ck_assert_str_eq(settings()->smarthost_password, table[i].password);
        else
            ck_assert_msg(strstr(error, table[i].cure) != NULL, "row %zu: %s",
                          i, error);
        ck_assert(strstr(error, "hunter2") == NULL);
        ck_assert(strstr(printed(), "hunter2") == NULL);
    }
    unlink(password_file);
    ck_assert(!load(text));
    ck_assert_msg(strstr(error, "line 4: smarthost_password_file: cannot read"),
                  "%s", error);
}
END_TEST

START_TEST(longest_password)
{
    static const char *const ends[] = {"", "\n", "\r\n"};
    char text[256], content[260];
    snprintf(text, sizeof text,
             BASE "smarthost_user = me\nsmarthost_password_file = %s\n",
             password_file);
    for (size_t i = 0; i < COUNT(ends); i++) {
        memset(content, 'p', 255);
        strcpy(content + 255, ends[i]);
        write_file(password_file, content, 0600);
        load_good(text);
        ck_assert_uint_eq(strlen(settings()->smarthost_password), 255);
    }
}
END_TEST

START_TEST(files_that_are_none)
{
    static char big[20000];
    ck_assert(!settings_load("/nonexistent/lanpost.conf", NULL, error));
    ck_assert_str_eq(error, "cannot read /nonexistent/lanpost.conf: No such "
                            "file or directory");
    ck_assert(!settings_load(folder, NULL, error));
    ck_assert(strstr(error, "Is a directory") != NULL);
    memset(big, '#', sizeof big - 1);
    write_file(file, big, 0600);
    ck_assert(!settings_load(file, NULL, error));
    ck_assert(strstr(error, "File too large") != NULL);
}
END_TEST

START_TEST(load_from_a_file)
{
    write_file(file, BASE "hostname = from.file\n", 0600);
    ck_assert_msg(settings_load(file, NULL, error), "%s", error);
    ck_assert_str_eq(settings()->hostname, "from.file");
    write_file(file, BASE "hostname = a\nhostname = b\n", 0600);
    ck_assert(!settings_load(file, NULL, error));
    ck_assert(strncmp(error, file, strlen(file)) == 0);
    ck_assert_str_eq(settings()->hostname, "from.file"); /* F16 */
}
END_TEST

/* ---- Printed ------------------------------------------------------------- */

START_TEST(print_shows_origin_and_no_secret)
{
    load_good(BASE "expire_hours = 7\nsmarthost_user = me\n"
                   "smarthost_password = " SECRET "\n");
    const char *text = printed();
    static const char *const fragments[] = {
        "smarthost = smtp.example.net:587\n    # from the.conf line 1; ",
        "expire_hours = 7\n    # from the.conf line 3; a message older than "
        "this is given up (1 to 240 h)\n",
        "smarthost_password = ********\n    # from the.conf line 5; ",
        "log_level = info\n    # from the build; how much is logged (error "
        "warn info debug)\n",
        "listen = 0.0.0.0:25 [::]:25\n    # from the build; ",
        "allow_from = 127.0.0.0/8 ::1/128 10.0.0.0/8 ",
        "smarthost_tls = starttls\n",
    };
    for (size_t i = 0; i < COUNT(fragments); i++)
        ck_assert_msg(strstr(text, fragments[i]) != NULL, "%s", fragments[i]);
    ck_assert(strstr(text, "hunter2") == NULL);
    load_good(BASE);
    ck_assert(strstr(printed(), "smarthost_password = \n") != NULL);
}
END_TEST

/* Its own output is a settings file that means the same. */
START_TEST(print_is_a_settings_file)
{
    static char text[16384];
    load_good(BASE
              "listen = 192.0.2.1:25 [2001:db8::1]:25\n"
              "allow_from = 10.0.0.0/8 fd00::/8 ::1\n"
              "smarthost_family = ipv6\nlog = syslog\n"
              "hostname = relay.example\nrecipients_max = 7\n"
              "listen_tls = 192.0.2.1:465\nno_starttls_to = 10.1.1.1\n"
              "accept_any_auth = yes\nsender_rewrite = always\n"
              "sender = a@b.example\nsender_domains = b.example c.example\n"
              "status_listen =\nrewrite_from 10.0.0.0/8 = c@d.example\n");
    struct settings before = *settings();
    snprintf(text, sizeof text, "%s", printed());
    load_good(text);
    ck_assert_mem_eq(&before, settings(), sizeof before);
}
END_TEST

START_TEST(wipe)
{
    static const struct settings nothing;
    load_good(BASE "smarthost_user = me\nsmarthost_password = " SECRET "\n");
    settings_wipe();
    ck_assert_mem_eq(settings(), &nothing, sizeof nothing);
    ck_assert_uint_gt(settings_memory_bytes(), sizeof nothing);
}
END_TEST

Suite *suite_settings(void)
{
    Suite *s = suite_create("settings");
    TCase *c = tcase_create("settings");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, every_kind);
    tcase_add_test(c, smarthosts);
    tcase_add_test(c, refusals_name_file_line_key_and_cure);
    tcase_add_test(c, what_is_no_contradiction);
    tcase_add_test(c, the_wait_of_each_port);
    tcase_add_test(c, pairs);
    tcase_add_test(c, as_many_pairs_as_fit);
    tcase_add_test(c, number_signs_that_are_no_comments);
    tcase_add_test(c, the_last_say);
    tcase_add_test(c, preset);
    tcase_add_test(c, nul_byte);
    tcase_add_test(c, long_file_name);
    tcase_add_test(c, file_modes);
    tcase_add_test(c, password_files);
    tcase_add_test(c, longest_password);
    tcase_add_test(c, files_that_are_none);
    tcase_add_test(c, load_from_a_file);
    tcase_add_test(c, print_shows_origin_and_no_secret);
    tcase_add_test(c, print_is_a_settings_file);
    tcase_add_test(c, wipe);
    suite_add_tcase(s, c);
    return s;
}
