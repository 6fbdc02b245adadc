/* The score by which prompts are kept off small models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/classify.h"

#include <stdlib.h>

static struct classify_score score_of(const char *text, unsigned languages)
{
    struct classify_prompt prompt = {
        .text = view_str(text), .bytes = strlen(text), .turns = 1, .languages = languages
    };
    struct classify_score score;

    ai_classify(&prompt, &score);
    return score;
}

#define EN (1u << CLASSIFY_EN)

static bool near(float a, float b)
{
    return a - b < 0.001f && b - a < 0.001f;
}

/* Small talk and plain questions are nearly nothing. */
static void plain_questions_score_low(void **state)
{
    static const char *const texts[] = { "",
                                         "Hi there!",
                                         "What is the capital of France?",
                                         "When was Alan Turing born?",
                                         "Translate good morning to Italian.",
                                         "The meeting is on 2024-05-01, 10-12h, room 7/b." };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_true(score_of(texts[i], EN).total < 0.1f);
}

/* Length counts up to its share, by the bytes of the whole prompt. */
static void length_counts_up_to_its_share(void **state)
{
    struct classify_prompt prompt = { .text = VIEW("Sum it up."), .bytes = 4000 };
    struct classify_score score;

    (void)state;
    ai_classify(&prompt, &score);
    assert_true(near(score.length, 0.2f));
    prompt.bytes = 1000000;
    ai_classify(&prompt, &score);
    assert_true(near(score.length, 0.4f));
}

/* Code is seen by its fence, or by three lines that look like it. */
static void code_is_seen(void **state)
{
    (void)state;
    assert_true(near(score_of("What is this?\n```c\nx\n```", 0).code, 0.3f));
    assert_true(near(score_of("int main(void)\n{\n    return 0;\n}\n", 0).code, 0.3f));
    assert_true(near(score_of("def f(x):\n    y = x\n    return y\nimport os\n", 0).code, 0.3f));
    assert_true(near(score_of("One line;\nand another line\n", 0).code, 0));
}

/* Sums and the words of the trade are maths; dates, ranges and versions are not. */
static void maths_is_seen(void **state)
{
    static const char *const sums[] = { "How much is 12 * 7?", "Solve for y.", "x = 4 and y", "Is 2^10 even?",
                                        "Prove it." };
    static const char *const others[] = { "Open 9-17h?",  "version 1.2.3", "2024-01-02",
                                          "C++ or Rust?", "a + b",         "1/2 cup" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sums); i++)
        assert_true(near(score_of(sums[i], 0).maths, 0.25f));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_true(near(score_of(others[i], 0).maths, 0));
}

/* Each word that asks for several steps counts once, synonyms together, three at most. */
static void steps_count_once_each(void **state)
{
    (void)state;
    assert_true(near(score_of("Explain it.", 0).steps, 0.15f));
    assert_true(near(score_of("Explain, explain and say why.", 0).steps, 0.15f));
    assert_true(near(score_of("Compare both, then design a plan and debug it step by step.", 0).steps, 0.45f));
}

/* A language that is not among those said counts; one that cannot be told does not; without a list none does. */
static void foreign_languages_count(void **state)
{
    static const struct {
        const char *text;
        enum classify_language language;
    } texts[] = {
        { "Was ist die Hauptstadt von Frankreich und warum ist sie das?", CLASSIFY_DE },
        { "Quelle est la capitale de la France et pourquoi est-ce elle ?", CLASSIFY_FR },
        { "\xd0\x9a\xd0\xb0\xd0\xba\xd0\xbe\xd0\xb9 \xd0\xb3\xd0\xbe\xd1\x80\xd0\xbe\xd0\xb4", CLASSIFY_RU },
        { "\xe6\x97\xa5\xe6\x9c\xac\xe3\x81\xae\xe9\xa6\x96\xe9\x83\xbd\xe3\x81\xaf\xe3\x81\xa9\xe3\x81\x93",
          CLASSIFY_JA },
        { "\xe6\xb3\x95\xe5\x9b\xbd\xe7\x9a\x84\xe9\xa6\x96\xe9\x83\xbd", CLASSIFY_ZH },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_true(near(score_of(texts[i].text, EN).language, 0.3f));
        assert_true(near(score_of(texts[i].text, EN | 1u << texts[i].language).language, 0));
        assert_true(near(score_of(texts[i].text, 0).language, 0));
    }
    assert_true(near(score_of("What is the capital of France?", EN).language, 0));
    assert_true(near(score_of("Paris Berlin Roma", EN).language, 0));
}

/* Many turns count a little, and the sum is never more than one. */
static void turns_count_and_the_sum_is_cut(void **state)
{
    struct classify_prompt prompt = { .text = VIEW("```\nProve, explain, compare, plan: 1 + 1"),
                                      .bytes = 100000,
                                      .turns = 5 };
    struct classify_score score;

    (void)state;
    ai_classify(&prompt, &score);
    assert_true(near(score.turns, 0.1f));
    assert_true(near(score.total, 1));
    prompt.turns = 100;
    ai_classify(&prompt, &score);
    assert_true(near(score.turns, 0.2f));
}

/* Bytes that are no text, in a block of exactly their size, are read without leaving it. */
static void any_bytes_are_read_within_bounds(void **state)
{
    unsigned seed = 1;

    (void)state;
    for (size_t len = 0; len < 200; len++) {
        char *bytes = malloc(len + 1);
        struct classify_prompt prompt = { .text = view_make(bytes + 1, len), .bytes = len, .languages = EN };
        struct classify_score score;

        assert_non_null(bytes);
        for (size_t i = 0; i <= len; i++) {
            seed = seed * 1103515245u + 12345;
            bytes[i] = (char)(seed >> 16);
        }
        ai_classify(&prompt, &score);
        assert_true(score.total >= 0 && score.total <= 1);
        free(bytes);
    }
}

/* Codes are known in any case, others are not. */
static void language_codes(void **state)
{
    (void)state;
    assert_int_equal(ai_classify_language(VIEW("en")), CLASSIFY_EN);
    assert_int_equal(ai_classify_language(VIEW("TH")), CLASSIFY_TH);
    assert_int_equal(ai_classify_language(VIEW("xx")), -1);
    assert_int_equal(ai_classify_language(VIEW("")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_questions_score_low),
        cmocka_unit_test(length_counts_up_to_its_share),
        cmocka_unit_test(code_is_seen),
        cmocka_unit_test(maths_is_seen),
        cmocka_unit_test(steps_count_once_each),
        cmocka_unit_test(foreign_languages_count),
        cmocka_unit_test(turns_count_and_the_sum_is_cut),
        cmocka_unit_test(any_bytes_are_read_within_bounds),
        cmocka_unit_test(language_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
