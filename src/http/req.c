/* The request's loop over its steps, and the steps that need no waiting: route, admit, finish. */
#include "http/req.h"

#include "base/clock.h"
#include "base/heap.h"
#include "http/conn.h"
#include "http/peer.h"

#include <errno.h>

typedef enum flow step_function(struct req *r);

enum flow req_run(struct req *r)
{
    static step_function *const steps[STEP_COUNT] = {
        [STEP_ROUTE] = step_route,     [STEP_ADMIT] = step_admit,     [STEP_PURGE] = step_purge,
        [STEP_ADMIN] = step_admin,     [STEP_LOOKUP] = step_lookup,   [STEP_CLIMB] = step_climb,
        [STEP_FETCH] = step_fetch,     [STEP_DELIVER] = step_deliver, [STEP_TUNNEL] = step_tunnel,
        [STEP_SERVICE] = step_service, [STEP_FINISH] = step_finish,
    };
    enum flow flow;

    do {
        flow = steps[r->step](r);
    } while (flow == FLOW_CONTINUE);
    if (flow == FLOW_WAIT && !req_hold(r)) {
        r->broken = true;
        return step_finish(r);
    }
    return flow;
}

/* The turn ends with this request unfinished: what RCU protected needs references now. */
bool req_hold(struct req *r)
{
    if (!r->config_held) {
        http_config_ref(r->config);
        r->config_held = true;
    }
    /* An object of the reader's fill is kept by the fill; one found in memory may have lost its last reference since. */
    if (r->object && !r->object_held && !r->reader) {
        r->object_held = object_try_ref(r->object);
        return r->object_held;
    }
    return true;
}

void req_release(struct req *r)
{
    if (r->call)
        r->route->service->close(r->call);
    buf_free(&r->body);
    fill_leave(r->reader);
    ladder_leave(&r->climb);
    if (r->raised.leased)
        ladder_release(r->hl->server->ladder, r->hl->loop, &r->key);
    purge_job_leave(r->purge);
    if (r->admin_wait)
        r->admin_wait->leave(r->admin_wait);
    disk_stream_close(r->disk_stream);
    object_unref(r->raised.object);
    if (r->tunnel_open)
        sock_close(&r->tunnel);
    if (r->object_held)
        object_unref(r->object);
    object_unref(r->stored);
    heap_free((char *)(uintptr_t)r->error_body.ptr);
    if (r->block)
        sock_block_free(r->hl->loop, r->block, r->block_cap);
    arena_release(&r->arena);
    if (r->config_held)
        http_config_unref(r->config);
}

/* ---- ROUTE ---- */

/* Request ids and trace ids only need to be different from each other. */
uint64_t req_random(struct req *r)
{
    uint64_t x = r->hl->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return r->hl->random = x;
}

static bool id_is_acceptable(struct view id)
{
    if (id.len == 0 || id.len > 128)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];

        if (c <= ' ' || c > '~' || strchr("\"\\,<>&", c))
            return false;
    }
    return true;
}

static void take_request_id(struct req *r)
{
    const struct field *field = r->config->request_id_field == FIELD_OTHER
                                    ? fields_find(&r->request.fields, r->config->request_id_name)
                                    : fields_get(&r->request.fields, r->config->request_id_field);
    struct text text;

    if (field && id_is_acceptable(field->value)) {
        r->request_id = field->value;
        return;
    }
    text = text_make(arena_alloc(&r->arena, 16), 16);
    if (!text.ptr)
        return;
    text_hex(&text, req_random(r), 16);
    r->request_id = text_view(&text);
}

enum flow step_route(struct req *r)
{
    take_request_id(r);
    r->scheme = VIEW("http");
    client_identify(r);
    if (r->conn->kind == LISTENER_ADMIN) {
        struct admin_answer answer = { .status = 404, .task = r->task };

        r->close = r->close || r->request.body != BODY_NONE;
        r->hl->server->admin(r->hl->server->admin_arg, r->hl->loop, &r->request, VIEW_NONE, r->conn->local, &answer);
        r->error_body = answer.body;
        r->allow = answer.allow;
        if (answer.purge)
            return purge_begin(r, &answer.event);
        if (answer.wait) {
            r->admin_wait = answer.wait;
            r->step = STEP_ADMIN;
            return FLOW_CONTINUE;
        }
        return reply_text(r, answer.status, answer.content_type, answer.body);
    }
    if (r->request.method == METHOD_TRACE)
        return reply_error(r, 405, "TRACE is not allowed here");
    if (r->request.method == METHOD_CONNECT)
        return reply_error(r, 405, "this is a reverse proxy: CONNECT is not available");
    r->route = route_find(r->config, r->request.authority, r->request.path);
    if (!r->route)
        return reply_error(r, 404, "no route of this node matches");
    r->step = STEP_ADMIT;
    return FLOW_CONTINUE;
}

/* What the admin handler has begun: answered when it is done. */
enum flow step_admin(struct req *r)
{
    struct admin_answer answer = { .status = 503 };

    if (!r->admin_wait->done(r->admin_wait, &answer))
        return FLOW_WAIT;
    r->error_body = answer.body;
    return reply_text(r, answer.status, answer.content_type, answer.body);
}

/* ---- ADMIT ---- */

