/* Incremental chunked decoding (RFC 9112 §7.1), a byte machine over the framing; data bytes are handed out in runs and
 * never looked at. Every part of the framing has a limit, and bare CR or LF, signs, "0x", white space after the size and
 * obs-fold in trailers are refused: each has been used to make two servers disagree. */
#include "proto/http1.h"
#include "proto/scan.h"

#include <errno.h>

enum {
    SIZE_DIGITS_MAX = 16,
    EXTENSIONS_MAX = 4096,
    TRAILERS_MAX = 8192,
};

enum chunked_state {
    AT_SIZE, /* first: a zeroed decoder starts here */
    AT_EXTENSION_SPACE,
    AT_EXTENSION,
    AT_SIZE_LF,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_TRAILER_START,
    AT_TRAILER_NAME,
    AT_TRAILER_VALUE,
    AT_TRAILER_LF,
    AT_END_LF,
};

static int size_byte(struct http1_chunked *decoder, char c)
{
    int digit = ascii_hex(c);

    if (digit >= 0) {
        /* 16 digits at most, zeros included, and below 2^63. */
        if (decoder->digits == SIZE_DIGITS_MAX || decoder->left >> 59)
            return -EBADMSG;
        decoder->digits++;
        decoder->left = decoder->left << 4 | (uint64_t)digit;
        return AT_SIZE;
    }
    if (decoder->digits == 0)
        return -EBADMSG;
    switch (c) {
    case '\r': return AT_SIZE_LF;
    case ';': return AT_EXTENSION;
    case ' ':
    case '\t': return AT_EXTENSION_SPACE; /* bad white space is allowed before ';' only, §7.1.1 */
    default: return -EBADMSG;
    }
}

static int size_end(struct http1_chunked *decoder)
{
    decoder->digits = 0;
    if (decoder->left)
        return AT_DATA;
    decoder->overhead = 0; /* now counts trailers */
    return AT_TRAILER_START;
}

static int trailer_byte(struct http1_chunked *decoder, char c)
{
    switch (decoder->state) {
    case AT_TRAILER_START:
        if (c == '\r')
            return AT_END_LF;
        return scan_is(c, SCAN_TOKEN) ? AT_TRAILER_NAME : -EBADMSG;
    case AT_TRAILER_NAME:
        if (c == ':')
            return AT_TRAILER_VALUE;
        return scan_is(c, SCAN_TOKEN) ? AT_TRAILER_NAME : -EBADMSG;
    case AT_TRAILER_VALUE:
        if (c == '\r')
            return AT_TRAILER_LF;
        return scan_is(c, SCAN_VALUE) ? AT_TRAILER_VALUE : -EBADMSG;
    default: return c == '\n' ? AT_TRAILER_START : -EBADMSG;
    }
}

/* The state after `c`, or -EBADMSG. */
static int framing_byte(struct http1_chunked *decoder, char c)
{
    switch ((enum chunked_state)decoder->state) {
    case AT_SIZE: return size_byte(decoder, c);
    case AT_EXTENSION_SPACE:
        if (++decoder->overhead > EXTENSIONS_MAX)
            return -EBADMSG;
        return c == ';' ? AT_EXTENSION : c == ' ' || c == '\t' ? AT_EXTENSION_SPACE : -EBADMSG;
    case AT_EXTENSION:
        if (++decoder->overhead > EXTENSIONS_MAX)
            return -EBADMSG;
        return c == '\r' ? AT_SIZE_LF : scan_is(c, SCAN_VALUE) ? AT_EXTENSION : -EBADMSG;
    case AT_SIZE_LF: return c == '\n' ? size_end(decoder) : -EBADMSG;
    case AT_DATA_CR: return c == '\r' ? AT_DATA_LF : -EBADMSG;
    case AT_DATA_LF: return c == '\n' ? AT_SIZE : -EBADMSG;
    case AT_END_LF: return c == '\n' ? AT_END_LF : -EBADMSG;
    case AT_DATA: return -EBADMSG; /* not framing: never asked */
    default:
        if (++decoder->overhead > TRAILERS_MAX)
            return -EBADMSG;
        return trailer_byte(decoder, c);
    }
}

static bool in_trailer_line(uint8_t state)
{
    return state == AT_TRAILER_NAME || state == AT_TRAILER_VALUE || state == AT_TRAILER_LF;
}

static void keep_trailer(struct text *trailers, char c)
{
    if (!trailers || trailers->overflow)
        return;
    text_char(trailers, c);
    if (trailers->overflow)
        trailers->len = 0; /* all or nothing: half a set of trailers would be another message */
}

int http1_chunked_next(struct http1_chunked *decoder, struct view input, struct view *ret_data, struct text *trailers)
{
    size_t at = 0, limit = MIN(input.len, (size_t)INT32_MAX);
    struct view data = view_make(input.ptr, 0);

    while (at < limit && !decoder->done && decoder->state != AT_DATA) {
        char c = input.ptr[at++];
        int next = framing_byte(decoder, c);

        if (next < 0)
            return next;
        if (in_trailer_line(decoder->state) || in_trailer_line((uint8_t)next))
            keep_trailer(trailers, c);
        decoder->done = decoder->state == AT_END_LF;
        decoder->state = (uint8_t)next;
    }
    if (!decoder->done && decoder->state == AT_DATA && at < input.len) {
        data = view_first(view_skip(input, at), (size_t)MIN(decoder->left, (uint64_t)(input.len - at)));
        decoder->left -= data.len;
        if (decoder->left == 0)
            decoder->state = AT_DATA_CR;
    }
    *ret_data = data;
    return (int)at;
}
