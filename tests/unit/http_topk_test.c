#include "http/topk.h"
#include "http/whynot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const struct view host = { "h", 1 };

static void add(struct topk *topk, const char *path, uint64_t weight)
{
    topk_add(topk, host, view_str(path), false, weight, 1000);
}

/* While totals are small every call is in the table, and several loops' sketches add up. */
static void small_totals_are_exact(void **state)
{
    struct topk *sketches[2];
    struct topk_item items[8];

    (void)state;
    assert_int_equal(topk_new(&sketches[0]), 0);
    assert_int_equal(topk_new(&sketches[1]), 0);
    assert_int_equal(topk_read(sketches, 2, items, 8), 0);
    add(sketches[0], "/a", 1);
    add(sketches[0], "/b", 2);
    add(sketches[0], "/a", 1);
    add(sketches[1], "/a", 3);
    topk_add(sketches[1], host, VIEW("/a"), true, 4, 1000);
    assert_int_equal(topk_read(sketches, 2, items, 8), 3);
    assert_string_equal(items[0].name, "h/a");
    assert_int_equal(items[0].weight, 5);
    assert_string_equal(items[1].name, "h/a?*");
    assert_int_equal(items[1].weight, 4);
    assert_string_equal(items[2].name, "h/b");
    assert_int_equal(topk_read(sketches, 2, items, 1), 1);
    topk_free(sketches[0]);
    topk_free(sketches[1]);
    topk_free(NULL);
}

/* Among a hundred thousand URLs asked once, the two that matter come out on top with about their weight. */
static void heavy_ones_are_found(void **state)
{
    struct topk *topk;
    struct topk_item items[2];
    char path[32];

    (void)state;
    assert_int_equal(topk_new(&topk), 0);
    for (int i = 0; i < 100000; i++) {
        snprintf(path, sizeof(path), "/once/%d", i);
        add(topk, path, 10);
        if (i % 5 == 0)
            add(topk, "/second", 20);
        if (i % 4 == 0)
            add(topk, "/first", 20);
    }
    assert_int_equal(topk_read(&topk, 1, items, 2), 2);
    assert_string_equal(items[0].name, "h/first");
    assert_string_equal(items[1].name, "h/second");
    assert_in_range(items[0].weight, 400000, 700000); /* 500,000 counted; sampling and inheritance are bounded */
    topk_free(topk);
}

/* What was heavy long ago fades: weights halve every minute. */
static void old_weights_fade(void **state)
{
    struct topk *topk;
    struct topk_item items[4];

    (void)state;
    assert_int_equal(topk_new(&topk), 0);
    topk_add(topk, host, VIEW("/old"), false, 100, 1000);
    topk_add(topk, host, VIEW("/new"), false, 60, 61000);
    assert_int_equal(topk_read(&topk, 1, items, 4), 2);
    assert_string_equal(items[0].name, "h/new");
    assert_int_equal(items[1].weight, 50);
    topk_add(topk, host, VIEW("/new"), false, 1, 86400000);
    assert_int_equal(topk_read(&topk, 1, items, 4), 1);
    assert_int_equal(items[0].weight, 1);
    topk_free(topk);
}

/* Names are cut to their place however long host and path are. */
static void long_names_are_cut(void **state)
{
    static char junk[4096];
    struct topk *topk;
    struct topk_item item;

    (void)state;
    memset(junk, 'x', sizeof(junk));
    assert_int_equal(topk_new(&topk), 0);
    topk_add(topk, view_make(junk, sizeof(junk)), view_make(junk, sizeof(junk)), true, 1, 1);
    assert_int_equal(topk_read(&topk, 1, &item, 1), 1);
    assert_int_equal(strlen(item.name), TOPK_NAME_MAX);
    assert_string_equal(item.name + TOPK_NAME_MAX - 2, "?*");
    topk_free(topk);
}

/* A reason is told for its own key only, and the newer key takes a shared place. */
static void reasons_belong_to_their_key(void **state)
{
    struct whynot *whynot;
    struct whynot_note note;

    (void)state;
    assert_int_equal(whynot_new(&whynot), 0);
    assert_false(whynot_get(whynot, 7, &note));
    assert_false(whynot_get(whynot, 0, &note));
    whynot_put(whynot, 7, WHY_NO_STORE, 200, 1700000000);
    assert_true(whynot_get(whynot, 7, &note));
    assert_int_equal(note.why, WHY_NO_STORE);
    assert_int_equal(note.status, 200);
    assert_int_equal(note.at_s, 1700000000);
    whynot_put(whynot, 7 + 1024, WHY_PRIVATE, 599, 1);
    assert_false(whynot_get(whynot, 7, &note));
    assert_true(whynot_get(whynot, 7 + 1024, &note));
    assert_int_equal(note.status, 599);
    whynot_free(whynot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_totals_are_exact),
        cmocka_unit_test(heavy_ones_are_found),
        cmocka_unit_test(old_weights_fade),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(reasons_belong_to_their_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
