/* Purge marks: each kind reaches what it names and nothing else, positions move, and forgetting errs on the side of a miss. */
#include "cache/marks.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct object *stored(const char *url, const char *tags, uint64_t position)
{
    struct key key = key_of(view_str(url));
    struct object_parts parts = {
        .key = key.text, .url = view_str(url), .tags = view_str(tags), .head = VIEW("HTTP/1.1 200 OK\r\n")
    };
    struct object *object = object_new(&key, &parts);

    assert_non_null(object);
    atomic_store(&object->purge_pos, position);
    return object;
}

static enum mark_verdict check(struct marks *marks, const char *url, const char *tags, uint64_t position)
{
    struct object *object = stored(url, tags, position);
    enum mark_verdict verdict = marks_check(marks, object);

    object_unref(object);
    return verdict;
}

static uint64_t add(struct marks *marks, enum mark_kind kind, bool soft, const char *text)
{
    struct mark mark = { .kind = kind, .soft = soft, .text = view_str(text) };

    return marks_add(marks, &mark, 0);
}

static struct marks *fresh(unsigned capacity)
{
    struct marks *marks;

    assert_int_equal(marks_new(capacity, &marks), 0);
    return marks;
}

static void test_kinds(void **state)
{
    /* What each kind covers, and its nearest neighbours that it must not cover. */
    static const struct {
        enum mark_kind kind;
        const char *text, *hit, *miss;
    } cases[] = {
        { MARK_URL, "http://h/a?x=1", "http://h/a?x=1", "http://h/a" },
        { MARK_URL, "/a", "http://other/a", "http://h/a/b" },
        { MARK_PREFIX, "http://h/a", "http://h/a/b/c?q", "http://h/ab" },
        { MARK_PREFIX, "http://h/a", "http://h/a?q=/z", "http://g/a" },
        { MARK_PREFIX, "/img", "https://x/img/1.png", "http://x/images/1.png" },
        { MARK_PREFIX, "", "http://anything/", NULL },
        { MARK_PREFIX, "http://h", "http://h/", "https://h/" },
        { MARK_HOST, "h:8080", "https://h:8080/x", "https://h/x" },
        { MARK_ALL, "", "http://h/", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct marks *marks = fresh(0);

        add(marks, cases[i].kind, false, cases[i].text);
        assert_int_equal(check(marks, cases[i].hit, "", 0), MARKS_HARD);
        if (cases[i].miss)
            assert_int_equal(check(marks, cases[i].miss, "", 0), MARKS_CLEAR);
        assert_int_equal(check(marks, cases[i].hit, "", 1), MARKS_CLEAR);
        marks_free(marks);
    }
}

static void test_tags_and_groups(void **state)
{
    /* A tag reaches every response that carries it; a group only those of its origin, and never a tag of the same name. */
    struct marks *marks = fresh(0);
    char memory[128], group_memory[128];
    struct text tags = TEXT_ON(memory), group = TEXT_ON(group_memory);

    (void)state;
    text_lit(&tags, "a ");
    marks_group_put(&tags, VIEW("my scripts"));
    text_str(&tags);
    marks_group_mark(&group, VIEW("http://h/x/y"), VIEW("my scripts"));
    add(marks, MARK_GROUP, false, text_str(&group));
    assert_int_equal(check(marks, "http://h/1", memory, 0), MARKS_HARD);
    assert_int_equal(check(marks, "https://h/1", memory, 0), MARKS_CLEAR);
    assert_int_equal(check(marks, "http://h/1", "my scripts", 0), MARKS_CLEAR);
    add(marks, MARK_TAG, true, "a");
    assert_int_equal(check(marks, "https://h/1", memory, 1), MARKS_SOFT);
    assert_int_equal(check(marks, "https://h/1", "ab b", 1), MARKS_CLEAR);
    marks_free(marks);
}

static void test_moves(void **state)
{
    /* A check that finds nothing moves the response on; a soft mark sticks to it; a later hard one still counts. */
    struct marks *marks = fresh(0);
    struct object *object = stored("http://h/a", "t", 0);

    (void)state;
    add(marks, MARK_TAG, false, "other");
    assert_int_equal(marks_check(marks, object), MARKS_CLEAR);
    assert_int_equal(atomic_load(&object->purge_pos), 1);
    add(marks, MARK_TAG, true, "t");
    assert_int_equal(marks_check(marks, object), MARKS_SOFT);
    assert_int_equal(atomic_load(&object->soft_purged), 1);
    add(marks, MARK_URL, false, "http://h/a");
    assert_int_equal(marks_check(marks, object), MARKS_HARD);
    assert_int_equal(marks_check(marks, object), MARKS_HARD);
    object_unref(object);
    marks_free(marks);
}

static void test_folds(void **state)
{
    /* More marks than the table holds: the oldest become "everything before", the newest stay exact, none is lost. */
    struct marks *marks = fresh(16);
    struct marks_stats stats;
    char tag[32];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(tag, sizeof(tag), "tag-%d", i);
        add(marks, MARK_TAG, false, tag);
        assert_int_equal(check(marks, "http://h/", tag, (uint64_t)i), MARKS_HARD);
    }
    marks_stats(marks, &stats);
    assert_true(stats.folds > 0 && stats.floor > 900);
    assert_int_equal(check(marks, "http://h/", "tag-3", 0), MARKS_HARD);
    assert_int_equal(check(marks, "http://h/", "tag-999", 998), MARKS_HARD);
    assert_int_equal(check(marks, "http://h/", "tag-1000", 999), MARKS_CLEAR);
    marks_free(marks);
}

