/* Durable state: what was acknowledged is there after kill -9; a file that is not ours is left alone; a disk that is full or
 * broken is an answer, not an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "store/state.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[128];
static char reason_memory[256];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/doorstep-state-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/store/state", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* Opens the file of this test; the reason is in reason_memory. */
static int open_state(struct state **ret)
{
    struct text reason = TEXT_ON(reason_memory);
    int r = state_open(view_str(path), ret, &reason);

    text_str(&reason);
    return r;
}

static struct state *opened(void)
{
    struct state *state;

    if (open_state(&state) != 0)
        fail_msg("%s", reason_memory);
    return state;
}

static int put(struct state *state, struct view name, struct view value)
{
    struct state_write write = { .name = name, .value = value };

    return state_write_wait(state, &write);
}

static void assert_value(struct state *state, struct view name, struct view expected)
{
    char *value;
    size_t len;

    assert_int_equal(state_get(state, name, &value, &len), 0);
    assert_true(view_eq(view_make(value, len), expected));
    assert_int_equal(value[len], '\0');
    heap_free(value);
}

struct seen {
    struct state_mark list[16];
    char texts[16][32];
    unsigned count;
};

static void see(const struct state_mark *mark, void *arg)
{
    struct seen *seen = arg;

    assert_true(seen->count < ARRAY_LEN(seen->list));
    seen->list[seen->count] = *mark;
    snprintf(seen->texts[seen->count++], sizeof(seen->texts[0]), "%.*s", VIEW_ARG(mark->text));
}

static void values_survive(void **unused)
{
    /* Named values are there after closing and opening; writing again replaces, an empty value removes. The identity stays. */
    struct state *state = opened();
    uint8_t identity[16];
    char *value;
    size_t len;
    struct stat st;

    (void)unused;
    assert_true(state_is_durable(state));
    memcpy(identity, state_identity(state), sizeof(identity));
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    assert_int_equal(put(state, VIEW("a"), VIEW("22\0x")), 0);
    assert_int_equal(put(state, VIEW("b"), VIEW("3")), 0);
    state_close(state);

    state = opened();
    assert_memory_equal(identity, state_identity(state), sizeof(identity));
    assert_value(state, VIEW("a"), VIEW("22\0x"));
    assert_int_equal(put(state, VIEW("b"), VIEW_NONE), 0);
    assert_int_equal(state_get(state, VIEW("b"), &value, &len), -ENOENT);
    assert_int_equal(state_get(state, VIEW("c"), &value, &len), -ENOENT);
    state_close(state);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void marks_in_order(void **unused)
{
    /* Marks come back in the order of positions with all their parts; forgetting takes those before a position; a mark and a
     * value in one write are one transaction. */
    struct state *state = opened();
    struct state_write writes[] = {
        { .mark = { .position = 30, .bus = UINT64_MAX, .kind = 3, .soft = true, .text = VIEW("product-42") } },
        { .mark = { .position = 10, .kind = 1, .text = VIEW("http://a/") }, .name = VIEW("at"), .value = VIEW("10") },
        { .mark = { .position = INT64_MAX, .kind = 65535 } },
        { .mark = { .position = 5, .kind = 1, .text = VIEW("gone") } },
        { .forget_before = 10 },
    };
    struct seen seen = { 0 };

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(writes); i++)
        assert_int_equal(state_write_wait(state, &writes[i]), 0);
    state_close(state);
    state = opened();
    assert_int_equal(state_marks(state, see, &seen), 0);
    assert_int_equal(seen.count, 3);
    assert_true(seen.list[0].position == 10 && seen.list[0].kind == 1 && !seen.list[0].soft && seen.list[0].bus == 0);
    assert_string_equal(seen.texts[0], "http://a/");
    assert_true(seen.list[1].position == 30 && seen.list[1].soft && seen.list[1].bus == UINT64_MAX);
    assert_string_equal(seen.texts[1], "product-42");
    assert_true(seen.list[2].position == INT64_MAX && seen.list[2].kind == 65535);
    assert_string_equal(seen.texts[2], "");
    assert_value(state, VIEW("at"), VIEW("10"));
    state_close(state);
}

/* ---- answers on a loop, group commit ---- */

