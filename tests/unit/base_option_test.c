/* Address ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/option.h"

static void ranges(void **state)
{
    /* Prefixes match to the bit, mapped IPv4 counts in the 128, /0 holds everything, nothing holds nothing. */
    struct option_cidr items[] = {
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 0 }, 96 + 8 },
        { { 0x20, 0x01, 0x0d, 0xb8, 0x80 }, 33 },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, 128 },
    };
    struct option_cidr all[] = { { { 0 }, 0 } };
    struct option_cidrs some = { items, ARRAY_LEN(items) }, none = { NULL, 0 }, every = { all, 1 };
    static const struct {
        uint8_t address[16];
        bool in;
    } cases[] = {
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 255, 1, 2 }, true },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 11, 0, 0, 0 }, false },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1 }, false },
        { { 0x20, 0x01, 0x0d, 0xb8, 0xff }, true },
        { { 0x20, 0x01, 0x0d, 0xb8, 0x7f }, false },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, true },
        { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(option_cidrs_match(&some, cases[i].address), cases[i].in);
        assert_true(option_cidrs_match(&every, cases[i].address));
        assert_false(option_cidrs_match(&none, cases[i].address));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
