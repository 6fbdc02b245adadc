/* Error bodies and error events.
 *
 * Providers name one thing in many ways: by status, by `type`, by `code` (text, or a status as a number), and some by the message alone.
 * The most telling wins: code, then type, then status. Looked for at the top, in `error`, and in the `response` of a failed one. */
#include "ai/error.h"

#include "proto/sse.h"

/* ---- written ---- */

const char *ai_error_type(enum ai_dialect dialect, int status)
{
    bool anthropic = dialect == AI_ANTHROPIC;

    switch (status) {
    case 401: return "authentication_error";
    case 402: return anthropic ? "billing_error" : "insufficient_quota";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 408:
    case 504: return "timeout_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    default: break;
    }
    if (status >= 500)
        return anthropic ? "api_error" : "server_error";
    return "invalid_request_error";
}

static void put_text(struct buf *out, const char *text)
{
    if (text)
        buf_json(out, view_str(text));
    else
        buf_lit(out, "null");
}

static void put_openai(struct buf *out, const char *type, struct view message, const char *code, const char *param)
{
    buf_lit(out, "{\"message\":");
    buf_json(out, message);
    buf_lit(out, ",\"type\":");
    put_text(out, type);
    buf_lit(out, ",\"param\":");
    put_text(out, param);
    buf_lit(out, ",\"code\":");
    put_text(out, code);
    buf_char(out, '}');
}

void ai_error_put(struct buf *out, enum ai_dialect dialect, int status, const char *type, struct view message,
                  const char *code, const char *param)
{
    if (!type)
        type = ai_error_type(dialect, status);
    if (dialect == AI_OPENAI) {
        buf_lit(out, "{\"error\":");
        put_openai(out, type, message, code, param);
        buf_char(out, '}');
        return;
    }
    buf_lit(out, "{\"type\":\"error\",\"error\":{\"type\":");
    put_text(out, type);
    buf_lit(out, ",\"message\":");
    buf_json(out, message);
    buf_lit(out, "}}");
}

void ai_error_event(struct buf *out, enum ai_endpoint endpoint, int status, struct view message)
{
    enum ai_dialect dialect = ai_endpoint_dialect(endpoint);
    const char *type = ai_error_type(dialect, status);

    if (endpoint == AI_RESPONSES) {
        /* The members of its own event; `error` besides, by which the SDKs know that they must throw. */
        buf_lit(out, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,\"code\":");
        put_text(out, type);
        buf_lit(out, ",\"message\":");
        buf_json(out, message);
        buf_lit(out, ",\"param\":null,\"error\":");
        put_openai(out, type, message, type, NULL);
        buf_lit(out, "}\n\n");
        return;
    }
    if (dialect == AI_ANTHROPIC)
        buf_lit(out, "event: error\n");
    buf_lit(out, "data: ");
    ai_error_put(out, dialect, status, type, message, NULL, NULL);
    buf_lit(out, "\n\n");
}

/* ---- read ---- */

static enum watch_error by_status(int status)
{
    if (status < 400)
        return WATCH_NO_ERROR;
    if (status == 402)
        return WATCH_QUOTA;
    if (status == 429)
        return WATCH_RATE_LIMIT;
    if (status == 503 || status == 529)
        return WATCH_OVERLOADED;
    return status >= 500 || status == 408 || status == 409 || status == 425 ? WATCH_SERVER_ERROR : WATCH_BAD_REQUEST;
}