#define WRITES 2000

static unsigned answered;

static void on_done(struct loop *loop, struct message *message)
{
    struct state_write *write = CONTAINER_OF(message, struct state_write, done);

    assert_int_equal(write->result, 0);
    heap_free(write);
    if (++answered == WRITES)
        loop_stop(loop);
}

static void write_many(struct state *state, struct loop *loop)
{
    for (unsigned i = 0; i < WRITES; i++) {
        struct state_write *write = heap_zalloc(sizeof(*write));
        char text[32];

        snprintf(text, sizeof(text), "tag-%u", i);
        write->done.handle = loop ? on_done : NULL;
        write->loop = loop;
        write->mark = (struct state_mark){ .position = i + 1, .kind = 2, .text = view_str(text) };
        assert_int_equal(state_write(state, write), 0); /* `text` is copied */
    }
}

static void count_mark(const struct state_mark *mark, void *arg)
{
    unsigned *count = arg;
    char text[32];

    snprintf(text, sizeof(text), "tag-%u", (*count)++);
    assert_true(mark->position == *count && view_eq(mark->text, view_str(text)));
}

static void commits_are_shared(void **unused)
{
    /* Every write is answered on its loop after its commit, and those that queue up share commits. */
    struct state *state = opened();
    struct state_stats stats;
    struct loop *loop;
    unsigned count = 0;

    (void)unused;
    assert_int_equal(loop_new(&loop, 0), 0);
    answered = 0;
    write_many(state, loop);
    loop_run(loop);
    state_stats(state, &stats);
    assert_int_equal(stats.writes, WRITES);
    assert_int_equal(stats.queued, 0);
    assert_true(stats.commits < WRITES / 2);
    assert_string_equal(stats.trouble, "");
    state_close(state);
    loop_free(loop);
    state = opened();
    assert_int_equal(state_marks(state, count_mark, &count), 0);
    assert_int_equal(count, WRITES);
    state_close(state);
}

static void close_commits(void **unused)
{
    /* Closing commits what is queued, also when nobody waits for it. */
    struct state *state = opened();
    unsigned count = 0;

    (void)unused;
    write_many(state, NULL);
    state_close(state);
    state = opened();
    assert_int_equal(state_marks(state, count_mark, &count), 0);
    assert_int_equal(count, WRITES);
    state_close(state);
    state_close(NULL);
}

static void no_path_keeps_nothing(void **unused)
{
    /* Without a path everything is answered, nothing is kept, and every start has another identity. */
    struct text reason = TEXT_ON(reason_memory);
    struct state *state, *other;
    struct loop *loop;
    struct seen seen = { 0 };
    char *value;
    size_t len;

    (void)unused;
    assert_int_equal(state_open(VIEW_NONE, &state, &reason), 0);
    assert_int_equal(state_open(VIEW_NONE, &other, &reason), 0);
    assert_memory_not_equal(state_identity(state), state_identity(other), 16);
    assert_false(state_is_durable(state));
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    assert_int_equal(state_get(state, VIEW("a"), &value, &len), -ENOENT);
    assert_int_equal(loop_new(&loop, 0), 0);
    answered = 0;
    write_many(state, loop);
    loop_run(loop);
    write_many(state, NULL);
    assert_int_equal(state_marks(state, see, &seen), 0);
    assert_int_equal(seen.count, 0);
    state_close(state);
    state_close(other);
    loop_free(loop);
}

/* ---- kill -9 ---- */

/* The child: writes marks one after another, some waited for, and says each acknowledged position. Until it is killed. */
static no_return void write_until_killed(int fd, uint64_t from)
{
    struct state *state;

    if (open_state(&state) != 0)
        _exit(1);
    for (uint64_t at = from;; at++) {
        struct state_write *extra = heap_zalloc(sizeof(*extra));
        struct state_write waited = { .mark = { .position = 2 * at, .kind = 1, .text = VIEW("waited for") },
                                      .name = VIEW("last"),
                                      .value = view_make((const char *)&at, sizeof(at)) };

        *extra = (struct state_write){ .mark = { .position = 2 * at + 1, .kind = 1, .text = VIEW("on the way") } };
        if (state_write_wait(state, &waited) != 0 || write(fd, &at, sizeof(at)) != sizeof(at) ||
            state_write(state, extra) < 0)
            _exit(1);
    }
}

