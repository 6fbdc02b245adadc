/* One spelling for all texts that mean the same. Objects are written in the order of their members' names: while an
 * object is open its names stand sorted on one shared pile, and a frame says where they begin. Nothing recurses;
 * sorting is O(n log n) at worst, since a peer chooses the names. */
#include "base/heap.h"
#include "base/text.h"
#include "proto/json_parts.h"

enum { FRAMES_MAX = 257, PILE_FIRST = 256, INSERTION_MAX = 16 };

/* An open container: for an object items are places on the pile, for an array tokens. */
struct frame {
    uint32_t at, end;
    uint32_t base; /* of the pile */
    bool object, started;
};

struct writer {
    const struct json *doc;
    const struct json_rules *rules;
    struct buf *out;
    uint32_t *pile, pile_len, pile_cap;
    uint32_t *heap; /* the pile when it outgrew `first` */
    uint32_t depth;
    struct frame frames[FRAMES_MAX];
    uint32_t first[PILE_FIRST];
};

/* ---- leaves ---- */

static void write_code(uint32_t code, char *to, size_t *len)
{
    static const char named[] = "\b\t\n\f\r\"\\", letter[] = "btnfr\"\\";
    const char *hit = code && code < 0x80 ? strchr(named, (int)code) : NULL;

    if (hit) {
        to[(*len)++] = '\\';
        to[(*len)++] = letter[hit - named];
    } else if (code < 0x20 || (code & ~0x7ffu) == 0xd800) {
        struct text text = text_make(to + *len, 6);

        text_lit(&text, "\\u");
        text_hex(&text, code, 4);
        *len += text.len;
    } else {
        *len += json_utf8(code, to + *len);
    }
}

/* What is not escaped has no shorter spelling. */
static void write_string(struct writer *w, uint32_t i)
{
    struct view inside;
    char *to;
    size_t len = 1;

    if (!(w->doc->tokens[i].flags & JSON_ESCAPED)) {
        buf_put(w->out, json_raw(w->doc, i));
        return;
    }
    inside = json_inside(w->doc, i);
    to = buf_room(w->out, inside.len + 2); /* never longer than it was */
    if (!to)
        return;
    to[0] = '"';
    for (const char *at = inside.ptr, *end = at + inside.len; at < end;) {
        const char *run = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((run ? run : end) - at);

        bool shortest = run && run[1] != 'u' && run[1] != '/'; /* as it stands */

        plain += shortest ? 2 : 0;
        memcpy(to + len, at, plain);
        len += plain;
        at += plain;
        if (run && !shortest)
            write_code(json_unescape(&at, end), to, &len);
    }
    to[len++] = '"';
    buf_took(w->out, len);
}

/* A number whose exponent is beyond all use keeps its spelling: no other value has that one, and no arithmetic can
 * overflow. */
static void write_number(struct writer *w, uint32_t i)
{
    struct view raw = json_raw(w->doc, i);
    struct json_decimal d;
    struct text text;
    char memory[24];

    if (raw.len == 1) {
        buf_put(w->out, raw);
        return;
    }
    d = json_decimal(raw);
    if (d.huge) {
        buf_put(w->out, raw);
        return;
    }
    if (d.negative)
        buf_char(w->out, '-');
    if (d.head.len + d.tail.len == 0)
        buf_char(w->out, '0');
    buf_put(w->out, d.head);
    buf_put(w->out, d.tail);
    if (d.exponent == 0)
        return;
    text = TEXT_ON(memory);
    text_char(&text, 'e');
    text_i64(&text, d.exponent);
    buf_put(w->out, text_view(&text));
}

static void write_leaf(struct writer *w, uint32_t i)
{
    switch (json_type(w->doc, i)) {
    case JSON_STRING: write_string(w, i); break;
    case JSON_NUMBER: write_number(w, i); break;
    default: buf_put(w->out, json_raw(w->doc, i));
    }
}

/* ---- order ---- */

static bool is_before(const struct writer *w, uint32_t a, uint32_t b)
{
    return json_compare(w->doc, a, b) < 0;
}

static void sift_down(const struct writer *w, uint32_t *names, size_t root, size_t count)
{
    uint32_t moved = names[root];

    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && is_before(w, names[child], names[child + 1]))
            child++;
        if (!is_before(w, moved, names[child]))
            break;
        names[root] = names[child];
    }
    names[root] = moved;
}

