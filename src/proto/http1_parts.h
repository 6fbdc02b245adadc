/* What request and response heads have in common. Private to src/proto/http1*.c. */
#pragma once

#include "proto/http1.h"

struct http1_cursor {
    const char *at, *end; /* end: of the input or of the limit, whichever comes first */
};

/* A step of the parser: PART_OK, PART_MORE (ran into the end), or a refusal with *error set. */
enum http1_part { PART_OK, PART_MORE, PART_BAD };

/* All of a head's parse functions end here: turns a part into the public result and keeps `scanned`. */
int http1_part_result(enum http1_part part, enum http1_error error, struct view input,
                      const struct http1_limits *limits, size_t *scanned, enum http1_error *ret_error);
/* False when nothing that arrived since the last call can change the answer. */
bool http1_part_worth_parsing(struct view input, const struct http1_limits *limits, size_t scanned);
/* "HTTP/1.x" (8 bytes). `garbage` is the error for anything that is not HTTP/digit.digit. */
enum http1_part http1_part_version(struct http1_cursor *cursor, uint8_t *ret_minor, enum http1_error garbage,
                                   enum http1_error *error);
/* CR LF; anything else is `garbage`. */
enum http1_part http1_part_crlf(struct http1_cursor *cursor, enum http1_error garbage, enum http1_error *error);
/* Field lines up to and including the empty line. */
enum http1_part http1_part_fields(struct http1_cursor *cursor, struct fields *fields, enum http1_error *error);
/* Content-Length: 1 and the value, 0 when absent, -EBADMSG. */
int http1_part_length(const struct fields *fields, uint64_t *ret);
/* Transfer-Encoding: HTTP1_OK when it is exactly chunked. Call only when the field is there. */
enum http1_error http1_part_coding(const struct fields *fields);
/* What version and Connection say (RFC 9112 §9.3). */
bool http1_part_keep_alive(const struct fields *fields, uint8_t minor);
