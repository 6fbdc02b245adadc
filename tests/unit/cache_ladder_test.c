/* The ladder over a real memory and disk tier: what goes down comes up again, to the request it fits, unless it was purged. */
#include "store_disk_fixture.h"

#include "cache/ladder.h"
#include "cache/vary.h"
#include "proto/http1.h"

#include <urcu-qsbr.h>

static struct loop *loop;
static struct memory *memory;
static struct disk *disk;
static struct marks *marks;
static struct ladder *ladder;

/* A test is a row of steps on the loop; each is run again every few milliseconds until it says true. */
typedef bool step_function(void);
static step_function *const *steps;
static struct task driver;
static struct timer beat;

static void drive(struct task *task)
{
    (void)task;
    timer_clear(&beat);
    while (*steps && (*steps)())
        steps++;
    if (*steps) {
        timer_set(&beat, 4);
        return;
    }
    ladder_loop_close(ladder, loop);
    loop_stop(loop);
}

static void run(step_function *const list[])
{
    steps = list;
    task_wake(&driver);
    loop_run(loop);
}

static int begin(void **state)
{
    struct memory_options options = { .limit = 64 << 20, .admit_all = true };
    struct ladder_options ladder_options = { .loops = 1 };

    if (setup(state) < 0 || loop_new(&loop, 0) < 0 || memory_new(&options, &memory) < 0 || marks_new(0, &marks) < 0)
        return -1;
    disk = open_at(home);
    ladder_options.memory = memory;
    ladder_options.disk = disk;
    ladder_options.marks = marks;
    task_init(&driver, loop, drive);
    timer_init(&beat, &driver);
    return ladder_new(&ladder_options, &ladder);
}

static int end(void **state)
{
    ladder_free(ladder);
    disk_close(disk);
    memory_free(memory);
    marks_free(marks);
    loop_free(loop);
    return teardown(state);
}

/* ---- what is put ---- */

static const struct ladder_rule pinned = { .disk = LADDER_DISK_PIN };

static struct object *variant(const char *name, const char *language, unsigned version)
{
    struct key key = key_named(name);
    char values_memory[128];
    struct text values = TEXT_ON(values_memory);
    struct object_parts parts = {
        .key = key.text, .url = VIEW("http://h/v"), .tags = VIEW("t"), .head = VIEW("HTTP/1.1 200 OK\r\n")
    };
    struct object *object;

    if (language) {
        text_printf(&values, "=%s\n", language);
        parts.vary_names = VIEW("x-language");
        parts.vary_values = text_view(&values);
    }
    object = object_new(&key, &parts);
    assert_non_null(object);
    object->status = 200;
    object->times = (struct object_times){ .response_ms = loop_wall_ms(loop) + version,
                                           .lifetime_ms = 1000000,
                                           .last_modified_s = -1 };
    atomic_store(&object->purge_pos, marks_position(marks));
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN);
    return object;
}

static void put_down(const char *name, const char *language, unsigned version)
{
    struct object *object = variant(name, language, version);

    ladder_put(ladder, loop, object, &pinned, false, false);
    object_unref(object);
}

/* ---- who asks ---- */

struct asker {
    struct ladder_waiter waiter;
    struct http_request request;
    struct field fields[2];
    struct key key;
    bool asked;
    struct ladder_answer answer;
};

static struct asker first, second;

/* Asks on the first call, true once there is an answer. */
static bool ask(struct asker *asker, const char *name, const char *language)
{
    struct ladder_query query = { .key = &asker->key, .request = &asker->request, .disk = true };

    if (!asker->asked) {
        object_unref(asker->answer.object);
        memset(asker, 0, sizeof(*asker));
        asker->key = key_named(name);
        asker->asked = true;
        asker->request.method = METHOD_GET;
        fields_init(&asker->request.fields, asker->fields, ARRAY_LEN(asker->fields));
        if (language)
            fields_add(&asker->request.fields, FIELD_OTHER, VIEW("X-Language"), view_str(language));
        assert_true(ladder_climb(ladder, &query, &driver, &asker->waiter));
    }
    if (!ladder_answer(&asker->waiter, &asker->answer))
        return false;
    ladder_leave(&asker->waiter);
    asker->asked = false;
    return true;
}

