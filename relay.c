/* relay: start, bind, drop privilege, the loop, signals, drain.
 *
 * The whole machine is in turn(): each room says what it waits for and until
 * when, poll() waits, each room acts on what came. Nothing else may block.
 * Must never know: any protocol. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "config.h"
#include "crypto.h"
#include "dns.h"
#include "door.h"
#include "fate.h"
#include "identity.h"
#include "ip.h"
#include "log.h"
#include "path.h"
#include "poller.h"
#include "queue.h"
#include "route.h"
#include "settings.h"
#include "smtp_in.h"
#include "smtp_out.h"
#include "status.h"
#include "tls.h"
#include "users.h"

enum exit_code {
    EXIT_GOOD = 0,
    EXIT_OTHER = 1,
    EXIT_USAGE = 64,       /* sysexits EX_USAGE */
    EXIT_UNDELIVERED = 75, /* EX_TEMPFAIL: stopped with mail in the queue */
    EXIT_CONFIG = 78       /* EX_CONFIG */
};

#define QUEUE_LINES_PER_TURN 64
#define QUEUE_LINES_MS       20

static volatile sig_atomic_t wants_stop, wants_reload, wants_queue;
static int signal_pipe[2] = {-1, -1}; /* ends the poll() that it interrupts */
static char hostname[256];

/* ---- Signals ------------------------------------------------------------- */

static void on_signal(int number)
{
    int saved = errno;
    if (number == SIGHUP)
        wants_reload = 1;
    else if (number == SIGUSR1)
        wants_queue = 1;
    else if (wants_stop < 2) /* the second one is impatient */
        wants_stop++;
    /* A signal between the look at the flags and poll() would else be slept
     * over. A full pipe is awake already. */
    ssize_t n = write(signal_pipe[1], "", 1);
    (void)n;
    errno = saved;
}

static bool catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    sigemptyset(&act.sa_mask);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    sigaction(SIGUSR1, &act, NULL);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    return true;
}

static void empty_signal_pipe(void)
{
    char bytes[16];
    while (read(signal_pipe[0], bytes, sizeof bytes) > 0)
        ;
}

/* ---- Start --------------------------------------------------------------- */

/* The address that we have towards the world: that of a socket which is told
 * its peer and never sends. Loopback while there is no network yet. */
static void own_address(struct ip_address *out)
{
    struct ip_endpoint world, own;
    struct sockaddr_storage address;
    ip_parse("127.0.0.1", out);
    ip_parse_endpoint("192.0.2.1:9", 0, &world); /* RFC 5737: nobody's */
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t length = ip_to_sockaddr(&world, &address);
    if (connect(fd, (struct sockaddr *)&address, length) == 0) {
        length = sizeof address;
        if (getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
            ip_from_sockaddr(&address, &own) && ip_is_host(&own.address))
            *out = own.address;
    }
    close(fd);
}

/* EHLO wants a domain: a bare "nas" is refused by many smarthosts, so a name
 * without a dot gives way to an address literal (RFC 5321 section 4.1.4). */
static void find_hostname(void)
{
    if (*settings()->hostname != '\0') {
        text_copy(hostname, sizeof hostname, settings()->hostname);
        return;
    }
    if (gethostname(hostname, sizeof hostname - 1) != 0)
        hostname[0] = '\0';
    hostname[sizeof hostname - 1] = '\0';
    if (strchr(hostname, '.') == NULL || !path_is_domain(hostname)) {
        struct ip_address own;
        char literal[IP_ENDPOINT_BYTES];
        own_address(&own);
        text_copy(hostname, sizeof hostname, ip_format_literal(&own, literal));
    }
}

/* Groups first: once the user is gone there is no right left to change them.
 * Then the way back is tried, and must be shut. */
static bool become(const char *user)
{
    const struct passwd *pw = getpwnam(user);
    if (pw == NULL) {
        log_line(LOG_AT_ERROR, "relay", "run_as=%s failed why=\"no such user\"",
                 user);
        return false;
    }
    if (getuid() == pw->pw_uid && geteuid() == pw->pw_uid)
        return true;
    uid_t uid = pw->pw_uid;
    gid_t gid = pw->pw_gid;
    if (setgroups(1, &gid) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(uid, uid, uid) != 0) {
        log_line(LOG_AT_ERROR, "relay", "run_as=%s failed why=\"%s\"", user,
                 strerror(errno));
        return false;
    }
    bool is_root_back =
        uid != 0 && (setuid(0) == 0 || setgid(0) == 0 || seteuid(0) == 0);
    if (is_root_back || getuid() != uid || getgid() != gid) {
        log_line(LOG_AT_ERROR, "relay",
                 "run_as=%s failed why=\"root could come back\"", user);
        return false;
    }
    return true;
}

