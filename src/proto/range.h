/* Range, If-Range, Content-Range and multipart/byteranges (RFC 9110 §14). Lengths and offsets in bytes. */
#pragma once

#include "base/text.h"

/* No request needs more parts; a longer list is answered with the whole (§14.2: a server may ignore Range). */
#define RANGE_MAX 16
/* Members of a list looked at before the field is ignored. */
#define RANGE_MEMBERS_MAX 128

struct range {
    uint64_t first, last; /* both inclusive */
};

enum range_result {
    RANGE_IGNORE, /* malformed, another unit, too many, or not worth it: send the whole */
    RANGE_OK,
    RANGE_UNSATISFIABLE, /* 416 */
};

/* Parses a Range value against a complete length. On RANGE_OK, *ret_count (1..cap) ranges are in `list`, in the order asked
 * for; when any two overlap or stand less than 80 bytes apart (a part head costs more), the list is sorted and coalesced. */
enum range_result range_parse(struct view value, uint64_t complete_len, struct range list[], size_t cap,
                              size_t *ret_count);

/* A single "bytes=N-" or "bytes=N-M" without knowing the length (before the origin has answered); *ret_last is UINT64_MAX when
 * open. False for suffixes, lists and malformed values. */
bool range_parse_single(struct view value, uint64_t *ret_first, uint64_t *ret_last);

/* If-Range (§13.1.5): true when the range applies. An entity tag must be strong and equal; a date must equal Last-Modified, which
 * must be a strong validator (at least one second before Date, §8.8.2.2). -1: no such date. An empty value: true. */
bool range_if_range(struct view value, struct view etag, int64_t last_modified_s, int64_t date_s);

struct content_range {
    uint64_t first, last;
    uint64_t complete;   /* valid when complete_known */
    bool complete_known; /* false: "*" */
    bool unsatisfied;    /* "bytes * /N" of a 416 */
};
/* "bytes a-b/len", strictly: a <= b < len, digits only, one space. False: never combine such a response. */
bool content_range_parse(struct view value, struct content_range *ret);
/* Appends "bytes a-b/len". */
void content_range_put(struct text *t, struct range range, uint64_t complete_len);
/* Appends "bytes * /len" (without the space) for a 416. */
void content_range_put_unsatisfied(struct text *t, uint64_t complete_len);

/* multipart/byteranges: CRLF "--" boundary CRLF fields CRLF CRLF before each part (the first without its leading CRLF), and
 * the end line behind the last. */
void range_part_head(struct text *t, struct view boundary, struct view content_type, struct range range,
                     uint64_t complete_len, bool first_part);
void range_part_end(struct text *t, struct view boundary);
/* Content-Length of the whole multipart body. */
uint64_t range_multipart_len(const struct range list[], size_t count, struct view boundary, struct view content_type,
                             uint64_t complete_len);
