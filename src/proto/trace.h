/* W3C Trace Context: traceparent and the bounds of tracestate. Pure; new ids are the caller's (randomness is an
 * argument, never taken here). */
#pragma once

#include "base/text.h"

enum { TRACE_SAMPLED = 1 }; /* of flags */

struct trace_context {
    uint64_t trace_id[2]; /* upper and lower half; not both 0 */
    uint64_t parent_id;   /* not 0 */
    uint8_t flags;
};

/* "00-<32 hex>-<16 hex>-<2 hex>", lower case. A later version is read as far as version 00 goes; ff is invalid. -EBADMSG:
 * then a new trace is started and tracestate is dropped. */
int trace_parse(struct view value, struct trace_context *ret);
/* Version 00; of the flags only the one that version knows is sent. */
void trace_put(const struct trace_context *trace, struct text *out);
/* One line of tracestate worth passing on: key=value members, 32 and 512 bytes at most, keys and values of allowed
 * characters. Duplicate keys are not looked for. */
bool trace_state_valid(struct view value);
