/* The heads of a call: the one sent to the provider, and the one that stands over what the fill reads. */
#include "ai/call_internal.h"

#include "base/heap.h"

#define HEAD_ROOM ((size_t)1024) /* what heads usually take */

static void put_credential(struct buf *b, const struct call *call)
{
    if (call->credential < 0 || (unsigned)call->credential >= call->provider->credential_count)
        return;
    buf_put(b, call->provider->dialect == AI_ANTHROPIC ? VIEW("x-api-key: ") : VIEW("Authorization: Bearer "));
    buf_put(b, call->provider->credentials[call->credential].value);
    buf_lit(b, "\r\n");
}

/* The first attempt takes the body over into its message, each further one from the message before: prompts can be large. */
bool call_write_request(struct call *call)
{
    const struct ai_call_request *request = &call->request;
    struct view body =
        call->message.len ? view_skip(buf_view(&call->message), call->body_at) : buf_view(&request->body);
    struct buf message = buf_make(SIZE_MAX), *b = &message;
    size_t body_at;

    (void)buf_room(b, HEAD_ROOM + body.len);
    buf_put(b, request->method);
    buf_char(b, ' ');
    buf_put(b, call->provider->prefix);
    buf_put(b, request->path);
    buf_lit(b, " HTTP/1.1\r\nHost: ");
    buf_put(b, call->provider->host);
    buf_lit(b, "\r\nAccept-Encoding: identity\r\nUser-Agent: doorstep/" DOORSTEP_VERSION "\r\n");
    put_credential(b, call);
    buf_put(b, request->fields);
    if (body.len || view_eq(request->method, VIEW("POST"))) {
        buf_lit(b, "Content-Type: ");
        buf_put(b, request->content_type.len ? request->content_type : VIEW("application/json"));
        buf_lit(b, "\r\nContent-Length: ");
        buf_u64(b, body.len);
        buf_lit(b, "\r\n");
    }
    buf_lit(b, "\r\n");
    body_at = b->len;
    buf_put(b, body);
    if (b->failed) {
        buf_free(b);
        return false;
    }
    buf_free(&call->message);
    buf_free(&call->request.body);
    call->message = message;
    call->body_at = body_at;
    return true;
}

static bool is_passed_on(const struct field *field)
{
    return view_starts_with_icase(field->name, VIEW("x-ratelimit-")) ||
           view_starts_with_icase(field->name, VIEW("anthropic-ratelimit-")) ||
           view_eq_icase(field->name, VIEW("openai-processing-ms")) ||
           view_eq_icase(field->name, VIEW("openai-organization")) || field->id == FIELD_RETRY_AFTER ||
           view_eq_icase(field->name, VIEW("x-should-retry"));
}

static void put_field(struct buf *b, struct view name, struct view value)
{
    buf_put(b, name);
    buf_lit(b, ": ");
    buf_put(b, value);
    buf_lit(b, "\r\n");
}

bool call_write_head(struct call *call, int status, struct view content_type, const struct http_response *from)
{
    struct http1_limits limits = { .head_max = CALL_HEAD_MAX };
    struct buf *b = &call->head_bytes;
    enum http1_error error;
    size_t scanned = 0;

    b->len = 0;
    buf_lit(b, "HTTP/1.1 ");
    buf_u64(b, (uint64_t)status);
    buf_lit(b, " -\r\n");
    put_field(b, VIEW("Content-Type"), content_type);
    if (status == 200 && call->request.max_age_s) {
        buf_lit(b, "Cache-Control: max-age=");
        buf_u64(b, call->request.max_age_s);
        buf_lit(b, "\r\n");
        if (call->request.tags.len)
            put_field(b, VIEW("Cache-Tag"), call->request.tags);
    } else {
        buf_lit(b, "Cache-Control: no-store\r\n");
    }
    for (size_t i = 0; from && i < from->fields.count; i++)
        if (is_passed_on(&from->fields.list[i]) && from->fields.list[i].id != FIELD_RETRY_AFTER)
            put_field(b, from->fields.list[i].name, from->fields.list[i].value);
    if (status == 429 || status == 503) {
        buf_lit(b, "Retry-After: ");
        buf_u64(b, MIN(MAX(call->retry_after_s, (uint64_t)1), (uint64_t)AI_RETRY_AFTER_MAX_S));
        buf_lit(b, "\r\n");
    }
    buf_lit(b, "\r\n");
    fields_init(&call->head.fields, call->fields, CALL_FIELDS_MAX);
    if (b->failed || http1_parse_response(buf_view(b), &limits, &scanned, METHOD_GET, &call->head, &error) < 0)
        return false;
    call->head.body = BODY_EOF;
    return true;
}
