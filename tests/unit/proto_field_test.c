/* Known names, the fields of a message, list members and hop-by-hop fields. */
#include "proto/field.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void assert_view(struct view got, const char *want)
{
    if (!view_eq(got, view_str(want)))
        fail_msg("got '%.*s', expected '%s'", VIEW_ARG(got), want);
}

/* Every known name finds itself in any case, and no single changed byte still finds it. */
static void every_name_finds_itself(void **state)
{
    (void)state;
    for (int id = 1; id < FIELD_COUNT; id++) {
        struct view name = field_name((enum field_id)id);
        char copy[64];

        assert_int_equal(field_lookup(name), id);
        for (size_t i = 0; i < name.len; i++) {
            memcpy(copy, name.ptr, name.len);
            for (int byte = 0; byte < 256; byte++) {
                bool same = ascii_lower((char)byte) == ascii_lower(name.ptr[i]);

                copy[i] = (char)byte;
                assert_true((field_lookup(view_make(copy, name.len)) == (enum field_id)id) == same);
            }
        }
        for (size_t i = 0; i < name.len; i++)
            copy[i] = (char)(name.ptr[i] >= 'a' && name.ptr[i] <= 'z' ? name.ptr[i] - 32 : name.ptr[i]);
        assert_int_equal(field_lookup(view_make(copy, name.len)), id);
        assert_int_not_equal(field_lookup(view_make(name.ptr, name.len - 1)), id);
    }
    assert_int_equal(field_lookup(VIEW_NONE), FIELD_OTHER);
    assert_int_equal(field_lookup(VIEW("X-Something-Else")), FIELD_OTHER);
}

/* First, next and by-name searches see the fields in order, and a full list says so. */
static void fields_are_found_in_order(void **state)
{
    struct field memory[4];
    struct fields fields;

    (void)state;
    fields_init(&fields, memory, 4);
    assert_int_equal(fields_add(&fields, FIELD_OTHER, VIEW("x-a"), VIEW("1")), 0);
    assert_int_equal(fields_add(&fields, FIELD_VARY, VIEW("vary"), VIEW("2")), 0);
    assert_int_equal(fields_add(&fields, FIELD_OTHER, VIEW("X-A"), VIEW("3")), 0);
    assert_int_equal(fields_add(&fields, FIELD_VARY, VIEW("Vary"), VIEW("4")), 0);
    assert_int_equal(fields_add(&fields, FIELD_AGE, VIEW("Age"), VIEW("5")), -ENOBUFS);
    assert_view(fields_value(&fields, FIELD_VARY), "2");
    assert_view(fields_next(&fields, fields_get(&fields, FIELD_VARY))->value, "4");
    assert_view(fields_find(&fields, VIEW("X-a"))->value, "1");
    assert_view(fields_next(&fields, fields_find(&fields, VIEW("X-a")))->value, "3");
    assert_view(fields_find(&fields, VIEW("VARY"))->value, "2");
    assert_null(fields_get(&fields, FIELD_AGE));
    assert_null(fields_value(&fields, FIELD_AGE).ptr);
    assert_false(fields_has(&fields, FIELD_AGE));
}

/* A field beyond position 254 is still found. */
static void late_fields_are_found(void **state)
{
    struct field memory[300];
    struct fields fields;

    (void)state;
    fields_init(&fields, memory, 300);
    for (int i = 0; i < 280; i++)
        assert_int_equal(fields_add(&fields, FIELD_OTHER, VIEW("a"), VIEW("")), 0);
    assert_int_equal(fields_add(&fields, FIELD_AGE, VIEW("age"), VIEW("7")), 0);
    assert_view(fields_value(&fields, FIELD_AGE), "7");
}

/* Members are split at commas outside quoted strings over all lines; empty ones are skipped. */
static void lists_are_walked(void **state)
{
    static const char *const want[] = { "a", "b=\"x,\\\",y\"", "c", "\"open, d", "e" };
    struct field memory[4];
    struct fields fields;
    struct field_list it;
    struct view member;

    (void)state;
    fields_init(&fields, memory, 4);
    assert_int_equal(fields_add(&fields, FIELD_VIA, VIEW("Via"), VIEW(", a ,,\tb=\"x,\\\",y\",c")), 0);
    assert_int_equal(fields_add(&fields, FIELD_VIA, VIEW("Via"), VIEW("")), 0);
    assert_int_equal(fields_add(&fields, FIELD_VIA, VIEW("Via"), VIEW("\"open, d")), 0);
    assert_int_equal(fields_add(&fields, FIELD_VIA, VIEW("Via"), VIEW("e,")), 0);
    it = field_list(&fields, FIELD_VIA);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(field_list_next(&it, &member));
        assert_view(member, want[i]);
    }
    assert_false(field_list_next(&it, &member));
    assert_true(fields_list_has(&fields, FIELD_VIA, VIEW("C")));
    assert_false(fields_list_has(&fields, FIELD_VIA, VIEW("d")));
    it = field_list(&fields, FIELD_VARY);
    assert_false(field_list_next(&it, &member));
}

/* Connection takes along what it names, but never framing, routing or cache rules. */
static void hop_by_hop_fields(void **state)
{
    static const struct {
        struct view name;
        bool hop;
    } rows[] = {
        { { "Connection", 10 }, true },
        { { "Keep-Alive", 10 }, true },
        { { "TE", 2 }, true },
        { { "Transfer-Encoding", 17 }, true },
        { { "Upgrade", 7 }, true },
        { { "X-Named", 7 }, true },
        { { "X-Other", 7 }, false },
        { { "Host", 4 }, false },
        { { "Cache-Control", 13 }, false },
        { { "Content-Length", 14 }, false },
        { { "Cookie", 6 }, true },
        { { "Accept", 6 }, false },
        { { "Doorstep-Authorization", 22 }, true },
        { { "Doorstep-Deadline", 17 }, true },
        { { "Doorstep-Position", 17 }, true },
        { { "Doorstep-Region", 15 }, true },
        { { "Doorstep-Cache-Control", 22 }, false },
    };
    struct field memory[32];
    struct fields fields;

    (void)state;
    fields_init(&fields, memory, 32);
    assert_int_equal(fields_add(&fields, FIELD_CONNECTION, VIEW("connection"),
                                VIEW("close, x-named, host, cache-control, content-length, cookie")),
                     0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct field field = { .name = rows[i].name, .id = (uint16_t)field_lookup(rows[i].name) };

        assert_int_equal(field_is_hop_by_hop(&fields, &field), rows[i].hop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_finds_itself), cmocka_unit_test(fields_are_found_in_order),
        cmocka_unit_test(late_fields_are_found),   cmocka_unit_test(lists_are_walked),
        cmocka_unit_test(hop_by_hop_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
