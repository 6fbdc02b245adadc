/* Parts of HTTP/1.1 heads: version, field lines, body framing fields, and the bookkeeping for heads that arrive in
 * pieces.
 *
 * A head is parsed in one pass from its start. When the input ends first, the bytes seen are remembered and nothing is
 * parsed again until a line end arrives: a head has at most as many lines as fields allowed, so the work stays bounded
 * however small the pieces are, and a bad line is refused as soon as it is complete. */
#include "proto/http1_parts.h"

#include "proto/scan.h"

#include <errno.h>

static const struct {
    const char *text;
    int status;
} errors[HTTP1_ERROR_COUNT] = {
    [HTTP1_OK] = { "no error", 200 },
    [HTTP1_BAD_REQUEST_LINE] = { "the request line is malformed", 400 },
    [HTTP1_BAD_VERSION] = { "this version of HTTP is not spoken here", 505 },
    [HTTP1_TARGET_TOO_LONG] = { "the request target is too long", 414 },
    [HTTP1_HEAD_TOO_LARGE] = { "the message head is too large", 431 },
    [HTTP1_TOO_MANY_FIELDS] = { "the message has too many header fields", 431 },
    [HTTP1_BAD_FIELD_NAME] = { "a field name is malformed", 400 },
    [HTTP1_BAD_FIELD_VALUE] = { "a field value contains a control character", 400 },
    [HTTP1_BAD_HOST] = { "Host is missing, repeated or invalid", 400 },
    [HTTP1_BAD_CONTENT_LENGTH] = { "Content-Length is not one number", 400 },
    [HTTP1_BAD_TRANSFER_ENCODING] = { "Transfer-Encoding does not frame the message", 400 },
    [HTTP1_UNSUPPORTED_CODING] = { "a transfer coding other than chunked is not supported", 501 },
    [HTTP1_BAD_STATUS_LINE] = { "the status line is malformed", 400 },
    [HTTP1_BAD_CHUNK] = { "the chunked framing is malformed", 400 },
};

const char *http1_error_text(enum http1_error error)
{
    return error < HTTP1_ERROR_COUNT ? errors[error].text : "unknown error";
}

int http1_error_status(enum http1_error error)
{
    return error < HTTP1_ERROR_COUNT ? errors[error].status : 400;
}

bool http1_part_worth_parsing(struct view input, const struct http1_limits *limits, size_t scanned)
{
    return scanned == 0 || input.len >= limits->head_max || view_contains(view_skip(input, scanned), '\n');
}

int http1_part_result(enum http1_part part, enum http1_error error, struct view input,
                      const struct http1_limits *limits, size_t *scanned, enum http1_error *ret_error)
{
    if (part == PART_MORE && input.len < limits->head_max) {
        *scanned = input.len;
        return -EAGAIN;
    }
    *ret_error = part == PART_MORE ? HTTP1_HEAD_TOO_LARGE : error;
    return -EBADMSG;
}

enum http1_part http1_part_version(struct http1_cursor *cursor, uint8_t *ret_minor, enum http1_error garbage,
                                   enum http1_error *error)
{
    static const char form[] = "HTTP/d.d";
    const char *at = cursor->at;

    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        if (at + i == cursor->end)
            return PART_MORE;
        if (form[i] == 'd' ? at[i] < '0' || at[i] > '9' : at[i] != form[i]) {
            *error = garbage;
            return PART_BAD;
        }
    }
    if (at[5] != '1') {
        *error = HTTP1_BAD_VERSION;
        return PART_BAD;
    }
    *ret_minor = at[7] == '0' ? 0 : 1; /* a later 1.x is understood as 1.1, RFC 9110 §2.5 */
    cursor->at = at + sizeof(form) - 1;
    return PART_OK;
}

enum http1_part http1_part_crlf(struct http1_cursor *cursor, enum http1_error garbage, enum http1_error *error)
{
    for (size_t i = 0; i < 2; i++) {
        if (cursor->at + i == cursor->end)
            return PART_MORE;
        if (cursor->at[i] != "\r\n"[i]) {
            *error = garbage;
            return PART_BAD;
        }
    }
    cursor->at += 2;
    return PART_OK;
}

enum http1_part http1_part_fields(struct http1_cursor *cursor, struct fields *fields, enum http1_error *error)
{
    const char *at = cursor->at, *end = cursor->end;

    for (;;) {
        const char *name = at, *value, *stop;
        size_t name_len;

        at = scan_token(at, end);
        if (at == end)
            return PART_MORE;
        if (at == name && *at == '\r') {
            cursor->at = at;
            return http1_part_crlf(cursor, HTTP1_BAD_FIELD_NAME, error);
        }
        if (unlikely(at == name || *at != ':')) { /* obs-fold and a space before the colon end here */
            *error = HTTP1_BAD_FIELD_NAME;
            return PART_BAD;
        }
        name_len = (size_t)(at - name);
        at++;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        value = at;
        at = scan_value(at, end);
        stop = at;
        if (end - at < 2 && (at == end || *at == '\r'))
            return PART_MORE;
        if (unlikely(at[0] != '\r' || at[1] != '\n')) {
            *error = HTTP1_BAD_FIELD_VALUE;
            return PART_BAD;
        }
        at += 2;
        while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (unlikely(fields_add(fields, field_lookup(view_make(name, name_len)), view_make(name, name_len),
                                view_make(value, (size_t)(stop - value))) < 0)) {
            *error = HTTP1_TOO_MANY_FIELDS;
            return PART_BAD;
        }
    }
}

int http1_part_length(const struct fields *fields, uint64_t *ret)
{
    const struct field *field = fields_get(fields, FIELD_CONTENT_LENGTH);
    uint64_t length = 0, member;
    bool seen = false;

    for (; field; field = fields_next(fields, field)) {
        struct view rest = field->value;

        /* Lists that agree come from somebody merging lines (RFC 9110 §8.6); empty members come from nobody honest. */
        do {
            if (!view_parse_u64(view_trim(view_cut(&rest, ',')), &member) || member > INT64_MAX)
                return -EBADMSG;
            if (seen && member != length)
                return -EBADMSG;
            seen = true;
            length = member;
        } while (rest.ptr);
    }
    if (seen)
        *ret = length;
    return seen;
}

enum http1_error http1_part_coding(const struct fields *fields)
{
    struct field_list it = field_list(fields, FIELD_TRANSFER_ENCODING);
    bool chunked = false, other = false;
    struct view member;

    while (field_list_next(&it, &member)) {
        if (chunked)
            return HTTP1_BAD_TRANSFER_ENCODING; /* something after chunked, chunked twice included */
        if (view_eq_icase(member, VIEW("chunked")))
            chunked = true;
        else
            other = true;
    }
    if (!chunked)
        return HTTP1_BAD_TRANSFER_ENCODING;
    return other ? HTTP1_UNSUPPORTED_CODING : HTTP1_OK;
}

bool http1_part_keep_alive(const struct fields *fields, uint8_t minor)
{
    if (!fields_has(fields, FIELD_CONNECTION))
        return minor == 1;
    if (fields_list_has(fields, FIELD_CONNECTION, VIEW("close")))
        return false;
    return minor == 1 || fields_list_has(fields, FIELD_CONNECTION, VIEW("keep-alive"));
}
