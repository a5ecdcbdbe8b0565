/* users: what the file may say, with which words it is refused, and that a
 * bad one changes nothing; logins in slices; who may send as whom. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../users.h"
Suite *suite_users(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define A_16         "aaaaaaaaaaaaaaaa"
#define A_63         A_16 A_16 A_16 "aaaaaaaaaaaaaaa"
#define A_64         A_16 A_16 A_16 A_16

/* Made by hashlib.pbkdf2_hmac of Python. The passwords: "secret", "other",
 * "secret". */
#define SALT_8  "c2FsdHNhbHQ="
#define SALT_32 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_8   "hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQ="
#define HASH    "$pbkdf2-sha256$1000$" SALT_8 "$" KEY_8
#define HASH_TWO                                                               \
    "$pbkdf2-sha256$2500$" SALT_32                                             \
    "$ms8W9lmYRqubxvYA5YKitHYd44vCIigPFRjIFYWt7xE="
#define HASH_LONG                                                              \
    "$pbkdf2-sha256$20000$AAECAwQFBgcICQoLDA0ODw=="                            \
    "$Eo9Ss7G1qTHlvyZ/PBINDH9LISbk/Nd+GbHvqaDvLxk="

static char why[USERS_WHY_BYTES];
static char folder[] = "/tmp/test_users.XXXXXX";
static char file[64];

static void setup(void)
{
    strcpy(strrchr(folder, '.'), ".XXXXXX");
    ck_assert(mkdtemp(folder) != NULL);
    snprintf(file, sizeof file, "%s/users", folder);
    why[0] = '\0';
    users_wipe();
}

static void teardown(void)
{
    unlink(file);
    rmdir(folder);
}

static bool load(const char *text)
{
    return users_load_text(text, strlen(text), why);
}

static void load_good(const char *text)
{
    ck_assert_msg(load(text), "%s", why);
}

/* The verdict on a login, and how many slices it took. */
static enum users_verdict login(const char *name, const char *password,
                                unsigned *slices)
{
    struct users_check c;
    enum users_verdict verdict;
    *slices = 0;
    users_check_start(&c, name, password);
    do {
        verdict = users_check_run(&c);
        ++*slices;
    } while (verdict == USERS_BUSY);
    return verdict;
}

static bool is_good(const char *name, const char *password)
{
    unsigned slices;
    return login(name, password, &slices) == USERS_GOOD;
}

/* ---- The file ------------------------------------------------------------ */

static const struct {
    const char *text;
    unsigned count;
    const char *name; /* with the password "secret" */
} good[] = {
    {"", 0, NULL},
    {"\n\n", 0, NULL},
    {"# scanner:" HASH "\n  # more\n \t \r\n", 0, NULL},
    {"scanner:" HASH "\n", 1, "scanner"},
    {"scanner:" HASH, 1, "scanner"},
    {"scanner:" HASH "\r\n", 1, "scanner"},
    {" \tscanner:" HASH " \t\n", 1, "scanner"},
    {"\n# x\nscanner:" HASH "\nnas:" HASH_TWO "\n\n", 2, "scanner"},
    {"scanner:" HASH "\nScanner:" HASH_TWO "\n", 2, "scanner"},
    {"x:" HASH ":a@b.example\n", 1, "x"},
    {"x:" HASH ": \t a@b.example\t @c  \n", 1, "x"},
    {"x:" HASH ":a@[IPv6:2001:db8::1] @[192.0.2.1]\n", 1, "x"},
    {A_64 ":" HASH "\n", 1, A_64},
    {"a:" HASH_LONG "\n", 1, "a"},
    {"a b@c!\"$%&/()=?~ #:" HASH "\n", 1, "a b@c!\"$%&/()=?~ #"},
    {"a:$pbkdf2-sha256$0001000$" SALT_8 "$" KEY_8 "\n", 1, "a"},
};

