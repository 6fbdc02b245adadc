/* Watching an answer go by.
 *
 * Each event's data is parsed into one tape that is used again and again (watch->doc); views of it are never kept. What is kept between
 * events are counts, and the arguments of tool calls: an answer with a tool call that cannot be read must never be stored, and that is
 * known only when its last piece has come. The pieces are records { call, length, bytes } in one bounded buffer; pieces of one call
 * usually follow each other and are then one record, so that checking a call copies nothing. */
#include "ai/watch.h"

#include "ai/error.h"
#include "ai/watch_tool.h"

#define EVENT_LIMITS ((struct json_limits){ .depth = 128, .tokens = 1u << 20 })

void watch_init(struct watch *watch, enum ai_endpoint endpoint)
{
    *watch = (struct watch){ .endpoint = endpoint, .tool = buf_make(WATCH_TOOL_MAX), .call = buf_make(WATCH_TOOL_MAX) };
}

void watch_free(struct watch *watch)
{
    json_free(&watch->doc);
    buf_free(&watch->tool);
    buf_free(&watch->call);
}

/* ---- values ---- */

static bool is_said(const struct json *doc, uint32_t i)
{
    return i && json_type(doc, i) != JSON_NULL;
}

/* Some servers write "" for null until they have finished. */
static bool is_reason(const struct json *doc, uint32_t i)
{
    return is_said(doc, i) && !(json_type(doc, i) == JSON_STRING && json_raw(doc, i).len == 2);
}

static uint32_t object_in(const struct json *doc, uint32_t i, struct view name)
{
    return json_get_typed(doc, i, name, JSON_OBJECT);
}

static uint32_t array_in(const struct json *doc, uint32_t i, struct view name)
{
    return json_get_typed(doc, i, name, JSON_ARRAY);
}

static bool has_text(const struct json *doc, uint32_t i, struct view name, struct view text)
{
    uint32_t value = json_get(doc, i, name);

    return value && json_is(doc, value, text);
}

/* Generated text, or a part of it: anything but null, "", [] and {}. */
static bool note_value(struct watch *watch, uint32_t i)
{
    const struct json *doc = &watch->doc;
    size_t len;

    if (!i)
        return false;
    switch (json_type(doc, i)) {
    case JSON_STRING:
        len = json_raw(doc, i).len - 2;
        watch->output_bytes += len;
        return len > 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        if (doc->tokens[i].count == 0)
            return false;
        watch->output_bytes += json_raw(doc, i).len;
        return true;
    default: return false;
    }
}

static bool note_member(struct watch *watch, uint32_t object, struct view name)
{
    return note_value(watch, json_get(&watch->doc, object, name));
}

static unsigned note_error(struct watch *watch)
{
    watch->error = ai_error_read_json(200, &watch->doc);
    if (watch->error == WATCH_NO_ERROR)
        watch->error = WATCH_SERVER_ERROR;
    return WATCH_ERROR;
}

static unsigned broken(struct watch *watch)
{
    watch->broken = true;
    return WATCH_BROKEN;
}

/* ---- chat and completions ---- */

static bool mark_choice(struct watch *watch, uint64_t index, bool done)
{
    if (index >= WATCH_CHOICES)
        return false;
    watch->seen[index / 64] |= (uint64_t)1 << index % 64;
    if (done)
        watch->done[index / 64] |= (uint64_t)1 << index % 64;
    return true;
}

static bool all_choices_done(const struct watch *watch)
{
    uint64_t seen = 0, open = 0;

    for (size_t i = 0; i < ARRAY_LEN(watch->seen); i++) {
        seen |= watch->seen[i];
        open |= watch->seen[i] & ~watch->done[i];
    }
    return seen && !open;
}

/* The pieces of tool calls in a delta, or whole ones in a message; `choice` < WATCH_CHOICES. */
static bool take_calls(struct watch *watch, uint32_t message, uint32_t choice)
{
    const struct json *doc = &watch->doc;
    uint32_t calls = array_in(doc, message, VIEW("tool_calls")), old = object_in(doc, message, VIEW("function_call"));
    uint64_t index = 0;

    if (old)
        watch_tool_add(watch, WATCH_TOOL_ID(choice, WATCH_TOOL_OLD), json_get(doc, old, VIEW("arguments")));
    if (!calls || doc->tokens[calls].count == 0)
        return old != 0;
    for (uint32_t call = json_first(doc, calls); call < json_end(doc, calls); call = json_after(doc, call), index++) {
        uint32_t function = object_in(doc, call, VIEW("function")), number = json_get(doc, call, VIEW("index"));

        if (number && !json_u64(doc, number, &index))
            watch->bad_tool = true;
        if (index >= WATCH_TOOL_OLD)
            watch->bad_tool = true;
        else if (function)
            watch_tool_add(watch, WATCH_TOOL_ID(choice, index), json_get(doc, function, VIEW("arguments")));
        note_value(watch, call);
    }
    return true;
}

