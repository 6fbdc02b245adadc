/* RESP2 and RESP3. What a type byte is followed by:
 *
 *   line        + - : # , ( _       up to CRLF
 *   blob        $ ! =               a length, CRLF, so many bytes, CRLF; -1 is RESP2's null
 *   aggregate   * ~ > % |           a count, CRLF, so many values (maps and attributes: pairs); -1 is RESP2's null
 *
 * Nesting needs no stack to be walked: a counter of values still to come is enough. An attribute is no value itself; it adds its
 * values and the one it stands before stays due. Streamed types ("$?", "*?", chunks, ends) are refused: no server sends them. */
#include "proto/resp.h"

#include <errno.h>
#include <stdlib.h>

#define LINE_MAX_LEN ((size_t)64 * 1024)
#define NUMBER_MAX_LEN ((size_t)32)
/* "_\r\n", "+\r\n": no value is shorter. */
#define VALUE_MIN ((size_t)3)

enum shape { SHAPE_BAD, SHAPE_LINE, SHAPE_BLOB, SHAPE_AGGREGATE };

struct token {
    enum shape shape;
    char type;
    bool null;        /* RESP2's -1 */
    struct view text; /* the line, or the blob's bytes */
    size_t count;     /* values inside */
};

static enum shape shape_of(char type)
{
    switch (type) {
    case '+':
    case '-':
    case ':':
    case '#':
    case ',':
    case '(':
    case '_': return SHAPE_LINE;
    case '$':
    case '!':
    case '=': return SHAPE_BLOB;
    case '*':
    case '~':
    case '>':
    case '%':
    case '|': return SHAPE_AGGREGATE;
    default: return SHAPE_BAD;
    }
}

/* [+-] 1*DIGIT that fits; "-0" is a number. */
static int parse_integer(struct view text, int64_t *ret)
{
    bool negative = text.len && text.ptr[0] == '-';
    uint64_t value = 0, most = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;

    if (text.len && (text.ptr[0] == '-' || text.ptr[0] == '+'))
        text = view_skip(text, 1);
    if (text.len == 0 || text.len > 19)
        return -EBADMSG;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return -EBADMSG;
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (value > most)
        return -EBADMSG;
    *ret = (int64_t)(negative ? (uint64_t)0 - value : value);
    return 0;
}

static int parse_double(struct view text, double *ret)
{
    char memory[NUMBER_MAX_LEN * 2 + 1], *end;
    double value;

    if (text.len == 0 || text.len >= sizeof(memory))
        return -EBADMSG;
    /* strtod() also takes hexadecimal, blanks and "nan(...)". */
    for (size_t i = 0; i < text.len; i++)
        if (!strchr("0123456789+-.eEinfaINFA", text.ptr[i]) || text.ptr[i] == '\0')
            return -EBADMSG;
    memcpy(memory, text.ptr, text.len);
    memory[text.len] = '\0';
    value = strtod(memory, &end);
    if (end != memory + text.len)
        return -EBADMSG;
    *ret = value;
    return 0;
}

/* The line behind the type byte at `at`. >0: bytes with type and CRLF; 0: not there yet. */
static ssize_t read_line(struct view bytes, size_t at, struct view *ret)
{
    struct view rest = view_first(view_skip(bytes, at + 1), LINE_MAX_LEN + 2);
    size_t end = view_find(rest, '\r');

    if (end + 1 >= rest.len)
        return rest.len >= LINE_MAX_LEN + 2 ? -EBADMSG : 0;
    if (rest.ptr[end + 1] != '\n' || memchr(rest.ptr, '\n', end))
        return -EBADMSG;
    *ret = view_first(rest, end);
    return (ssize_t)(end + 3);
}

/* The token at `at`, lengths checked against `limits`. >0: its bytes (an aggregate's are its head); 0: not all there,
 * *ret_need is what it takes from `at` on. */
