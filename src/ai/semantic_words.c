/* Splitting prompts into words.
 *
 * White space separates. Quotes and backticks open spans that may hold white space; punctuation at the edges of a chunk is set apart
 * from its core, so that numbers, identifiers and URLs keep what is inside of them. Pure; no allocation. */
#include "ai/semantic_words.h"

#include <errno.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

/* One code point of two bytes, folded (simple case folding, Unicode CaseFolding.txt, the ranges named in the header). The dotless
 * and dotted i of Turkish stay as they are. */
static unsigned fold_point(unsigned p)
{
    if ((p >= 0xc0 && p <= 0xde && p != 0xd7) || (p >= 0x391 && p <= 0x3ab && p != 0x3a2) || (p >= 0x410 && p <= 0x42f))
        return p + 32;
    if (p >= 0x400 && p <= 0x40f)
        return p + 80;
    if ((p >= 0x100 && p <= 0x12f) || (p >= 0x132 && p <= 0x137) || (p >= 0x14a && p <= 0x177))
        return p | 1;
    if ((p >= 0x139 && p <= 0x148) || (p >= 0x179 && p <= 0x17e))
        return p & 1 ? p + 1 : p;
    if (p == 0x178)
        return 0xff;
    if (p == 0x386)
        return 0x3ac;
    if (p >= 0x388 && p <= 0x38a)
        return p + 37;
    return p == 0x38c ? 0x3cc : p == 0x38e || p == 0x38f ? p + 63 : p;
}

size_t words_fold(struct view core, char *out)
{
    size_t len = 0;

    for (size_t i = 0; i < core.len;) {
        unsigned char c = (unsigned char)core.ptr[i];

        if ((c & 0xe0) == 0xc0 && i + 1 < core.len) {
            unsigned p = fold_point((c & 0x1fu) << 6 | ((unsigned char)core.ptr[i + 1] & 0x3fu));

            out[len++] = (char)(0xc0 | p >> 6);
            out[len++] = (char)(0x80 | (p & 0x3f));
            i += 2;
        } else if (c == 0xe2 && i + 2 < core.len && core.ptr[i + 1] == '\x80' && core.ptr[i + 2] == '\x99') {
            out[len++] = '\'';
            i += 3;
        } else {
            out[len++] = ascii_lower((char)c);
            i++;
        }
    }
    return len;
}

/* Length of the quote or backtick run that opens at `at`, and what closes it. */
static size_t span_opener(struct view text, size_t at, bool first, struct view *ret_close)
{
    struct view rest = view_skip(text, at);
    size_t ticks = 0;

    while (ticks < rest.len && rest.ptr[ticks] == '`')
        ticks++;
    *ret_close = view_first(rest, ticks);
    if (ticks > 0)
        return ticks;
    *ret_close = VIEW("\"");
    if (rest.ptr[0] == '"')
        return 1;
    *ret_close = VIEW("\xe2\x80\x9d");
    if (view_starts_with(rest, VIEW("\xe2\x80\x9c")) || view_starts_with(rest, VIEW("\xe2\x80\x9e")))
        return 3;
    *ret_close = VIEW("\xc2\xbb");
    if (view_starts_with(rest, VIEW("\xc2\xab")))
        return 2;
    *ret_close = VIEW("\xe2\x80\x99");
    if (first && view_starts_with(rest, VIEW("\xe2\x80\x98")))
        return 3;
    *ret_close = VIEW("'");
    return first && rest.len > 1 && rest.ptr[0] == '\'' && !is_space(rest.ptr[1]) ? 1 : 0;
}

/* Where the span that opens at `at` ends (behind its closing mark); 0 when it never does. A single quote closes only at a word's
 * end: the apostrophe in 'don't' does not. */
static size_t span_end(struct view text, size_t at, size_t open, struct view close)
{
    for (size_t i = at + open; i + close.len <= text.len; i++) {
        size_t end = i + close.len;

        if (memcmp(text.ptr + i, close.ptr, close.len) != 0)
            continue;
        if ((close.ptr[0] == '\'' || close.len == 3) && end < text.len && is_letter(text.ptr[end]) &&
            text.ptr[end] != '\xe2')
            continue;
        return end;
    }
    return 0;
}

static size_t tail_len(struct view chunk)
{
    static const struct view marks[] = { { ".", 1 },
                                         { ",", 1 },
                                         { "!", 1 },
                                         { "?", 1 },
                                         { ";", 1 },
                                         { ":", 1 },
                                         { ")", 1 },
                                         { "\xe2\x80\xa6", 3 },
                                         { "\xe3\x80\x82", 3 },
                                         { "\xef\xbc\x81", 3 },
                                         { "\xef\xbc\x9f", 3 },
                                         { "\xef\xbc\x8c", 3 },
                                         { "\xe3\x80\x81", 3 } };
    size_t cut = 0, before;

    do {
        before = cut;
        for (size_t i = 0; i < ARRAY_LEN(marks); i++)
            if (view_ends_with(view_first(chunk, chunk.len - cut), marks[i])) {
                cut += marks[i].len;
                break;
            }
    } while (cut != before && cut < chunk.len);
    return cut;
}

