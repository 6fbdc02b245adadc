/* Do two answers agree? Models word the same answer anew each time, so words are compared as sets; what must not vary (numbers, yes or no) is
 * compared exactly. Bounded: the first 1,024 words of each. */
#include "ai/semantic.h"

#include "ai/semantic_dictionary.h"
#include "base/key.h"

#include <stdlib.h>

#define WORDS_MAX 1024
#define SHORT_WORDS 30

struct answer {
    uint64_t words[WORDS_MAX], numbers[WORDS_MAX];
    unsigned word_count, number_count, all, negations;
    int verdict; /* 1 yes, -1 no, 0 neither */
};

static bool is_part(struct view text, size_t at)
{
    char c = text.ptr[at];
    bool digit = c >= '0' && c <= '9';

    if (digit || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80)
        return true;
    if (at == 0 || at + 1 >= text.len)
        return false;
    if (c == '\'')
        return true;
    return (c == '.' || c == ',') && text.ptr[at - 1] >= '0' && text.ptr[at - 1] <= '9' && text.ptr[at + 1] >= '0' &&
           text.ptr[at + 1] <= '9';
}

static void take_word(struct answer *a, struct view raw)
{
    char lower[64];
    size_t len = 0;
    const struct word_meaning *m;
    struct view word;
    bool digits = false;

    for (size_t i = 0; i < raw.len && len < sizeof(lower); i++) {
        digits |= raw.ptr[i] >= '0' && raw.ptr[i] <= '9';
        if (raw.ptr[i] != ',')
            lower[len++] = ascii_lower(raw.ptr[i]);
    }
    word = view_make(lower, len);
    m = word_meaning(word);
    if (a->all++ == 0)
        a->verdict = view_eq(word, VIEW("yes")) ? 1 : view_eq(word, VIEW("no")) ? -1 : 0;
    a->negations += (m->classes & W_NEGATION) != 0;
    if (digits)
        a->numbers[a->number_count++] = hash64(word);
    if (digits || !(m->classes & (W_FUNCTION | W_LIGHT)))
        a->words[a->word_count++] = hash64(digits ? word : word_stem(word));
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static unsigned sort_unique(uint64_t *at, unsigned count)
{
    unsigned kept = 0;

    qsort(at, count, sizeof(*at), by_value);
    for (unsigned i = 0; i < count; i++)
        if (kept == 0 || at[kept - 1] != at[i])
            at[kept++] = at[i];
    return kept;
}

static void read_answer(struct view text, struct answer *a)
{
    size_t at = 0;

    a->word_count = a->number_count = a->all = a->negations = 0;
    a->verdict = 0;
    while (at < text.len && a->word_count < WORDS_MAX && a->number_count < WORDS_MAX) {
        size_t from;

        while (at < text.len && !is_part(text, at))
            at++;
        from = at;
        while (at < text.len && is_part(text, at))
            at++;
        if (at > from)
            take_word(a, view_make(text.ptr + from, at - from));
    }
    a->word_count = sort_unique(a->words, a->word_count);
    a->number_count = sort_unique(a->numbers, a->number_count);
}

static unsigned common(const uint64_t *a, unsigned a_count, const uint64_t *b, unsigned b_count)
{
    unsigned count = 0;

    for (unsigned i = 0, k = 0; i < a_count && k < b_count;) {
        count += a[i] == b[k];
        if (a[i] <= b[k])
            i++;
        else
            k++;
    }
    return count;
}

bool semantic_agree(struct view answer_a, struct view answer_b)
{
    struct answer a not_zeroed, b not_zeroed;
    const struct answer *shorter, *longer;
    unsigned numbers, words;

    if (view_eq(answer_a, answer_b))
        return true;
    read_answer(answer_a, &a);
    read_answer(answer_b, &b);
    if (a.all == 0 || b.all == 0)
        return false;
    shorter =
        a.all < b.all || (a.all == b.all && a.word_count + a.number_count > b.word_count + b.number_count) ? &a : &b;
    longer = shorter == &a ? &b : &a;
    /* Of two answers of one length, each must have what the other has. */
    numbers = a.all == b.all ? MAX(a.number_count, b.number_count) : shorter->number_count;
    words = a.all == b.all ? MAX(a.word_count, b.word_count) : shorter->word_count;
    if ((a.verdict || b.verdict) && a.verdict != b.verdict)
        return false;
    if (common(a.numbers, a.number_count, b.numbers, b.number_count) < numbers)
        return false;
    if (longer->all <= SHORT_WORDS && a.negations != b.negations)
        return false;
    if (MIN(a.word_count, b.word_count) == 0)
        return a.word_count == b.word_count && a.negations == b.negations;
    /* A short answer inside of a long one ("Paris." and "The capital of France is Paris.") agrees when nothing of it is missing. */
    if (shorter->all <= 3)
        return common(a.words, a.word_count, b.words, b.word_count) == words;
    return 4 * common(a.words, a.word_count, b.words, b.word_count) >= a.word_count + b.word_count;
}