static const struct {
    struct view name;
    bool prefix;
    enum watch_error error;
} names[] = {
    { { "insufficient_quota", 18 }, true, WATCH_QUOTA },
    { { "billing", 7 }, true, WATCH_QUOTA },
    { { "insufficient_credit", 19 }, true, WATCH_QUOTA },
    { { "insufficient_balance", 20 }, true, WATCH_QUOTA },
    { { "quota_exceeded", 14 }, true, WATCH_QUOTA },
    { { "account_deactivated", 19 }, true, WATCH_QUOTA },
    { { "rate_limit", 10 }, true, WATCH_RATE_LIMIT },
    { { "too_many_requests", 17 }, true, WATCH_RATE_LIMIT },
    { { "resource_exhausted", 18 }, false, WATCH_RATE_LIMIT },
    { { "requests", 8 }, false, WATCH_RATE_LIMIT },
    { { "tokens", 6 }, false, WATCH_RATE_LIMIT },
    { { "overloaded", 10 }, true, WATCH_OVERLOADED },
    { { "engine_overloaded", 17 }, true, WATCH_OVERLOADED },
    { { "server_overloaded", 17 }, true, WATCH_OVERLOADED },
    { { "service_unavailable", 19 }, true, WATCH_OVERLOADED },
    { { "slow_down", 9 }, false, WATCH_OVERLOADED },
    { { "server_error", 12 }, false, WATCH_SERVER_ERROR },
    { { "api_error", 9 }, false, WATCH_SERVER_ERROR },
    { { "internal", 8 }, true, WATCH_SERVER_ERROR },
    { { "timeout", 7 }, true, WATCH_SERVER_ERROR },
    { { "invalid_", 8 }, true, WATCH_BAD_REQUEST },
    { { "not_found", 9 }, true, WATCH_BAD_REQUEST },
    { { "model_not_found", 15 }, false, WATCH_BAD_REQUEST },
    { { "request_too_large", 17 }, false, WATCH_BAD_REQUEST },
    { { "context_length", 14 }, true, WATCH_BAD_REQUEST },
    { { "string_above_max_length", 23 }, false, WATCH_BAD_REQUEST },
    { { "content_filter", 14 }, false, WATCH_BAD_REQUEST },
    { { "content_policy", 14 }, true, WATCH_BAD_REQUEST },
    { { "unsupported", 11 }, true, WATCH_BAD_REQUEST },
};

static bool is_credential(struct view name)
{
    return view_eq(name, VIEW("authentication_error")) || view_eq(name, VIEW("permission_error")) ||
           view_eq(name, VIEW("permission_denied")) || view_eq(name, VIEW("invalid_api_key"));
}

static enum watch_error by_name(const struct json *doc, uint32_t i, int status)
{
    struct view name;
    uint64_t number;

    if (i == 0)
        return WATCH_NO_ERROR;
    if (json_u64(doc, i, &number))
        return number < 600 ? by_status((int)number) : WATCH_NO_ERROR;
    name = json_plain(doc, i);
    /* Within a 200 no status says what is of no use: the credential, as with an empty account. */
    if (is_credential(name))
        return status >= 400 ? WATCH_BAD_REQUEST : WATCH_QUOTA;
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        if (names[k].prefix ? view_starts_with_icase(name, names[k].name) : view_eq_icase(name, names[k].name))
            return names[k].error;
    return WATCH_NO_ERROR;
}

static uint32_t not_null(const struct json *doc, uint32_t i)
{
    return i && json_type(doc, i) != JSON_NULL ? i : 0;
}

/* The value that describes the error: an object, a text, or 0. */
static uint32_t find_error(const struct json *doc)
{
    uint32_t error = not_null(doc, json_get(doc, 0, VIEW("error"))), response;

    if (error)
        return error;
    response = json_get_typed(doc, 0, VIEW("response"), JSON_OBJECT);
    return response ? not_null(doc, json_get(doc, response, VIEW("error"))) : 0;
}

/* Anthropic says an empty account with a 400 that only its text tells from others. */
static bool says_no_credit(const struct json *doc, uint32_t object)
{
    uint32_t message = json_get_typed(doc, object, VIEW("message"), JSON_STRING);
    struct view text = message ? json_raw(doc, message) : VIEW_NONE;

    return text.len && memmem(text.ptr, text.len, "credit balance is too low", 25);
}

static enum watch_error read_object(const struct json *doc, uint32_t object, int status)
{
    enum watch_error by_code = by_name(doc, json_get(doc, object, VIEW("code")), status), by_type;

    if (by_code != WATCH_NO_ERROR && by_code != WATCH_SERVER_ERROR)
        return by_code;
    by_type = by_name(doc, json_get(doc, object, VIEW("type")), status);
    if (by_type == WATCH_BAD_REQUEST && says_no_credit(doc, object))
        return WATCH_QUOTA;
    return by_type != WATCH_NO_ERROR ? by_type : by_code;
}

enum watch_error ai_error_read_json(int status, const struct json *doc)
{
    uint32_t error = find_error(doc);
    enum watch_error named = WATCH_NO_ERROR, said = by_status(status);
    bool is_error = error != 0;

