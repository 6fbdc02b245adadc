/* Keys: the hash is the same on every node, and equality is about the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/key.h"

static void stable(void **state)
{
    /* Disk and shared tiers of other nodes rely on these values (XXH3 with its published test vector for no input). */
    struct key none = key_of(VIEW("")), a = key_of(VIEW("6:public3:GET"));

    (void)state;
    assert_true(none.hash[0] == 0x6001c324468d497f && none.hash[1] == 0x99aa06d3014798d8);
    assert_true(hash64(VIEW("")) == 0x2d06800538d394c2);
    assert_true(view_eq(a.text, VIEW("6:public3:GET")));
}

static void collisions_do_not_serve(void **state)
{
    /* Two texts under one hash are two keys; equal texts at different places are one. */
    struct key a = key_of(VIEW("a")), b = key_of(VIEW("b"));
    char copy[] = "a";
    struct key again = key_of(view_make(copy, 1));

    (void)state;
    assert_false(key_eq(&a, &b));
    assert_true(key_eq(&a, &again));
    b.hash[0] = a.hash[0];
    b.hash[1] = a.hash[1];
    assert_false(key_eq(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stable),
        cmocka_unit_test(collisions_do_not_serve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
