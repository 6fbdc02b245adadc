/* HTTP/1.1 message parsing (RFC 9112): pure, no I/O, no allocation, strict. Three outcomes everywhere: consumed, need more,
 * malformed. Whatever two servers could read differently (request smuggling) is malformed. */
#pragma once

#include "base/text.h"
#include "proto/field.h"

enum http_method {
    METHOD_OTHER, /* valid token, unknown meaning: unsafe, passed through, invalidates */
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_CONNECT,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_PATCH,
    METHOD_PURGE,
    METHOD_COUNT
};

enum http_body {
    BODY_NONE,    /* ends with the head */
    BODY_LENGTH,  /* Content-Length */
    BODY_CHUNKED, /* Transfer-Encoding, chunked last */
    BODY_EOF,     /* responses only: until the connection closes */
};

/* Why a message was refused: picks the status and is named in logs. */
enum http1_error {
    HTTP1_OK,
    HTTP1_BAD_REQUEST_LINE,      /* 400 */
    HTTP1_BAD_VERSION,           /* 505: well-formed HTTP/x.y with x != 1 */
    HTTP1_TARGET_TOO_LONG,       /* 414 */
    HTTP1_HEAD_TOO_LARGE,        /* 431 */
    HTTP1_TOO_MANY_FIELDS,       /* 431 */
    HTTP1_BAD_FIELD_NAME,        /* 400: includes space before colon and obs-fold */
    HTTP1_BAD_FIELD_VALUE,       /* 400: bare CR, LF, NUL, other controls */
    HTTP1_BAD_HOST,              /* 400: missing in 1.1, several, or invalid */
    HTTP1_BAD_CONTENT_LENGTH,    /* 400: not digits, several that differ, overflow */
    HTTP1_BAD_TRANSFER_ENCODING, /* 400: with Content-Length, not ending in chunked, in HTTP/1.0 */
    HTTP1_UNSUPPORTED_CODING,    /* 501: a transfer coding other than chunked before the final chunked */
    HTTP1_BAD_STATUS_LINE,
    HTTP1_BAD_CHUNK,
    HTTP1_ERROR_COUNT
};
/* Short text for a log line or an error body: "Content-Length is not a number". */
const char *http1_error_text(enum http1_error error);
/* 400, 414, 431, 501 or 505. */
int http1_error_status(enum http1_error error);

struct http1_limits {
    size_t head_max;   /* bytes of request/status line and fields together */
    size_t target_max; /* bytes */
};

struct http_request {
    enum http_method method;
    struct view method_name;
    struct view target; /* as received */
    /* Split of the target (RFC 9112 §3.2). Absolute-form gives scheme and authority; origin-form leaves scheme empty. */
    struct view scheme;
    struct view authority; /* absolute-form's, else Host's; the valid one to use. Empty only in HTTP/1.0 without Host */
    struct view path;      /* begins with '/', or is "*" for OPTIONS *; never empty (absolute-form without path: "/")
                            * but for CONNECT, which has none */
    struct view query;     /* without '?'; ptr == NULL when there is no '?' */
    uint8_t minor;         /* HTTP/1.minor, 0 or 1 */
    bool keep_alive;       /* what version and Connection say */
    bool expect_continue;
    enum http_body body;     /* NONE, LENGTH or CHUNKED */
    uint64_t content_length; /* with BODY_LENGTH; may be 0 */
    struct fields fields;    /* caller provides memory with fields_init() before parsing */
};

struct http_response {
    uint16_t status; /* 100..999 */
    struct view reason;
    uint8_t minor;
    bool keep_alive;         /* version and Connection; false too when body == BODY_EOF */
    enum http_body body;     /* after applying request method and status (RFC 9112 §6.3) */
    uint64_t content_length; /* valid when body == BODY_LENGTH; for HEAD and 304 also when has_content_length */
    bool has_content_length;
    struct fields fields;
};

/* Parses one head from the start of `input`. Returns the bytes it occupies (>0), -EAGAIN when incomplete, or -EBADMSG
 * with *ret_error set. Empty lines before a request line are skipped and counted (at most 2).
 * `scanned` remembers how far the search for the end got, so that a head arriving in small pieces is not scanned
 * quadratically: start with 0, pass the same variable again after -EAGAIN (the bytes seen so far must be unchanged).
 * All views in `request` borrow from `input` (or from constants). A bare LF line end is refused. Every call starts
 * `request` afresh, keeping only the memory of its fields. */
int http1_parse_request(struct view input, const struct http1_limits *limits, size_t *scanned,
                        struct http_request *request, enum http1_error *ret_error);

/* As above for a response to `method`. Accepts any 3-digit status >= 100. Content-Length with Transfer-Encoding from an
 * origin is malformed too; several Content-Length lines or list members that agree are accepted (RFC 9110 §8.6). */
int http1_parse_response(struct view input, const struct http1_limits *limits, size_t *scanned, enum http_method method,
                         struct http_response *response, enum http1_error *ret_error);

/* Incremental chunked decoding (RFC 9112 §7.1). */
struct http1_chunked {
    uint64_t left;     /* data bytes still to come in this chunk */
    uint32_t overhead; /* bytes of chunk extensions, then of trailers, so far; limited */
    uint8_t state;
    uint8_t digits; /* of the size being read */
    bool done;      /* last chunk and trailers consumed */
};

/* Consumes framing from the start of `input` up to the next data bytes. Returns bytes consumed (>= 0) with
 * *ret_data = the run of data available right after them (may be empty: need more input, or done); the caller consumes
 * all of that run and calls again with what follows (to take less, pass less input). -EBADMSG on malformed framing (bad
 * size, size >= 2^63, bare LF, extensions over 4 KiB a message, trailers over 8 KiB). Trailer lines are appended to
 * `trailers` when it is not NULL (raw "name: value\r\n" lines, validated; all dropped when it overflows; which trailer
 * fields may be merged or forwarded is the caller's decision, RFC 9110 §6.5). Start with a zeroed decoder; once done is
 * set it consumes nothing. */
int http1_chunked_next(struct http1_chunked *decoder, struct view input, struct view *ret_data, struct text *trailers);