static void sort_names(const struct writer *w, uint32_t *names, size_t count)
{
    if (count <= INSERTION_MAX) {
        for (size_t i = 1; i < count; i++) {
            uint32_t moved = names[i];
            size_t k = i;

            for (; k > 0 && is_before(w, moved, names[k - 1]); k--)
                names[k] = names[k - 1];
            names[k] = moved;
        }
        return;
    }
    for (size_t i = count / 2; i-- > 0;)
        sift_down(w, names, i, count);
    for (size_t i = count - 1; i > 0; i--) {
        uint32_t last = names[i];

        names[i] = names[0];
        names[0] = last;
        sift_down(w, names, 0, i);
    }
}

/* ---- the tree ---- */

static bool is_skipped(const struct writer *w, uint32_t name)
{
    struct buf value = buf_make(SIZE_MAX);
    bool skipped;

    if (!w->rules->skip)
        return false;
    if (!(w->doc->tokens[name].flags & JSON_ESCAPED))
        return w->rules->skip(json_inside(w->doc, name), w->rules->arg);
    json_decode(w->doc, name, &value);
    skipped = w->rules->skip(buf_view(&value), w->rules->arg);
    if (value.failed)
        w->out->failed = true;
    buf_free(&value);
    return skipped;
}

static bool pile_room(struct writer *w, uint32_t more)
{
    uint32_t cap = MAX(w->pile_len + more, 2 * w->pile_cap);
    uint32_t *grown;

    if (w->pile_len + more <= w->pile_cap)
        return true;
    grown = heap_resize(w->heap, cap * sizeof(*grown));
    if (!grown) {
        w->out->failed = true;
        return false;
    }
    if (!w->heap)
        memcpy(grown, w->first, w->pile_len * sizeof(*grown));
    w->heap = w->pile = grown;
    w->pile_cap = cap;
    return true;
}

static void open_container(struct writer *w, uint32_t i)
{
    const struct json *doc = w->doc;
    struct frame *f = &w->frames[w->depth];

    *f = (struct frame){ .base = w->pile_len, .object = json_type(doc, i) == JSON_OBJECT };
    buf_char(w->out, f->object ? '{' : '[');
    f->at = json_first(doc, i);
    f->end = json_end(doc, i);
    if (f->object) {
        if (!pile_room(w, doc->tokens[i].count))
            return;
        for (uint32_t name = f->at; name < f->end; name = json_after(doc, name + 1))
            if (w->depth > 0 || !is_skipped(w, name))
                w->pile[w->pile_len++] = name;
        sort_names(w, w->pile + f->base, w->pile_len - f->base);
        f->at = f->base;
        f->end = w->pile_len;
    }
    w->depth++;
}

/* The next value of the innermost container; 0: it has ended. */
static uint32_t next_value(struct writer *w)
{
    struct frame *f = &w->frames[w->depth - 1];
    uint32_t value;

    if (f->at >= f->end) {
        buf_char(w->out, f->object ? '}' : ']');
        w->pile_len = f->base;
        w->depth--;
        return 0;
    }
    if (f->started)
        buf_char(w->out, ',');
    f->started = true;
    if (!f->object) {
        value = f->at;
        f->at = json_after(w->doc, value);
        return value;
    }
    value = w->pile[f->at++] + 1;
    write_string(w, value - 1);
    buf_char(w->out, ':');
    return value;
}

static void write_value(struct writer *w, uint32_t i)
{
    if (i && i == w->rules->replaced)
        buf_put(w->out, w->rules->replacement);
    else if (json_type(w->doc, i) >= JSON_ARRAY)
        open_container(w, i);
    else
        write_leaf(w, i);
}

void json_canonical_by(const struct json *doc, uint32_t i, const struct json_rules *rules, struct buf *out)
{
    struct writer w not_zeroed;

    w.doc = doc;
    w.rules = rules;
    w.out = out;
    w.pile = w.first;
    w.pile_len = 0;
    w.pile_cap = PILE_FIRST;
    w.heap = NULL;
    w.depth = 0;
    write_value(&w, i);
    while (w.depth && !out->failed) {
        uint32_t value = next_value(&w);

        if (value)
            write_value(&w, value);
    }
    heap_free(w.heap);
}

void json_canonical(const struct json *doc, uint32_t i, bool (*skip)(struct view name, void *arg), void *arg,
                    struct buf *out)
{
    struct json_rules rules = { .skip = skip, .arg = arg };

    json_canonical_by(doc, i, &rules, out);
}