static ssize_t read_token(struct view bytes, size_t at, const struct resp_limits *limits, struct token *ret,
                          size_t *ret_need)
{
    struct token token = { .type = bytes.ptr[at] };
    int64_t number = 0;
    ssize_t head;

    token.shape = shape_of(token.type);
    if (token.shape == SHAPE_BAD)
        return -EBADMSG;
    head = read_line(bytes, at, &token.text);
    *ret_need = bytes.len - at + 1;
    if (head <= 0 || token.shape == SHAPE_LINE) {
        *ret = token;
        return head;
    }
    if (parse_integer(token.text, &number) < 0 || number < -1)
        return -EBADMSG;
    token.null = number == -1;
    if (token.null && token.type != '$' && token.type != '*')
        return -EBADMSG;
    token.text = VIEW_NONE;
    if (!token.null && token.shape == SHAPE_AGGREGATE) {
        if ((uint64_t)number > limits->elements)
            return -EMSGSIZE;
        token.count = (size_t)number * (token.type == '%' || token.type == '|' ? 2 : 1);
    } else if (!token.null) {
        size_t len = (size_t)number, whole = (size_t)head + len + 2;

        if ((uint64_t)number > limits->bytes)
            return -EMSGSIZE;
        *ret_need = whole;
        if (bytes.len - at < whole)
            return 0;
        token.text = view_make(bytes.ptr + at + head, len);
        if (token.text.ptr[len] != '\r' || token.text.ptr[len + 1] != '\n')
            return -EBADMSG;
        head = (ssize_t)whole;
    }
    *ret = token;
    return head;
}

/* ---- walking ---- */

ssize_t resp_scan(struct resp_scan *scan, struct view bytes, const struct resp_limits *limits, size_t *ret_hint)
{
    if (!scan->started)
        *scan = (struct resp_scan){ .pending = 1, .started = true };
    while (scan->pending) {
        size_t need = 1;
        struct token token;
        ssize_t got = scan->at < bytes.len ? read_token(bytes, scan->at, limits, &token, &need) : 0;

        if (got < 0)
            return got;
        if (got == 0) {
            *ret_hint = scan->at + need + (scan->pending - 1) * VALUE_MIN;
            return *ret_hint > limits->bytes ? -EMSGSIZE : 0;
        }
        /* Pushes stand between replies only. */
        if (token.type == '>' && scan->elements > 0)
            return -EBADMSG;
        scan->at += (size_t)got;
        scan->elements += token.count;
        scan->pending += token.count;
        if (token.type != '|')
            scan->pending--;
        if (scan->elements > limits->elements || scan->at > limits->bytes ||
            scan->pending * VALUE_MIN > limits->bytes - scan->at)
            return -EMSGSIZE;
    }
    return (ssize_t)scan->at;
}

/* ---- values ---- */

static int line_value(const struct token *token, struct resp_value *ret)
{
    struct view text = token->text;

    ret->text = text;
    switch (token->type) {
    case '+': ret->type = RESP_STRING; return 0;
    case '-': ret->type = RESP_ERROR; return 0;
    case ':': ret->type = RESP_INTEGER; return parse_integer(text, &ret->integer);
    case ',': ret->type = RESP_DOUBLE; return parse_double(text, &ret->number);
    case '#':
        ret->type = RESP_BOOLEAN;
        ret->integer = view_eq(text, VIEW("t"));
        return ret->integer || view_eq(text, VIEW("f")) ? 0 : -EBADMSG;
    case '_': ret->type = RESP_NULL; return text.len ? -EBADMSG : 0;
    default: /* a big number: kept as its digits */
        ret->type = RESP_STRING;
        text = view_skip(text, text.len && (text.ptr[0] == '-' || text.ptr[0] == '+'));
        for (size_t i = 0; i < text.len; i++)
            if (text.ptr[i] < '0' || text.ptr[i] > '9')
                return -EBADMSG;
        return text.len ? 0 : -EBADMSG;
    }
}

static int token_value(const struct token *token, struct resp_value *ret)
{
    *ret = (struct resp_value){ .type = RESP_NULL };
    if (token->null)
        return 0;
    if (token->shape == SHAPE_LINE)
        return line_value(token, ret);
    if (token->shape == SHAPE_AGGREGATE) {
        ret->type = token->type == '%' ? RESP_MAP : token->type == '>' ? RESP_PUSH : RESP_ARRAY;
        ret->count = token->count;
        return 0;
    }
    ret->type = token->type == '!' ? RESP_ERROR : RESP_STRING;
    ret->text = token->text;
    if (token->type == '=') {
        if (token->text.len < 4 || token->text.ptr[3] != ':')
            return -EBADMSG;
        ret->text = view_skip(token->text, 4);
    }
    return 0;
}

/* Where the values of one aggregate go. */
struct frame {
    struct resp_value *next;
    size_t left;
};

struct builder {
    struct view reply;
    const struct resp_limits *limits;
    struct arena *arena;
    size_t at, skip; /* skip: values of attributes still to be passed over */
    struct frame frames[RESP_DEPTH_MAX + 1];
    unsigned depth;
};

