/* The canonical prompt.
 *
 * A prompt is its first line (the head, which is folded) and everything behind it (kept byte for byte): instructions stand first,
 * material follows. A colon in the head begins material too. A head that looks like code, or asks about wording itself ("spell",
 * "translate ... to French" without quotes), is kept whole.
 *
 * A round folds once. Rounds repeat until one changes nothing, which makes the result its own canonical form by construction; a text
 * that does not settle in a few rounds has none. */
#include "ai/canonical.h"

#include "ai/semantic_head.h"
#include "base/heap.h"

#include <errno.h>

#define WORDS_MAX 512
#define ROUNDS_MAX 6

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct view trim_end(struct view v)
{
    while (v.len && (is_blank(v.ptr[v.len - 1]) || v.ptr[v.len - 1] == '\n'))
        v.len--;
    return v;
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool looks_like_code(struct view head)
{
    for (size_t i = 0; i < head.len; i++) {
        char c = head.ptr[i], next = i + 1 < head.len ? head.ptr[i + 1] : ' ';

        if (c == '\0' || strchr(";{}<>=\\|*~^[]", c))
            return true;
        if (c == '(' && i > 0 && (is_word_char(head.ptr[i - 1]) || next == ')'))
            return true;
        if ((c == ')' && is_word_char(next)) || (c == ':' && next == ':') || (c == '&' && next == '&'))
            return true;
    }
    return false;
}

/* Turkish has two letters i: folding I would make one of them the other. */
static bool is_turkish(struct view head)
{
    for (size_t i = 0; i + 1 < head.len; i++) {
        unsigned p = (unsigned)(unsigned char)head.ptr[i] << 8 | (unsigned char)head.ptr[i + 1];

        if (p == 0xc4b0 || p == 0xc4b1 || p == 0xc59f || p == 0xc59e || p == 0xc49f || p == 0xc49e)
            return true;
    }
    return false;
}

enum script { SCRIPT_LATIN, SCRIPT_CYRILLIC_GREEK, SCRIPT_OTHER };

static enum script script_of(struct view head)
{
    bool eastern = false;

    for (size_t i = 0; i < head.len; i++) {
        unsigned char c = (unsigned char)head.ptr[i];

        if (c >= 0xe3)
            return SCRIPT_OTHER;
        eastern |= c >= 0xcd && c <= 0xd4;
    }
    return eastern ? SCRIPT_CYRILLIC_GREEK : SCRIPT_LATIN;
}

/* English by its function words, more of them than of a language that has some of the same, and no letter that English lacks. */
static bool is_english(const struct head *h, struct view text)
{
    size_t count = 0, others[6] = { 0 };

    for (size_t i = 0; i < text.len; i++) /* typographic marks are E2 80 xx */
        if ((unsigned char)text.ptr[i] >= 0x80 && text.ptr[i] != '\xe2') {
            if (i < 1 || (text.ptr[i - 1] != '\xe2' && (i < 2 || text.ptr[i - 2] != '\xe2')))
                return false;
        }
    for (size_t i = h->from; i < h->to; i++) {
        count += (head_classes(h, i) & (W_ENGLISH | W_NEGATION | W_BARE_NT)) != 0 ||
                 (h->words[i].kind == WORD_PLAIN &&
                  head_is_one_of(head_lower(h, i), "i'm what's who's where's how's hi hello hey"));
        for (unsigned k = 0; k < ARRAY_LEN(others); k++)
            others[k] += (head_classes(h, i) & (uint32_t)W_GERMAN << k) != 0;
    }
    for (unsigned k = 0; k < ARRAY_LEN(others); k++)
        if (others[k] > count)
            return false;
    return count >= 2 || (count == 1 && h->to - h->from <= 5);
}

static bool is_shouting(const struct head *h)
{
    size_t upper = 0, letters = 0;

    for (size_t i = h->from; i < h->to; i++) {
        const struct word *w = &h->words[i];

        if (w->kind != WORD_PLAIN || w->core.len < 2)
            continue;
        letters++;
        upper += w->upper;
    }
    return letters >= 3 && upper == letters;
}

/* A lone I is the speaker only beside a verb; beside other things it is a letter. */
static bool is_speaker(const struct head *h, size_t i)
{
    return head_is_one_of(head_lower(h, i + 1),
                          "am have need want can do will would get was had could should think don't can't didn't "
                          "use know see find make like love must may might feel keep") ||
           head_is_one_of(head_lower(h, i - 1),
                          "do can should am did could would may must will have was if how why when don't shall");
}

static bool keeps_case(const struct head *h, size_t i)
{
    const struct word *w = &h->words[i];
    uint32_t classes = w->meaning->classes;

    if (w->lower_len == 0)
        return true;
    if (w->core.len == 1)
        return !(view_eq(w->core, VIEW("I")) && h->english && is_speaker(h, i)) &&
               !(view_eq(w->core, VIEW("A")) && w->begins && h->english && i + 1 < h->to &&
                 h->words[i + 1].kind == WORD_PLAIN && w->tail.len == 0 &&
                 !(head_classes(h, i + 1) & (W_FUNCTION | W_ENGLISH)));
    if (i > h->from && h->words[i - 1].kind == WORD_NUMBER && w->core.len <= 4)
        return true;
    if (h->shouting)
        return (classes & W_NAME) || (classes & W_UNIT_CASE) ||
               head_is_one_of(word_lower(w), "us who it aids led sat act pet");
    if (w->upper)
        return (classes & (W_NAME | W_ACRONYM | W_UNIT_CASE)) != 0;
    if (!w->capital)
        return false;
    if (classes & W_UNIT_CASE)
        return true;
    if (!(classes & W_NAME))
        return false;
    return !(w->begins && (classes & (W_FUNCTION | W_QUESTION)) &&
             (head_classes(h, i + 1) & (W_FUNCTION | W_QUESTION | W_PRONOUN | W_ENGLISH)));
}

/* "the capital of", "the difference between", "the boiling point of": a noun that is made certain by what follows, so that the article
 * adds nothing. "The man" and "man", "the law" and "law" are two things. */
static bool is_made_certain(const struct head *h, size_t noun)
{
    for (size_t i = noun; i < noun + 3 && i + 1 < h->to; i++) {
        const struct word *w = &h->words[i];

        if (w->kind != WORD_PLAIN || w->capital || w->tail.len > 0 || w->lead.len > 0 ||
            (w->meaning->classes & (W_FUNCTION | W_QUESTION)))
            return false;
        if (i + 2 < h->to && head_is_one_of(head_lower(h, i + 1), "of between"))
            return true;
    }
    return false;
}

/* Where "the" makes a name or one of several, it stays. */
static bool drops_the(const struct head *h, size_t i)
{
    struct view before = head_lower(h, i - 1);

    if (h->words[i].upper || (h->words[i].capital && !h->words[i].begins) || (head_classes(h, i + 1) & W_KEEP_THE))
        return false;
    if (view_ends_with(head_lower(h, i + 1), VIEW("est")) || (i > h->from && h->words[i - 1].kind != WORD_PLAIN))
        return false;
    if (head_is_one_of(before, "write create generate draft") ||
        (head_classes(h, i - 1) & (W_QUANTIFIER | W_NEGATION)) || view_eq(before, VIEW("of")))
        return false;
    return is_made_certain(h, i + 1);
}

/* "a" goes only where "the" stays, so that the two never meet. */
static bool drops_a(const struct head *h, size_t i)
{
    struct view before = head_lower(h, i - 1), noun = head_lower(h, i + 1);

    if (i == h->from || h->words[i].capital || h->words[i + 1].capital ||
        (head_classes(h, i + 1) & (W_VAGUE_A | W_FUNCTION | W_ENGLISH)))
        return false;
    if (view_eq(noun, VIEW("letter")))
        return false;
    return head_is_one_of(before, "write create generate draft") ||
           (view_eq(before, VIEW("of")) && head_is_one_of(head_lower(h, i - 2), "example kind type sort"));
}

static bool is_dropped_article(const struct head *h, size_t i)
{
    const struct word *w = &h->words[i];
    struct view lower = head_lower(h, i);

    if (!h->english || h->form || h->shouting || i + 1 >= h->to || w->tail.len > 0 || w->lead.len > 0)
        return false;
    if (h->words[i + 1].kind != WORD_PLAIN || h->words[i + 1].lead.len > 0 || h->words[i + 1].core.len < 2)
        return false;
    if (view_eq(lower, VIEW("the")))
        return drops_the(h, i);
    return (view_eq(lower, VIEW("a")) || view_eq(lower, VIEW("an"))) && drops_a(h, i);
}

/* "don't", "what's", "I'm" in full; false when `lower` is no contraction of a known kind. Possessives are none. */
static bool put_contraction(struct buf *out, struct view lower, struct view next)
{
    static const struct {
        struct view ending;
        const char *full, *stems;
    } kinds[] = {
        { { "'m", 2 }, " am", "i" },
        { { "'re", 3 }, " are", "you we they what who where there how" },
        { { "'ve", 3 }, " have", "i you we they should could would" },
        { { "'ll", 3 }, " will", "i you he she it we they that there what who" },
        { { "'s", 2 }, " is", "what who where how when why that there here he she it" },
    };
    const struct word_meaning *m = word_meaning(lower);

    if (view_eq(lower, VIEW("can't")) || view_eq(lower, VIEW("cannot")))
        return buf_lit(out, "can not"), true;
    if (view_eq(lower, VIEW("won't")))
        return buf_lit(out, "will not"), true;
    if (view_eq(lower, VIEW("ain't")) || view_eq(lower, VIEW("shan't")))
        return false;
    if ((m->classes & W_NEGATION) && view_ends_with(lower, VIEW("n't")))
        return buf_put(out, view_first(lower, lower.len - 3)), buf_lit(out, " not"), true;
    if (m->classes & W_BARE_NT)
        return buf_put(out, view_first(lower, lower.len - 2)), buf_lit(out, " not"), true;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct view stem = view_first(lower, lower.len - MIN(lower.len, kinds[i].ending.len));

        if (!view_ends_with(lower, kinds[i].ending) || !head_is_one_of(stem, kinds[i].stems))
            continue;
        buf_put(out, stem);
        buf_put(out, i == 4 && head_is_one_of(next, "been got had") ? VIEW(" has") : view_str(kinds[i].full));
        return true;
    }
    return false;
}

