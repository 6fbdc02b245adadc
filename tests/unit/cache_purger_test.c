/* The way of a purge: in effect at once, answered when durable, known after a restart, and positions that never repeat. */
#include "cache/purger.h"

#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96];
static struct loop *loop;
static struct state *state;
static struct marks *marks;
static struct purger *purger;
static struct purge_job *job;
static struct purge_result result;
static struct task waiter;
static const char *tag;
static unsigned tag_next, tag_count;

/* "tag" once, then "tag-1", "tag-2" ... */
static void purge_next(void)
{
    char memory[32];
    struct text text = TEXT_ON(memory);
    struct mark mark = { .kind = MARK_TAG };

    text_put(&text, view_str(tag));
    if (tag_next)
        text_printf(&text, "-%u", tag_next);
    tag_next++;
    mark.text = text_view(&text);
    assert_int_equal(purger_purge(purger, loop, &mark, NULL, &waiter, &job), 0);
}

/* One purge after the other; the loop ends with the last. */
static void wait_for_job(struct task *task)
{
    (void)task;
    if (!job || !purge_job_done(job, &result))
        return;
    purge_job_leave(job);
    job = NULL;
    if (tag_next < tag_count)
        purge_next();
    else
        loop_stop(loop);
}

static void start(unsigned capacity)
{
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct purger_options options = { 0 };

    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(state_open(view_str(path), &state, &reason), 0);
    assert_int_equal(marks_new(capacity, &marks), 0);
    options.marks = marks;
    options.state = state;
    assert_int_equal(purger_new(&options, &purger), 0);
    task_init(&waiter, loop, wait_for_job);
}

static void stop(void)
{
    state_close(state);
    purger_free(purger);
    marks_free(marks);
    loop_free(loop);
}

static int setup(void **arg)
{
    (void)arg;
    (void)snprintf(folder, sizeof(folder), "/tmp/purger-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/state.db", folder);
    return 0;
}

static int teardown(void **arg)
{
    char file[128];

    (void)arg;
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(file, sizeof(file), "%s%s", path, (const char *[]){ "", "-wal", "-shm" }[i]);
        (void)unlink(file);
    }
    return rmdir(folder);
}

/* Once for each start(): a loop runs once. */
static void purge_tags(const char *name, unsigned count)
{
    memset(&result, 0, sizeof(result));
    tag = name;
    tag_next = 0;
    tag_count = count;
    purge_next();
    loop_run(loop);
    assert_true(result.durable);
    assert_false(result.bus);
}

static enum mark_verdict check(const char *tags, uint64_t position)
{
    struct key key = key_of(VIEW("k"));
    struct object_parts parts = { .key = key.text, .url = VIEW("http://h/"), .tags = view_str(tags) };
    struct object *object = object_new(&key, &parts);
    enum mark_verdict verdict;

    assert_non_null(object);
    atomic_store(&object->purge_pos, position);
    verdict = marks_check(marks, object);
    object_unref(object);
    return verdict;
}

static void test_restart(void **arg)
{
    /* What was stored before a purge is not good after it, also in a later run; what that later run stores is. */
    uint64_t before, later;

    (void)arg;
    start(0);
    before = marks_position(marks);
    purge_tags("a", 1);
    assert_int_equal(result.position, before + 1);
    assert_int_equal(check("a", before), MARKS_HARD);
    stop();
    start(0);
    later = marks_position(marks);
    assert_true(later > before + 1000000);
    assert_int_equal(check("a", before), MARKS_HARD);
    assert_int_equal(check("b", before), MARKS_CLEAR);
    assert_int_equal(check("a", before + 1), MARKS_CLEAR);
    stop();
    /* A run without any purge uses up its positions, too: what it stored must not look newer than the next run's marks. */
    start(0);
    assert_true(marks_position(marks) > later);
    purge_tags("b", 1);
    assert_int_equal(check("b", later + 5), MARKS_HARD);
    stop();
}

static void test_folded(void **arg)
{
    /* Marks that were folded are forgotten by the state as well, and what lies before them stays a miss after a restart. */
    struct marks_stats stats;

    (void)arg;
    start(64);
    purge_tags("tag", 200);
    marks_stats(marks, &stats);
    assert_true(stats.floor > 0);
    stop();
    start(64);
    assert_int_equal(check("other", stats.floor - 1), MARKS_HARD);
    assert_int_equal(check("other", stats.position), MARKS_CLEAR);
    assert_int_equal(check("tag-199", stats.position - 1), MARKS_HARD);
    stop();
}

static void test_nobody_waits(void **arg)
{
    /* An asker that leaves, and purges without one: nothing is lost, nothing leaks. */
    struct mark mark = { .kind = MARK_TAG, .text = VIEW("gone") };

    (void)arg;
    start(0);
    assert_int_equal(purger_purge(purger, loop, &mark, NULL, &waiter, &job), 0);
    purge_job_leave(job);
    job = NULL;
    assert_int_equal(purger_purge(purger, loop, &mark, NULL, NULL, NULL), 0);
    purger_apply(purger, loop, &mark, 7);
    purge_tags("last", 1);
    assert_int_equal(check("gone", 0), MARKS_HARD);
    assert_int_equal(marks_bus_at(marks, marks_position(marks)), 7);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_waits, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