static void test_bus(void **state)
{
    /* A copy from another node is judged by the bus's order; one from before what is known here is not trusted. */
    struct marks *marks = fresh(0);
    struct mark a = { .kind = MARK_TAG, .text = VIEW("a") }, b = { .kind = MARK_TAG, .text = VIEW("b") };
    struct object *object;

    (void)state;
    marks_set_bus_floor(marks, 50);
    marks_add(marks, &a, 100);
    marks_add(marks, &b, 200);
    assert_int_equal(marks_bus_at(marks, 0), 50);
    assert_int_equal(marks_bus_at(marks, 1), 100);
    assert_int_equal(marks_bus_at(marks, 2), 200);
    object = stored("http://h/", "a", 150);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_CLEAR);
    assert_int_equal(atomic_load(&object->purge_pos), 2);
    object_unref(object);
    object = stored("http://h/", "b", 150);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    object = stored("http://h/", "c", 49);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    object = stored("http://h/", "a", 60);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    marks_free(marks);
}

static void test_before_the_first_pair(void **state)
{
    /* A mark without a bus position that came before the first with one concerns a foreign copy that is older than both. */
    struct marks *marks = fresh(0);
    struct object *object;

    (void)state;
    add(marks, MARK_TAG, false, "a");
    marks_add(marks, &(struct mark){ .kind = MARK_TAG, .text = VIEW("b") }, 100);
    object = stored("http://h/", "a", 50);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    object = stored("http://h/", "c", 50);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_CLEAR);
    object_unref(object);
    marks_bus_passed(marks, 1, 99);
    object = stored("http://h/", "a", 100);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_CLEAR);
    object_unref(object);
    marks_free(marks);
}

static void test_heard_of_late(void **state)
{
    /* A mark of the bus that was made before one of ours and read after it does not vouch for copies that carry it; one that
     * was made later does. */
    struct marks *marks = fresh(0);
    struct object *object;

    (void)state;
    marks_add(marks, &(struct mark){ .kind = MARK_TAG, .text = VIEW("x") }, 100);
    add(marks, MARK_TAG, false, "a"); /* while the bus is at 200: this node was cut off */
    marks_add(marks, &(struct mark){ .kind = MARK_TAG, .text = VIEW("y") }, 200);
    object = stored("http://h/", "a", 200);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    object = stored("http://h/", "c", 200);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_CLEAR);
    object_unref(object);

    marks_bus_passed(marks, marks_position(marks), 250);
    object = stored("http://h/", "a", 200);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
    object_unref(object);
    marks_add(marks, &(struct mark){ .kind = MARK_TAG, .text = VIEW("z") }, 300);
    object = stored("http://h/", "a", 300);
    assert_int_equal(marks_check_foreign(marks, object), MARKS_CLEAR);
    object_unref(object);

    /* As many such moments as there may be: the oldest become one, and nothing is believed that must not be. */
    for (uint64_t bus = 400; bus < 1400; bus++) {
        add(marks, MARK_TAG, false, "a");
        marks_bus_passed(marks, marks_position(marks), bus);
        object = stored("http://h/", "a", bus - 1);
        assert_int_equal(marks_check_foreign(marks, object), MARKS_HARD);
        object_unref(object);
    }
    marks_free(marks);
}

static void test_doubt_and_joining(void **state)
{
    /* Doubt comes and goes and changes no verdict; a fetch may be joined unless a mark since then could concern it. */
    struct marks *marks = fresh(0);

    (void)state;
    marks_set_doubt(marks, true);
    assert_true(marks_in_doubt(marks));
    assert_int_equal(check(marks, "http://h/", "", 0), MARKS_CLEAR);
    marks_set_doubt(marks, false);
    assert_false(marks_in_doubt(marks));
    add(marks, MARK_URL, false, "http://h/a");
    assert_true(marks_unmoved_for(marks, 0, VIEW("http://h/b")));
    assert_false(marks_unmoved_for(marks, 0, VIEW("http://h/a")));
    add(marks, MARK_TAG, false, "t");
    assert_false(marks_unmoved_for(marks, 0, VIEW("http://h/b")));
    assert_true(marks_unmoved_for(marks, 2, VIEW("http://h/a")));
    marks_free(marks);
}

static void test_restored(void **state)
{
    /* After a restart the marks are where they were, and new ones come after them. */
    struct marks *marks = fresh(0);
    struct mark mark = { .kind = MARK_TAG, .text = VIEW("a") };

    (void)state;
    marks_restore(marks, &mark, 41, 7);
    assert_int_equal(marks_position(marks), 41);
    assert_int_equal(check(marks, "http://h/", "a", 40), MARKS_HARD);
    assert_int_equal(check(marks, "http://h/", "a", 41), MARKS_CLEAR);
    assert_int_equal(add(marks, MARK_ALL, true, ""), 42);
    marks_free(marks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),         cmocka_unit_test(test_tags_and_groups),
        cmocka_unit_test(test_moves),         cmocka_unit_test(test_folds),
        cmocka_unit_test(test_bus),           cmocka_unit_test(test_before_the_first_pair),
        cmocka_unit_test(test_heard_of_late), cmocka_unit_test(test_doubt_and_joining),
        cmocka_unit_test(test_restored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
