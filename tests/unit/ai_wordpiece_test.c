/* The tokenizer: words are normalised, cut and spelled as BERT does it, from either vocabulary file; what it does not do it refuses. */
#include "ai/wordpiece.h"

#include "ai/wordpiece_fold.h"
#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define BERT \
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\
\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
#define MODEL \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\
\"max_input_chars_per_word\":100,\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"un\":2,\"##aff\":3,\"##able\":4,\"cafe\":5,\"want\":6,\"##ed\":7,\
\"!\":8,\"\\u65e5\":9,\"\\u672c\":10,\"a\":11,\"##a\":12,\"\\\"\":13,\"\\u0438\":14,\"\\u1112\\u1161\\u11ab\":15,\"\\u03b1\":16,\"q\":20}}"

static char why[256];
static struct text reason;

static struct wordpiece *load(struct view json)
{
    struct wordpiece *words = NULL;

    reason = TEXT_ON(why);
    assert_int_equal(wordpiece_from_json(json, &words, &reason), 0);
    return words;
}

static void expect(const struct wordpiece *words, struct view text, bool skip_unknown, const char *wanted)
{
    char memory[512];
    struct text got = TEXT_ON(memory);
    uint32_t ids[64];
    unsigned count = wordpiece_encode(words, text, skip_unknown, ids, 64);

    for (unsigned i = 0; i < count; i++) {
        if (i)
            text_char(&got, ' ');
        text_u64(&got, ids[i]);
    }
    assert_string_equal(text_str(&got), wanted);
}
#define EXPECT(literal, wanted) expect(words, VIEW(literal), false, wanted)

/* Spelling with the longest pieces, punctuation apart, accents and case gone, controls out, Han and Hangul as BERT has them. */
static void test_encode(void **unused)
{
    struct wordpiece *words = load(VIEW("{" BERT MODEL "}"));

    (void)unused;
    EXPECT("unaffable", "2 3 4");
    EXPECT("UNaffable WANTED!", "2 3 4 6 7 8");
    EXPECT("Caf\xc3\xa9 cafe\xcc\x81 CAF\xc3\x89", "5 5 5");
    EXPECT("want\xe2\x80\x8b"
           "ed\x01 \t\n wanted",
           "6 7 6 7");
    EXPECT("\xe6\x97\xa5\xe6\x9c\xac", "9 10");
    EXPECT("a\xe6\x97\xa5"
           "a",
           "11 9 11");
    EXPECT("\xd0\x99", "14");
    EXPECT("\xed\x95\x9c", "15");
    EXPECT("\xce\x86", "16");
    EXPECT("aaa", "11 12 12");
    EXPECT("\"q\"", "13 20 13");
    EXPECT("want\xc2\xa0q\xe3\x80\x80q", "6 20 20");
    EXPECT("xyz want", "1 6");
    EXPECT("unx", "1");
    EXPECT("", "");
    EXPECT(" \xff\xfe ", "");
    EXPECT("want\xff"
           "ed",
           "6 7");
    expect(words, VIEW("xyz want"), true, "6");
    assert_int_equal(wordpiece_count(words), 21);
    assert_int_equal(wordpiece_unknown(words), 1);
    assert_int_equal(wordpiece_find(words, VIEW("##able")), 4);
    assert_int_equal(wordpiece_find(words, VIEW("able")), WORDPIECE_NONE);
    assert_int_equal(wordpiece_find(words, VIEW("[PAD]")), 0);
    assert_true(wordpiece_bytes(words) > 0);
    wordpiece_free(words);
    wordpiece_free(NULL);
}

