/* The heads of a call: the one sent to the provider, and the one that stands over what the fill reads. */
#include "ai/call_internal.h"

#include "base/heap.h"

#define PROVIDER_FIELDS_MAX (CALL_FIELDS_MAX - 8)
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

/* What is passed through unread is described by its provider. */
static bool describes(const struct field *field)
{
    static const struct view names[] = { { "Content-Encoding", 16 },
                                         { "Content-Disposition", 19 },
                                         { "Content-Language", 16 } };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (view_eq_icase(field->name, names[i]))
            return true;
    return false;
}

static bool is_passed_on(const struct call *call, const struct field *field)
{
    if (call->mode == CALL_RAW && describes(field))
        return true;
    return view_starts_with_icase(field->name, VIEW("x-ratelimit-")) ||
           view_starts_with_icase(field->name, VIEW("anthropic-ratelimit-")) ||
           view_eq_icase(field->name, VIEW("openai-processing-ms")) ||
           view_eq_icase(field->name, VIEW("openai-organization")) || field->id == FIELD_RETRY_AFTER ||
           view_eq_icase(field->name, VIEW("x-should-retry"));
}

/* What a hit will want to say about what the answer cost. */
void call_put_usage(const struct call *call, struct buf *b)
{
    struct ai_usage usage = watch_usage(&call->watch, call->request.prompt_bytes);
    const uint64_t parts[] = { usage.input, usage.cached, usage.cache_write, usage.output, usage.reasoning };

    buf_lit(b, "Doorstep-AI-Usage: ");
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        buf_u64(b, parts[i]);
        buf_char(b, ' ');
    }
    buf_put(b, usage.known ? VIEW("1\r\n") : VIEW("0\r\n"));
}

static void put_field(struct buf *b, struct view name, struct view value)
{
    buf_put(b, name);
    buf_lit(b, ": ");
    buf_put(b, value);
    buf_lit(b, "\r\n");
}

/* As many as there is room for: none of them is worth an answer. */
static void put_provider_fields(struct buf *b, const struct call *call, const struct fields *fields)
{
    unsigned count = 0;

    for (size_t i = 0; i < fields->count && count < PROVIDER_FIELDS_MAX; i++) {
        const struct field *field = &fields->list[i];

        if (!is_passed_on(call, field) || field->id == FIELD_RETRY_AFTER ||
            b->len + field->name.len + field->value.len > CALL_HEAD_MAX / 2)
            continue;
        put_field(b, field->name, field->value);
        count++;
    }
}

/* Only streams, and what is passed through unread, are still to come when their head is known. */
bool call_is_whole(const struct call *call, int status)
{
    return call->mode != CALL_RAW && (call->mode == CALL_PLAIN || status != 200);
}

bool call_write_head(struct call *call, int status, struct view content_type, const struct http_response *from)
{
    struct http1_limits limits = { .head_max = CALL_HEAD_MAX };
    struct buf *b = &call->head_bytes;
    bool whole = call_is_whole(call, status);
    enum http1_error error;
    size_t scanned = 0;

    b->len = 0;
    (void)buf_room(b, HEAD_ROOM);
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
    if (from && status == 200 && call->provider->rung == AI_EDGE && fields_value(&from->fields, FIELD_AGE).ptr)
        put_field(b, VIEW("Age"), fields_value(&from->fields, FIELD_AGE)); /* it was stored there */
    if (call->too_long)
        buf_lit(b, "Doorstep-AI-Too-Long: 1\r\n");
    if (from)
        put_provider_fields(b, call, &from->fields);
    if (status == 429 || status == 503) {
        buf_lit(b, "Retry-After: ");
        buf_u64(b, MIN(MAX(call->retry_after_s, (uint64_t)1), (uint64_t)AI_RETRY_AFTER_MAX_S));
        buf_lit(b, "\r\n");
    }
    if (whole && status == 200)
        call_put_usage(call, b);
    buf_lit(b, "\r\n");
    fields_init(&call->head.fields, call->fields, CALL_FIELDS_MAX);
    if (b->failed || http1_parse_response(buf_view(b), &limits, &scanned, METHOD_GET, &call->head, &error) < 0)
        return false;
    call->head.body = whole ? BODY_LENGTH : BODY_EOF;
    call->head.content_length = whole ? call->out.len : 0;
    return true;
}