/* Secrets live in our memory: no core file may hold them, and no other
 * program of the same user may look at them. */
static void guard_memory(void)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
}

/* Fds 0 to 2 must be taken: a socket that became stderr would get our log. */
static void fill_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

/* Settings are good only if the files that they name are; and all of them come
 * into force, or none. */
static const char *load_files(const struct settings *s,
                              char why[SETTINGS_WHY_BYTES])
{
    char text[TLS_WHY_BYTES];
    tls_forget(); /* of a reload that failed */
    if (s->smarthost_tls != TLS_NONE && !tls_init(s->smarthost_ca_file, text)) {
        snprintf(why, SETTINGS_WHY_BYTES, "%s", text);
        return "smarthost_ca_file";
    }
    const char *fault = identity_load(s, why);
    if (fault != NULL)
        return fault;
    if (!users_load(s->users_file, why))
        return "users_file";
    tls_commit();
    return NULL;
}

#define NAMES_MAX (3 + 2 * LISTENERS_MAX)

struct names {
    const char *list[NAMES_MAX];
    char texts[NAMES_MAX][256];
    size_t count;
};

static struct names names;

static void add_name(const char *name)
{
    struct names *n = &names;
    for (size_t i = 0; i < n->count; i++)
        if (text_equal_nocase(n->list[i], name))
            return;
    text_copy(n->texts[n->count], sizeof n->texts[0], name);
    n->list[n->count] = n->texts[n->count];
    n->count++;
}

static void add_endpoints(const struct value_endpoints *e)
{
    char text[IP_TEXT_BYTES];
    for (unsigned i = 0; i < e->count; i++)
        add_name(ip_format(&e->items[i].address, text));
}

/* As devices may call us: our name, the system's, the address that we have
 * towards the world, and those that we listen at. */
static void make_identity(void)
{
    char text[256] = "";
    struct ip_address own;
    add_name(hostname);
    if (gethostname(text, sizeof text - 1) == 0)
        add_name(text);
    own_address(&own);
    add_name(ip_format_literal(&own, text));
    add_endpoints(&settings()->listen);
    add_endpoints(&settings()->listen_tls);
    identity_make(names.list, names.count);
}

/* For what must be kept: made as root, given to the user that we become. */
static void make_state_folder(void)
{
    const struct passwd *pw =
        *settings()->run_as != '\0' ? getpwnam(settings()->run_as) : NULL;
    const char *folder = settings()->state_folder;
    if (mkdir(folder, S_IRWXU) == 0 && pw != NULL &&
        chown(folder, pw->pw_uid, pw->pw_gid) != 0)
        log_line(LOG_AT_WARN, "relay", "state_folder=%s: %s", folder,
                 strerror(errno));
}

/* What is allowed and yet worth a word. */
static void warn(const char *file)
{
    const struct settings *s = settings();
    if (s->smarthost_tls == TLS_NONE)
        log_line(LOG_AT_WARN, "relay",
                 "smarthost_tls=none: mail goes out UNENCRYPTED");
    if (s->accept_any_auth == ANY_AUTH_YES && *s->users_file != '\0')
        log_line(LOG_AT_WARN, "relay",
                 "accept_any_auth=yes: the users_file is not looked at");
    if (getuid() == 0)
        log_line(LOG_AT_WARN, "relay", "running as root: set run_as");
    for (unsigned i = 0; i < s->allow_from.count; i++)
        if (s->allow_from.items[i].prefix_bits == 0)
            log_line(LOG_AT_WARN, "relay",
                     "allow_from=0/0: an OPEN RELAY for all who can reach it");
    const char *files[] = {file ? file : SETTINGS_FILE,
                           s->smarthost_password_file,
                           s->smarthost_ca_file,
                           s->users_file,
                           s->tls_cert_file,
                           s->tls_key_file};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (access(files[i], R_OK) != 0 && errno == EACCES)
            log_line(LOG_AT_WARN, "relay",
                     "file=%s cannot be read again: SIGHUP will fail; give it "
                     "to the user %s",
                     files[i], s->run_as);
}

