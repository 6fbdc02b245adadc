/* A request and its stream. What comes is somebody else's bytes: it goes through the strict parsers and has a limit. */
#include "main/compare_ask.h"

#include "ai/error.h"
#include "ai/watch.h"
#include "base/clock.h"
#include "base/heap.h"
#include "main/client.h"
#include "proto/http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX ((size_t)65536)
#define EVENT_MAX ((size_t)1 << 20)
#define ANSWER_MAX ((size_t)8 << 20)
#define FIELDS_MAX 128u

struct asking {
    struct compare_answer *answer;
    uint64_t started_us;
    struct buf head; /* until it is whole */
    size_t scanned;
    bool has_head, streams, over;
    enum http_body body;
    uint64_t left; /* with BODY_LENGTH */
    struct http1_chunked chunked;
    struct sse sse;
    struct watch watch;
    struct json doc;
    struct buf plain; /* a body that is no stream */
};

static void fail(struct asking *a, const char *what)
{
    if (!a->answer->error[0])
        snprintf(a->answer->error, sizeof(a->answer->error), "%s", what);
    a->over = true;
}

/* ---- events ---- */

static void read_message(struct asking *a, struct view data)
{
    struct compare_answer *answer = a->answer;
    const struct json *doc = &a->doc;
    uint32_t choices, choice, part, value;

    if (json_parse(&a->doc, data, JSON_LIMITS, &(size_t){ 0 }) != JSON_OK)
        return;
    choices = json_get_typed(doc, 0, VIEW("choices"), JSON_ARRAY);
    if (!choices || doc->tokens[choices].count == 0)
        return;
    choice = json_first(doc, choices);
    part = json_get_typed(doc, choice, VIEW("delta"), JSON_OBJECT);
    if (!part)
        part = json_get_typed(doc, choice, VIEW("message"), JSON_OBJECT);
    value = part ? json_get_typed(doc, part, VIEW("content"), JSON_STRING) : 0;
    if (value)
        json_decode(doc, value, &answer->text);
    value = part ? json_get_typed(doc, part, VIEW("refusal"), JSON_STRING) : 0;
    if (value && doc->tokens[value].len > 2) {
        answer->refusal = true;
        json_decode(doc, value, &answer->text);
    }
    value = part ? json_get_typed(doc, part, VIEW("tool_calls"), JSON_ARRAY) : 0;
    answer->tools |= value && doc->tokens[value].count > 0;
    value = json_get_typed(doc, choice, VIEW("finish_reason"), JSON_STRING);
    if (value)
        snprintf(answer->finish, sizeof(answer->finish), "%.*s", VIEW_ARG(json_plain(doc, value)));
}

static void take_marks(struct asking *a, unsigned marks, struct view data)
{
    if ((marks & WATCH_CONTENT) && !a->answer->first_us)
        a->answer->first_us = MAX(clock_mono_us() - a->started_us, (uint64_t)1);
    if (marks & WATCH_ERROR) {
        struct text message = text_make(a->answer->error, sizeof(a->answer->error) - 1);

        if (!ai_error_message(data, &message))
            text_lit(&message, "an error within the stream");
        text_str(&message);
    }
    if (marks & WATCH_BROKEN)
        fail(a, "something that is no JSON within the answer");
    if (marks & WATCH_END)
        a->answer->ended = true;
}

static void take_data(struct asking *a, struct view data)
{
    struct sse_event event;
    int r = 1;

    if (!a->streams) {
        buf_put(&a->plain, data);
        if (a->plain.failed)
            fail(a, "an answer that is too large");
        return;
    }
    while (!a->over && (r = sse_next(&a->sse, &data, &event)) == 1) {
        take_marks(a, watch_event(&a->watch, &event), event.data);
        if (event.data.len && event.data.ptr[0] == '{')
            read_message(a, event.data);
    }
    if (r < 0)
        fail(a, "a stream that cannot be read");
}

/* ---- the message around them ---- */

/* `provider=cloud; model="gpt-4o"` */
static void read_source(struct compare_answer *answer, struct view value)
{
    while (value.len) {
        struct view rest = view_cut(&value, ';'), name, text;

        rest = view_trim(rest);
        name = view_cut(&rest, '=');
        text = rest;
        if (text.len > 1 && text.ptr[0] == '"')
            text = view_make(text.ptr + 1, text.len - 2);
        if (view_eq(name, VIEW("provider")))
            snprintf(answer->provider, sizeof(answer->provider), "%.*s", VIEW_ARG(text));
        else if (view_eq(name, VIEW("model")))
            snprintf(answer->model, sizeof(answer->model), "%.*s", VIEW_ARG(text));
    }
}

static void take_body(struct asking *a, struct view bytes)
{
    if (a->body == BODY_CHUNKED) {
        while (!a->over && !a->chunked.done) {
            struct view data;
            int used = http1_chunked_next(&a->chunked, bytes, &data, NULL);

            if (used < 0) {
                fail(a, "an answer in broken chunks");
                return;
            }
            bytes = view_skip(bytes, (size_t)used + data.len);
            if (data.len == 0)
                break;
            take_data(a, data);
        }
        a->over |= a->chunked.done;
        return;
    }
    if (a->body == BODY_LENGTH) {
        bytes = view_first(bytes, a->left);
        a->left -= bytes.len;
        a->over |= a->left == 0;
    }
    if (bytes.len)
        take_data(a, bytes);
}

