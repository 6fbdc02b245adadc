/* The request head as the origin sees it: the client's end-to-end fields, our hop, who is behind it. Hop-by-hop fields end
 * here (RFC 9110 §7.6.1); the target is the client's, byte for byte. */
#include "http/conn.h"

#include "cache/conditional.h"
#include "http/peer.h"
#include "proto/trace.h"

static void put_field(struct text *t, struct view name, struct view value)
{
    text_put(t, name);
    text_lit(t, ": ");
    text_put(t, value);
    text_lit(t, "\r\n");
}

static bool is_condition(unsigned id)
{
    return id == FIELD_IF_MATCH || id == FIELD_IF_NONE_MATCH || id == FIELD_IF_MODIFIED_SINCE ||
           id == FIELD_IF_UNMODIFIED_SINCE || id == FIELD_IF_RANGE || id == FIELD_RANGE;
}

/* What a stranger says about who is behind it goes no further: it is in no key, so it could poison what is stored. */
static bool trusts_peer(const struct req *r)
{
    return option_cidrs_match(&r->config->trusted, r->conn->address);
}

static bool skips(const struct req *r, const struct field *field, bool strip, bool range_only)
{
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_CDN_LOOP:
    case FIELD_TRACEPARENT: return true;
    case FIELD_X_REQUEST_ID: return r->route->request_id && r->config->request_id_field == FIELD_X_REQUEST_ID;
    case FIELD_TRACESTATE: return !r->trace_goes_on || !trace_state_valid(field->value);
    case FIELD_FORWARDED: return r->route->forwarding & FORWARDING_STANDARD || !trusts_peer(r);
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_FORWARDED_PROTO: return r->route->forwarding & FORWARDING_X || !trusts_peer(r);
    case FIELD_EXPECT: return r->request.body == BODY_NONE || !r->request.expect_continue;
    default:
        if (field->id == FIELD_OTHER && r->route->request_id && view_eq_icase(field->name, r->config->request_id_name))
            return true;
        if (is_condition(field->id))
            return strip || (range_only && field->id != FIELD_RANGE && field->id != FIELD_IF_RANGE);
        return field_is_hop_by_hop(&r->request.fields, field);
    }
}

/* What came before us in a list field of the client, when its sender is trusted; then a comma. */
static void put_earlier(struct text *t, const struct req *r, enum field_id id)
{
    if (!trusts_peer(r))
        return;
    for (const struct field *f = fields_get(&r->request.fields, id); f; f = fields_next(&r->request.fields, f)) {
        text_put(t, f->value);
        text_lit(t, ", ");
    }
}

/* Scheme and host as the client nearest to us that we believe saw them. */
static struct view believed(const struct req *r, enum field_id id, struct view own)
{
    const struct field *field = fields_get(&r->request.fields, id);

    return field && trusts_peer(r) ? field->value : own;
}

static void put_forwarded(struct text *t, const struct req *r)
{
    char memory[64];
    struct text client = TEXT_ON(memory);
    struct address peer = { .is.v6 = { .sin6_family = AF_INET6 }, .len = sizeof(peer.is.v6) };
    bool v6;

    memcpy(&peer.is.v6.sin6_addr, r->conn->address, 16);
    if (r->conn->local)
        text_lit(&client, "unknown");
    else
        address_print_ip(&client, &peer);
    v6 = view_contains(text_view(&client), ':');
    if (r->route->forwarding & FORWARDING_X) {
        text_lit(t, "X-Forwarded-For: ");
        put_earlier(t, r, FIELD_X_FORWARDED_FOR);
        text_put(t, text_view(&client));
        text_lit(t, "\r\n");
        put_field(t, VIEW("X-Forwarded-Proto"), believed(r, FIELD_X_FORWARDED_PROTO, r->scheme));
        put_field(t, VIEW("X-Forwarded-Host"), believed(r, FIELD_X_FORWARDED_HOST, r->request.authority));
    }
    if (r->route->forwarding & FORWARDING_STANDARD) {
        text_lit(t, "Forwarded: ");
        put_earlier(t, r, FIELD_FORWARDED);
        text_put(t, v6 ? VIEW("for=\"[") : VIEW("for="));
        text_put(t, text_view(&client));
        text_put(t, v6 ? VIEW("]\";host=\"") : VIEW(";host=\""));
        text_put(t, r->request.authority);
        text_lit(t, "\";proto=");
        text_put(t, r->scheme);
        text_lit(t, "\r\n");
    }
}

