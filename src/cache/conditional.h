/* A client's conditions against a stored response (RFC 9110 §13, RFC 9111 §4.3.2), the 304 that follows, and freshening a stored
 * head with an origin's 304 (RFC 9111 §3.2). Heads are in the form of object.head: status line and fields, each with CRLF. */
#pragma once

#include "proto/http1.h"
#include "store/object.h"

enum condition {
    COND_NONE,         /* send the response */
    COND_NOT_MODIFIED, /* 304 */
    COND_FAILED,       /* 412 */
};

/* `etag` as in object.etag, may be empty. Conditions apply to a stored 2xx only. Order (§13.2.2): If-Match, else
 * If-Unmodified-Since; then If-None-Match, else If-Modified-Since (GET and HEAD). Unparsable dates are ignored. */
enum condition conditional_evaluate(const struct fields *request, enum http_method method, uint16_t status,
                                    struct view etag, const struct object_times *times);

/* Appends "HTTP/1.1 304 Not Modified\r\n" and the fields of `head` a 304 carries: ETag, Date, Cache-Control, Vary, Expires,
 * Content-Location, the targeted cache controls, and Last-Modified where there is no ETag. No empty line. */
void conditional_304_head(struct view head, struct text *out);

/* Appends the stored head with the fields of a 304 applied: each named field replaces all stored lines of that name; never
 * Content-Length, -Encoding, -Type, -Range or ETag; what the 304 does not name stays; hop-by-hop and Connection-listed
 * fields and Age are left out. The status line stays. */
void head_merge_304(struct view head, const struct fields *not_modified, struct text *out);

/* Does the 304 speak about this stored response (RFC 9111 §4.3.4)? Two strong ETags must be equal; otherwise equal weakly; where
 * one side has no ETag, Last-Modified must be equal where both have one. */
bool validator_selects(const struct fields *not_modified, struct view stored_etag, int64_t stored_last_modified_s,
                       int64_t now_s);

/* Appends the If-None-Match / If-Modified-Since lines that validate a stored response; false when it has no validator. */
bool conditional_request_put(struct text *out, struct view etag, int64_t last_modified_s);

/* Walks a stored head: the status line is skipped. Start with *rest = head. */
bool head_next(struct view *rest, struct view *ret_name, struct view *ret_value);
/* The value of the first field of this name, VIEW_NONE when absent. */
struct view head_value(struct view head, enum field_id id);
