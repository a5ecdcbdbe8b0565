/* file: read whole or not at all, written whole or not at all. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../file.h"
Suite *suite_file(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static char folder[] = "/tmp/test_file.XXXXXX";
static char name[64], draft[64], other[64];

static void setup(void)
{
    strcpy(strrchr(folder, '.'), ".XXXXXX");
    ck_assert(mkdtemp(folder) != NULL);
    snprintf(name, sizeof name, "%s/file", folder);
    snprintf(draft, sizeof draft, "%s/file.new", folder);
    snprintf(other, sizeof other, "%s/other", folder);
}

static void teardown(void)
{
    chmod(folder, 0700);
    unlink(name);
    rmdir(name);
    unlink(draft);
    rmdir(draft);
    unlink(other);
    rmdir(folder);
}

static void put(const char *file, const char *text, mode_t mode)
{
    FILE *out = fopen(file, "w");
    ck_assert(out != NULL);
    fputs(text, out);
    fclose(out);
    ck_assert_int_eq(chmod(file, mode), 0);
}

static void expect(const char *file, const char *text)
{
    char data[256];
    bool is_open = true;
    ssize_t n = file_read(file, data, sizeof data, &is_open);
    ck_assert_int_eq(n, (ssize_t)strlen(text));
    ck_assert_mem_eq(data, text, strlen(text));
}

static unsigned entries(void)
{
    unsigned count = 0;
    DIR *d = opendir(folder);
    ck_assert(d != NULL);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

/* ---- Reading ------------------------------------------------------------- */