static void put_core(struct buf *out, const struct head *h, size_t i, bool fold_case)
{
    const struct word *w = &h->words[i];

    if (w->kind == WORD_NAMED && h->english && (w->meaning->classes & W_BRAND) && !h->form) {
        buf_put(out, word_lower(w));
        return;
    }
    if (w->kind != WORD_PLAIN || !fold_case || keeps_case(h, i)) {
        buf_put(out, w->core);
        return;
    }
    if (h->english && !h->form && put_contraction(out, word_lower(w), head_lower(h, i + 1)))
        return;
    buf_put(out, word_lower(w));
}

/* Does the last sentence begin as a question? Then its mark says nothing more. */
static bool is_question(const struct head *h)
{
    size_t first = h->to - 1;

    while (first > h->from && !h->words[first].begins)
        first--;
    return (head_classes(h, first) & W_QUESTION) ||
           head_is_one_of(
               head_lower(h, first),
               "what's who's where's how's when's why's isn't aren't don't doesn't didn't can't won't wasn't "
               "weren't hasn't haven't couldn't shouldn't wouldn't what're what'll");
}

/* What is left of the punctuation behind the last word. */
static struct view final_marks(const struct head *h, const struct word *w)
{
    struct view tail = w->tail;
    bool question = h->request || (h->english && is_question(h));