struct kept {
    uint64_t even, last;
};

static void keep(const struct state_mark *mark, void *arg)
{
    struct kept *kept = arg;

    if (mark->position % 2 == 0) {
        assert_int_equal(mark->position, kept->even + 2); /* no hole: order of commits is order of writes */
        assert_true(view_eq(mark->text, VIEW("waited for")));
        kept->even = mark->position;
    }
    kept->last = mark->position;
}

static void kill_loses_nothing_acknowledged(void **unused)
{
    /* A writer is killed with -9 at some moment, again and again: every acknowledged mark is there afterwards, the marks have
     * no holes, and the value that went with a mark is the one of the last mark. */
    uint64_t acknowledged = 0;

    (void)unused;
    for (int round = 0; round < 8; round++) {
        struct kept kept = { 0 };
        struct state *state;
        uint64_t at = 0, value;
        char *bytes;
        size_t len;
        int fds[2];
        pid_t child;

        assert_int_equal(pipe(fds), 0);
        child = fork();
        if (child == 0)
            write_until_killed(fds[1], acknowledged + 1);
        close(fds[1]);
        for (int i = 0; i < 20 + round * 37; i++)
            assert_int_equal(read(fds[0], &at, sizeof(at)), sizeof(at));
        kill(child, SIGKILL);
        while (read(fds[0], &value, sizeof(value)) == sizeof(value))
            at = value;
        waitpid(child, NULL, 0);
        close(fds[0]);

        state = opened();
        assert_int_equal(state_marks(state, keep, &kept), 0);
        assert_true(kept.even >= 2 * at);
        assert_int_equal(state_get(state, VIEW("last"), &bytes, &len), 0);
        assert_int_equal(len, sizeof(value));
        memcpy(&value, bytes, sizeof(value));
        heap_free(bytes);
        assert_int_equal(2 * value, kept.even);
        acknowledged = value;
        state_close(state);
    }
}

/* ---- files that are not to be used ---- */

static void make_file(const void *bytes, size_t len)
{
    int fd;

    *strrchr(path, '/') = '\0';
    mkdir(path, 0700);
    path[strlen(path)] = '/';
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void assert_refused(int expected, const char *why)
{
    struct state *state;

    assert_int_equal(open_state(&state), expected);
    if (!strstr(reason_memory, why))
        fail_msg("no '%s' in '%s'", why, reason_memory);
}

/* Runs SQL on the file as another program would. */
static void with_sqlite(const char *sql)
{
    sqlite3 *handle;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(handle);
}

static void foreign_files_are_refused(void **unused)
{
    /* No database, another program's database and a newer version's are refused with a reason and left byte for byte. */
    struct stat before, after;

    (void)unused;
    make_file("hello\n", 6);
    assert_refused(-EINVAL, "not a database");
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, 6);

    assert_int_equal(unlink(path), 0);
    with_sqlite("CREATE TABLE mails(subject)");
    assert_int_equal(stat(path, &before), 0);
    assert_refused(-EINVAL, "another program");
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);

    assert_int_equal(unlink(path), 0);
    state_close(opened());
    with_sqlite("PRAGMA user_version=3");
    assert_refused(-EINVAL, "newer version (format 3");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(-EISDIR, "");
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof(path), "%s/a/b/state", folder);
    assert_refused(-ENOENT, "making");
}

static void empty_file_is_new(void **unused)
{
    /* An empty file (the power went while it was made) is taken as new. */
    struct state *state;

    (void)unused;
    make_file("", 0);
    state = opened();
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    state_close(state);
}

static void damage_is_refused(void **unused)
{
    /* A damaged database is refused, and the reason says what to do. */
    struct state *state = opened();
    char junk[4096];
    int fd;

    (void)unused;
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    state_close(state);
    memset(junk, 0x5a, sizeof(junk));
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 4096), sizeof(junk));
    close(fd);
    assert_refused(-EINVAL, "damaged");
    assert_non_null(strstr(reason_memory, "move it away"));
}

