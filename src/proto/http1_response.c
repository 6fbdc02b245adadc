/* HTTP/1.1 response heads (RFC 9112 §4) and how long their bodies are (§6.3). As strict about fields and framing as the
 * request parser: an origin, too, can be made to answer what two readers understand differently. */
#include "proto/http1_parts.h"
#include "proto/scan.h"

#include <errno.h>

static enum http1_part status_line(struct http1_cursor *cursor, struct http_response *response, enum http1_error *error)
{
    enum http1_part part = http1_part_version(cursor, &response->minor, HTTP1_BAD_STATUS_LINE, error);
    const char *at = cursor->at, *end = cursor->end;
    unsigned status = 0;

    if (part != PART_OK)
        return part;
    *error = HTTP1_BAD_STATUS_LINE;
    for (int i = 0; i < 4; i++, at++) {
        if (at == end)
            return PART_MORE;
        if (i == 0 ? *at != ' ' : *at < '0' || *at > '9')
            return PART_BAD;
        if (i > 0)
            status = status * 10 + (unsigned)(*at - '0');
    }
    if (status < 100)
        return PART_BAD;
    response->status = (uint16_t)status;
    if (at == end)
        return PART_MORE;
    if (*at == ' ') { /* its absence before an empty reason is a common and harmless mistake */
        const char *reason = at + 1;

        at = scan_value(reason, end);
        response->reason = view_make(reason, (size_t)(at - reason));
    }
    cursor->at = at;
    return http1_part_crlf(cursor, HTTP1_BAD_STATUS_LINE, error);
}

static enum http1_error check_body(struct http_response *response, enum http_method method)
{
    int length = http1_part_length(&response->fields, &response->content_length);
    bool coded = fields_has(&response->fields, FIELD_TRANSFER_ENCODING);
    bool tunnel = method == METHOD_CONNECT && response->status / 100 == 2;

    if (length < 0)
        return HTTP1_BAD_CONTENT_LENGTH;
    if (coded) {
        enum http1_error error = http1_part_coding(&response->fields);

        if (error != HTTP1_OK)
            return error;
        if (length > 0 || response->minor == 0)
            return HTTP1_BAD_TRANSFER_ENCODING;
    }
    response->has_content_length = length > 0;
    if (method == METHOD_HEAD || response->status == 304 || tunnel) {
        response->body = BODY_NONE;
    } else if (response->status / 100 == 1 || response->status == 204) {
        response->body = BODY_NONE;
        /* A body it must not have may follow all the same: nothing after it can be trusted. */
        if (coded || (length > 0 && response->content_length > 0))
            response->keep_alive = false;
    } else if (coded) {
        response->body = BODY_CHUNKED;
    } else if (length > 0) {
        response->body = BODY_LENGTH;
    } else {
        response->body = BODY_EOF;
        response->keep_alive = false;
    }
    return HTTP1_OK;
}

int http1_parse_response(struct view input, const struct http1_limits *limits, size_t *scanned, enum http_method method,
                         struct http_response *response, enum http1_error *ret_error)
{
    struct http1_cursor cursor = { input.ptr, input.ptr + MIN(input.len, MIN(limits->head_max, (size_t)INT32_MAX)) };
    struct field *memory = response->fields.list;
    uint16_t cap = response->fields.cap;
    enum http1_error error = HTTP1_OK;
    enum http1_part part;

    if (!http1_part_worth_parsing(input, limits, *scanned)) {
        *scanned = input.len;
        return -EAGAIN;
    }
    memset(response, 0, offsetof(struct http_response, fields));
    fields_init(&response->fields, memory, cap);
    part = status_line(&cursor, response, &error);
    if (part == PART_OK)
        part = http1_part_fields(&cursor, &response->fields, &error);
    if (part == PART_OK) {
        response->keep_alive = http1_part_keep_alive(&response->fields, response->minor);
        error = check_body(response, method);
        if (error == HTTP1_OK)
            return (int)(cursor.at - input.ptr);
        part = PART_BAD;
    }
    return http1_part_result(part, error, input, limits, scanned, ret_error);
}