    if (w->kind == WORD_SIGN ||
        (w->core.len == 1 && w->kind != WORD_NUMBER && memchr(tail.ptr, '?', tail.len) && !question))
        return tail;
    while (tail.len > 0) {
        char last = tail.ptr[tail.len - 1];

        if (last == '.' || last == ',' || (last == '!' && w->kind != WORD_NUMBER && w->core.len > 1) ||
            (last == '?' && question))
            tail.len--;
        else if (view_ends_with(tail, VIEW("\xe3\x80\x82")) || view_ends_with(tail, VIEW("\xef\xbc\x81")))
            tail.len -= 3;
        else
            break;
    }
    return tail;
}

static void put_head(struct buf *out, const struct head *h, enum script script, bool fold)
{
    bool first = true;

    for (size_t i = h->from; i < h->to; i++) {
        const struct word *w = &h->words[i];
        bool last = i + 1 == h->to && !h->payload.ptr && !h->more;

        if (fold && is_dropped_article(h, i))
            continue;
        if (!first)
            buf_char(out, ' ');
        buf_put(out, w->lead);
        put_core(out, h, i,
                 fold && (h->english || script == SCRIPT_CYRILLIC_GREEK || (i == h->from && script == SCRIPT_LATIN)));
        buf_put(out, last ? final_marks(h, w) : w->tail);
        first = false;
    }
    if (h->payload.ptr) {
        buf_char(out, ' ');
        buf_put(out, h->payload);
    }
}