static void start_log(void)
{
    bool is_syslog = settings()->log == LOG_SYSLOG;
    log_set_level((enum log_level)settings()->log_level);
    if (!log_open(is_syslog))
        log_line(LOG_AT_WARN, "relay",
                 "log=syslog failed why=\"there is no "
                 "/dev/log\", logging to stderr");
}

static enum exit_code start(const char *file)
{
    start_log();
    tzset(); /* reads its file before privileges go */
    find_hostname();
    if (!crypto_init()) {
        log_line(LOG_AT_ERROR, "relay", "no source of randomness");
        return EXIT_OTHER;
    }
    queue_init();
    dns_init(settings()->resolv_file, settings()->hosts_file);
    if (!smtp_in_init(hostname))
        return EXIT_CONFIG;
    smtp_out_init(hostname);
    status_init(clock_ms());
    make_state_folder();
    if (*settings()->run_as != '\0' && !become(settings()->run_as))
        return EXIT_CONFIG;
    guard_memory();
    if (!catch_signals())
        return EXIT_OTHER;
    make_identity();
    warn(file);
    log_line(LOG_AT_INFO, "relay",
             "listening version=%s hostname=%s smarthost=%s tls=\"%s\" uid=%d",
             LANPOST_VERSION, hostname, route_smarthost(), tls_library(),
             (int)getuid());
    return EXIT_GOOD;
}

/* ---- The loop ------------------------------------------------------------ */

static struct poller poller;

/* Rooms act in the order of a mail's way: the name is known before the
 * connection is wanted, the message is in the queue before it is sent. */
static void turn(int64_t wake_ms)
{
    int64_t now_ms = clock_ms();
    poller_reset(&poller);
    poller_wake_at(&poller, wake_ms);
    int signals = poller_add(&poller, signal_pipe[0], POLLIN);
    smtp_in_prep(&poller, now_ms);
    status_prep(&poller, now_ms);
    dns_prep(&poller);
    smtp_out_prep(&poller, now_ms);
    poller_wait(&poller, now_ms);
    now_ms = clock_ms();
    if (poller_events(&poller, signals, signal_pipe[0]))
        empty_signal_pipe();
    smtp_in_run(&poller, now_ms);
    dns_run(&poller, now_ms);
    smtp_out_run(&poller, now_ms);
    status_run(&poller, now_ms);
}

/* What was decided at the start and stays until the next one. */
/* clang-format off */
#define FIXED(k) {#k, offsetof(struct settings, k), sizeof settings()->k}
/* clang-format on */
static const struct {
    const char *key;
    size_t offset, size;
} fixed[] = {FIXED(listen),      FIXED(listen_tls), FIXED(status_listen),
             FIXED(hostname),    FIXED(run_as),     FIXED(log),
             FIXED(state_folder)};

/* SIGHUP: all or nothing. */
static void reload(const char *file)
{
    static struct settings before;
    char error[SETTINGS_ERROR_BYTES];
    wants_reload = 0;
    before = *settings();
    bool is_good = settings_load(file, load_files, error);
    for (size_t i = 0; is_good && i < sizeof fixed / sizeof fixed[0]; i++)
        if (memcmp((const char *)&before + fixed[i].offset,
                   (const char *)settings() + fixed[i].offset,
                   fixed[i].size) != 0)
            log_line(LOG_AT_WARN, "relay",
                     "reload: %s has changed; that takes a restart",
                     fixed[i].key);
    /* The one of our own is taken at the start only. */
    if (is_good && *before.tls_cert_file != '\0' &&
        *settings()->tls_cert_file == '\0')
        log_line(LOG_AT_WARN, "relay",
                 "reload: tls_cert_file has changed; that takes a restart");
    bytes_wipe(&before, sizeof before);
    if (!is_good) {
        log_line(LOG_AT_ERROR, "relay", "reload=failed why=\"%s\"", error);
        return;
    }
    log_set_level((enum log_level)settings()->log_level);
    smtp_out_renew(clock_ms());
    log_line(LOG_AT_INFO, "relay", "reload=done");
}

