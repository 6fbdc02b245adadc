/* The request head as the origin sees it: the client's end-to-end fields, our hop, who is behind it. Hop-by-hop fields end
 * here (RFC 9110 §7.6.1); the target is the client's, byte for byte. */
#include "http/conn.h"

#include "cache/conditional.h"
#include "cache/freshness.h"
#include "proto/date.h"

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

static bool skips(const struct req *r, const struct field *field, bool strip, bool range_only)
{
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_X_REQUEST_ID:
        return true;
    case FIELD_FORWARDED:
        return r->route->forwarding & FORWARDING_STANDARD;
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_FORWARDED_PROTO:
        return r->route->forwarding & FORWARDING_X;
    case FIELD_EXPECT:
        return r->request.body == BODY_NONE;
    default:
        if (is_condition(field->id))
            return strip || (range_only && field->id != FIELD_RANGE && field->id != FIELD_IF_RANGE);
        return field_is_hop_by_hop(&r->request.fields, field);
    }
}

/* What came before us in a list field of the client, when its sender is trusted; then a comma. */
static void put_earlier(struct text *t, const struct req *r, enum field_id id)
{
    if (!option_cidrs_match(&r->config->trusted, r->conn->address))
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

    return field && option_cidrs_match(&r->config->trusted, r->conn->address) ? field->value : own;
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

/* W3C Trace Context: a caller's trace goes on, otherwise one starts here. The request id makes its span id. */
static void put_trace(struct text *t, const struct req *r)
{
    if (fields_has(&r->request.fields, FIELD_TRACEPARENT) || r->request_id.len != 16)
        return;
    for (size_t i = 0; i < 16; i++)
        if (!strchr("0123456789abcdef", r->request_id.ptr[i]))
            return;
    text_lit(t, "traceparent: 00-");
    text_put(t, r->request_id);
    text_put(t, r->request_id);
    text_char(t, '-');
    text_put(t, r->request_id);
    text_lit(t, "-00\r\n");
}

static void put_request_line(struct text *t, const struct req *r)
{
    text_put(t, r->request.method_name);
    text_char(t, ' ');
    text_put(t, r->request.path);
    if (r->request.query.ptr) {
        text_char(t, '?');
        text_put(t, r->request.query);
    }
    text_lit(t, " HTTP/1.1\r\n");
    put_field(t, VIEW("Host"), r->route->host.len ? r->route->host
                                : r->request.authority.len ? r->request.authority
                                                           : upstream_authority(r->route->upstream));
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
    if (fields_has(&r->request.fields, FIELD_UPGRADE) &&
        fields_list_has(&r->request.fields, FIELD_CONNECTION, VIEW("upgrade"))) {
        put_field(t, VIEW("Connection"), VIEW("upgrade"));
        put_field(t, VIEW("Upgrade"), fields_value(&r->request.fields, FIELD_UPGRADE));
    }
}

struct view forward_head(struct req *r, const struct object *validators, struct view range, bool strip)
{
    size_t cap = r->request_bytes.len + 2 * r->request.authority.len + 1024 + (validators ? validators->head.len : 0);
    struct text t = text_make(arena_alloc(&r->arena, cap), cap);

    if (!t.ptr)
        return VIEW_NONE;
    put_request_line(&t, r);
    for (size_t i = 0; i < r->request.fields.count; i++) {
        const struct field *field = &r->request.fields.list[i];

        if (!skips(r, field, strip, r->range_forwarded))
            put_field(&t, field->name, field->value);
    }
    if (range.len) {
        put_field(&t, VIEW("Range"), range);
        put_field(&t, VIEW("If-Range"), validators->etag);
    } else if (validators && strip) {
        conditional_request_put(&t, validators->etag, validators->times.last_modified_s);
    }
    if (r->request_id.len)
        put_field(&t, r->config->request_id_name, r->request_id);
    put_trace(&t, r);
    put_forwarded(&t, r);
    if (r->route->via)
        text_put(&t, r->config->via_line);
    put_framing(&t, r);
    text_lit(&t, "\r\n");
    return t.overflow ? VIEW_NONE : text_view(&t);
}
