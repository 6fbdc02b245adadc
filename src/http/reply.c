/* Answers the node makes itself: errors with Proxy-Status (RFC 9209) and a short body, HTML or JSON or text by Accept. */
#include "http/conn.h"

#include "proto/accept.h"
#include "proto/date.h"

struct view reply_reason(int status)
{
    static const struct {
        int status;
        struct view reason;
    } reasons[] = {
        { 200, { "OK", 2 } },
        { 201, { "Created", 7 } },
        { 202, { "Accepted", 8 } },
        { 204, { "No Content", 10 } },
        { 206, { "Partial Content", 15 } },
        { 400, { "Bad Request", 11 } },
        { 401, { "Unauthorized", 12 } },
        { 402, { "Payment Required", 16 } },
        { 403, { "Forbidden", 9 } },
        { 404, { "Not Found", 9 } },
        { 405, { "Method Not Allowed", 18 } },
        { 408, { "Request Timeout", 15 } },
        { 409, { "Conflict", 8 } },
        { 413, { "Content Too Large", 17 } },
        { 414, { "URI Too Long", 12 } },
        { 415, { "Unsupported Media Type", 22 } },
        { 417, { "Expectation Failed", 18 } },
        { 422, { "Unprocessable Content", 21 } },
        { 429, { "Too Many Requests", 17 } },
        { 431, { "Request Header Fields Too Large", 31 } },
        { 500, { "Internal Server Error", 21 } },
        { 501, { "Not Implemented", 15 } },
        { 502, { "Bad Gateway", 11 } },
        { 503, { "Service Unavailable", 19 } },
        { 504, { "Gateway Timeout", 15 } },
        { 505, { "HTTP Version Not Supported", 26 } },
        { 508, { "Loop Detected", 13 } },
    };

    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return VIEW("Error");
}

enum flow reply_text(struct req *r, int status, const char *content_type, struct view body)
{
    struct delivery *d = &r->out;
    struct text t = text_make(arena_alloc(&r->arena, 2048), 2048);

    r->object = r->object_held ? r->object : NULL;
    r->status = (uint16_t)status;
    r->step = STEP_DELIVER;
    if (!t.ptr) {
        r->broken = true;
        r->step = STEP_FINISH;
        return FLOW_CONTINUE;
    }
    text_lit(&t, "HTTP/1.1 ");
    text_u64(&t, (uint64_t)status);
    text_char(&t, ' ');
    text_put(&t, reply_reason(status));
    text_lit(&t, "\r\nDate: ");
    date_put(&t, r->now_ms / 1000);
    text_lit(&t, "\r\n");
    if (status != 204) {
        text_lit(&t, "Content-Type: ");
        text_put(&t, view_str(content_type ? content_type : "text/plain; charset=utf-8"));
        text_lit(&t, "\r\nContent-Length: ");
        text_u64(&t, body.len);
        text_lit(&t, "\r\n");
    }
    if (status == 405 || (status == 204 && r->request.method == METHOD_OPTIONS)) {
        text_lit(&t, "Allow: ");
        text_put(&t, r->allow ? view_str(r->allow) : VIEW("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        text_lit(&t, "\r\n");
    }
    if (status == 401)
        text_lit(&t, "WWW-Authenticate: Bearer realm=\"doorstep admin\"\r\n");
    if (status >= 400)
        text_lit(&t, "Cache-Control: no-store\r\n");
    if (status == 503 && r->retry_after_s) {
        text_lit(&t, "Retry-After: ");
        text_u64(&t, r->retry_after_s);
        text_lit(&t, "\r\n");
    }
    head_fields(r, &t);
    text_lit(&t, "\r\n");
    d->at = d->count = 0;
    d->part_count = 0;
    deliver_push(d, text_view(&t));
    if (r->request.method != METHOD_HEAD)
        deliver_push(d, body);
    return FLOW_CONTINUE;
}

static void body_html(struct text *t, struct req *r, int status, const char *detail)
{
    text_lit(t, "<!doctype html><meta charset=utf-8><title>");
    text_u64(t, (uint64_t)status);
    text_char(t, ' ');
    text_put(t, reply_reason(status));
    text_lit(t, "</title><h1>");
    text_u64(t, (uint64_t)status);
    text_char(t, ' ');
    text_put(t, reply_reason(status));
    text_lit(t, "</h1><p>");
    text_put(t, view_str(detail));
    text_lit(t, "</p><p><small>doorstep, request ");
    text_put(t, r->request_id.len ? r->request_id : VIEW("-"));
    text_lit(t, "</small></p>\n");
}

static void body_json(struct text *t, struct req *r, int status, const char *detail)
{
    text_lit(t, "{\"status\":");
    text_u64(t, (uint64_t)status);
    text_lit(t, ",\"error\":");
    text_json(t, view_str(detail));
    text_lit(t, ",\"request_id\":");
    text_json(t, r->request_id);
    text_lit(t, "}\n");
}

enum flow reply_error(struct req *r, int status, const char *detail)
{
    struct text body = text_make(arena_alloc(&r->arena, 1024), 1024);
    const char *type = "text/plain; charset=utf-8";

    /* A request id may hold what HTML would read as markup: the node accepts it only without '<'. */
    if (r->outcome != OUTCOME_ERROR)
        r->outcome = OUTCOME_ERROR;
    if (body.ptr && accept_prefers_json(&r->request.fields)) {
        type = "application/json";
        body_json(&body, r, status, detail);
    } else if (body.ptr && accept_names_html(&r->request.fields)) {
        type = "text/html; charset=utf-8";
        body_html(&body, r, status, detail);
    } else if (body.ptr) {
        text_u64(&body, (uint64_t)status);
        text_char(&body, ' ');
        text_put(&body, reply_reason(status));
        text_lit(&body, ": ");
        text_put(&body, view_str(detail));
        text_char(&body, '\n');
    }
    return reply_text(r, status, type, text_view(&body));
}

enum flow reply_upstream_error(struct req *r)
{
    enum exchange_error error = r->reader ? fill_error(r->reader) : EXCHANGE_INTERNAL;

    r->proxy_error = exchange_error_token(error).ptr;
    r->why = WHY_ORIGIN_ERROR;
    /* An open breaker says when it is worth coming back (RFC 9110 §10.2.3). */
    if (error == EXCHANGE_DESTINATION_UNAVAILABLE)
        r->retry_after_s = (upstream_down_for_ms(fetch_hop(r)->upstream) + 999) / 1000;
    return reply_error(r, exchange_error_status(error),
                       r->reader && *fill_error_detail(r->reader) ? fill_error_detail(r->reader)
                                                                  : "the origin did not answer");
}
