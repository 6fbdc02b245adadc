/* The vocabulary and its use. A piece is kept without the "##" that marks it as the inside of a word, with a flag instead, so that a lookup
 * needs no copy: the hash of the bytes is turned by a constant for those. The table holds the high half of each hash, which
 * settles nearly every miss without a look at the text. Reading vocabularies is wordpiece_read.c. */
#include "ai/wordpiece.h"

#include "ai/wordpiece_fold.h"
#include "ai/wordpiece_internal.h"
#include "base/heap.h"
#include "base/key.h"

#include <errno.h>

#define WORD_BYTES (WORDPIECE_CHARS_MAX * 4u)
#define INSIDE_TURN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t hash_piece(struct view piece, bool inside)
{
    return hash64(piece) ^ (inside ? INSIDE_TURN : 0);
}

/* ---- the vocabulary ---- */

int wordpiece_add(struct wordpiece *words, struct view token, uint32_t id)
{
    bool inside = view_starts_with(token, VIEW("##"));
    struct view text = view_skip(token, inside ? 2 : 0);

    if (id >= WORDPIECE_COUNT_MAX || token.len > UINT16_MAX)
        return -EINVAL;
    if (id >= words->cap) {
        uint32_t cap = MAX(1024u, words->cap * 2);
        struct wordpiece_piece *more;

        while (cap <= id)
            cap *= 2;
        more = heap_resize(words->pieces, cap * sizeof(*more));
        if (!more)
            return -ENOMEM;
        memset(more + words->cap, 0, (cap - words->cap) * sizeof(*more));
        words->pieces = more;
        words->cap = cap;
    }
    words->pieces[id] =
        (struct wordpiece_piece){ .at = (uint32_t)words->pool.len, .len = (uint16_t)text.len, .inside = inside };
    words->count = MAX(words->count, id + 1);
    words->longest = MAX(words->longest, (uint32_t)text.len);
    buf_put(&words->pool, text);
    return words->pool.failed ? -ENOMEM : 0;
}

int wordpiece_build(struct wordpiece *words)
{
    uint32_t cap = 64;

    while (cap < words->count * 2)
        cap *= 2;
    words->table = heap_zalloc(cap * sizeof(*words->table));
    if (!words->table)
        return -ENOMEM;
    words->mask = cap - 1;
    for (uint32_t id = 0; id < words->count; id++) {
        const struct wordpiece_piece *piece = &words->pieces[id];
        uint64_t hash;
        uint32_t at;

        if (piece->len == 0)
            continue;
        hash = hash_piece(view_make(words->pool.ptr + piece->at, piece->len), piece->inside);
        at = (uint32_t)hash & words->mask;
        while (words->table[at].id1)
            at = (at + 1) & words->mask;
        words->table[at] = (struct wordpiece_slot){ (uint32_t)(hash >> 32), id + 1 };
    }
    return 0;
}

static uint32_t lookup(const struct wordpiece *words, struct view text, bool inside)
{
    uint64_t hash = hash_piece(text, inside);

    for (uint32_t at = (uint32_t)hash & words->mask; words->table[at].id1; at = (at + 1) & words->mask) {
        const struct wordpiece_piece *piece = &words->pieces[words->table[at].id1 - 1];

        if (words->table[at].hash == (uint32_t)(hash >> 32) && piece->inside == inside &&
            view_eq(text, view_make(words->pool.ptr + piece->at, piece->len)))
            return words->table[at].id1 - 1;
    }
    return WORDPIECE_NONE;
}

void wordpiece_free(struct wordpiece *words)
{
    if (!words)
        return;
    buf_free(&words->pool);
    heap_free(words->pieces);
    heap_free(words->table);
    heap_free(words);
}

uint32_t wordpiece_count(const struct wordpiece *words)
{
    return words->count;
}

uint32_t wordpiece_find(const struct wordpiece *words, struct view token)
{
    bool inside = view_starts_with(token, VIEW("##"));

    return lookup(words, view_skip(token, inside ? 2 : 0), inside);
}

uint32_t wordpiece_unknown(const struct wordpiece *words)
{
    return words->unknown;
}

size_t wordpiece_bytes(const struct wordpiece *words)
{
    return heap_cost(sizeof(*words)) + heap_cost(words->pool.cap) + heap_cost(words->cap * sizeof(*words->pieces)) +
           heap_cost((words->mask + 1) * sizeof(*words->table));
}

/* ---- encoding ---- */

struct encoder {
    const struct wordpiece *words;
    uint32_t *ids;
    unsigned count, max;
    bool skip_unknown;
    unsigned len, chars; /* of the word so far; bytes beyond the limit of characters are dropped */
    char word[WORD_BYTES];
};