/* SIGUSR1: what waits, a few lines a turn, so that the log's reader keeps up.
 * Returns when the next turn is due. */
static int64_t show_queue(int64_t now_ms)
{
    static queue_id last;
    static bool is_under_way;
    struct queue_counts n;
    if (wants_queue) {
        wants_queue = 0;
        last = QUEUE_NONE;
        is_under_way = true;
        queue_count(&n);
        log_line(LOG_AT_INFO, "relay",
                 "queue messages=%u sending=%u in_doubt=%u promised=%u "
                 "oldest_s=%lld blocks_free=%u",
                 n.messages, n.sending, n.in_doubt, n.promised,
                 n.oldest_ms ? (long long)((now_ms - n.oldest_ms) / 1000) : 0,
                 n.blocks_free);
    }
    if (!is_under_way)
        return INT64_MAX;
    last = fate_log_queue(last, QUEUE_LINES_PER_TURN, now_ms);
    is_under_way = last != QUEUE_NONE;
    return is_under_way ? now_ms + QUEUE_LINES_MS : INT64_MAX;
}

/* No new clients; what is under way gets a few seconds; then every message
 * that is left is named, since it lived in memory only. */
static enum exit_code drain(void)
{
    struct queue_counts n;
    int64_t now_ms = clock_ms(), end_ms = now_ms + DRAIN_SECONDS * 1000;
    log_line(LOG_AT_INFO, "relay", "stopping drain_s=%d", DRAIN_SECONDS);
    smtp_in_drain(now_ms);
    queue_hasten(now_ms); /* one pass for what waits for its next try */
    for (;;) {
        queue_count(&n);
        bool is_done = n.messages == 0 && smtp_in_clients() == 0;
        if (is_done || clock_ms() >= end_ms || wants_stop > 1)
            break;
        turn(end_ms);
    }
    log_set_patience(LOG_PATIENCE_MS); /* these lines are a promise */
    smtp_in_abandon(clock_ms());
    smtp_out_abandon(clock_ms());
    unsigned lost = fate_log_lost(clock_ms());
    settings_wipe();
    users_wipe();
    log_line(LOG_AT_INFO, "relay", "stopped lost=%u log_lines_dropped=%lu",
             lost, log_dropped());
    return lost > 0 ? EXIT_UNDELIVERED : EXIT_GOOD;
}

static int run(const char *file)
{
    enum exit_code code = start(file);
    if (code != EXIT_GOOD)
        return (int)code;
    while (!wants_stop) {
        if (wants_reload)
            reload(file);
        turn(show_queue(clock_ms()));
    }
    return (int)drain();
}

static size_t relay_memory_bytes(void)
{
    return sizeof poller + sizeof hostname + sizeof names +
           sizeof(struct settings);
}

/* ---- Commands ------------------------------------------------------------ */

static const struct {
    const char *room;
    size_t (*bytes)(void);
} memory[] = {
    {"queue", queue_memory_bytes},       {"smtp_in", smtp_in_memory_bytes},
    {"smtp_out", smtp_out_memory_bytes}, {"dns", dns_memory_bytes},
    {"tls", tls_memory_bytes},           {"settings", settings_memory_bytes},
    {"route", route_memory_bytes},       {"door", door_memory_bytes},
    {"relay", relay_memory_bytes},       {"users", users_memory_bytes},
    {"status", status_memory_bytes},     {"identity", identity_memory_bytes},
};

static int print_settings(const char *unused)
{
    (void)unused;
    size_t sum = 0;
    settings_print(stdout);
    printf("\n# Memory, static:\n");
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        printf("#   %-10s %10zu bytes\n", memory[i].room, memory[i].bytes());
        sum += memory[i].bytes();
    }
    size_t heap = TLS_SESSIONS_MAX * tls_session_bytes();
    printf("#   %-10s %10zu bytes\n", "all", sum);
    printf("# Heap of the TLS library: up to %zu bytes in %d sessions, and\n"
           "# about twice the size of smarthost_ca_file.\n",
           heap, TLS_SESSIONS_MAX);
    return EXIT_GOOD;
}