    if (json_type(doc, 0) != JSON_OBJECT)
        return said;
    if (!error) {
        uint32_t kind = json_get(doc, 0, VIEW("type")), object = json_get(doc, 0, VIEW("object"));

        is_error = (kind && json_is(doc, kind, VIEW("error"))) || (object && json_is(doc, object, VIEW("error")));
    }
    if (!is_error && status < 400)
        return WATCH_NO_ERROR;
    if (!error || json_type(doc, error) == JSON_OBJECT)
        named = read_object(doc, error, status);
    /* "api_error" says less than a 429 or a 529 does. */
    if (named == WATCH_NO_ERROR || (named == WATCH_SERVER_ERROR && said != WATCH_NO_ERROR))
        return said != WATCH_NO_ERROR ? said : WATCH_SERVER_ERROR;
    return named;
}

enum watch_error ai_error_read(int status, struct view body)
{
    struct json doc = { 0 };
    enum watch_error error = by_status(status);
    size_t at;

    if (json_parse(&doc, body, (struct json_limits){ .depth = 32, .tokens = 4096 }, &at) == JSON_OK)
        error = ai_error_read_json(status, &doc);
    json_free(&doc);
    return error;
}

static bool has_any(struct view body, const struct view *said, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (body.len && memmem(body.ptr, body.len, said[i].ptr, said[i].len))
            return true;
    return false;
}

bool ai_error_is_too_long(struct view body)
{
    /* Codes and types of OpenAI and llama-server; the words of vLLM, Anthropic and others, which have no code for it. */
    static const struct view said[] = { { "context_length_exceeded", 23 },   { "exceed_context_size", 19 },
                                        { "maximum context length", 22 },    { "available context size", 22 },
                                        { "prompt is too long", 18 },        { "exceed context limit", 20 },
                                        { "exceeds the context window", 26 } };

    return has_any(body, said, ARRAY_LEN(said));
}

bool ai_error_is_about_request(struct view body)
{
    static const struct view said[] = { { "model_not_found", 15 },     { "not have access to model", 24 },
                                        { "content_filter", 14 },      { "content_policy", 14 },
                                        { "requires moderation", 19 }, { "flagged_input", 13 } };

    return has_any(body, said, ARRAY_LEN(said));
}

bool ai_error_is_shaped(enum ai_dialect dialect, struct view body)
{
    struct json doc = { 0 };
    uint32_t error = 0, type;
    bool shaped = false;
    size_t at;

    if (json_parse(&doc, body, (struct json_limits){ .depth = 32, .tokens = 4096 }, &at) == JSON_OK)
        error = json_get_typed(&doc, 0, VIEW("error"), JSON_OBJECT);
    if (error) {
        type = json_get(&doc, 0, VIEW("type"));
        shaped = json_get_typed(&doc, error, VIEW("message"), JSON_STRING) &&
                 (dialect == AI_OPENAI || (type && json_is(&doc, type, VIEW("error"))));
    }
    json_free(&doc);
    return shaped;
}

/* FastAPI's way: what is wrong is a text, or a list of places and texts. */
static uint32_t find_detail(const struct json *doc)
{
    uint32_t list = json_get_typed(doc, 0, VIEW("detail"), JSON_ARRAY);

    if (list && doc->tokens[list].count > 0)
        return json_get_typed(doc, json_first(doc, list), VIEW("msg"), JSON_STRING);
    return json_get_typed(doc, 0, VIEW("detail"), JSON_STRING);
}

static uint32_t find_message(const struct json *doc)
{
    uint32_t error = find_error(doc), message;

    if (error && json_type(doc, error) == JSON_STRING)
        return error;
    message = json_get_typed(doc, error, VIEW("message"), JSON_STRING);
    return message ? message : find_detail(doc);
}

bool ai_error_message(struct view body, struct text *out)
{
    struct buf message = buf_make(1u << 20);
    struct json doc = { 0 };
    uint32_t found = 0;
    size_t at, len;

    if (json_parse(&doc, body, (struct json_limits){ .depth = 32, .tokens = 4096 }, &at) == JSON_OK)
        found = find_message(&doc);
    if (found)
        json_decode(&doc, found, &message);
    len = MIN(message.len, out->cap - out->len);
    while (len > 0 && len < message.len && ((unsigned char)message.ptr[len] & 0xc0) == 0x80)
        len--;
    text_put(out, view_first(buf_view(&message), len));
    buf_free(&message);
    json_free(&doc);
    return len > 0;
}