static bool via_names_us(struct req *r)
{
    struct field_list it = field_list(&r->request.fields, FIELD_VIA);
    struct view member;

    while (field_list_next(&it, &member)) {
        struct view rest = member;

        view_cut(&rest, ' ');
        if (view_eq(view_trim(view_cut(&rest, ' ')), r->config->node_name))
            return true;
    }
    return false;
}

/* PURGE drops every variant of its target (docs/http.md). */
static enum flow purge_target(struct req *r)
{
    struct purge_event event = { .kind = MARK_URL };

    r->why = WHY_PURGED;
    if (!option_cidrs_match(&r->config->purgers, r->client_address))
        return reply_error(r, 403, "PURGE is not allowed from this address");
    if (!req_make_url(r))
        return reply_error(r, 503, "out of memory");
    event.target = r->url;
    return purge_begin(r, &event);
}

enum flow step_admit(struct req *r)
{
    const struct field *hops = fields_find(&r->request.fields, VIEW("Max-Forwards"));
    uint64_t limit = r->route->body_limit, left;

    /* An HTTP/1.0 client cannot expect anything: its Expect counts for nothing (RFC 9110 §10.1.1). */
    if (fields_has(&r->request.fields, FIELD_EXPECT) && !r->request.expect_continue && r->request.minor >= 1)
        return reply_error(r, 417, "the only expectation known here is 100-continue");
    /* The last hop answers OPTIONS itself (RFC 9110 §7.6.2). */
    if (hops && r->request.method == METHOD_OPTIONS && view_parse_u64(hops->value, &left) && left == 0)
        return reply_text(r, 204, NULL, VIEW_NONE);
    if (r->request.method == METHOD_PURGE && r->config->purge_method)
        return purge_target(r);
    if (limit && r->request.body == BODY_LENGTH && r->request.content_length > limit) {
        r->close = true;
        if (r->route->service)
            return service_refuse(r, 413, "the request body is larger than this route allows");
        return reply_error(r, 413, "the request body is larger than this route allows");
    }
    if (!peer_receive(r))
        return reply_error(r, 504, "the child that asks has no time left");
    if ((fields_has(&r->request.fields, FIELD_VIA) && via_names_us(r)) || peer_loops(r))
        return reply_error(r, 508, "loop detected: this request has been through this node");
    r->body = buf_make(limit ? (size_t)limit : SIZE_MAX);
    r->step = r->route->service ? STEP_SERVICE : STEP_LOOKUP;
    return FLOW_CONTINUE;
}

/* ---- FINISH ---- */

static void log_request(struct req *r, uint64_t duration_us)
{
    char address[64];
    struct text client = TEXT_ON(address);
    struct access_record record;

    if (!r->hl->server->access_log)
        return;
    client_print(r, &client);
    record = (struct access_record){
        .time_ms = r->now_ms,
        .method = r->request.method_name,
        .host = r->request.authority,
        .path = r->request.path,
        .query = r->request.query,
        .protocol = r->request.minor ? VIEW("HTTP/1.1") : VIEW("HTTP/1.0"),
        .client = text_view(&client),
        .user_agent = fields_value(&r->request.fields, FIELD_USER_AGENT),
        .referer = fields_value(&r->request.fields, FIELD_REFERER),
        .request_id = r->request_id,
        .route = r->route ? r->route->name : VIEW_NONE,
        .outcome = http_outcome_name(r->outcome),
        .why = why_name(r->why),
        .tier = r->from_cache ? rung_name(r->rung) : r->served_rung,
        .upstream = r->forwarded && r->route ? view_str(upstream_name(fetch_hop(r)->upstream)) : r->served_by,
        .status = r->status,
        .bytes_in = r->request_bytes.len + r->body_seen,
        .bytes_out = r->bytes_out,
        .duration_us = duration_us,
        .upstream_us = r->reader ? fill_timing(r->reader)->first_byte_us : 0,
    };
    if (r->discreet) {
        record.path = VIEW("/");
        record.query = record.client = record.host = record.user_agent = record.referer = VIEW_NONE;
    }
    access_log_write(r->hl->server->access_log, r->hl->loop, &record);
}

enum flow step_finish(struct req *r)
{
    struct http_stats_request note = {
        .outcome = r->outcome,
        .why = r->why,
        .status = r->status,
        .bytes_in = r->request_bytes.len + r->body_seen,
        .bytes_out = r->bytes_out,
        .duration_us = clock_mono_us() - r->started_us,
        .upstream_us = r->reader ? fill_timing(r->reader)->first_byte_us : 0,
        .host = r->discreet ? VIEW_NONE : r->request.authority,
        .path = r->discreet ? VIEW("/") : r->request.path,
        .has_query = r->request.query.ptr,
    };

    if (r->conn->kind == LISTENER_ADMIN)
        return FLOW_DONE;
    if (r->route) {
        note.route = r->route->stats;
        http_stats_finish(r->hl->server->stats, r->hl->loop, &note);
    }
    if (r->outcome == OUTCOME_BYPASS && r->request.method == METHOD_GET && !r->call)
        http_stats_not_stored(r->hl->server->stats, r->hl->loop, r->key.hash[0], r->why, r->fwd_status);
    log_request(r, note.duration_us);
    return FLOW_DONE;
}
