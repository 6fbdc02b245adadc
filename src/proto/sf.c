/* Structured fields (RFC 8941 §4.2): a hand-written scanner over one view.
 *
 * scan_item() validates everything below a member (parameters, the insides of an inner list) before a caller sees it, so that
 * the nested iterators cannot fail. The nesting of the format is two levels deep at most; nothing here recurses on input. */
#include "proto/sf.h"

#include <errno.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower(ascii_lower(c));
}

static bool is_key_char(char c)
{
    return is_lower(c) || is_digit(c) || c == '_' || c == '-' || c == '.' || c == '*';
}

static bool is_token_char(char c)
{
    return is_alpha(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~:/", c) != NULL);
}

static void skip_spaces(struct view *rest)
{
    while (rest->len && rest->ptr[0] == ' ')
        *rest = view_skip(*rest, 1);
}

static void skip_ows(struct view *rest)
{
    while (rest->len && (rest->ptr[0] == ' ' || rest->ptr[0] == '\t'))
        *rest = view_skip(*rest, 1);
}

static bool take_char(struct view *rest, char c)
{
    if (!rest->len || rest->ptr[0] != c)
        return false;
    *rest = view_skip(*rest, 1);
    return true;
}

/* What lies between the start of `from` and where `rest` stands now. */
static struct view passed(struct view from, struct view rest)
{
    return view_first(from, from.len - rest.len);
}

static bool scan_key(struct view *rest, struct view *ret)
{
    struct view from = *rest;

    if (!rest->len || !(is_lower(rest->ptr[0]) || rest->ptr[0] == '*'))
        return false;
    while (rest->len && is_key_char(rest->ptr[0]))
        *rest = view_skip(*rest, 1);
    *ret = passed(from, *rest);
    return true;
}

/* §4.2.4: up to 15 digits, or up to 12 and 1 to 3 behind a point. */
static bool scan_number(struct view *rest, struct sf_item *ret)
{
    bool negative = take_char(rest, '-');
    int64_t value = 0;
    size_t whole = 0, part = 0;

    for (; rest->len && is_digit(rest->ptr[0]) && whole < 16; whole++, *rest = view_skip(*rest, 1))
        value = value * 10 + (rest->ptr[0] - '0');
    if (whole == 0 || whole > 15)
        return false;
    ret->type = SF_INTEGER;
    if (take_char(rest, '.')) {
        if (whole > 12)
            return false;
        ret->type = SF_DECIMAL;
        for (; rest->len && is_digit(rest->ptr[0]) && part < 4; part++, *rest = view_skip(*rest, 1))
            value = value * 10 + (rest->ptr[0] - '0');
        if (part == 0 || part > 3)
            return false;
        for (; part < 3; part++)
            value *= 10;
    }
    ret->number = negative ? -value : value;
    return true;
}

static bool scan_string(struct view *rest, struct sf_item *ret)
{
    struct view from = *rest;

    while (rest->len) {
        char c = rest->ptr[0];

        if (c == '"') {
            ret->type = SF_STRING;
            ret->text = passed(from, *rest);
            *rest = view_skip(*rest, 1);
            return true;
        }
        if (c < 0x20 || c > 0x7e)
            return false;
        if (c == '\\') {
            *rest = view_skip(*rest, 1);
            if (!rest->len || (rest->ptr[0] != '"' && rest->ptr[0] != '\\'))
                return false;
        }
        *rest = view_skip(*rest, 1);
    }
    return false;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (is_lower(c))
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 with or without padding (§4.2.7 lets a parser accept missing padding). */
static bool scan_bytes(struct view *rest, struct sf_item *ret)
{
    size_t end = view_find(*rest, ':'), digits = 0, pad = 0;

    if (end == rest->len)
        return false;
    for (size_t i = 0; i < end; i++) {
        if (rest->ptr[i] == '=')
            pad++;
        else if (base64_value(rest->ptr[i]) < 0 || pad)
            return false;
        else
            digits++;
    }
    if (pad > 2 || digits % 4 == 1 || (pad && (digits + pad) % 4 != 0))
        return false;
    ret->type = SF_BYTES;
    ret->text = view_first(*rest, end);
    *rest = view_skip(*rest, end + 1);
    return true;
}

static bool scan_bare(struct view *rest, struct sf_item *ret)
{
    struct view from = *rest;

    if (!rest->len)
        return false;
    if (rest->ptr[0] == '-' || is_digit(rest->ptr[0]))
        return scan_number(rest, ret);
    if (take_char(rest, '"'))
        return scan_string(rest, ret);
    if (take_char(rest, ':'))
        return scan_bytes(rest, ret);
    if (take_char(rest, '?')) {
        ret->type = SF_BOOLEAN;
        ret->number = rest->len && rest->ptr[0] == '1';
        return take_char(rest, '1') || take_char(rest, '0');
    }
    if (rest->ptr[0] != '*' && !is_alpha(rest->ptr[0]))
        return false;
    while (rest->len && is_token_char(rest->ptr[0]))
        *rest = view_skip(*rest, 1);
    ret->type = SF_TOKEN;
    ret->text = passed(from, *rest);
    return true;
}

/* One parameter behind its ';'. */
static bool scan_param(struct view *rest, struct view *ret_key, struct sf_item *ret)
{
    *ret = (struct sf_item){ .type = SF_BOOLEAN, .number = 1 };
    skip_spaces(rest);
    if (!scan_key(rest, ret_key))
        return false;
    return !take_char(rest, '=') || scan_bare(rest, ret);
}

static bool scan_params(struct view *rest, struct view *ret)
{
    struct view from = *rest, key;
    struct sf_item value;

    while (take_char(rest, ';'))
        if (!scan_param(rest, &key, &value))
            return false;
    *ret = passed(from, *rest);
    return true;
}

static bool scan_item(struct view *rest, struct sf_item *ret)
{
    *ret = (struct sf_item){ 0 };
    return scan_bare(rest, ret) && scan_params(rest, &ret->params);
}

/* Behind the opening parenthesis (§4.2.1.2). */
static bool scan_inner(struct view *rest, struct sf_item *ret)
{
    struct view from = *rest;
    struct sf_item member;

    for (;;) {
        skip_spaces(rest);
        if (rest->len && rest->ptr[0] == ')') {
            *ret = (struct sf_item){ .type = SF_INNER_LIST, .text = passed(from, *rest) };
            *rest = view_skip(*rest, 1);
            return scan_params(rest, &ret->params);
        }
        if (!scan_item(rest, &member))
            return false;
        if (!rest->len || (rest->ptr[0] != ' ' && rest->ptr[0] != ')'))
            return false;
    }
}

static bool scan_member(struct view *rest, struct sf_item *ret)
{
    return take_char(rest, '(') ? scan_inner(rest, ret) : scan_item(rest, ret);
}

struct sf_cursor sf_cursor(struct view input)
{
    skip_spaces(&input);
    while (input.len && input.ptr[input.len - 1] == ' ')
        input.len--;
    return (struct sf_cursor){ .rest = input };
}

/* Before a member: 1 to go on, 0 at the end, -EBADMSG for a missing or trailing comma. */
static int before_member(struct sf_cursor *cursor)
{
    if (!cursor->started) {
        cursor->started = true;
        return cursor->rest.len ? 1 : 0;
    }
    if (!cursor->rest.len)
        return 0;
    skip_ows(&cursor->rest);
    if (!take_char(&cursor->rest, ','))
        return -EBADMSG;
    skip_ows(&cursor->rest);
    return cursor->rest.len ? 1 : -EBADMSG;
}

/* A cursor that failed once stands on a byte that fails again. */
static int spoil(struct sf_cursor *cursor)
{
    *cursor = (struct sf_cursor){ .rest = VIEW("!"), .started = true };
    return -EBADMSG;
}

int sf_list_next(struct sf_cursor *cursor, struct sf_item *ret_item)
{
    struct sf_item item;
    int r = before_member(cursor);

    if (r == 0)
        return 0;
    if (r < 0 || !scan_member(&cursor->rest, &item))
        return spoil(cursor);
    *ret_item = item;
    return 1;
}

int sf_dict_next(struct sf_cursor *cursor, struct view *ret_key, struct sf_item *ret_item)
{
    struct sf_item item = { .type = SF_BOOLEAN, .number = 1 };
    struct view key;
    int r = before_member(cursor);

    if (r == 0)
        return 0;
    if (r < 0 || !scan_key(&cursor->rest, &key))
        return spoil(cursor);
    if (!(take_char(&cursor->rest, '=') ? scan_member(&cursor->rest, &item) : scan_params(&cursor->rest, &item.params)))
        return spoil(cursor);
    *ret_key = key;
    *ret_item = item;
    return 1;
}

int sf_parse_item(struct view input, struct sf_item *ret_item)
{
    struct sf_cursor cursor = sf_cursor(input);
    struct sf_item item;

    if (!scan_item(&cursor.rest, &item) || cursor.rest.len)
        return -EBADMSG;
    *ret_item = item;
    return 0;
}

struct sf_cursor sf_params(const struct sf_item *item)
{
    return (struct sf_cursor){ .rest = item->params };
}

int sf_param_next(struct sf_cursor *cursor, struct view *ret_key, struct sf_item *ret_value)
{
    return take_char(&cursor->rest, ';') && scan_param(&cursor->rest, ret_key, ret_value);
}

struct sf_cursor sf_inner(const struct sf_item *list)
{
    return (struct sf_cursor){ .rest = list->type == SF_INNER_LIST ? list->text : VIEW_NONE };
}

int sf_inner_next(struct sf_cursor *cursor, struct sf_item *ret_item)
{
    skip_spaces(&cursor->rest);
    return cursor->rest.len && scan_item(&cursor->rest, ret_item);
}

void sf_string_put(struct text *t, const struct sf_item *item)
{
    for (size_t i = 0; i < item->text.len; i++) {
        if (item->text.ptr[i] == '\\' && i + 1 < item->text.len)
            i++;
        text_char(t, item->text.ptr[i]);
    }
}

void sf_bytes_put(struct text *t, const struct sf_item *item)
{
    uint32_t bits = 0;
    unsigned count = 0;

    for (size_t i = 0; i < item->text.len && item->text.ptr[i] != '='; i++) {
        bits = (bits << 6 | (uint32_t)base64_value(item->text.ptr[i])) & 0xffffff;
        count += 6;
        if (count >= 8) {
            count -= 8;
            text_char(t, (char)(unsigned char)(bits >> count));
        }
    }
}

void sf_put_string(struct text *t, struct view value)
{
    text_char(t, '"');
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];

        if (c == '"' || c == '\\')
            text_char(t, '\\');
        text_char(t, c < 0x20 || c > 0x7e ? '?' : c);
    }
    text_char(t, '"');
}

bool sf_is_token(struct view value)
{
    if (!value.len || (value.ptr[0] != '*' && !is_alpha(value.ptr[0])))
        return false;
    for (size_t i = 1; i < value.len; i++)
        if (!is_token_char(value.ptr[i]))
            return false;
    return true;
}

bool sf_is_key(struct view value)
{
    struct view key;

    return scan_key(&value, &key) && value.len == 0;
}