static void take_head(struct asking *a, struct view bytes)
{
    static const struct http1_limits limits = { .head_max = HEAD_MAX, .target_max = 8192 };
    struct field memory[FIELDS_MAX];
    struct http_response response = { 0 };
    const struct field *source;
    enum http1_error error;
    int used;

    buf_put(&a->head, bytes);
    fields_init(&response.fields, memory, FIELDS_MAX);
    used = http1_parse_response(buf_view(&a->head), &limits, &a->scanned, METHOD_POST, &response, &error);
    if (used == -EAGAIN && !a->head.failed)
        return;
    if (used < 0) {
        fail(a, "what answers does not speak HTTP like a node");
        return;
    }
    a->has_head = true;
    a->answer->status = response.status;
    a->body = response.body;
    a->left = response.content_length;
    a->over = a->body == BODY_NONE || (a->body == BODY_LENGTH && a->left == 0);
    a->streams = view_starts_with_icase(fields_value(&response.fields, FIELD_CONTENT_TYPE), VIEW("text/event-stream"));
    source = fields_find(&response.fields, VIEW("Doorstep-AI"));
    if (source)
        read_source(a->answer, source->value);
    bytes = view_skip(buf_view(&a->head), (size_t)used);
    if (!a->over)
        take_body(a, bytes);
}

/* A body that was no stream: an error, or an answer of somebody who does not stream. */
static void read_plain(struct asking *a)
{
    struct compare_answer *answer = a->answer;
    struct text message = text_make(answer->error, sizeof(answer->error) - 1);

    if (answer->status == 200) {
        take_marks(a, watch_plain(&a->watch, buf_view(&a->plain)), buf_view(&a->plain));
        read_message(a, buf_view(&a->plain));
        answer->ended = a->watch.ended;
    } else if (!answer->error[0]) {
        if (!ai_error_message(buf_view(&a->plain), &message))
            text_printf(&message, "status %d", answer->status);
        text_str(&message);
    }
}

/* ---- asking ---- */

static int send_request(const struct compare_target *target, int fd, struct view tier, struct view body)
{
    struct buf out = buf_make(SIZE_MAX);
    int r;

    buf_lit(&out, "POST ");
    buf_put(&out, target->prefix);
    buf_lit(&out, "/v1/chat/completions HTTP/1.1\r\nHost: ");
    buf_put(&out, target->host);
    buf_lit(&out, "\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
                  "Cache-Control: no-store, no-cache\r\n");
    if (target->key.len) {
        buf_lit(&out, "Authorization: Bearer ");
        buf_put(&out, target->key);
        buf_lit(&out, "\r\n");
    }
    if (tier.len) {
        buf_lit(&out, "Doorstep-AI-Tier: ");
        buf_put(&out, tier);
        buf_lit(&out, "\r\n");
    }
    buf_lit(&out, "Content-Length: ");
    buf_u64(&out, body.len);
    buf_lit(&out, "\r\n\r\n");
    buf_put(&out, body);
    r = out.failed ? -ENOMEM : client_send(fd, buf_view(&out));
    buf_free(&out);
    return r;
}

static void receive(struct asking *a, int fd, unsigned timeout_s)
{
    char memory[16384];

    while (!a->over) {
        ssize_t got = recv(fd, memory, sizeof(memory), 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            if (errno == EAGAIN)
                snprintf(a->answer->error, sizeof(a->answer->error), "nothing came for %u seconds", timeout_s);
            fail(a, strerror(errno));
        } else if (got == 0) {
            if (!a->has_head)
                fail(a, "the connection was closed without an answer");
            return;
        } else if (a->has_head) {
            take_body(a, view_make(memory, (size_t)got));
        } else {
            take_head(a, view_make(memory, (size_t)got));
        }
    }
}

void compare_ask(const struct compare_target *target, struct view tier, struct view body, struct compare_answer *ret)
{
    struct asking a = { .answer = ret, .head = buf_make(HEAD_MAX + 16384), .plain = buf_make(ANSWER_MAX) };
    int fd = client_connect(target->address, 80, target->timeout_s), r;

    memset(ret, 0, sizeof(*ret));
    ret->text = buf_make(ANSWER_MAX);
    if (fd < 0) {
        snprintf(ret->error, sizeof(ret->error), "no node answers at %s: %s", target->address, strerror(-fd));
        return;
    }
    sse_init(&a.sse, EVENT_MAX);
    watch_init(&a.watch, AI_CHAT);
    a.started_us = clock_mono_us();
    r = send_request(target, fd, tier, body);
    if (r < 0)
        fail(&a, strerror(-r));
    receive(&a, fd, target->timeout_s);
    close(fd);
    if (a.has_head && !a.streams)
        read_plain(&a);
    ret->total_us = clock_mono_us() - a.started_us;
    ret->usage = watch_usage(&a.watch, body.len);
    sse_free(&a.sse);
    watch_free(&a.watch);
    json_free(&a.doc);
    buf_free(&a.head);
    buf_free(&a.plain);
}

void compare_answer_free(struct compare_answer *answer)
{
    buf_free(&answer->text);
}