static bool take_message(struct watch *watch, uint32_t message, uint32_t choice)
{
    static const struct view texts[] = {
        { "content", 7 }, { "reasoning_content", 17 }, { "reasoning", 9 }, { "refusal", 7 }, { "audio", 5 },
        { "images", 6 },  { "reasoning_details", 17 }
    };
    bool content = false;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        content |= note_member(watch, message, texts[i]);
    return take_calls(watch, message, choice) || content;
}

/* One element of `choices`, of a chunk or of a whole answer. */
static unsigned take_choice(struct watch *watch, uint32_t choice, uint64_t place, bool plain)
{
    const struct json *doc = &watch->doc;
    uint32_t message = object_in(doc, choice, plain ? VIEW("message") : VIEW("delta"));
    uint32_t reason = json_get(doc, choice, VIEW("finish_reason"));
    uint32_t number = json_get(doc, choice, VIEW("index")),
             text = json_get_typed(doc, choice, VIEW("text"), JSON_STRING);
    unsigned marks = 0;

    if ((is_said(doc, number) && !json_u64(doc, number, &place)) || !mark_choice(watch, place, is_reason(doc, reason)))
        return broken(watch);
    if (plain && !(watch->endpoint == AI_CHAT ? message : text))
        return broken(watch);
    if (message && take_message(watch, message, (uint32_t)place))
        marks |= WATCH_CONTENT;
    if (text && note_value(watch, text))
        marks |= WATCH_CONTENT;
    if (is_said(doc, reason) && json_is(doc, reason, VIEW("length")))
        watch->limited = true;
    if (is_said(doc, reason) && json_is(doc, reason, VIEW("error")))
        marks |= note_error(watch);
    return marks;
}

static unsigned take_choices(struct watch *watch, bool plain)
{
    const struct json *doc = &watch->doc;
    uint32_t choices = array_in(doc, 0, VIEW("choices"));
    bool usage = ai_usage_read(doc, object_in(doc, 0, VIEW("usage")), &watch->usage);
    unsigned marks = 0;
    uint64_t place = 0;

    if (!choices)
        return plain ? broken(watch) : usage ? WATCH_USAGE : 0;
    if (doc->tokens[choices].count == 0)
        return plain ? broken(watch) : usage ? WATCH_USAGE : 0;
    for (uint32_t i = json_first(doc, choices); i < json_end(doc, choices); i = json_after(doc, i))
        marks |= take_choice(watch, i, place++, plain);
    watch->finished = all_choices_done(watch);
    return marks;
}

/* ---- messages ---- */

static void take_stop(struct watch *watch, uint32_t reason)
{
    watch->finished = watch->finished || is_said(&watch->doc, reason);
    watch->limited = watch->limited || (reason && json_is(&watch->doc, reason, VIEW("max_tokens")));
}

static unsigned take_block(struct watch *watch, uint32_t block)
{
    const struct json *doc = &watch->doc;
    bool content;

    if (has_text(doc, block, VIEW("type"), VIEW("text")))
        content = note_member(watch, block, VIEW("text"));
    else if (has_text(doc, block, VIEW("type"), VIEW("thinking")))
        content = note_member(watch, block, VIEW("thinking"));
    else
        content = note_value(watch, block); /* a tool call, its result, redacted thinking */
    return content ? WATCH_CONTENT : 0;
}

static unsigned take_block_delta(struct watch *watch)
{
    static const struct view texts[] = { { "text", 4 }, { "thinking", 8 }, { "partial_json", 12 }, { "citation", 8 } };
    const struct json *doc = &watch->doc;
    uint32_t delta = object_in(doc, 0, VIEW("delta")), number = json_get(doc, 0, VIEW("index"));
    bool content = false;
    uint64_t index = 0;

    if (!delta)
        return broken(watch);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        content |= note_member(watch, delta, texts[i]);
    if (json_get(doc, delta, VIEW("partial_json"))) {
        if (!number || !json_u64(doc, number, &index) || index >= WATCH_TOOL_OLD)
            watch->bad_tool = true;
        else
            watch_tool_add(watch, WATCH_TOOL_ID(0, index), json_get(doc, delta, VIEW("partial_json")));
    }
    return content ? WATCH_CONTENT : 0;
}