static bool written(uint64_t records)
{
    return stats_of(disk).written >= records && stats_of(disk).queued_bytes == 0;
}

/* ---- variants ---- */

static bool put_variants(void)
{
    put_down("v", "en", 1);
    return true;
}

static bool first_is_written(void)
{
    return written(2);
}

static bool put_second(void)
{
    put_down("v", "de", 2);
    return true;
}

static bool all_written(void)
{
    return written(3);
}

static bool asks_for_german(void)
{
    if (!ask(&first, "v", "de"))
        return false;
    assert_non_null(first.answer.object);
    assert_int_equal(first.answer.rung, RUNG_DISK);
    assert_true(view_eq(object_vary_values(first.answer.object), VIEW("=de\n")));
    assert_int_equal(memory_variants(memory_find(memory, &first.key)).count, 1);
    return true;
}

static bool asks_for_french(void)
{
    if (!ask(&first, "v", "fr"))
        return false;
    assert_null(first.answer.object);
    return true;
}

static bool drops_the_key(void)
{
    struct key key = key_named("v");

    ladder_drop(ladder, loop, &key, VIEW("http://h/v"));
    return true;
}

static bool puts_german_again(void)
{
    put_down("v", "de", 3);
    return true;
}

static bool german_is_written(void)
{
    return written(5);
}

static bool english_is_gone(void)
{
    if (!ask(&first, "v", "en"))
        return false;
    assert_null(first.answer.object);
    return true;
}

static void test_variants(void **state)
{
    /* Variants come up by the request's own values. Dropping the key makes them all unreachable, also when one of them is
     * stored again. */
    static step_function *const list[] = { put_variants,      first_is_written, put_second,    all_written,
                                           asks_for_german,   asks_for_french,  drops_the_key, puts_german_again,
                                           german_is_written, english_is_gone,  NULL };

    (void)state;
    run(list);
    object_unref(first.answer.object);
    first.answer.object = NULL;
}

/* ---- purges ---- */

static bool put_plain(void)
{
    put_down("p", NULL, 1);
    return true;
}

static bool plain_is_written(void)
{
    return written(1);
}

static bool two_ask_and_one_leaves(void)
{
    /* The second joins the first's climb and goes away again; what the first gets does not suffer. */
    bool done = first.asked || ask(&first, "p", NULL);

    if (!second.asked)
        (void)ask(&second, "p", NULL);
    ladder_leave(&second.waiter);
    second.asked = false;
    if (!done && !ask(&first, "p", NULL))
        return false;
    if (first.asked && !ask(&first, "p", NULL))
        return false;
    assert_non_null(first.answer.object);
    return true;
}

static bool is_purged_softly(void)
{
    struct mark mark = { .kind = MARK_TAG, .soft = true, .text = VIEW("t") };

    marks_add(marks, &mark, 0);
    return true;
}

static bool comes_up_stale(void)
{
    if (!ask(&first, "p", NULL))
        return false;
    assert_non_null(first.answer.object);
    assert_true(atomic_load(&first.answer.object->soft_purged));
    return true;
}

static bool is_purged(void)
{
    struct mark mark = { .kind = MARK_PREFIX, .text = VIEW("http://h") };

    marks_add(marks, &mark, 0);
    return true;
}

static bool does_not_come_up(void)
{
    if (!ask(&first, "p", NULL))
        return false;
    assert_null(first.answer.object);
    return true;
}

static void test_purged(void **state)
{
    /* What lies on disk from before a purge comes up stale after a soft one, and not at all after a hard one. */
    static step_function *const list[] = { put_plain,      plain_is_written, two_ask_and_one_leaves, is_purged_softly,
                                           comes_up_stale, is_purged,        does_not_come_up,       NULL };

    (void)state;
    run(list);
    object_unref(first.answer.object);
    object_unref(second.answer.object);
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_variants, begin, end),
        cmocka_unit_test_setup_teardown(test_purged, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
