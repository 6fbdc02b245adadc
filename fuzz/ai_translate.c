/* Any bytes as a request, an answer, a stream or an error of either dialect: what comes out is JSON, or whole events of JSON, and a stream
 * gets a terminal event only if one went in. The first byte chooses. */
#include "ai/translate.h"
#include "base/check.h"

#include <errno.h>

#define OUT_MAX ((size_t)4 << 20)
/* Deeper than what goes in: arguments are JSON inside of JSON. */
#define OUT_LIMITS ((struct json_limits){ .depth = 256, .tokens = 1u << 20 })

static void check_json(struct view text)
{
    struct json doc = { 0 };
    size_t at;

    CHECK(json_parse(&doc, text, OUT_LIMITS, &at) == JSON_OK);
    CHECK(json_type(&doc, 0) == JSON_OBJECT);
    json_free(&doc);
}

static void try_whole(struct view input, enum ai_endpoint from, enum ai_endpoint to)
{
    struct buf out = buf_make(OUT_MAX);
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct json doc = { 0 };
    size_t at;
    int r;

    if (json_parse(&doc, input, JSON_LIMITS, &at) == JSON_OK) {
        r = translate_request(from, to, &doc, VIEW("model"), 100, &out, &reason);
        CHECK(r == 0 || r == -ENOMEM || (r == -EINVAL && reason.len > 0));
        if (r == 0)
            check_json(buf_view(&out));
        out.len = 0;
        r = translate_answer(from, to, &doc, VIEW_NONE, 1, &out);
        CHECK(r == 0 || r == -ENOMEM || r == -EBADMSG);
        if (r == 0)
            check_json(buf_view(&out));
        translate_count_estimate(&doc);
    }
    json_free(&doc);
    buf_free(&out);
}

static void check_events(const struct buf *out, bool ended)
{
    struct view input = buf_view(out);
    struct sse_event event;
    bool terminal = false;
    struct sse sse;

    sse_init(&sse, OUT_MAX);
    while (sse_next(&sse, &input, &event) == 1) {
        CHECK(!terminal);
        terminal = view_eq(event.data, VIEW("[DONE]")) || view_eq(event.name, VIEW("message_stop")) ||
                   view_eq(event.name, VIEW("error"));
        if (event.data.len && !view_eq(event.data, VIEW("[DONE]")))
            check_json(event.data);
    }
    CHECK(!sse_is_cut(&sse) && (!terminal || ended));
    sse_free(&sse);
}

/* Each line is the data of one event. */
static void try_stream(struct view input, enum ai_endpoint from, enum ai_endpoint to)
{
    struct translate_stream *s = translate_stream_new(from, to, VIEW("model"), 1, true);
    struct buf out = buf_make(OUT_MAX);
    int r = 0;

    if (!s)
        return;
    while (input.ptr && input.len && r != -ENOMEM) {
        struct sse_event event = { .data = view_cut(&input, '\n') };

        event.comment = event.data.len == 0;
        r = translate_stream_event(s, &event, &out);
        CHECK(r == 0 || r == -EBADMSG || r == -ENOMEM);
    }
    if (r != -ENOMEM && (r = translate_stream_end(s, &out)) != -ENOMEM)
        check_events(&out, r == 0);
    translate_stream_free(s);
    buf_free(&out);
}

static void try_error(struct view input, enum ai_dialect to)
{
    struct buf out = buf_make(OUT_MAX);

    if (translate_error(AI_OPENAI, to, 400, input, &out) == 0)
        check_json(buf_view(&out));
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view input = view_make((const char *)data + 1, size ? size - 1 : 0);

    if (size == 0)
        return 0;
    switch (data[0]) {
    case 'c': try_whole(input, AI_CHAT, AI_MESSAGES); break;
    case 'm': try_whole(input, AI_MESSAGES, AI_CHAT); break;
    case 'C': try_stream(input, AI_CHAT, AI_MESSAGES); break;
    case 'M': try_stream(input, AI_MESSAGES, AI_CHAT); break;
    default: try_error(input, data[0] & 1 ? AI_OPENAI : AI_ANTHROPIC); break;
    }
    return 0;
}