/* A word of 100 characters is spelled, one of 101 is unknown; no more tokens come than are asked for. */
static void test_limits(void **unused)
{
    struct wordpiece *words = load(VIEW("{" BERT MODEL "}"));
    uint32_t ids[200];
    char word[300];

    (void)unused;
    memset(word, 'a', sizeof(word));
    assert_int_equal(wordpiece_encode(words, view_make(word, 100), false, ids, 200), 100);
    assert_int_equal(wordpiece_encode(words, view_make(word, 101), false, ids, 200), 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(wordpiece_encode(words, view_make(word, 300), true, ids, 200), 0);
    assert_int_equal(wordpiece_encode(words, view_make(word, 100), false, ids, 7), 7);
    assert_int_equal(wordpiece_encode(words, view_make(word, 100), false, ids, 0), 0);
    wordpiece_free(words);
}

/* The flags of the normaliser do what they say. */
static void test_normalizers(void **unused)
{
    struct wordpiece *words =
        load(VIEW("{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}"));

    (void)unused;
    EXPECT("want Want", "6 1");
    wordpiece_free(words);
    words = load(VIEW("{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true,\"strip_accents\":false},"
                      "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}"));
    EXPECT("Want Caf\xc3\x89", "6 1");
    wordpiece_free(words);
    words = load(VIEW("{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":false,\"strip_accents\":true},"
                      "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}"));
    EXPECT("Want caf\xc3\xa9", "1 5");
    wordpiece_free(words);
    words = load(
        VIEW("{\"normalizer\":{\"type\":\"Lowercase\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}"));
    EXPECT("Want\xe6\x97\xa5", "1");
    wordpiece_free(words);
}

/* A vocab.txt numbers its lines; capital letters in it mean that case matters. */
static void test_lines(void **unused)
{
    struct wordpiece *words = NULL;

    (void)unused;
    reason = TEXT_ON(why);
    assert_int_equal(wordpiece_from_lines(VIEW("[PAD]\n[UNK]\r\nwant\n##ed\n\nq"), &words, &reason), 0);
    EXPECT("WANTED q z", "2 3 5 1");
    assert_int_equal(wordpiece_count(words), 6);
    wordpiece_free(words);
    assert_int_equal(wordpiece_from_lines(VIEW("[UNK]\nWant\nwant\n"), &words, &reason), 0);
    EXPECT("Want want WANT", "1 2 0");
    wordpiece_free(words);
    assert_int_equal(wordpiece_from_lines(VIEW(""), &words, &reason), -EINVAL);
}

/* Files that we cannot follow are refused with a reason, never guessed at. */
static void test_refusals(void **unused)
{
    static const struct {
        struct view json;
        int error;
    } cases[] = {
#define CASE(literal, error) { { literal, sizeof(literal) - 1 }, error }
        CASE("{", -EINVAL),
        CASE("[]", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", -ENOTSUP),
        CASE("{" BERT "\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0.5]]}}", -ENOTSUP),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\"}}", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":-1}}}", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":99999}}}", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":\"b\"}}}", -EINVAL),
        CASE("{" BERT "\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"@\",\"vocab\":{\"a\":1}}}",
             -ENOTSUP),
        CASE("{" BERT "\"model\":7}", -ENOTSUP),
        CASE("{\"normalizer\":{\"type\":\"NFKC\"}," MODEL "}", -ENOTSUP),
        CASE("{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"Metaspace\"}," MODEL "}",
             -ENOTSUP),
        CASE("{\"normalizer\":{\"type\":\"BertNormalizer\"}," MODEL "}", -ENOTSUP),
    };
    struct wordpiece *words = NULL;

    (void)unused;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        reason = TEXT_ON(why);
        assert_int_equal(wordpiece_from_json(cases[i].json, &words, &reason), cases[i].error);
        assert_true(reason.len > 0);
        assert_null(words);
    }
}

/* Whichever allocation fails, loading says so and leaks nothing. */
static void test_out_of_memory(void **unused)
{
    struct wordpiece *words = NULL;
    bool done = false;
    unsigned long nth;

    (void)unused;
    for (nth = 1; !done; nth++) {
        int r;

        reason = TEXT_ON(why);
        heap_fault(nth, 0);
        r = wordpiece_from_json(VIEW("{" BERT MODEL "}"), &words, &reason);
        done = heap_fault_left() > 0;
        heap_fault(0, 0);
        assert_int_equal(r, done ? 0 : -ENOMEM);
    }
    assert_true(nth > 4);
    wordpiece_free(words);
}

/* Spot checks of the Unicode tables at their edges. */
static void test_fold(void **unused)
{
    (void)unused;
    assert_int_equal(fold_strip(0xc0), 'A');
    assert_int_equal(fold_strip(0x58f), 0x58f);
    assert_int_equal(fold_strip(0x1ea4), 'A');
    assert_int_equal(fold_strip(0x1e00), 'A');
    assert_int_equal(fold_strip(0xd8), 0xd8);
    assert_int_equal(fold_lower(0xd8), 0xf8);
    assert_int_equal(fold_lower(0x531), 0x561);
    assert_int_equal(fold_lower(0x1e9e), 0xdf);
    assert_int_equal(fold_lower(0xff21), 0xff41);
    assert_int_equal(fold_lower('Z'), 'z');
    assert_true(fold_is_mark(0x300) && fold_is_mark(0x36f) && !fold_is_mark(0x370) && fold_is_mark(0x591));
    assert_true(fold_is_punctuation('~') && fold_is_punctuation('$') && fold_is_punctuation(0xbf));
    assert_true(!fold_is_punctuation(0x20ac) && fold_is_punctuation(0x3001) && !fold_is_punctuation('0'));
    assert_true(fold_is_control(0xad) && fold_is_control(0xfeff) && fold_is_control(0xe000) && !fold_is_control('\n'));
    assert_true(fold_is_space(0xa0) && fold_is_space(0x3000) && !fold_is_space(0x200b));
    assert_true(fold_is_ideograph(0x4e00) && !fold_is_ideograph(0x3042));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode), cmocka_unit_test(test_limits),   cmocka_unit_test(test_normalizers),
        cmocka_unit_test(test_lines),  cmocka_unit_test(test_refusals), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_fold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