static unsigned take_messages_event(struct watch *watch, const struct sse_event *event)
{
    const struct json *doc = &watch->doc;
    uint32_t type = json_get(doc, 0, VIEW("type")), inner;

    if (!type)
        return event->name.len ? broken(watch) : 0;
    if (json_is(doc, type, VIEW("content_block_delta")))
        return take_block_delta(watch);
    if (json_is(doc, type, VIEW("ping")))
        return WATCH_KEEPALIVE;
    if (json_is(doc, type, VIEW("message_start"))) {
        inner = object_in(doc, 0, VIEW("message"));
        watch->begun = inner != 0;
        if (inner)
            ai_usage_read(doc, object_in(doc, inner, VIEW("usage")), &watch->usage);
    } else if (json_is(doc, type, VIEW("content_block_start"))) {
        inner = object_in(doc, 0, VIEW("content_block"));
        return inner ? take_block(watch, inner) : broken(watch);
    } else if (json_is(doc, type, VIEW("message_delta"))) {
        inner = object_in(doc, 0, VIEW("delta"));
        if (inner)
            take_stop(watch, json_get(doc, inner, VIEW("stop_reason")));
        ai_usage_read(doc, object_in(doc, 0, VIEW("usage")), &watch->usage);
    } else if (json_is(doc, type, VIEW("message_stop"))) {
        return WATCH_END;
    }
    return 0;
}

static unsigned take_messages_plain(struct watch *watch)
{
    const struct json *doc = &watch->doc;
    uint32_t content = array_in(doc, 0, VIEW("content"));
    unsigned marks = 0;

    if (!content || !has_text(doc, 0, VIEW("type"), VIEW("message")))
        return broken(watch);
    watch->begun = true;
    for (uint32_t i = json_first(doc, content); i < json_end(doc, content); i = json_after(doc, i)) {
        if (has_text(doc, i, VIEW("type"), VIEW("tool_use")) && !object_in(doc, i, VIEW("input")))
            watch->bad_tool = true;
        marks |= take_block(watch, i);
    }
    take_stop(watch, json_get(doc, 0, VIEW("stop_reason")));
    ai_usage_read(doc, object_in(doc, 0, VIEW("usage")), &watch->usage);
    return marks;
}

/* ---- responses ---- */

static unsigned take_response(struct watch *watch, uint32_t response)
{
    const struct json *doc = &watch->doc;
    uint32_t output = array_in(doc, response, VIEW("output")), status = json_get(doc, response, VIEW("status"));
    unsigned marks = 0;
    uint32_t index = 0;

    if (!output)
        return broken(watch);
    for (uint32_t i = json_first(doc, output); i < json_end(doc, output); i = json_after(doc, i)) {
        if (has_text(doc, i, VIEW("type"), VIEW("function_call")))
            watch_tool_add(watch, WATCH_TOOL_ID(1, MIN(index, WATCH_TOOL_OLD)), json_get(doc, i, VIEW("arguments")));
        index++;
        marks |= WATCH_CONTENT;
    }
    /* Queued or in progress: a background response, which is no answer yet. */
    watch->limited = status && json_is(doc, status, VIEW("incomplete"));
    watch->finished = !status || json_is(doc, status, VIEW("completed")) || watch->limited;
    ai_usage_read(doc, object_in(doc, response, VIEW("usage")), &watch->usage);
    return marks;
}

static unsigned take_responses_event(struct watch *watch)
{
    static const struct view prefix = { "response.", 9 };
    const struct json *doc = &watch->doc;
    uint32_t type = json_get(doc, 0, VIEW("type")), inner;
    struct view name = type ? json_plain(doc, type) : VIEW_NONE;

    if (view_ends_with(name, VIEW(".delta")))
        return note_member(watch, 0, VIEW("delta")) ? WATCH_CONTENT : 0;
    if (!view_starts_with(name, prefix))
        return type && json_is(doc, type, VIEW("keepalive")) ? WATCH_KEEPALIVE : 0;
    name = view_skip(name, prefix.len);
    if (view_eq(name, VIEW("completed")) || view_eq(name, VIEW("incomplete"))) {
        inner = object_in(doc, 0, VIEW("response"));
        return inner ? (take_response(watch, inner) & ~(unsigned)WATCH_CONTENT) | WATCH_END : broken(watch);
    }
    if (view_eq(name, VIEW("failed")) || view_eq(name, VIEW("cancelled")))
        return note_error(watch);
    if (view_eq(name, VIEW("output_item.added"))) {
        inner = object_in(doc, 0, VIEW("item"));
        return inner && !has_text(doc, inner, VIEW("type"), VIEW("message")) &&
                       !has_text(doc, inner, VIEW("type"), VIEW("reasoning"))
                   ? WATCH_CONTENT
                   : 0;
    }
    return view_ends_with(name, VIEW(".partial_image")) ? WATCH_CONTENT : 0;
}