START_TEST(good_files)
{
    for (size_t i = 0; i < COUNT(good); i++) {
        load_good(good[i].text);
        ck_assert_uint_eq(users_count(), good[i].count);
        if (good[i].name == NULL)
            continue;
        ck_assert_msg(is_good(good[i].name, "secret"), "row %zu", i);
        ck_assert_msg(!is_good(good[i].name, "Secret"), "row %zu", i);
    }
}
END_TEST

#define ROW(hash) "a:$pbkdf2-sha256$" hash "\n"

static const struct {
    const char *text, *where, *cure;
} bad[] = {
    {"hunter2\n", "line 1: ", "is no \"name:hash\" line; `lanpost hash-"},
    {"\n#\nhunter2", "line 3: ", "is no \"name:hash\" line"},
    /* names */
    {":" HASH "\n", "line 1: ", "the name is empty; take 1 to 64"},
    {A_64 "a:" HASH "\n", "line 1: ", "the name is too long; take 1 to 64"},
    {"m\xc3\xbcller:" HASH "\n", "line 1: ", "than printable ASCII"},
    {"a\tb:" HASH "\n", "line 1: ", "than printable ASCII"},
    {"a\x7f:" HASH "\n", "line 1: ", "than printable ASCII"},
    {"a\x1f:" HASH "\n", "line 1: ", "than printable ASCII"},
    {"a :" HASH "\n", "line 1: ", "starts or ends with a blank"},
    {"a:" HASH "\n\na:" HASH_TWO "\n",
     "line 3: ", "the user \"a\" is in line 1 already; keep one"},
    /* hashes; their text is never shown */
    {"a:hunter2\n", "line 1: ", "$ROUNDS$SALT$KEY; `lanpost hash-password`"},
    {"a:hunter2:a@b\n", "line 1: ", "the hash is no $pbkdf2-sha256$"},
    {"a:\n", "line 1: ", "the hash is no $pbkdf2-sha256$"},
    {"a: " HASH "\n", "line 1: ", "the hash is no $pbkdf2-sha256$"},
    {"a:$pbkdf2-sha1$1000$" SALT_8 "$" KEY_8 "\n", "line 1: ", "is no $pbk"},
    {"a:$PBKDF2-SHA256$1000$" SALT_8 "$" KEY_8 "\n", "line 1: ", "is no $pbk"},
    {ROW("1000"), "line 1: ", "the hash is no $pbkdf2-sha256$"},
    {ROW("1000$" SALT_8), "line 1: ", "the hash is no $pbkdf2-sha256$"},
    {ROW("999$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds; `lan"},
    {ROW("1000001$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("-1000$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("+1000$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("1000x$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("18446744073709552616$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000"},
    {ROW("00001000$" SALT_8 "$" KEY_8), "line 1: ", "1000 to 1000000 rounds"},
    {ROW("1000$$" KEY_8), "line 1: ", "the salt must be 8 to 32 bytes in bas"},
    {ROW("1000$c2FsdHNhbA==$" KEY_8), "line 1: ", "the salt must be 8 to 32"},
    {ROW("1000$c2FsdHNhbHQ$" KEY_8), "line 1: ", "the salt must be 8 to 32"},
    {ROW("1000$c2FsdHNhb*Q=$" KEY_8), "line 1: ", "the salt must be 8 to 32"},
    {ROW("1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g$" KEY_8),
     "line 1: ", "the salt must be 8 to 32"},
    {ROW("1000$" SALT_8 "$"), "line 1: ", "the key must be 32 bytes in base6"},
    {ROW("1000$" SALT_8 "$" SALT_8), "line 1: ", "the key must be 32 bytes"},
    {ROW("1000$" SALT_8 "$hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLQ=="),
     "line 1: ", "the key must be 32 bytes"},
    {ROW("1000$" SALT_8 "$hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQA"),
     "line 1: ", "the key must be 32 bytes"},
    {ROW("1000$" SALT_8 "$" KEY_8 "$"), "line 1: ", "the key must be 32 by"},
    {ROW("1000$" SALT_8 "$" KEY_8 " hunter2"), "line 1: ", "the key must be"},
    /* senders */
    {"a:" HASH ":\n", "line 1: ", "the list of senders is empty; name one, or"},
    {"a:" HASH ":  \n", "line 1: ", "the list of senders is empty"},
    {"a:" HASH ":b\n", "line 1: ", "\"b\" is no address (such as a@example."},
    {"a:" HASH ":b@c d\n", "line 1: ", "\"d\" is no address"},
    {"a:" HASH ":@\n", "line 1: ", "\"@\" is no address"},
    {"a:" HASH ":@c.\n", "line 1: ", "\"@c.\" is no address"},
    {"a:" HASH ":<>\n", "line 1: ", "\"<>\" is no address"},
    {"a:" HASH ":b@c,d@e\n", "line 1: ", "\"b@c,d@e\" is no address"},
    {"a:" HASH ":b@c:d@e\n", "line 1: ", "\"b@c:d@e\" is no address"},
    {"a:" HASH ":\"b c\"@d\n", "line 1: ", "\"\"b\" is no address"},
    {"a:" HASH ":@" A_63 "." A_63 "." A_63 "." A_63 " @" A_64 "\n",
     "line 1: ", "is no address"},
    {"a:" HASH ":@" A_63 "." A_63 "." A_63 "." A_63 " @" A_63 "\n", "line 1: ",
     "the list of senders is too long: 319 bytes at most; name an @domain"},
};

START_TEST(bad_files_change_nothing)
{
    load_good("before:" HASH ":@before.example\n");
    for (size_t i = 0; i < COUNT(bad); i++) {
        why[0] = '\0';
        ck_assert_msg(!load(bad[i].text), "row %zu was taken:\n%s", i,
                      bad[i].text);
        ck_assert_msg(strncmp(why, bad[i].where, strlen(bad[i].where)) == 0,
                      "row %zu: %s", i, why);
        ck_assert_msg(strstr(why, bad[i].cure) != NULL, "row %zu: %s", i, why);
        ck_assert_msg(strstr(why, "hunter2") == NULL, "%s", why);
        ck_assert_uint_eq(users_count(), 1);
        ck_assert(is_good("before", "secret"));
        ck_assert(!users_may_send("before", "a@other.example"));
    }
    /* a good line before the bad one is no use either */
    ck_assert(!load("a:" HASH "\nb\n"));
    ck_assert(!is_good("a", "secret"));
    ck_assert(is_good("before", "secret"));
}
END_TEST

START_TEST(limits)
{
    static char text[USERS_MAX * 256];
    size_t used = 0;
    for (int i = 0; i < USERS_MAX; i++)
        used += (size_t)sprintf(text + used, "user%d:%s\n", i, HASH);
    load_good(text);
    ck_assert_uint_eq(users_count(), USERS_MAX);
    ck_assert(is_good("user0", "secret"));
    ck_assert(is_good("user31", "secret"));
    strcpy(text + used, "one_more:" HASH "\n");
    ck_assert(!load(text));
    ck_assert_str_eq(why, "line 33: is one user too many: 32 at most");
    ck_assert_uint_eq(users_count(), USERS_MAX);

    memset(text, '#', sizeof text);
    text[USERS_LINE_BYTES - 1] = '\n';
    ck_assert(users_load_text(text, USERS_LINE_BYTES, why));
    ck_assert(!users_load_text(text + USERS_LINE_BYTES, USERS_LINE_BYTES, why));
    ck_assert(!users_load_text(text + 1, sizeof text - 1, why));
    ck_assert_msg(strstr(why, "line 2: is too long: ") != NULL, "%s", why);

    static const char nul[] = "a:" HASH "\nb\0:" HASH "\n";
    ck_assert(!users_load_text(nul, sizeof nul - 1, why));
    ck_assert_str_eq(why, "line 2: holds a NUL byte; this is no text file");
}
END_TEST

static void write_file(const char *text, size_t length, mode_t mode)
{
    FILE *out = fopen(file, "w");
    ck_assert(out != NULL);
    ck_assert_uint_eq(fwrite(text, 1, length, out), length);
    fclose(out);
    ck_assert_int_eq(chmod(file, mode), 0);
}

START_TEST(files)
{
    static const struct {
        mode_t mode;
        bool is_taken;
    } table[] = {
        {0600, true},  {0400, true},  {0640, true},  {0644, false},
        {0604, false}, {0602, false}, {0601, false}, {0660, false},
    };
    static const char text[] = "a:" HASH "\n";
    for (size_t i = 0; i < COUNT(table); i++) {
        users_wipe();
        write_file(text, sizeof text - 1, table[i].mode);
        ck_assert_msg(users_load(file, why) == table[i].is_taken, "row %zu", i);
        ck_assert_uint_eq(users_count(), table[i].is_taken);
        unlink(file);
        if (!table[i].is_taken)
            ck_assert_msg(strstr(why, "can be read by others; chmod 600 it") !=
                              NULL,
                          "%s", why);
    }
    load_good(text);
    ck_assert(!users_load(file, why));
    ck_assert_msg(strstr(why, "cannot read ") == why, "%s", why);
    ck_assert(strstr(why, "No such file") != NULL);
    ck_assert(!users_load(folder, why));
    ck_assert_msg(strstr(why, "Is a directory") != NULL, "%s", why);
    ck_assert_uint_eq(users_count(), 1);
    ck_assert(users_load("", why)); /* no file, no users */
    ck_assert_uint_eq(users_count(), 0);
}
END_TEST

START_TEST(file_sizes)
{
    static char text[USERS_FILE_BYTES + 1];
    memset(text, '\n', sizeof text);
    memcpy(text, "a:" HASH, strlen("a:" HASH));
    write_file(text, USERS_FILE_BYTES, 0600);
    ck_assert_msg(users_load(file, why), "%s", why);
    ck_assert_uint_eq(users_count(), 1);
    write_file(text, USERS_FILE_BYTES + 1, 0600);
    ck_assert(!users_load(file, why));
    ck_assert_msg(strstr(why, "File too large") != NULL, "%s", why);
    ck_assert_uint_eq(users_count(), 1);
    write_file("a\n", 2, 0600);
    ck_assert(!users_load(file, why));
    ck_assert_msg(strstr(why, "line 1: ") == why, "%s", why);
}
END_TEST

START_TEST(wiped)
{
    load_good("a:" HASH "\nb:" HASH "\n");
    users_wipe();
    ck_assert_uint_eq(users_count(), 0);
    ck_assert(!is_good("a", "secret"));
    ck_assert(!users_may_send("a", "x@y"));
    ck_assert_uint_gt(users_memory_bytes(), USERS_FILE_BYTES);
}
END_TEST

/* ---- Logins -------------------------------------------------------------- */

START_TEST(logins)
{
    static const struct {
        const char *name, *password;
        enum users_verdict verdict;
    } table[] = {
        {"a", "secret", USERS_GOOD},
        {"b", "other", USERS_GOOD},
        {"c", "secret", USERS_GOOD},
        {"a", "other", USERS_BAD},
        {"b", "secret", USERS_BAD},
        {"c", "other", USERS_BAD},
        {"a", "", USERS_BAD},
        {"a", "secret ", USERS_BAD},
        {"a", "SECRET", USERS_BAD},
        {"a", "secre", USERS_BAD},
        {"A", "secret", USERS_BAD},
        {"", "secret", USERS_BAD},
        {"a ", "secret", USERS_BAD},
        {"nobody", "", USERS_BAD},
        {"nobody", "secret", USERS_BAD},
    };
    unsigned slices;
    load_good("a:" HASH "\nb:" HASH_TWO "\nc:" HASH_LONG "\n");
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(login(table[i].name, table[i].password, &slices) ==
                          table[i].verdict,
                      "row %zu", i);
}
END_TEST

static unsigned slices_of(const char *name)
{
    unsigned slices;
    login(name, "secret", &slices);
    return slices;
}

START_TEST(cost)
{
    /* the first round is done at the start */
    load_good("a:" HASH_LONG "\nb:" HASH_TWO "\nc:" HASH "\n");
    ck_assert_uint_eq(slices_of("a"), 19999 / PASSWORD_SLICE_ROUNDS + 1);
    ck_assert_uint_eq(slices_of("b"), 2499 / PASSWORD_SLICE_ROUNDS + 1);
    ck_assert_uint_eq(slices_of("c"), 999 / PASSWORD_SLICE_ROUNDS + 1);
    /* unknown names: as the first of the file */
    ck_assert_uint_eq(slices_of("nobody"), slices_of("a"));
    load_good("b:" HASH_TWO "\na:" HASH_LONG "\n");
    ck_assert_uint_eq(slices_of("nobody"), slices_of("b"));
    load_good("");
    ck_assert_uint_eq(slices_of("nobody"),
                      (USERS_ROUNDS - 1) / PASSWORD_SLICE_ROUNDS + 1);
    users_wipe();
    ck_assert_uint_eq(slices_of("nobody"),
                      (USERS_ROUNDS - 1) / PASSWORD_SLICE_ROUNDS + 1);
}
END_TEST

static bool is_wiped(const struct users_check *c)
{
    static const struct users_check zero;
    return memcmp(c, &zero, sizeof zero) == 0;
}

START_TEST(wiped_at_the_verdict)
{
    struct users_check c;
    load_good("a:" HASH "\n");
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"a", "a", "nobody"};
        static const char *const passwords[] = {"secret", "wrong", "secret"};
        users_check_start(&c, names[i], passwords[i]);
        ck_assert(!is_wiped(&c));
        ck_assert_int_eq(users_check_run(&c), i == 0 ? USERS_GOOD : USERS_BAD);
        ck_assert(is_wiped(&c));
        ck_assert_int_eq(users_check_run(&c), USERS_BAD); /* not twice */
    }
    users_check_start(&c, "a", "secret");
    users_check_wipe(&c);
    ck_assert(is_wiped(&c));
    ck_assert_int_eq(users_check_run(&c), USERS_BAD);
}
END_TEST

/* All that changes under a check that is on its way. */
START_TEST(reload_meanwhile)
{
    static const char *const texts[] = {"", "a:" HASH "\n",
                                        "b:" HASH "\na:" HASH_TWO "\n",
                                        "a:" HASH_LONG ":@x"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct users_check known, unknown, wrong;
        load_good("a:" HASH_TWO "\n");
        users_check_start(&known, "a", "other");
        users_check_start(&unknown, "b", "secret");
        users_check_start(&wrong, "a", "secret");
        ck_assert_int_eq(users_check_run(&known), USERS_BUSY);
        ck_assert_int_eq(users_check_run(&unknown), USERS_BUSY);
        load_good(texts[i]);
        ck_assert_int_eq(users_check_run(&known), USERS_BUSY);
        ck_assert_int_eq(users_check_run(&unknown), USERS_BUSY);
        users_wipe();
        ck_assert_int_eq(users_check_run(&known), USERS_GOOD);
        ck_assert_int_eq(users_check_run(&unknown), USERS_BAD);
        ck_assert_int_eq(users_check_run(&wrong), USERS_BUSY);
        ck_assert_int_eq(users_check_run(&wrong), USERS_BUSY);
        ck_assert_int_eq(users_check_run(&wrong), USERS_BAD);
    }
}
END_TEST

/* ---- Senders ------------------------------------------------------------- */

START_TEST(senders)
{
    static const struct {
        const char *name, *mailbox;
        bool may;
    } table[] = {
        {"any", "x@y.example", true},
        {"any", "root", true},
        {"any", "", true},
        {"nobody", "x@y.example", false},
        {"nobody", "", false},
        {"list", "", true},
        {"list", "scan@a.example", true},
        {"list", "SCAN@A.Example", true},
        {"list", "fax@a.example", true},
        {"list", "fa@a.example", false},
        {"list", "faxx@a.example", false},
        {"list", "fax@a.exampl", false},
        {"list", "scan@a.example fax@a.example", false},
        {"list", "x@a.example", false},
        {"list", "x@b.example", true},
        {"list", "X@B.EXAMPLE", true},
        {"list", "\"x@a\"@b.example", true},
        {"list", "\"x@b.example\"@c.example", false},
        {"list", "x@sub.b.example", false},
        {"list", "xb.example", false},
        {"list", "b.example", false},
        {"list", "@b.example", true}, /* no mailbox, so nobody asks */
        {"list", "root", false},
        {"list", "scan", false},
        {"list", "x@[ipv6:2001:DB8::1]", true},
        {"list", "\"a..b\"@c.example", true},
        {"list", "a..b@c.example", false}, /* path never hands that out */
        {"list", "bracket@c.example", true},
        {"list", "dot@c.example", true},
        {"list", "last@c.example", true},
        {"wide", "a@b", true},
        {"wide", "b@b", false},
    };
    load_good("any:" HASH "\nlist:" HASH ":scan@a.example\tfax@a.EXAMPLE "
              "@b.example @[IPv6:2001:db8::1] a..b@c.example "
              "<bracket@c.example> dot@c.example. last@c.example\n"
              "wide:" HASH ":a@b\n");
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(users_may_send(table[i].name, table[i].mailbox) ==
                          table[i].may,
                      "row %zu: %s", i, table[i].mailbox);
}
END_TEST

/* ---- The line for the file ----------------------------------------------- */

START_TEST(formatted)
{
    char line[USERS_LINE_BYTES], again[USERS_LINE_BYTES];
    unsigned slices;
    static const char *const names[] = {"a", "a b", A_64};
    static const char *const passwords[] = {"x", "p\xc3\xa4ss:word # $",
                                            A_64 A_64 A_64 A_64};
    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert(users_format(names[i], passwords[i], line, sizeof line));
        load_good(line);
        ck_assert_int_eq(login(names[i], passwords[i], &slices), USERS_GOOD);
        ck_assert_uint_eq(slices,
                          (USERS_ROUNDS - 1) / PASSWORD_SLICE_ROUNDS + 1);
        ck_assert(!is_good(names[i], "y"));
        ck_assert(users_format(names[i], passwords[i], again, sizeof again));
        ck_assert_str_ne(line, again);
        ck_assert(strchr(line, '\n') == NULL);
        /* to the last byte, and not one less */
        ck_assert(
            users_format(names[i], passwords[i], again, strlen(line) + 1));
        ck_assert(!users_format(names[i], passwords[i], again, strlen(line)));
    }
    static const char *const no_names[] = {
        "", "a:b", "m\xc3\xbcller", "a\nb", "#a", " a", "a ", A_64 "a"};
    for (size_t i = 0; i < COUNT(no_names); i++)
        ck_assert_msg(!users_format(no_names[i], "x", line, sizeof line), "%s",
                      no_names[i]);
    ck_assert(!users_format("a", "", line, sizeof line));
}
END_TEST

Suite *suite_users(void)
{
    Suite *s = suite_create("users");
    TCase *c = tcase_create("users");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, good_files);
    tcase_add_test(c, bad_files_change_nothing);
    tcase_add_test(c, limits);
    tcase_add_test(c, files);
    tcase_add_test(c, file_sizes);
    tcase_add_test(c, wiped);
    tcase_add_test(c, logins);
    tcase_add_test(c, cost);
    tcase_add_test(c, wiped_at_the_verdict);
    tcase_add_test(c, reload_meanwhile);
    tcase_add_test(c, senders);
    tcase_add_test(c, formatted);
    suite_add_tcase(s, c);
    return s;
}
