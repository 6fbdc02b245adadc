/* Canonical prompts: what is folded, what is kept, and that no pair of the labelled file that differs ever becomes one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/canonical.h"
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>

static void is(const char *text, const char *expected)
{
    struct buf out = buf_make(1 << 20), again = buf_make(1 << 20);

    assert_int_equal(ai_canonical(view_str(text), &out), 0);
    if (!view_eq(buf_view(&out), view_str(expected)))
        fail_msg("%s\n  is  %.*s\n  not %s", text, VIEW_ARG(buf_view(&out)), expected);
    assert_int_equal(ai_canonical(buf_view(&out), &again), 0);
    assert_true(view_eq(buf_view(&out), buf_view(&again)));
    buf_free(&out);
    buf_free(&again);
}

static void kept(const char *text)
{
    is(text, text);
}

static void folds(void **state)
{
    /* Case, final marks, contractions, politeness, articles and white space of English questions fold to one form. */
    static const char *const same[] = { "What is the capital of France?",
                                        "what's the capital of france",
                                        "  WHAT IS CAPITAL OF   FRANCE ",
                                        "Hi! What\xe2\x80\x99s the capital of France? Thanks!",
                                        "Hello,\n\nwhat is the capital of France??",
                                        "Could you please tell me what is the capital of France?",
                                        "Please, what is the capital of France, please?" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        is(same[i], "what is capital of france");
    is("I can't log in. Why doesn't it work?", "i can not log in. why does not it work");
    is("Could you please write a Python function that reverses a linked list?",
       "write python function that reverses a linked list");
}

static void keeps(void **state)
{
    /* Names, letters, units, quotes, code, material behind a colon or a line break, and owners stay as they were written. */
    (void)state;
    is("Is plan A better?", "is plan A better");
    is("How do I use GOTO in C?", "how do i use goto in C");
    is("How big is 5 Mb?", "how big is 5 Mb");
    is("Does it help US?", "does it help US");
    is("Say \"Please\" to my dog", "say \"Please\" to my dog");
    is("Please translate this: Could you HELP me, please?", "translate this: Could you HELP me, please?");
    is("Please fix this:\n  The  Cat\n\tis\n", "fix this:\n  The  Cat\n\tis");
    kept("Explain x = a + B;");
    kept("How do I say hello in Polish?");
    kept("can you swim");
    kept("do as you please");
    kept("who is the Rock");
    kept("this \"quote stays Open");
}

static void other_languages(void **state)
{
    /* Without certain knowledge of a language only what is safe is folded: the first word's case, white space, full stops. */
    (void)state;
    is("Wie hei\xc3\x9ft  Du?", "wie hei\xc3\x9ft Du?");
    is("\xd0\x9a\xd0\xb0\xd0\xba \xd0\x94\xd0\xb5\xd0\xbb\xd0\xb0",
       "\xd0\xba\xd0\xb0\xd0\xba \xd0\xb4\xd0\xb5\xd0\xbb\xd0\xb0");
    kept("I\xc5\x9f\xc4\xb1k Nedir");
}

static void refuses(void **state)
{
    /* Nothing left, too long and not UTF-8: no canonical form. */
    struct buf out = buf_make(1 << 20);
    char *big = heap_alloc(CANONICAL_TEXT_MAX + 1);

    (void)state;
    assert_non_null(big);
    memset(big, 'a', CANONICAL_TEXT_MAX + 1);
    assert_int_equal(ai_canonical(VIEW(""), &out), -ENODATA);
    assert_int_equal(ai_canonical(VIEW(" \n\t "), &out), -ENODATA);
    assert_int_equal(ai_canonical(VIEW("Hello!"), &out), -ENODATA);
    assert_int_equal(ai_canonical(VIEW("Hi there! Thank you."), &out), -ENODATA);
    assert_int_equal(ai_canonical(view_make(big, CANONICAL_TEXT_MAX + 1), &out), -ENODATA);
    assert_true(out.len == 0);
    heap_free(big);
    buf_free(&out);
}

static void no_false_hits(void **state)
{
    /* Level 0 over the labelled pairs of bench/semantic: none that differ fold to the same, and of those made of politeness, case,
     * contractions, articles and marks at least three quarters do. */
    FILE *file = fopen("bench/data/semantic_pairs.tsv", "re");
    unsigned different = 0, foldable = 0, folded = 0;
    char line[1024];

    (void)state;
    if (!file)
        skip();
    while (fgets(line, sizeof(line), file)) {
        struct view rest = view_first(view_str(line), strcspn(line, "\n")), a = view_cut(&rest, '\t'),
                    b = view_cut(&rest, '\t');
        bool same = view_eq(view_cut(&rest, '\t'), VIEW("same")), hit;
        struct buf of_a = buf_make(8192), of_b = buf_make(8192);

        if (line[0] == '#' || !rest.ptr)
            continue;
        hit = ai_canonical(a, &of_a) == 0 && ai_canonical(b, &of_b) == 0 && view_eq(buf_view(&of_a), buf_view(&of_b));
        if (hit && !same)
            fail_msg("%.*s | %.*s", VIEW_ARG(a), VIEW_ARG(b));
        different += !same;
        foldable += same && !view_eq(rest, VIEW("paraphrase"));
        folded += hit && !view_eq(rest, VIEW("paraphrase"));
        buf_free(&of_a);
        buf_free(&of_b);
    }
    (void)fclose(file);
    assert_true(different >= 150 && foldable >= 80);
    assert_true(folded * 4 >= foldable * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folds),         cmocka_unit_test(keeps),   cmocka_unit_test(other_languages),
        cmocka_unit_test(no_false_hits), cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