/* ---- all ---- */

static bool is_error(const struct watch *watch)
{
    const struct json *doc = &watch->doc;

    return is_said(doc, json_get(doc, 0, VIEW("error"))) || has_text(doc, 0, VIEW("type"), VIEW("error")) ||
           has_text(doc, 0, VIEW("object"), VIEW("error"));
}

/* What all ways to end have in common: the calls gathered are checked. */
static unsigned settle(struct watch *watch, unsigned marks)
{
    watch->content |= (marks & WATCH_CONTENT) != 0;
    watch->ended |= (marks & WATCH_END) != 0;
    if (marks & WATCH_END || watch->finished)
        watch_tool_check(watch);
    return marks;
}

unsigned watch_event(struct watch *watch, const struct sse_event *event)
{
    unsigned marks = 0;
    size_t at;

    watch->events++;
    if (event->comment || (event->data.len == 0 && !view_eq(event->name, VIEW("error"))))
        return WATCH_KEEPALIVE;
    if (view_eq(view_trim(event->data), VIEW("[DONE]")))
        return settle(watch, WATCH_END);
    if (json_parse(&watch->doc, event->data, EVENT_LIMITS, &at) != JSON_OK) {
        if (!view_eq(event->name, VIEW("error")))
            return broken(watch);
        watch->error = WATCH_SERVER_ERROR;
        return WATCH_ERROR;
    }
    if (json_type(&watch->doc, 0) != JSON_OBJECT)
        return broken(watch);
    if (view_eq(event->name, VIEW("error")) || is_error(watch))
        return note_error(watch);
    switch (watch->endpoint) {
    case AI_CHAT:
    case AI_COMPLETIONS: marks = take_choices(watch, false); break;
    case AI_MESSAGES: marks = take_messages_event(watch, event); break;
    case AI_RESPONSES: marks = take_responses_event(watch); break;
    default: marks = WATCH_CONTENT; break;
    }
    return settle(watch, marks);
}

unsigned watch_plain(struct watch *watch, struct view body)
{
    unsigned marks = 0;
    size_t at;

    if (json_parse(&watch->doc, body, EVENT_LIMITS, &at) != JSON_OK)
        return broken(watch);
    if (is_error(watch))
        return note_error(watch);
    switch (watch->endpoint) {
    case AI_CHAT:
    case AI_COMPLETIONS: marks = take_choices(watch, true); break;
    case AI_MESSAGES: marks = take_messages_plain(watch); break;
    case AI_RESPONSES:
        if (has_text(&watch->doc, 0, VIEW("status"), VIEW("failed")))
            return note_error(watch);
        marks = take_response(watch, 0);
        break;
    case AI_EMBEDDINGS:
        marks = array_in(&watch->doc, 0, VIEW("data")) ? WATCH_CONTENT : broken(watch);
        ai_usage_read(&watch->doc, object_in(&watch->doc, 0, VIEW("usage")), &watch->usage);
        watch->finished = true;
        break;
    case AI_COUNT_TOKENS:
        marks = json_get_typed(&watch->doc, 0, VIEW("input_tokens"), JSON_NUMBER) ? WATCH_CONTENT : broken(watch);
        watch->finished = true;
        break;
    default: marks = WATCH_CONTENT; watch->finished = true;
    }
    return settle(watch, marks & WATCH_BROKEN ? marks : marks | WATCH_END);
}

bool watch_is_sound(const struct watch *watch)
{
    /* Only messages begin with an event of their own; without it the rest is no message. */
    if (watch->endpoint == AI_MESSAGES && !watch->begun)
        return false;
    return watch->ended && watch->finished && watch->error == WATCH_NO_ERROR && !watch->bad_tool && !watch->broken;
}

struct ai_usage watch_usage(const struct watch *watch, uint64_t prompt_bytes)
{
    struct ai_usage usage = watch->usage;

    /* What is said before the end is of the prompt, or of a part; and no answer is of nothing from nothing. */
    if (usage.known && (watch->finished || watch->ended) && (usage.input || usage.output))
        return usage;
    usage.known = false;
    if (usage.input == 0)
        usage.input = MIN((prompt_bytes + 3) / 4, AI_USAGE_MAX);
    usage.output = MAX(usage.output, MIN((watch->output_bytes + 3) / 4, AI_USAGE_MAX));
    return usage;
}
