/* OTLP's JSON encoding of spans, appended as it comes. */
#include "proto/otlp.h"

struct otlp otlp_make(struct buf *out)
{
    return (struct otlp){ .out = out, .first_span = true };
}

static void put_hex(struct buf *out, uint64_t value)
{
    static const char digits[] = "0123456789abcdef";

    for (int shift = 60; shift >= 0; shift -= 4)
        buf_char(out, digits[value >> shift & 15]);
}

static void put_nanoseconds(struct buf *out, const char *name, uint64_t ns)
{
    buf_lit(out, ",\"");
    buf_put(out, view_str(name));
    buf_lit(out, "\":\"");
    buf_u64(out, ns);
    buf_char(out, '"');
}

void otlp_begin(struct otlp *otlp, const struct otlp_span *span)
{
    struct buf *out = otlp->out;

    if (!otlp->first_span)
        buf_char(out, ',');
    otlp->first_span = otlp->in_event = false;
    otlp->first_attribute = true;
    buf_lit(out, "{\"traceId\":\"");
    put_hex(out, span->trace_id[0]);
    put_hex(out, span->trace_id[1]);
    buf_lit(out, "\",\"spanId\":\"");
    put_hex(out, span->id);
    if (span->parent) {
        buf_lit(out, "\",\"parentSpanId\":\"");
        put_hex(out, span->parent);
    }
    buf_lit(out, "\",\"name\":");
    buf_json(out, span->name);
    buf_lit(out, ",\"kind\":");
    buf_u64(out, (uint64_t)span->kind);
    put_nanoseconds(out, "startTimeUnixNano", span->start_ns);
    put_nanoseconds(out, "endTimeUnixNano", MAX(span->end_ns, span->start_ns));
    if (span->failed)
        buf_lit(out, ",\"status\":{\"code\":2}");
    buf_lit(out, ",\"attributes\":[");
}

static void put_key(struct otlp *otlp, const char *name)
{
    if (!otlp->first_attribute)
        buf_char(otlp->out, ',');
    otlp->first_attribute = false;
    buf_lit(otlp->out, "{\"key\":\"");
    buf_put(otlp->out, view_str(name));
    buf_lit(otlp->out, "\",\"value\":{");
}

void otlp_text(struct otlp *otlp, const char *name, struct view value)
{
    if (value.len == 0)
        return;
    put_key(otlp, name);
    buf_lit(otlp->out, "\"stringValue\":");
    buf_json(otlp->out, value);
    buf_lit(otlp->out, "}}");
}

void otlp_number(struct otlp *otlp, const char *name, int64_t value)
{
    put_key(otlp, name);
    buf_lit(otlp->out, "\"intValue\":\"");
    buf_i64(otlp->out, value);
    buf_lit(otlp->out, "\"}}");
}

void otlp_bool(struct otlp *otlp, const char *name, bool value)
{
    put_key(otlp, name);
    buf_put(otlp->out, value ? VIEW("\"boolValue\":true}}") : VIEW("\"boolValue\":false}}"));
}

void otlp_event(struct otlp *otlp, const char *name, uint64_t at_ns)
{
    struct buf *out = otlp->out;

    if (otlp->in_event)
        buf_lit(out, "]},");
    else
        buf_lit(out, "],\"events\":[");
    otlp->in_event = otlp->first_attribute = true;
    buf_lit(out, "{\"name\":\"");
    buf_put(out, view_str(name));
    buf_char(out, '"');
    put_nanoseconds(out, "timeUnixNano", at_ns);
    buf_lit(out, ",\"attributes\":[");
}

void otlp_end(struct otlp *otlp)
{
    buf_put(otlp->out, otlp->in_event ? VIEW("]}]}") : VIEW("]}"));
}

void otlp_open(struct buf *out, const struct otlp_service *service)
{
    const struct {
        const char *name;
        struct view value;
    } resource[] = {
        { "service.name", service->name },
        { "service.version", service->version },
        { "service.instance.id", service->instance },
        { "cloud.region", service->region },
    };
    struct otlp otlp = { .out = out, .first_attribute = true };

    buf_lit(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    for (size_t i = 0; i < ARRAY_LEN(resource); i++)
        otlp_text(&otlp, resource[i].name, resource[i].value);
    buf_lit(out, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"doorstep\"},\"spans\":[");
}

void otlp_close(struct buf *out)
{
    buf_lit(out, "]}]}]}");
}
