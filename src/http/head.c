/* The fields a node adds to every answer: Age, Cache-Status (RFC 9211), Proxy-Status (RFC 9209), Via, Server-Timing, the
 * request id and framing. This runs for every hit: plain appends, no printf. */
#include "http/conn.h"

#include "base/clock.h"
#include "cache/freshness.h"

static void cache_status(struct req *r, struct text *t)
{
    struct view fwd = why_fwd(r->forward_why);

    text_put(t, r->config->cache_status_name);
    if (r->from_cache) {
        text_lit(t, "hit; ttl=");
        text_i64(t, r->decision.ttl_ms >= 0 ? r->decision.ttl_ms / 1000 : -((-r->decision.ttl_ms + 999) / 1000));
        text_lit(t, "; detail=");
        text_put(t, rung_name(r->rung));
    } else if (r->forwarded) {
        text_lit(t, "fwd=");
        text_put(t, fwd.len ? fwd : VIEW("miss"));
        if (r->fwd_status) {
            text_lit(t, "; fwd-status=");
            text_u64(t, r->fwd_status);
        }
        if (r->stored_flag)
            text_lit(t, "; stored");
        if (r->collapsed)
            text_lit(t, "; collapsed");
        if (r->reader && fetch_hop(r) == &r->route->fallback) {
            text_lit(t, "; detail=fallback");
        } else if (!r->stored_flag && r->why != WHY_NONE) {
            text_lit(t, "; detail=");
            text_put(t, why_name(r->why));
        }
    } else {
        text_lit(t, "detail=");
        text_put(t, why_name(r->why));
    }
    text_lit(t, "\r\n");
}

static void timing_member(struct text *t, struct view name, uint64_t us, bool *first)
{
    if (!*first)
        text_lit(t, ", ");
    *first = false;
    text_put(t, name);
    text_lit(t, ";dur=");
    text_u64(t, us / 1000);
    text_put(t, view_make((const char[]){ '.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10),
                                          (char)('0' + us % 10) },
                          4));
}

static struct view asked_name(const struct req *r)
{
    const struct hop *hop = fetch_hop(r);

    if (hop == &r->route->fallback)
        return VIEW("fallback");
    return hop->parent ? VIEW("parent") : VIEW("origin");
}

static void server_timing(struct req *r, struct text *t)
{
    uint64_t now = clock_mono_us();
    bool first = true;

    text_lit(t, "Server-Timing: ");
    if (r->raised.disk_us)
        timing_member(t, VIEW("disk"), r->raised.disk_us, &first);
    if (r->raised.shared_us)
        timing_member(t, VIEW("shared"), r->raised.shared_us, &first);
    if (r->reader) {
        const struct exchange_timing *timing = fill_timing(r->reader);

        timing_member(t, VIEW("lookup"), r->looked_up_us - r->started_us, &first);
        if (timing->queue_us)
            timing_member(t, VIEW("queue"), timing->queue_us, &first);
        if (timing->dns_us)
            timing_member(t, VIEW("dns"), timing->dns_us, &first);
        if (timing->connect_us)
            timing_member(t, VIEW("connect"), timing->connect_us, &first);
        if (timing->tls_us)
            timing_member(t, VIEW("tls"), timing->tls_us, &first);
        if (r->collapsed)
            timing_member(t, VIEW("wait"), now - r->looked_up_us, &first);
        else
            timing_member(t, asked_name(r), timing->first_byte_us, &first);
    } else {
        timing_member(t, r->from_cache && !r->climbed ? VIEW("memory") : VIEW("node"), now - r->started_us, &first);
    }
    text_lit(t, "\r\n");
}

static void proxy_status(struct req *r, struct text *t)
{
    text_lit(t, "Proxy-Status: ");
    text_put(t, r->config->node_name);
    text_lit(t, "; error=");
    text_put(t, view_str(r->proxy_error));
    text_lit(t, "\r\n");
}

void head_fields(struct req *r, struct text *t)
{
    const struct route *route = r->route;

    /* The origin's own goes along with what is only passed on. */
    if (r->object && (r->from_cache || r->stored_flag || !(r->object->flags & OBJECT_TRANSIENT))) {
        text_lit(t, "Age: ");
        text_i64(t, object_age_ms(&r->object->times, r->now_ms) / 1000);
        text_lit(t, "\r\n");
    }
    if (route)
        text_put(t, r->config->region_line);
    if (route && route->cache_status && !r->call)
        cache_status(r, t);
    if (r->proxy_error)
        proxy_status(r, t);
    if (route && route->via)
        text_put(t, r->config->via_line);
    if (route && route->server_timing && !r->call)
        server_timing(r, t);
    if ((!route || route->request_id) && r->request_id.len) {
        text_put(t, r->config->request_id_name);
        text_lit(t, ": ");
        text_put(t, r->request_id);
        text_lit(t, "\r\n");
    }
    if (r->close)
        text_lit(t, "Connection: close\r\n");
    else if (r->request.minor == 0)
        text_lit(t, "Connection: keep-alive\r\n");
}
