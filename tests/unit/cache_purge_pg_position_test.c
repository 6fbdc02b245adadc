/* How far an outbox table was read: kept and read again, and when nobody can say what was missed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "cache/purge_pg_position.h"

#include <errno.h>

static void lines_are_kept(void **state)
{
    /* A position is the same after writing and reading; anything else is refused. */
    static const char line[] = "1 7710537609602795517/00000001/5/16384 100:205:100,150,204 3 203 17 1795249969458695";
    static const char *const bad[] = {
        "",
        "1",
        "2 a 1:1: 0 0 0 0",
        "1  1:1: 0 0 0 0",
        "1 a 1:1 0 0 0 0",
        "1 a 2:1: 0 0 0 0",
        "1 a 0:1: 0 0 0 0",
        "1 a x:1: 0 0 0 0",
        "1 a 1:1: -1 0 0 0",
        "1 a 1:1: 0 0 0",
        "1 a 1:1: 0 0 0 0 ",
        "1 a 1:1: 0 0 0 0 0",
        "1 a 1:1: 0 0x0 0 0",
        "1 a 1:1: 0 0 0 111111111111111111111111",
    };
    struct position position, untouched = { .xmin = 7 };
    char memory[600];
    struct text out = TEXT_ON(memory);

    (void)state;
    assert_int_equal(position_parse(view_str(line), &position), 0);
    assert_true(position.xmin == 100 && position.xmax == 205 && position.deletions == 3);
    assert_string_equal(position.anchor_id, "17");
    position_put(&position, &out);
    assert_string_equal(text_str(&out), line);
    position_free(&position);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (position_parse(view_str(bad[i]), &untouched) != -EINVAL || untouched.xmin != 7)
            fail_msg("'%s' was not refused", bad[i]);
    assert_int_equal(position_parse(VIEW("1 a 1:1:\0x 0 0 0 0"), &untouched), -EINVAL);
}

static void gaps_are_seen(void **state)
{
    /* Each thing that shows a history other than the one that was read is a gap; what lies below the position is none. */
    static const struct {
        struct position_facts facts;
        bool gap;
    } list[] = {
        { { "me", 205, 3, 90, true }, false },  /* nothing happened */
        { { "me", 300, 3, 90, true }, false },  /* transactions went by */
        { { "me", 300, 4, 99, true }, false },  /* rows went that were read */
        { { "me", 300, 4, 100, true }, true },  /* one may have been of a transaction that was open */
        { { "me", 300, 4, 250, false }, true }, /* the anchor went, and perhaps more */
        { { "me", 300, 3, 90, false }, true },  /* the anchor is not there, and was not deleted */
        { { "me", 204, 3, 90, true }, true },   /* numbers are given again */
        { { "me", 300, 2, 90, true }, true },   /* deletions are undone */
        { { "other", 300, 3, 90, true }, true },
    };
    struct position position, none = { 0 };

    (void)state;
    assert_int_equal(position_parse(VIEW("1 me 100:205:100,150 3 203 17 5"), &position), 0);
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        const char *why = position_gap(&position, &list[i].facts);

        if ((why != NULL) != list[i].gap)
            fail_msg("%zu: %s", i, why ? why : "no gap");
    }
    assert_non_null(position_gap(&none, &list[0].facts));
    position_free(&position);

    /* A position whose anchor was deleted, and was below it. */
    assert_int_equal(position_parse(VIEW("1 me 300:300: 3 203 17 5"), &position), 0);
    assert_null(position_gap(&position, &(struct position_facts){ "me", 300, 4, 210, false }));
    position_free(&position);
}

static void copies_are_their_own(void **state)
{
    /* A copy outlives what it was made of, and an empty one is empty. */
    struct position a, b = { 0 }, none = { 0 };

    (void)state;
    assert_int_equal(position_parse(VIEW("1 me 1:2: 0 0 0 0"), &a), 0);
    assert_int_equal(position_copy(&b, &a), 0);
    position_free(&a);
    assert_string_equal(b.snapshot, "1:2:");
    assert_int_equal(position_copy(&b, &none), 0);
    assert_null(b.snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_kept),
        cmocka_unit_test(gaps_are_seen),
        cmocka_unit_test(copies_are_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