/* W3C Trace Context: a caller's trace goes on under its own ids (this node records no span of its own yet), otherwise one
 * starts here. */
static bool take_trace(struct req *r, struct trace_context *trace)
{
    return trace_parse(fields_value(&r->request.fields, FIELD_TRACEPARENT), trace) == 0;
}

static void put_trace(struct text *t, struct req *r, const struct trace_context *received)
{
    struct trace_context trace = *received;

    if (!r->trace_goes_on)
        trace = (struct trace_context){ .trace_id = { req_random(r), req_random(r) }, .parent_id = req_random(r) };
    text_lit(t, "traceparent: ");
    trace_put(&trace, t);
    text_lit(t, "\r\n");
}

/* Each hop counts one down (RFC 9110 §7.6.2). */
static bool put_max_forwards(struct text *t, const struct req *r, const struct field *field)
{
    uint64_t left;

    if (r->request.method != METHOD_OPTIONS || !view_eq_icase(field->name, VIEW("max-forwards")) ||
        !view_parse_u64(field->value, &left) || left == 0)
        return false;
    text_lit(t, "Max-Forwards: ");
    text_u64(t, left - 1);
    text_lit(t, "\r\n");
    return true;
}

static void put_request_line(struct text *t, const struct req *r, const struct hop *hop)
{
    text_put(t, r->request.method_name);
    text_char(t, ' ');
    text_put(t, r->request.path);
    if (r->request.query.ptr) {
        text_char(t, '?');
        text_put(t, r->request.query);
    }
    text_lit(t, " HTTP/1.1\r\n");
    put_field(t, VIEW("Host"),
              hop->host.len              ? hop->host
              : r->request.authority.len ? r->request.authority
                                         : upstream_authority(hop->upstream));
}

static void put_framing(struct text *t, const struct req *r)
{
    if (r->request.body == BODY_LENGTH) {
        text_lit(t, "Content-Length: ");
        text_u64(t, r->request.content_length);
        text_lit(t, "\r\n");
    } else if (r->request.body == BODY_CHUNKED) {
        text_lit(t, "Transfer-Encoding: chunked\r\n");
    }
    /* Only where a 101 could be followed: not for an HTTP/1.0 client (RFC 9110 §7.8), nor for a fetch that others share. */
    if (r->private_fetch && r->request.minor >= 1 && fields_has(&r->request.fields, FIELD_UPGRADE) &&
        fields_list_has(&r->request.fields, FIELD_CONNECTION, VIEW("upgrade"))) {
        put_field(t, VIEW("Connection"), VIEW("upgrade"));
        put_field(t, VIEW("Upgrade"), fields_value(&r->request.fields, FIELD_UPGRADE));
    }
}

struct view forward_head(struct req *r, const struct object *validators, struct view range, bool strip)
{
    const struct hop *hop = r->fell_back ? &r->route->fallback : &r->route->to;
    size_t cap = r->request_bytes.len + 2 * r->request.authority.len + hop->host.len + 1024 +
                 peer_request_room(r, hop) + (validators ? object_head(validators).len : 0);
    struct text t = text_make(arena_alloc(&r->arena, cap), cap);
    struct trace_context trace;

    if (!t.ptr)
        return VIEW_NONE;
    r->trace_goes_on = take_trace(r, &trace);
    put_request_line(&t, r, hop);
    for (size_t i = 0; i < r->request.fields.count; i++) {
        const struct field *field = &r->request.fields.list[i];

        if (field->id == FIELD_OTHER && put_max_forwards(&t, r, field))
            continue;
        if (!skips(r, field, strip, r->range_forwarded))
            put_field(&t, field->name, field->value);
    }
    if (range.len) {
        put_field(&t, VIEW("Range"), range);
        put_field(&t, VIEW("If-Range"), object_etag(validators));
    } else if (validators && strip) {
        conditional_request_put(&t, object_etag(validators), validators->times.last_modified_s);
    }
    if (r->request_id.len && r->route->request_id)
        put_field(&t, r->config->request_id_name, r->request_id);
    put_trace(&t, r, &trace);
    put_forwarded(&t, r);
    if (r->route->via)
        text_put(&t, r->config->via_line);
    peer_put_request(&t, r, hop);
    put_framing(&t, r);
    text_lit(&t, "\r\n");
    return t.overflow ? VIEW_NONE : text_view(&t);
}