static int ask_status(const char *unused)
{
    const char *why = "status_listen is empty";
    (void)unused;
    if (settings()->status_listen.count > 0 &&
        status_ask(&settings()->status_listen.items[0], stdout, &why))
        return EXIT_GOOD;
    fprintf(stderr, "lanpost: no relay answers at status_listen: %s\n", why);
    return EXIT_OTHER;
}

/* From the terminal without an echo, or from a pipe. False: there is none. */
static bool read_password(char *text, size_t room)
{
    struct termios before, quiet;
    bool is_terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (is_terminal) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        fputs("Password: ", stderr);
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool has_line = fgets(text, (int)room, stdin) != NULL;
    if (is_terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputs("\n", stderr);
    }
    if (!has_line)
        return false;
    bool is_whole = strpbrk(text, "\r\n") != NULL || feof(stdin);
    text[strcspn(text, "\r\n")] = '\0';
    return is_whole;
}

static int hash_password(const char *name)
{
    static char password[256], line[USERS_LINE_BYTES];
    if (!crypto_init())
        return EXIT_OTHER;
    bool is_good =
        read_password(password, sizeof password) &&
        users_format(name != NULL ? name : "NAME", password, line, sizeof line);
    bytes_wipe(password, sizeof password);
    if (!is_good) {
        fputs("lanpost: a password is needed, of up to 254 bytes in one line, "
              "and a NAME without ':'\n",
              stderr);
        return EXIT_USAGE;
    }
    puts(line);
    return EXIT_GOOD;
}

/* What is behind the name of a command; else its settings come first. */
static const struct command {
    const char *name;
    int (*run)(const char *argument);
    settings_accept *accept;
    enum {
        TAKES_FILE,
        TAKES_WORD
    } takes;
} commands[] = {
    {"", run, load_files, TAKES_FILE},
    {"settings", print_settings, NULL, TAKES_FILE},
    {"status", ask_status, NULL, TAKES_FILE},
    {"hash-password", hash_password, NULL, TAKES_WORD},
};

static const char usage[] =
    "lanpost takes mail from the devices of a LAN and hands it to one\n"
    "smarthost.\n"
    "\n"
    "  lanpost [-c FILE]            run in the foreground\n"
    "  lanpost settings [-c FILE]   print every setting, and the memory\n"
    "  lanpost status [-c FILE]     ask the running relay: queue, devices\n"
    "  lanpost hash-password [NAME] read a password, print its line for the\n"
    "                               users_file\n"
    "  lanpost --help, --version\n"
    "\n"
    "FILE holds \"key = value\" lines; without -c it is " SETTINGS_FILE ".\n";

static int print_version(void)
{
    printf("lanpost %s, %s, queue %d KiB, %d clients, %d connections\n",
           LANPOST_VERSION, tls_library(),
           QUEUE_BLOCKS * (QUEUE_BLOCK_BYTES / 1024), CLIENTS_MAX,
           CONNECTION_SLOTS);
    return EXIT_GOOD;
}

static int fail_usage(const char *what)
{
    fprintf(stderr, "lanpost: %s\n\n%s", what, usage);
    return EXIT_USAGE;
}

static int run_command(const struct command *c, const char *file,
                       const char *word)
{
    char error[SETTINGS_ERROR_BYTES];
    if (c->takes == TAKES_WORD)
        return c->run(word);
    if (word != NULL)
        return fail_usage("too many words");
    if (settings_load(file, c->accept, error))
        return c->run(file);
    if (c->run == print_settings) {
        settings_preset();
        print_settings(file);
        fputs("\n# The settings of the build; yours are not good:\n", stdout);
    }
    fflush(stdout);
    fprintf(stderr, "lanpost: %s\n", error);
    return EXIT_CONFIG;
}

int main(int argc, char **argv)
{
    const char *file = NULL, *command = NULL, *word = NULL;
    fill_standard_fds();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0)
            return print_version();
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return EXIT_GOOD;
        }
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
            file = argv[++i];
        else if (argv[i][0] == '-' || word != NULL)
            return fail_usage("unknown option");
        else if (command != NULL)
            word = argv[i];
        else
            command = argv[i];
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(command != NULL ? command : "", commands[i].name) == 0)
            return run_command(&commands[i], file, word);
    return fail_usage("unknown command");
}