static void emit(struct encoder *e, uint32_t id)
{
    if (e->count < e->max)
        e->ids[e->count++] = id;
}

/* The longest piece at the start of `rest`; its length in *ret_len. */
static uint32_t longest_piece(const struct wordpiece *words, struct view rest, bool inside, size_t *ret_len)
{
    for (size_t len = MIN(rest.len, words->longest); len > 0; len--) {
        uint32_t id;

        if (len < rest.len && ((unsigned char)rest.ptr[len] & 0xc0) == 0x80)
            continue; /* inside of a character */
        id = lookup(words, view_first(rest, len), inside);
        if (id != WORDPIECE_NONE) {
            *ret_len = len;
            return id;
        }
    }
    return WORDPIECE_NONE;
}

static void end_word(struct encoder *e)
{
    struct view rest = view_make(e->word, e->len);
    unsigned before = e->count;
    bool known = e->chars <= e->words->chars_max;
    size_t len;

    if (e->len == 0)
        return;
    while (known && rest.len) {
        uint32_t id = longest_piece(e->words, rest, rest.ptr != e->word, &len);

        known = id != WORDPIECE_NONE;
        if (known) {
            emit(e, id);
            rest = view_skip(rest, len);
        }
    }
    if (!known) {
        e->count = before;
        if (!e->skip_unknown && e->words->unknown != WORDPIECE_NONE)
            emit(e, e->words->unknown);
    }
    e->len = e->chars = 0;
}

static void put_char(struct encoder *e, uint32_t c)
{
    char *to = e->word + e->len;

    if (++e->chars > e->words->chars_max) {
        e->chars = e->words->chars_max + 1;
        return;
    }
    if (c < 0x80) {
        to[0] = (char)c;
        e->len += 1;
    } else if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 63));
        e->len += 2;
    } else if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 63));
        to[2] = (char)(0x80 | (c & 63));
        e->len += 3;
    } else {
        to[0] = (char)(0xf0 | c >> 18);
        to[1] = (char)(0x80 | (c >> 12 & 63));
        to[2] = (char)(0x80 | (c >> 6 & 63));
        to[3] = (char)(0x80 | (c & 63));
        e->len += 4;
    }
}

static void put_alone(struct encoder *e, uint32_t c)
{
    end_word(e);
    put_char(e, c);
    end_word(e);
}

/* A Hangul syllable is two or three letters when it is taken apart (Unicode §3.12). */
static bool put_hangul(struct encoder *e, uint32_t c)
{
    uint32_t index = c - 0xac00;

    if (index >= 11172)
        return false;
    put_char(e, 0x1100 + index / 588);
    put_char(e, 0x1161 + index % 588 / 28);
    if (index % 28)
        put_char(e, 0x11a7 + index % 28);
    return true;
}

static void take(struct encoder *e, uint32_t c)
{
    const struct wordpiece *words = e->words;

    if (words->clean && (c == 0 || fold_is_control(c)))
        return;
    if (words->ideographs && c >= 0x3400 && fold_is_ideograph(c)) {
        put_alone(e, c);
        return;
    }
    if (words->strip && c >= 0x80) {
        if (fold_is_mark(c) || put_hangul(e, c))
            return;
        c = fold_strip(c);
    }
    if (words->lower)
        c = fold_lower(c);
    if (fold_is_space(c))
        end_word(e);
    else if (fold_is_punctuation(c))
        put_alone(e, c);
    else
        put_char(e, c);
}

/* Cuts the first character off; U+FFFD for a byte that begins none. */
static uint32_t next_char(struct view *rest)
{
    const unsigned char *at = (const unsigned char *)rest->ptr;
    unsigned len = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
    uint32_t c = len > 1 ? at[0] & (0x7fu >> len) : at[0];

    for (unsigned i = 1; i < len; i++) {
        if (i >= rest->len || (at[i] & 0xc0) != 0x80) {
            len = 0;
            break;
        }
        c = c << 6 | (at[i] & 63);
    }
    if (len == 0 || (len == 3 && c < 0x800) || (len == 4 && c < 0x10000) || c > 0x10ffff ||
        (c >= 0xd800 && c < 0xe000)) {
        *rest = view_skip(*rest, 1);
        return 0xfffd;
    }
    *rest = view_skip(*rest, len);
    return c;
}

unsigned wordpiece_encode(const struct wordpiece *words, struct view text, bool skip_unknown, uint32_t *ids,
                          unsigned max)
{
    struct encoder not_zeroed e;

    e.words = words;
    e.ids = ids;
    e.count = e.len = e.chars = 0;
    e.max = max;
    e.skip_unknown = skip_unknown;
    while (text.len && e.count < max)
        take(&e, next_char(&text));
    end_word(&e);
    return e.count;
}