static void second_open_is_refused(void **unused)
{
    /* While one node has it open, another (in the same process or not) is told so, and the first goes on undisturbed. */
    struct state *state = opened();
    pid_t child;
    int status;

    (void)unused;
    assert_refused(-EBUSY, "another node has it open");
    child = fork();
    if (child == 0) {
        struct state *other;

        _exit(open_state(&other) == -EBUSY ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    state_close(state);
    state_close(opened());
}

/* ---- trouble with the disk ---- */

static void write_error_is_an_answer(void **unused)
{
    /* When the disk takes no more bytes (here: a limit on file sizes) writes fail with -EIO and are counted; once it does
     * again, writing goes on, and nothing that was acknowledged is missing. */
    struct state *state = opened();
    struct rlimit limit, none;
    struct state_stats stats;
    char big[65536];

    (void)unused;
    memset(big, 'x', sizeof(big));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &none), 0);
    limit = none;
    limit.rlim_cur = 60000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(put(state, VIEW("big"), view_make(big, sizeof(big))), -EIO);
    state_stats(state, &stats);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(stats.errors, 1);
    assert_true(stats.trouble[0]);
    assert_int_equal(put(state, VIEW("b"), view_make(big, sizeof(big))), 0);
    state_stats(state, &stats);
    assert_string_equal(stats.trouble, "");
    assert_value(state, VIEW("a"), VIEW("1"));
    state_close(state);
    state = opened();
    assert_value(state, VIEW("a"), VIEW("1"));
    assert_value(state, VIEW("b"), view_make(big, sizeof(big)));
    state_close(state);
}

static void removed_file_is_an_error(void **unused)
{
    /* A database that was removed under us takes writes that nobody would ever find again: they are errors. */
    struct state *state = opened();
    struct state_stats stats;

    (void)unused;
    assert_int_equal(put(state, VIEW("a"), VIEW("1")), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(put(state, VIEW("a"), VIEW("2")), -EIO);
    state_stats(state, &stats);
    assert_non_null(strstr(stats.trouble, "removed"));
    state_close(state);
}

/* In a child with its own mounts. Exit status 0: as it should be, 2: no mounts here. */
static int fill_small_disk(void)
{
    struct state *state;
    struct state_stats stats;
    char big[65536], filler[160];
    int fd, r = 0;

    memset(big, 'x', sizeof(big));
    if ((unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=1m,mode=700") < 0)
        return 2;
    if (open_state(&state) != 0)
        return 3;
    for (int i = 0; i < 64 && r == 0; i++) {
        char name[16];

        snprintf(name, sizeof(name), "n%d", i);
        r = put(state, view_str(name), view_make(big, sizeof(big)));
    }
    if (r != -ENOSPC)
        return 4;
    snprintf(filler, sizeof(filler), "%s/filler", folder);
    fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, big, 4096) > 0)
        ;
    close(fd);
    if (put(state, VIEW("n0"), view_make(big, sizeof(big))) != -ENOSPC)
        return 5;
    state_stats(state, &stats);
    if (stats.errors != 2 || !strstr(stats.trouble, "full"))
        return 6;
    state_close(state);
    unlink(filler);
    if (mount("none", folder, NULL, MS_REMOUNT, "size=16m") < 0 || open_state(&state) != 0)
        return 7;
    if (put(state, VIEW("after"), view_make(big, sizeof(big))) != 0)
        return 8;
    assert_value(state, VIEW("n0"), view_make(big, sizeof(big)));
    state_close(state);
    return 0;
}

static void full_disk_is_an_answer(void **unused)
{
    /* On a full disk writes fail with -ENOSPC, what was there stays, and with room again it goes on. */
    pid_t child = fork();
    int status;

    (void)unused;
    if (child == 0)
        _exit(fill_small_disk());
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        skip();
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_survive),
        TEST(marks_in_order),
        TEST(commits_are_shared),
        TEST(close_commits),
        TEST(no_path_keeps_nothing),
        TEST(kill_loses_nothing_acknowledged),
        TEST(foreign_files_are_refused),
        TEST(empty_file_is_new),
        TEST(damage_is_refused),
        TEST(second_open_is_refused),
        TEST(write_error_is_an_answer),
        TEST(removed_file_is_an_error),
        TEST(full_disk_is_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
