/* RESP: every type, limits, pieces, hostile replies, commands, Cluster slots. */
#include "message_fixture.h"

#include "proto/resp.h"

#include <errno.h>
#include <math.h>

static const struct resp_limits limits = { 4096, 64, 4 };
static char memory[8192];
static struct arena arena;
static struct resp_value value;

static ssize_t parse(struct view bytes)
{
    size_t hint = 0;

    arena_init(&arena, memory, sizeof(memory), 0);
    return resp_parse(bytes, &limits, &arena, &value, &hint);
}

static void test_scalars(void **state)
{
    /* Proves that each type without parts is read with its value. */
    static const struct {
        const char *bytes;
        enum resp_type type;
        int64_t integer;
        const char *text;
    } cases[] = {
        { "+OK\r\n", RESP_STRING, 0, "OK" },
        { "+\r\n", RESP_STRING, 0, "" },
        { "-ERR no\r\n", RESP_ERROR, 0, "ERR no" },
        { ":1\r\n", RESP_INTEGER, 1, "1" },
        { ":-9223372036854775808\r\n", RESP_INTEGER, INT64_MIN, "-9223372036854775808" },
        { ":9223372036854775807\r\n", RESP_INTEGER, INT64_MAX, "9223372036854775807" },
        { ":+7\r\n", RESP_INTEGER, 7, "+7" },
        { "$2\r\nhi\r\n", RESP_STRING, 0, "hi" },
        { "$0\r\n\r\n", RESP_STRING, 0, "" },
        { "$4\r\n\r\n\r\n\r\n", RESP_STRING, 0, "\r\n\r\n" },
        { "$-1\r\n", RESP_NULL, 0, "" },
        { "*-1\r\n", RESP_NULL, 0, "" },
        { "_\r\n", RESP_NULL, 0, "" },
        { "#t\r\n", RESP_BOOLEAN, 1, "t" },
        { "#f\r\n", RESP_BOOLEAN, 0, "f" },
        { "(-12345678901234567890123\r\n", RESP_STRING, 0, "-12345678901234567890123" },
        { "!5\r\nERR x\r\n", RESP_ERROR, 0, "ERR x" },
        { "=7\r\ntxt:hey\r\n", RESP_STRING, 0, "hey" },
        { "|1\r\n+ttl\r\n:3\r\n+OK\r\n", RESP_STRING, 0, "OK" },
        { "|1\r\n+a\r\n*2\r\n|1\r\n:1\r\n:2\r\n:3\r\n%0\r\n:9\r\n", RESP_INTEGER, 9, "9" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(parse(view_str(cases[i].bytes)), (ssize_t)strlen(cases[i].bytes));
        assert_int_equal(value.type, cases[i].type);
        assert_int_equal(value.integer, cases[i].integer);
        assert_true(view_eq(value.text, view_str(cases[i].text)));
    }
    assert_true(parse(view_str(",-2.5e3\r\n")) > 0 && value.type == RESP_DOUBLE && value.number == -2500);
    assert_true(parse(view_str(",inf\r\n")) > 0 && isinf(value.number));
    assert_true(parse(view_str(",nan\r\n")) > 0 && isnan(value.number));
}

static void test_aggregates(void **state)
{
    /* Proves that arrays, sets, maps and pushes nest, and that fields are found in maps of both protocols. */
    (void)state;
    assert_true(parse(view_str("*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n~1\r\n_\r\nrest")) == 27);
    assert_int_equal(value.type, RESP_ARRAY);
    assert_int_equal(value.count, 3);
    assert_int_equal(value.items[0].integer, 1);
    assert_int_equal(value.items[1].count, 2);
    assert_true(view_eq(value.items[1].items[0].text, VIEW("a")));
    assert_int_equal(value.items[1].items[1].count, 0);
    assert_int_equal(value.items[2].type, RESP_ARRAY);
    assert_int_equal(value.items[2].items[0].type, RESP_NULL);
    assert_true(parse(view_str("%2\r\n+mode\r\n+cluster\r\n+n\r\n*1\r\n:4\r\n")) > 0);
    assert_int_equal(value.type, RESP_MAP);
    assert_true(view_eq(resp_get(&value, VIEW("mode"))->text, VIEW("cluster")));
    assert_int_equal(resp_get(&value, VIEW("n"))->items[0].integer, 4);
    assert_null(resp_get(&value, VIEW("none")));
    assert_true(parse(view_str("*3\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n")) > 0);
    assert_int_equal(resp_get(&value, VIEW("a"))->integer, 1);
    assert_null(resp_get(&value, VIEW("b")));
    assert_true(parse(view_str(">2\r\n+invalidate\r\n_\r\n")) > 0);
    assert_int_equal(value.type, RESP_PUSH);
    assert_true(parse(view_str("|1\r\n+a\r\n+b\r\n*1\r\n|1\r\n+a\r\n+b\r\n:5\r\n")) > 0);
    assert_int_equal(value.items[0].integer, 5);
}

static void test_refused(void **state)
{
    /* Proves that what no server may say is refused, and what is above a limit before anything is allocated. */
    static const struct {
        const char *bytes;
        int result;
    } cases[] = {
        { "HTTP/1.1 400 Bad Request\r\n", -EBADMSG },
        { "\r\n", -EBADMSG },
        { "+a\rb\r\n", -EBADMSG },
        { "+a\nb\r\n", -EBADMSG },
        { ":\r\n", -EBADMSG },
        { ":1x\r\n", -EBADMSG },
        { ":9223372036854775808\r\n", -EBADMSG },
        { ":- 1\r\n", -EBADMSG },
        { "$-2\r\n", -EBADMSG },
        { "$1a\r\n", -EBADMSG },
        { "$2\r\nabc\r\n", -EBADMSG },
        { "$?\r\n", -EBADMSG },
        { "*?\r\n", -EBADMSG },
        { ";4\r\nabcd\r\n", -EBADMSG },
        { ".\r\n", -EBADMSG },
        { "%-1\r\n", -EBADMSG },
        { "!-1\r\n", -EBADMSG },
        { "#x\r\n", -EBADMSG },
        { "_x\r\n", -EBADMSG },
        { ",\r\n", -EBADMSG },
        { ",0x10\r\n", -EBADMSG },
        { ", 1\r\n", -EBADMSG },
        { "(\r\n", -EBADMSG },
        { "(1.5\r\n", -EBADMSG },
        { "=3\r\nabc\r\n", -EBADMSG },
        { "=4\r\nabcd\r\n", -EBADMSG },
        { "*1\r\n>1\r\n:1\r\n", -EBADMSG },
        { "$4097\r\n", -EMSGSIZE },
        { "$9223372036854775807\r\n", -EMSGSIZE },
        { "$99999999999999999999\r\n", -EBADMSG },
        { "*65\r\n", -EMSGSIZE },
        { "*1000000000\r\n", -EMSGSIZE },
        { "%33\r\n", -EMSGSIZE },
        { "*40\r\n*40\r\n", -EMSGSIZE },
        { "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", -EMSGSIZE },
        { "*2\r\n$4090\r\n", -EMSGSIZE },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (parse(view_str(cases[i].bytes)) != cases[i].result)
            fail_msg("%s: %zd", cases[i].bytes, parse(view_str(cases[i].bytes)));
}

static void test_pieces(void **state)
{
    /* Proves that a reply that comes byte by byte is found at its last byte and walked once, and that the hint never asks for
     * more than it takes. */
    static const char bytes[] = "*4\r\n$5\r\nhello\r\n%1\r\n+k\r\n$-1\r\n|1\r\n:1\r\n:2\r\n,1.5\r\n!2\r\nno\r\n";
    struct resp_scan scan = { 0 };
    size_t len = sizeof(bytes) - 1, hint = 0;

    (void)state;
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(resp_scan(&scan, view_make(bytes, i), &limits, &hint), 0);
        assert_true(hint > i && hint <= len);
        assert_true(scan.at <= i);
    }
    assert_int_equal(resp_scan(&scan, view_make(bytes, len), &limits, &hint), (ssize_t)len);
    assert_int_equal(parse(view_make(bytes, len)), (ssize_t)len);
    assert_int_equal(value.count, 4);
}

static void test_memory(void **state)
{
    /* Proves that an arena that is full ends in -ENOMEM. */
    char bytes[256];
    struct text text = TEXT_ON(bytes);
    size_t hint;

    (void)state;
    text_lit(&text, "*20\r\n");
    for (int i = 0; i < 20; i++)
        text_lit(&text, ":1\r\n");
    arena_init(&arena, memory, 64, 0);
    assert_int_equal(resp_parse(text_view(&text), &limits, &arena, &value, &hint), -ENOMEM);
}

static void test_commands(void **state)
{
    /* Proves that commands are written as arrays of bulk strings of the announced length, whole or in pieces. */
    static const struct view args[] = { { "SET", 3 }, { "k\r\n", 3 }, { "", 0 }, { "0123456789", 10 } };
    char out[128], again[128];
    struct text text = TEXT_ON(out), pieces = TEXT_ON(again), small = text_make(out, 10);

    (void)state;
    resp_put_command(&text, args, 4);
    assert_true(view_eq(text_view(&text), VIEW("*4\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n$10\r\n0123456789\r\n")));
    assert_int_equal(text.len, resp_command_len(args, 4));
    resp_put_array(&pieces, 4);
    for (int i = 0; i < 3; i++)
        resp_put_arg(&pieces, args[i]);
    resp_put_arg_head(&pieces, 10);
    text_lit(&pieces, "01234");
    text_lit(&pieces, "56789");
    text_lit(&pieces, "\r\n");
    assert_true(view_eq(text_view(&pieces), text_view(&text)));
    resp_put_command(&small, args, 4);
    assert_true(small.overflow);
}

static void test_slots(void **state)
{
    /* Proves the slots of the Cluster specification's examples, and which braces are a hash tag. */
    (void)state;
    assert_int_equal(resp_slot(VIEW("123456789")), 0x31c3);
    assert_int_equal(resp_slot(VIEW("foo")), 12182);
    assert_int_equal(resp_slot(VIEW("{user1000}.following")), resp_slot(VIEW("{user1000}.followers")));
    assert_int_equal(resp_slot(VIEW("{user1000}.x")), resp_slot(VIEW("user1000")));
    assert_int_not_equal(resp_slot(VIEW("foo{}{bar}")), resp_slot(VIEW("bar")));
    assert_int_equal(resp_slot(VIEW("foo{{bar}}zap")), resp_slot(VIEW("{bar")));
    assert_int_equal(resp_slot(VIEW("foo{bar}{zap}")), resp_slot(VIEW("bar")));
    assert_int_equal(resp_slot(VIEW("foo{bar")), 15278);
    assert_int_equal(resp_slot(VIEW("")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars), cmocka_unit_test(test_aggregates), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_pieces),  cmocka_unit_test(test_memory),     cmocka_unit_test(test_commands),
        cmocka_unit_test(test_slots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