static void head_survey(struct head *h, struct view text)
{
    bool quoted = false;

    h->form = words_about_form(h->words, h->to);
    for (size_t i = 0; i < h->to; i++) {
        const struct word *w = &h->words[i];

        quoted |= w->kind == WORD_QUOTED;
        if (w->tail.len > 0 && w->tail.ptr[w->tail.len - 1] == ':' && i + 1 < h->to) {
            const char *from = h->words[i + 1].lead.ptr;

            h->payload = view_make(from, (size_t)(text.ptr + text.len - from));
            h->to = i + 1;
        }
    }
    h->shouting = is_shouting(h);
    h->english = is_english(h, text);
    if (h->form && !quoted && !h->payload.ptr && !h->more)
        h->words = NULL;
}

/* Folds one head to *out; returns false when it must be kept as it is, which the caller does. */
static bool fold_head(struct view text, bool more, struct word *words, struct buf *out)
{
    int count = looks_like_code(text) ? -EINVAL : words_split(text, words, WORDS_MAX);
    struct head h = { .words = words, .to = count > 0 ? (size_t)count : 0, .more = more };

    if (count <= 0)
        return false;
    head_survey(&h, text);
    if (!h.words)
        return false;
    if (h.english)
        head_strip_politeness(&h);
    put_head(out, &h, script_of(text), !is_turkish(text));
    return true;
}

static void fold_round(struct view text, struct word *words, struct buf *out)
{
    struct view rest = trim_end(text);

    while (rest.len > 0) {
        struct view line = view_first(rest, view_find(rest, '\n'));
        struct view behind = view_skip(rest, line.len), head = view_trim(trim_end(line));
        bool more = behind.len > 0;

        if (head.len == 0) {
            rest = view_skip(rest, line.len + more);
            continue;
        }
        if (!fold_head(head, more, words, out)) {
            buf_put(out, more ? rest : head);
            return;
        }
        if (out->len > 0 || out->failed || !more) {
            buf_put(out, more ? behind : VIEW(""));
            return;
        }
        rest = view_skip(behind, 1);
    }
}

int ai_canonical(struct view text, struct buf *out)
{
    struct buf round[2] = { buf_make((size_t)2 * CANONICAL_TEXT_MAX), buf_make((size_t)2 * CANONICAL_TEXT_MAX) };
    struct word *words;
    int error = -ENODATA;

    if (text.len == 0 || text.len > CANONICAL_TEXT_MAX)
        return -ENODATA;
    words = heap_array(WORDS_MAX, sizeof(*words));
    if (!words)
        error = -ENOMEM, out->failed = true;
    for (unsigned n = 0; words && n < ROUNDS_MAX; n++) {
        struct buf *to = &round[n & 1];

        to->len = 0;
        fold_round(text, words, to);
        if (to->failed || to->len == 0) {
            error = to->failed ? -ENOMEM : -ENODATA;
            break;
        }
        if (view_eq(buf_view(to), text)) {
            buf_put(out, text);
            error = out->failed ? -ENOMEM : 0;
            break;
        }
        text = buf_view(to);
    }
    buf_free(&round[0]);
    buf_free(&round[1]);
    heap_free(words);
    return error;
}