static int descend(struct builder *b, struct resp_value *value)
{
    if (b->depth >= MIN(b->limits->depth, RESP_DEPTH_MAX))
        return -EMSGSIZE;
    if (value->count == 0)
        return 0;
    if (value->count > b->limits->elements)
        return -EMSGSIZE;
    value->items = arena_alloc(b->arena, value->count * sizeof(*value->items));
    if (!value->items)
        return -ENOMEM;
    b->frames[++b->depth] = (struct frame){ value->items, value->count };
    return 0;
}

/* One token: a value into its place, or a step through an attribute. */
static int build_step(struct builder *b)
{
    struct frame *frame = &b->frames[b->depth];
    struct resp_value *value;
    struct token token;
    size_t need;
    ssize_t got = b->at < b->reply.len ? read_token(b->reply, b->at, b->limits, &token, &need) : 0;
    int r;

    if (got <= 0)
        return got < 0 ? (int)got : -EBADMSG;
    b->at += (size_t)got;
    if (b->skip > 0 || token.type == '|') {
        b->skip += token.count;
        if (token.type != '|')
            b->skip--;
        return 0;
    }
    value = frame->next++;
    frame->left--;
    r = token_value(&token, value);
    if (r < 0 || token.shape != SHAPE_AGGREGATE || token.null)
        return r;
    return descend(b, value);
}

int resp_build(struct view reply, const struct resp_limits *limits, struct arena *arena, struct resp_value *ret)
{
    struct resp_value root = { .type = RESP_NULL };
    struct builder b = { .reply = reply, .limits = limits, .arena = arena };

    b.frames[0] = (struct frame){ &root, 1 };
    for (;;) {
        int r;

        while (b.depth > 0 && b.frames[b.depth].left == 0)
            b.depth--;
        if (b.depth == 0 && b.frames[0].left == 0)
            break;
        r = build_step(&b);
        if (r < 0)
            return r;
    }
    *ret = root;
    return 0;
}

ssize_t resp_parse(struct view bytes, const struct resp_limits *limits, struct arena *arena, struct resp_value *ret,
                   size_t *ret_hint)
{
    struct resp_scan scan = { 0 };
    ssize_t len = resp_scan(&scan, bytes, limits, ret_hint);
    int r;

    if (len <= 0)
        return len;
    r = resp_build(view_first(bytes, (size_t)len), limits, arena, ret);
    return r < 0 ? r : len;
}

struct resp_value *resp_get(const struct resp_value *map, struct view name)
{
    if (map->type != RESP_MAP && map->type != RESP_ARRAY)
        return NULL;
    for (size_t i = 0; i + 1 < map->count; i += 2)
        if (map->items[i].type == RESP_STRING && view_eq(map->items[i].text, name))
            return &map->items[i + 1];
    return NULL;
}

/* ---- commands ---- */

void resp_put_array(struct text *out, unsigned count)
{
    text_char(out, '*');
    text_u64(out, count);
    text_lit(out, "\r\n");
}

void resp_put_arg_head(struct text *out, size_t len)
{
    text_char(out, '$');
    text_u64(out, len);
    text_lit(out, "\r\n");
}

void resp_put_arg(struct text *out, struct view arg)
{
    resp_put_arg_head(out, arg.len);
    text_put(out, arg);
    text_lit(out, "\r\n");
}

void resp_put_command(struct text *out, const struct view *args, unsigned count)
{
    resp_put_array(out, count);
    for (unsigned i = 0; i < count; i++)
        resp_put_arg(out, args[i]);
}

static size_t digits_of(size_t value)
{
    size_t digits = 1;

    while (value >= 10) {
        value /= 10;
        digits++;
    }
    return digits;
}

size_t resp_command_len(const struct view *args, unsigned count)
{
    size_t len = 3 + digits_of(count);

    for (unsigned i = 0; i < count; i++)
        len += 5 + digits_of(args[i].len) + args[i].len;
    return len;
}

/* ---- Cluster ---- */

/* CRC-16/XMODEM, bit by bit: keys are short. */
static uint16_t crc16(struct view v)
{
    unsigned crc = 0;

    for (size_t i = 0; i < v.len; i++) {
        crc ^= (unsigned)(unsigned char)v.ptr[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
        crc &= 0xffff;
    }
    return (uint16_t)crc;
}

unsigned resp_slot(struct view key)
{
    struct view tag = view_skip(key, view_find(key, '{') + 1);
    size_t end = view_find(tag, '}');

    /* Only the first brace counts, and an empty tag is none. */
    if (view_contains(key, '{') && end > 0 && end < tag.len)
        key = view_first(tag, end);
    return crc16(key) % RESP_SLOTS;
}