static void classify_plain(struct word *w)
{
    struct view c = w->core;
    size_t upper = 0, lower = 0, folded;
    char memory[32];
    bool mixed = false;

    for (size_t i = 0; i < c.len; i++) {
        bool big = c.ptr[i] >= 'A' && c.ptr[i] <= 'Z';

        mixed |= big && i > 0 && lower > 0 && c.ptr[i - 1] != '-';
        upper += big;
        lower += c.ptr[i] >= 'a' && c.ptr[i] <= 'z';
    }
    if (mixed || (upper > 1 && lower > 0 && !memchr(c.ptr, '-', c.len) && !memchr(c.ptr, '\'', c.len)))
        w->kind = WORD_NAMED;
    w->upper = upper > 1 && lower == 0;
    w->capital = upper > 0 && c.ptr[0] >= 'A' && c.ptr[0] <= 'Z';
    if (c.len > sizeof(memory))
        return;
    folded = words_fold(c, memory);
    w->capital |= !(c.ptr[0] & ~0x7f) ? false : memcmp(memory, c.ptr, MIN(folded, (size_t)2)) != 0;
    if (folded <= sizeof(w->lower)) {
        memcpy(w->lower, memory, folded);
        w->lower_len = (uint8_t)folded;
    }
}

static void classify(struct word *w)
{
    struct view c = w->core;
    bool digits = false, letters = false, others = false;

    for (size_t i = 0; i < c.len; i++) {
        if (is_digit(c.ptr[i]))
            digits = true;
        else if (is_letter(c.ptr[i]))
            letters = true;
        else if (!((c.ptr[i] == '\'' || c.ptr[i] == '-') && i > 0 && i + 1 < c.len))
            others = true;
    }
    w->kind = digits && !letters              ? WORD_NUMBER
              : letters && !digits && !others ? WORD_PLAIN
              : letters || digits             ? WORD_NAMED
                                              : WORD_SIGN;
    if (w->kind == WORD_PLAIN)
        classify_plain(w);
    w->meaning = word_meaning(word_lower(w));
}

/* The chunk from `at` on; returns where it ends, 0 when a span is left open. */
static size_t take_chunk(struct view text, size_t at, struct word *w)
{
    size_t end = at, quoted = 0, lead = 0, cut;
    struct view close, chunk;

    while (at + lead < text.len && (text.ptr[at + lead] == '(' || text.ptr[at + lead] == '['))
        lead++;
    if (at + lead == text.len || is_space(text.ptr[at + lead]))
        lead = 0; /* nothing behind it: a sign */
    end = at + lead;
    while (end < text.len && !is_space(text.ptr[end])) {
        size_t open = span_opener(text, end, end == at + lead, &close);

        if (open > 0) {
            end = quoted = span_end(text, end, open, close);
            if (end == 0)
                return 0;
        } else {
            end++;
        }
    }
    w->lead = view_make(text.ptr + at, lead);
    chunk = view_make(text.ptr + at + lead, end - at - lead);
    cut = tail_len(chunk);
    if (quoted > 0)
        cut = MIN(cut, end - quoted);
    w->core = view_first(chunk, chunk.len - cut);
    w->tail = view_skip(chunk, chunk.len - cut);
    if (cut > 0 && cut == chunk.len)
        w->core = w->tail;
    if (cut == chunk.len)
        w->tail = VIEW("");
    if (quoted > 0)
        w->kind = WORD_QUOTED, w->meaning = word_meaning(VIEW(""));
    else
        classify(w);
    return end;
}

static bool ends_sentence(const struct word *w)
{
    struct view mark = w->kind == WORD_SIGN ? w->core : w->tail;

    return mark.len > 0 && (memchr(mark.ptr, '.', mark.len) || memchr(mark.ptr, '!', mark.len) ||
                            memchr(mark.ptr, '?', mark.len) || memchr(mark.ptr, ':', mark.len));
}

static bool is_utf8(struct view text)
{
    for (size_t i = 0; i < text.len;) {
        unsigned char c = (unsigned char)text.ptr[i];
        size_t more = c < 0x80                ? 0
                      : c >= 0xf0 && c < 0xf5 ? 3
                      : c >= 0xe0 && c < 0xf0 ? 2
                      : c >= 0xc2 && c < 0xe0 ? 1
                                              : 9;

        if (more > 3 || i + more >= text.len)
            return false;
        for (size_t k = 1; k <= more; k++)
            if (((unsigned char)text.ptr[i + k] & 0xc0) != 0x80)
                return false;
        i += more + 1;
    }
    return true;
}

int words_split(struct view text, struct word *words, size_t max)
{
    size_t at = 0, count = 0;
    bool begins = true;

    if (!is_utf8(text))
        return -EINVAL;
    for (;;) {
        while (at < text.len && is_space(text.ptr[at]))
            at++;
        if (at == text.len)
            return (int)count;
        if (count == max)
            return -E2BIG;
        words[count] = (struct word){ .begins = begins };
        at = take_chunk(text, at, &words[count]);
        if (at == 0)
            return -EINVAL;
        begins = ends_sentence(&words[count]);
        count++;
    }
}

bool words_about_form(const struct word *words, size_t count)
{
    bool form = false, code = false, program = false;

    for (size_t i = 0; i < count; i++) {
        uint32_t classes = words[i].meaning->classes;

        form |= words[i].kind == WORD_PLAIN && ((classes & W_FORM) != 0 || words[i].lower_len == 0);
        code |= (classes & W_FORM_CODE) != 0;
        program |= (classes & W_PROGRAM) != 0;
        program |= view_eq(word_lower(&words[i]), VIEW("how")) && i + 2 < count &&
                   (view_eq(word_lower(&words[i + 2]), VIEW("i")) || view_eq(word_lower(&words[i + 1]), VIEW("to")));
    }
    return form || (code && !program);
}