START_TEST(who_can_read_it)
{
    static const struct {
        mode_t mode;
        bool is_open;
    } table[] = {
        {0600, false}, {0400, false}, {0700, false}, {0640, false},
        {0440, false}, {0650, false}, {0660, true},  {0620, true},
        {0604, true},  {0602, true},  {0601, true},  {0644, true},
        {0666, true},  {0777, true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char data[16];
        bool is_open = !table[i].is_open;
        put(name, "text", table[i].mode);
        ck_assert_int_eq(file_read(name, data, sizeof data, &is_open), 4);
        ck_assert_msg(is_open == table[i].is_open, "%o", table[i].mode);
    }
}
END_TEST

START_TEST(what_fills_the_room_is_too_big)
{
    char data[32];
    bool is_open;
    put(name, "0123456789", 0600);
    for (size_t room = 0; room < sizeof data; room++) {
        memset(data, '#', sizeof data);
        ssize_t n = file_read(name, data, room, &is_open);
        ck_assert_int_eq(n, room > 10 ? 10 : -1);
        ck_assert_int_eq(errno, room > 10 ? 0 : EFBIG);
        for (size_t i = room; i < sizeof data; i++)
            ck_assert_int_eq(data[i], '#');
    }
    put(name, "", 0600);
    ck_assert_int_eq(file_read(name, data, sizeof data, &is_open), 0);
}
END_TEST

START_TEST(what_is_no_file)
{
    char data[16];
    bool is_open;
    ck_assert_int_eq(file_read(name, data, sizeof data, &is_open), -1);
    ck_assert_int_eq(errno, ENOENT);
    ck_assert_int_eq(file_read(folder, data, sizeof data, &is_open), -1);
    ck_assert_int_eq(errno, EISDIR);
    ck_assert_int_eq(mkfifo(name, 0600), 0); /* nobody writes: no waiting */
    ck_assert_int_eq(file_read(name, data, sizeof data, &is_open), 0);
    ck_assert_int_eq(file_read("", data, sizeof data, &is_open), -1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(bytes_are_bytes)
{
    char data[600], again[601];
    bool is_open;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)i;
    ck_assert(file_write(name, data, sizeof data));
    ck_assert_int_eq(file_read(name, again, sizeof again, &is_open), 600);
    ck_assert_mem_eq(data, again, sizeof data);
}
END_TEST

/* ---- Writing ------------------------------------------------------------- */

START_TEST(new_file_is_the_owners)
{
    struct stat st;
    mode_t before = umask(0);
    ck_assert(file_write(name, "text", 4));
    umask(before);
    ck_assert_int_eq(stat(name, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    expect(name, "text");
    ck_assert_uint_eq(entries(), 1);
    ck_assert(file_write(name, "", 0));
    expect(name, "");
}
END_TEST

/* Who has the old one open reads on in it; the mode of the old one is gone,
 * too. */
START_TEST(old_file_is_replaced_at_once)
{
    char old[8] = "";
    struct stat st;
    put(name, "before", 0644);
    FILE *reader = fopen(name, "r");
    ck_assert(reader != NULL);
    ck_assert(file_write(name, "after and longer", 16));
    ck_assert_uint_eq(fread(old, 1, sizeof old, reader), 6);
    ck_assert_mem_eq(old, "before", 6);
    fclose(reader);
    expect(name, "after and longer");
    ck_assert_int_eq(stat(name, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    ck_assert_uint_eq(entries(), 1);
}
END_TEST

/* What lies where the draft goes: of a run cut short, or put there to have us
 * write elsewhere. */
START_TEST(draft_in_the_way)
{
    put(draft, "half", 0666);
    ck_assert(file_write(name, "one", 3));
    expect(name, "one");
    ck_assert_uint_eq(entries(), 1);
    put(other, "precious", 0600);
    ck_assert_int_eq(symlink(other, draft), 0);
    ck_assert(file_write(name, "two", 3));
    expect(name, "two");
    expect(other, "precious");
    ck_assert_int_eq(unlink(other), 0);
    ck_assert_int_eq(symlink(other, draft), 0); /* to nothing */
    ck_assert(file_write(name, "three", 5));
    ck_assert_int_eq(access(other, F_OK), -1);
    ck_assert_int_eq(mkdir(draft, 0700), 0);
    ck_assert(!file_write(name, "four", 4));
    ck_assert_int_eq(errno, EEXIST);
    expect(name, "three");
}
END_TEST

/* A link in place of the file itself is replaced, and not followed. */
START_TEST(link_in_place_of_the_file)
{
    struct stat st;
    put(other, "precious", 0600);
    ck_assert_int_eq(symlink(other, name), 0);
    ck_assert(file_write(name, "text", 4));
    expect(other, "precious");
    ck_assert_int_eq(lstat(name, &st), 0);
    ck_assert(S_ISREG(st.st_mode));
}
END_TEST

START_TEST(what_cannot_be_written)
{
    char long_name[5000], text[64];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    ck_assert(!file_write(long_name, "text", 4));
    ck_assert_int_eq(errno, ENAMETOOLONG);
    snprintf(text, sizeof text, "%s/none/file", folder);
    ck_assert(!file_write(text, "text", 4));
    ck_assert_int_eq(errno, ENOENT);
    put(name, "before", 0600);
    snprintf(text, sizeof text, "%s/file", name);
    ck_assert(!file_write(text, "text", 4));
    ck_assert_int_eq(errno, ENOTDIR);
    /* a folder in the file's place: the draft goes, too */
    unlink(name);
    ck_assert_int_eq(mkdir(name, 0700), 0);
    ck_assert(!file_write(name, "text", 4));
    ck_assert(errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST);
    ck_assert_uint_eq(entries(), 1);
}
END_TEST

/* Root may write anywhere, so we are somebody else here. */
START_TEST(folder_that_cannot_be_written)
{
    put(name, "before", 0644);
    ck_assert_int_eq(chmod(folder, 0555), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    bool is_good = file_write(name, "after", 5);
    int fault = errno;
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert(!is_good);
    ck_assert_int_eq(fault, EACCES);
    expect(name, "before");
    ck_assert_uint_eq(entries(), 1);
}
END_TEST

/* No room for all of it: the old one stays, whole. RLIMIT_FSIZE is the full
 * disk. */
START_TEST(disk_that_is_full)
{
    static char much[1 << 16];
    struct rlimit before, small;
    put(name, "before", 0600);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    bool is_good = file_write(name, much, sizeof much);
    int fault = errno;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    ck_assert(!is_good);
    ck_assert_int_eq(fault, EFBIG);
    expect(name, "before");
    ck_assert_uint_eq(entries(), 1);
}
END_TEST

Suite *suite_file(void)
{
    Suite *s = suite_create("file");
    TCase *c = tcase_create("file");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, who_can_read_it);
    tcase_add_test(c, what_fills_the_room_is_too_big);
    tcase_add_test(c, what_is_no_file);
    tcase_add_test(c, bytes_are_bytes);
    tcase_add_test(c, new_file_is_the_owners);
    tcase_add_test(c, old_file_is_replaced_at_once);
    tcase_add_test(c, draft_in_the_way);
    tcase_add_test(c, link_in_place_of_the_file);
    tcase_add_test(c, what_cannot_be_written);
    tcase_add_test(c, folder_that_cannot_be_written);
    tcase_add_test(c, disk_that_is_full);
    suite_add_tcase(s, c);
    return s;
}
