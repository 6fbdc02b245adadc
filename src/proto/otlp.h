/* Spans in OTLP's JSON encoding (opentelemetry-proto, trace/v1; JSON Protobuf Encoding of the OTLP specification: ids in hexadecimal,
 * 64-bit numbers as strings, enums as numbers). Pure. A span is written piece by piece:
 *
 *   otlp_begin, any attributes, any events with any attributes of theirs, otlp_end */
#pragma once

#include "base/buf.h"

enum otlp_kind { OTLP_INTERNAL = 1, OTLP_SERVER = 2, OTLP_CLIENT = 3 };

struct otlp_span {
    uint64_t trace_id[2], id;
    uint64_t parent; /* 0: none */
    struct view name;
    enum otlp_kind kind;
    uint64_t start_ns, end_ns; /* since 1970 */
    bool failed;
};

struct otlp {
    struct buf *out;
    bool first_span, first_attribute, in_event;
};

/* `out` gets spans with commas between them. */
struct otlp otlp_make(struct buf *out);
void otlp_begin(struct otlp *otlp, const struct otlp_span *span);
/* Of the span, or of the event begun last. An empty text is left out. */
void otlp_text(struct otlp *otlp, const char *name, struct view value);
void otlp_number(struct otlp *otlp, const char *name, int64_t value);
void otlp_bool(struct otlp *otlp, const char *name, bool value);
void otlp_event(struct otlp *otlp, const char *name, uint64_t at_ns);
void otlp_end(struct otlp *otlp);

/* What stands before and after the spans of one service in an export request. */
struct otlp_service {
    struct view name, version, instance, region;
};
void otlp_open(struct buf *out, const struct otlp_service *service);
void otlp_close(struct buf *out);
