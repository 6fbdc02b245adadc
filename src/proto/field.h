/* Known HTTP field names as small integers, so that steps ask for FIELD_AGE instead of comparing strings, and the parsed
 * head of a message. */
#pragma once

#include "base/view.h"

#include <stdint.h>

/* X(identifier, "canonical-name") — lower case here; sent as in field_name(). Sorted by name. */
#define FIELD_LIST(X) \
    X(ACCEPT, "Accept") \
    X(ACCEPT_ENCODING, "Accept-Encoding") \
    X(ACCEPT_LANGUAGE, "Accept-Language") \
    X(ACCEPT_RANGES, "Accept-Ranges") \
    X(AGE, "Age") \
    X(ALLOW, "Allow") \
    X(AUTHORIZATION, "Authorization") \
    X(CACHE_CONTROL, "Cache-Control") \
    X(CACHE_GROUP_INVALIDATION, "Cache-Group-Invalidation") \
    X(CACHE_GROUPS, "Cache-Groups") \
    X(CACHE_STATUS, "Cache-Status") \
    X(CACHE_TAG, "Cache-Tag") \
    X(CDN_CACHE_CONTROL, "CDN-Cache-Control") \
    X(CDN_LOOP, "CDN-Loop") \
    X(CONNECTION, "Connection") \
    X(CONTENT_ENCODING, "Content-Encoding") \
    X(CONTENT_LANGUAGE, "Content-Language") \
    X(CONTENT_LENGTH, "Content-Length") \
    X(CONTENT_LOCATION, "Content-Location") \
    X(CONTENT_RANGE, "Content-Range") \
    X(CONTENT_TYPE, "Content-Type") \
    X(COOKIE, "Cookie") \
    X(DATE, "Date") \
    X(DOORSTEP_AUTHORIZATION, "Doorstep-Authorization") \
    X(DOORSTEP_CACHE_CONTROL, "Doorstep-Cache-Control") \
    X(DOORSTEP_DEADLINE, "Doorstep-Deadline") \
    X(DOORSTEP_POSITION, "Doorstep-Position") \
    X(DOORSTEP_REGION, "Doorstep-Region") \
    X(ETAG, "ETag") \
    X(EXPECT, "Expect") \
    X(EXPIRES, "Expires") \
    X(FORWARDED, "Forwarded") \
    X(HOST, "Host") \
    X(HTTP2_SETTINGS, "HTTP2-Settings") \
    X(IF_MATCH, "If-Match") \
    X(IF_MODIFIED_SINCE, "If-Modified-Since") \
    X(IF_NONE_MATCH, "If-None-Match") \
    X(IF_RANGE, "If-Range") \
    X(IF_UNMODIFIED_SINCE, "If-Unmodified-Since") \
    X(KEEP_ALIVE, "Keep-Alive") \
    X(LAST_MODIFIED, "Last-Modified") \
    X(LOCATION, "Location") \
    X(PRAGMA, "Pragma") \
    X(PROXY_AUTHENTICATE, "Proxy-Authenticate") \
    X(PROXY_AUTHENTICATION_INFO, "Proxy-Authentication-Info") \
    X(PROXY_AUTHORIZATION, "Proxy-Authorization") \
    X(PROXY_CONNECTION, "Proxy-Connection") \
    X(PROXY_STATUS, "Proxy-Status") \
    X(RANGE, "Range") \
    X(REFERER, "Referer") \
    X(RETRY_AFTER, "Retry-After") \
    X(SERVER, "Server") \
    X(SERVER_TIMING, "Server-Timing") \
    X(SET_COOKIE, "Set-Cookie") \
    X(SURROGATE_KEY, "Surrogate-Key") \
    X(TE, "TE") \
    X(TRACEPARENT, "traceparent") \
    X(TRACESTATE, "tracestate") \
    X(TRAILER, "Trailer") \
    X(TRANSFER_ENCODING, "Transfer-Encoding") \
    X(UPGRADE, "Upgrade") \
    X(USER_AGENT, "User-Agent") \
    X(VARY, "Vary") \
    X(VIA, "Via") \
    X(WARNING, "Warning") \
    X(X_FORWARDED_FOR, "X-Forwarded-For") \
    X(X_FORWARDED_HOST, "X-Forwarded-Host") \
    X(X_FORWARDED_PROTO, "X-Forwarded-Proto") \
    X(X_REQUEST_ID, "X-Request-Id")

enum field_id {
    FIELD_OTHER, /* a name we do not know; compare strings */
#define X(id, name) FIELD_##id,
    FIELD_LIST(X)
#undef X
        FIELD_COUNT
};

struct field {
    struct view name;  /* as received */
    struct view value; /* without surrounding white space */
    uint16_t id;       /* enum field_id */
};

/* FIELD_OTHER for unknown names. Case-insensitive. Constant time in the number of known names. */
enum field_id field_lookup(struct view name);
/* Canonical spelling, e.g. "Content-Length". */
struct view field_name(enum field_id id);

/* The fields of a message, in order of arrival. `first[id]` is 1 + the position of the first field with that id, or 0;
 * it makes "is there an Age?" one load. Names and values borrow from wherever they were parsed. */
struct fields {
    struct field *list;
    uint16_t count, cap;
    uint8_t first[FIELD_COUNT]; /* positions above 254 are found by scanning (value 255) */
};

void fields_init(struct fields *fields, struct field *memory, size_t cap);
/* -ENOBUFS when full. */
int fields_add(struct fields *fields, enum field_id id, struct view name, struct view value);
/* The first field of this id, or NULL. */
const struct field *fields_get(const struct fields *fields, enum field_id id);
/* The next field of the same id (or, for FIELD_OTHER, the same name) after `after`, or NULL. */
const struct field *fields_next(const struct fields *fields, const struct field *after);
/* The value of the first field of this id, VIEW_NONE when absent. */
struct view fields_value(const struct fields *fields, enum field_id id);
/* By name, for fields without an id. */
const struct field *fields_find(const struct fields *fields, struct view name);
static inline bool fields_has(const struct fields *fields, enum field_id id)
{
    return fields->first[id] != 0;
}

/* Walks the comma-separated members of all lines of one list-based field (RFC 9110 §5.6.1), quoted strings respected,
 * empty members skipped, white space trimmed. Start with {0}-initialised `it` plus fields and id:
 *     struct field_list it = field_list(fields, FIELD_VARY); struct view member;
 *     while (field_list_next(&it, &member)) ... */
struct field_list {
    const struct fields *fields;
    const struct field *line;
    struct view rest;
};
struct field_list field_list(const struct fields *fields, enum field_id id);
bool field_list_next(struct field_list *it, struct view *ret_member);

/* True when a comma-separated list field has this token, case-insensitively (Connection: close, TE: trailers). */
bool fields_list_has(const struct fields *fields, enum field_id id, struct view token);

/* Hop-by-hop: Connection and what it names, Keep-Alive, Proxy-Connection, Proxy-Authenticate (response), Proxy-
 * Authorization, Proxy-Authentication-Info, TE, Trailer, Transfer-Encoding, Upgrade, HTTP2-Settings (RFC 9110 §7.6.1), and what
 * two nodes say to each other: Doorstep-Authorization, -Deadline, -Position, -Region (docs/parents.md). */
bool field_is_hop_by_hop(const struct fields *fields, const struct field *field);
