/* Addresses: every accepted spelling prints back as its canonical one, everything else is refused. */
#include "net/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_parse(const char *in, uint16_t default_port, const char *out)
{
    struct address a;
    char memory[160];
    struct text text = TEXT_ON(memory);

    if (address_parse(view_str(in), default_port, &a) < 0) {
        if (out)
            fail_msg("'%s' was refused", in);
        return;
    }
    address_print(&text, &a);
    if (!out)
        fail_msg("'%s' was read as %s", in, text_str(&text));
    assert_string_equal(text_str(&text), out);
}

static void test_parse(void **state)
{
    /* Listen and server addresses in the spellings people use. */
    (void)state;
    check_parse("127.0.0.1:8080", 0, "127.0.0.1:8080");
    check_parse("127.0.0.1", 80, "127.0.0.1:80");
    check_parse("[::1]:8080", 0, "[::1]:8080");
    check_parse("::1", 80, "[::1]:80");
    check_parse(":8080", 0, "[::]:8080");
    check_parse("*:8080", 0, "[::]:8080");
    check_parse("8080", 0, "[::]:8080");
    check_parse("unix:/run/a.sock", 0, "unix:/run/a.sock");
    check_parse("127.0.0.1", 0, NULL);
    check_parse("::1", 0, NULL);
    check_parse("127.0.0.1:0", 0, NULL);
    check_parse("127.0.0.1:65536", 0, NULL);
    check_parse("127.0.0.1:8o", 0, NULL);
    check_parse("127.0.0.1:", 0, NULL);
    check_parse("[::1", 80, NULL);
    check_parse("[::1]x", 80, NULL);
    check_parse("[]:80", 80, NULL);
    check_parse("localhost:80", 0, NULL);
    check_parse("", 80, NULL);
    check_parse("unix:", 0, NULL);
}

static void test_compare(void **state)
{
    /* Equality covers family, address and port; loopback is recognised in both families. */
    struct address a, b, mapped;
    char memory[64];
    struct text text = TEXT_ON(memory);

    (void)state;
    assert_int_equal(address_parse_ip(VIEW("127.1.2.3"), 1, &a), 0);
    assert_int_equal(address_parse_ip(VIEW("127.1.2.3"), 2, &b), 0);
    assert_false(address_eq(&a, &b));
    address_set_port(&b, 1);
    assert_true(address_eq(&a, &b));
    assert_true(address_is_loopback(&a));
    assert_int_equal(address_parse_ip(VIEW("::ffff:127.0.0.1"), 1, &mapped), 0);
    assert_true(address_is_loopback(&mapped));
    address_print_ip(&text, &mapped);
    assert_string_equal(text_str(&text), "127.0.0.1");
    assert_int_equal(address_parse_ip(VIEW("::2"), 1, &b), 0);
    assert_false(address_is_loopback(&b));
    assert_int_equal(address_parse_ip(VIEW("1.2.3"), 1, &b), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_compare) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
