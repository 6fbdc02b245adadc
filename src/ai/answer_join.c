/* A stream put together into the plain answer.
 *
 * Chat and completions: each chunk's choices are merged by index, a choice's `delta` into its `message`; what else a chunk says is said
 * of the whole, the last one wins. Messages: message_start gives the message, blocks begin and grow, message_delta says the rest.
 * Responses: the last event holds the whole answer. Members nobody has told us of are kept all the same.
 *
 * The values are not understood but joined as they are spelled, so that numbers and strings stay what the provider wrote; the result
 * is parsed once at the end, and nothing that is no JSON leaves here. */
#include "ai/answer.h"
#include "ai/answer_tree.h"
#include "proto/sse.h"

#include <errno.h>

#define JOIN_LIMITS ((struct json_limits){ .depth = 128, .tokens = 1u << 20 })

struct join {
    enum ai_endpoint endpoint;
    struct tree tree;
    struct sse sse; /* the tree borrows from the last event, which it may keep */
    struct json doc;
    bool begun, ended;
};

static bool is_said(const struct json *doc, uint32_t i)
{
    return i && json_type(doc, i) != JSON_NULL;
}

static struct view name_at(const struct json *doc, uint32_t i)
{
    struct view raw = json_raw(doc, i);

    return view_make(raw.ptr + 1, raw.len - 2);
}

/* ---- chat and completions ---- */

static void take_choice(struct join *join, struct node *choices, uint32_t choice, uint64_t place)
{
    const struct json *doc = &join->doc;
    struct tree *tree = &join->tree;
    uint32_t number = json_get_typed(doc, choice, VIEW("index"), JSON_NUMBER);
    struct node *to;

    if (number)
        json_u64(doc, number, &place);
    to = tree_element(tree, choices, place);
    for (uint32_t name = json_first(doc, choice); name < json_end(doc, choice); name = json_after(doc, name + 1)) {
        struct view said = name_at(doc, name);
        bool delta = view_eq(said, VIEW("delta")),
             grow = delta || view_eq(said, VIEW("text")) || view_eq(said, VIEW("logprobs"));

        tree_merge(tree, tree_member(tree, to, delta ? VIEW("message") : said), doc, name + 1, grow);
    }
}

static void take_choices(struct join *join, uint32_t choices)
{
    const struct json *doc = &join->doc;
    struct node *to = tree_member(&join->tree, &join->tree.root, VIEW("choices"));
    uint64_t place = 0;

    for (uint32_t i = json_first(doc, choices); i < json_end(doc, choices); i = json_after(doc, i))
        if (json_type(doc, i) == JSON_OBJECT) {
            take_choice(join, to, i, place++);
            join->begun = true;
        }
}

static int take_chunk(struct join *join)
{
    const struct json *doc = &join->doc;
    struct tree *tree = &join->tree;

    if (is_said(doc, json_get(doc, 0, VIEW("error"))))
        return -EINVAL;
    for (uint32_t name = json_first(doc, 0); name < json_end(doc, 0); name = json_after(doc, name + 1)) {
        struct view said = name_at(doc, name);

        if (view_eq(said, VIEW("choices")) && json_type(doc, name + 1) == JSON_ARRAY)
            take_choices(join, name + 1);
        else if (view_eq(said, VIEW("object")))
            tree_set(tree_member(tree, &tree->root, said),
                     join->endpoint == AI_CHAT ? VIEW("\"chat.completion\"") : VIEW("\"text_completion\""));
        else if (view_eq(said, VIEW("usage")) ? is_said(doc, name + 1) : !view_eq(said, VIEW("obfuscation")))
            tree_merge(tree, tree_member(tree, &tree->root, said), doc, name + 1, false);
    }
    return 0;
}

static bool is_empty(const struct node *node)
{
    return !node || node->type == NODE_NONE || (node->type == NODE_STRING && !node->raw.len && !node->text.len) ||
           (node->type == NODE_RAW && view_eq(node->raw, VIEW("null")));
}

/* What the plain form always has, and a stream need not say; a text that was begun empty and gave way to a refusal is
 * null. */
static void complete_choices(struct join *join)
{
    struct node *choices = tree_find(&join->tree.root, VIEW("choices")), *message;

    if (join->endpoint != AI_CHAT || !choices || choices->type != NODE_ARRAY)
        return;
    for (struct node *choice = choices->first; choice && !join->tree.error; choice = choice->next) {
        message = tree_member(&join->tree, choice, VIEW("message"));
        if (!tree_find(message, VIEW("role")))
            tree_set(tree_member(&join->tree, message, VIEW("role")), VIEW("\"assistant\""));
        if (!tree_find(message, VIEW("content")) ||
            (is_empty(tree_find(message, VIEW("content"))) && !is_empty(tree_find(message, VIEW("refusal")))))
            tree_set(tree_member(&join->tree, message, VIEW("content")), VIEW("null"));
    }
}

/* ---- messages ---- */

static struct node *block_at(struct join *join)
{
    const struct json *doc = &join->doc;
    uint32_t number = json_get_typed(doc, 0, VIEW("index"), JSON_NUMBER);
    uint64_t index = 0;

    if (!join->begun || !number || !json_u64(doc, number, &index))
        return NULL;
    return tree_element(&join->tree, tree_member(&join->tree, &join->tree.root, VIEW("content")), index);
}

/* The input of a tool comes as a text that becomes JSON when it is whole. */
static void take_input(struct join *join, struct node *block, uint32_t text)
{
    struct node *input = tree_member(&join->tree, block, VIEW("input"));

    if (json_type(&join->doc, text) != JSON_STRING || json_raw(&join->doc, text).len == 2)
        return;
    if (input->type != NODE_RAW)
        tree_set(input, VIEW("{}"));
    json_decode(&join->doc, text, &input->text);
    if (input->text.failed)
        join->tree.error = -ENOMEM;
}

static void take_block_delta(struct join *join, struct node *block, uint32_t delta)
{
    const struct json *doc = &join->doc;
    struct tree *tree = &join->tree;

    for (uint32_t name = json_first(doc, delta); name < json_end(doc, delta); name = json_after(doc, name + 1)) {
        struct view said = name_at(doc, name);

        if (view_eq(said, VIEW("partial_json")))
            take_input(join, block, name + 1);
        else if (view_eq(said, VIEW("citation")))
            tree_append(tree, tree_member(tree, block, VIEW("citations")), json_raw(doc, name + 1));
        else if (!view_eq(said, VIEW("type")))
            tree_merge(tree, tree_member(tree, block, said), doc, name + 1, true);
    }
}

static void take_message_delta(struct join *join)
{
    const struct json *doc = &join->doc;
    struct tree *tree = &join->tree;
    uint32_t delta = json_get_typed(doc, 0, VIEW("delta"), JSON_OBJECT);

    if (delta)
        tree_merge(tree, &tree->root, doc, delta, false);
    for (uint32_t name = json_first(doc, 0); name < json_end(doc, 0); name = json_after(doc, name + 1)) {
        struct view said = name_at(doc, name);

        if (!view_eq(said, VIEW("type")) && !view_eq(said, VIEW("delta")))
            tree_merge(tree, tree_member(tree, &tree->root, said), doc, name + 1, false);
    }
}

static int take_message_event(struct join *join)
{
    const struct json *doc = &join->doc;
    uint32_t type = json_get_typed(doc, 0, VIEW("type"), JSON_STRING), inner;
    struct node *block;

    if (!type || json_is(doc, type, VIEW("error")))
        return -EINVAL;
    if (json_is(doc, type, VIEW("message_start"))) {
        inner = json_get_typed(doc, 0, VIEW("message"), JSON_OBJECT);
        if (!inner)
            return -EINVAL;
        tree_merge(&join->tree, &join->tree.root, doc, inner, false);
        join->begun = true;
    } else if (json_is(doc, type, VIEW("content_block_start"))) {
        inner = json_get_typed(doc, 0, VIEW("content_block"), JSON_OBJECT);
        block = inner ? block_at(join) : NULL;
        if (!block)
            return -EINVAL;
        tree_merge(&join->tree, block, doc, inner, false);
    } else if (json_is(doc, type, VIEW("content_block_delta"))) {
        inner = json_get_typed(doc, 0, VIEW("delta"), JSON_OBJECT);
        block = inner ? block_at(join) : NULL;
        if (!block)
            return -EINVAL;
        take_block_delta(join, block, inner);
    } else if (json_is(doc, type, VIEW("message_delta"))) {
        take_message_delta(join);
    } else if (json_is(doc, type, VIEW("message_stop"))) {
        join->ended = true;
    }
    return 0;
}

/* ---- responses ---- */

static int take_response_event(struct join *join)
{
    const struct json *doc = &join->doc;
    uint32_t type = json_get_typed(doc, 0, VIEW("type"), JSON_STRING), response;

    if (!type || json_is(doc, type, VIEW("error")))
        return -EINVAL;
    if (!json_is(doc, type, VIEW("response.completed")) && !json_is(doc, type, VIEW("response.incomplete")))
        return 0;
    response = json_get_typed(doc, 0, VIEW("response"), JSON_OBJECT);
    if (!response)
        return -EINVAL;
    tree_set(&join->tree.root, json_raw(doc, response));
    join->begun = join->ended = true;
    return 0;
}

/* ---- all ---- */

/* The tree borrows: data of several lines, which the next event would overwrite, is copied. */
static int parse_data(struct join *join, const struct sse_event *event)
{
    struct view data = event->data;
    size_t at;

    if (data.ptr < event->raw.ptr || data.ptr >= event->raw.ptr + event->raw.len)
        data = arena_copy(&join->tree.arena, data);
    if (!data.ptr)
        return -ENOMEM;
    switch (json_parse(&join->doc, data, JOIN_LIMITS, &at)) {
    case JSON_OK: return json_type(&join->doc, 0) == JSON_OBJECT ? 0 : -EINVAL;
    case JSON_NO_MEMORY: return -ENOMEM;
    default: return -EINVAL;
    }
}

static int take_event(struct join *join, const struct sse_event *event)
{
    int error;

    if (event->comment || event->data.len == 0 || join->ended)
        return 0;
    if (view_eq(view_trim(event->data), VIEW("[DONE]"))) {
        join->ended = true;
        return 0;
    }
    error = parse_data(join, event);
    if (error < 0)
        return error;
    switch (join->endpoint) {
    case AI_CHAT:
    case AI_COMPLETIONS: return take_chunk(join);
    case AI_MESSAGES: return take_message_event(join);
    default: return take_response_event(join);
    }
}

static int take_stream(struct join *join, struct view stream)
{
    struct sse_event event;
    int got, error = 0;

    while ((got = sse_next(&join->sse, &stream, &event)) > 0) {
        error = take_event(join, &event);
        if (error == 0)
            error = join->tree.error;
        if (error < 0)
            return error;
    }
    if (got == 0 && (got = sse_finish(&join->sse, &event)) > 0)
        error = take_event(join, &event);
    if (got < 0)
        return got == -ENOMEM ? got : -EINVAL;
    if (error == 0 && (!join->begun || !join->ended))
        return -EINVAL;
    if (error == 0)
        complete_choices(join);
    return error ? error : join->tree.error;
}

int ai_answer_assemble(enum ai_endpoint endpoint, struct view stream, struct buf *out)
{
    struct join join = { .endpoint = endpoint };
    size_t before = out->len, at;
    int error;

    if (endpoint != AI_CHAT && endpoint != AI_COMPLETIONS && endpoint != AI_MESSAGES && endpoint != AI_RESPONSES)
        return -EINVAL;
    tree_init(&join.tree);
    sse_init(&join.sse, stream.len + 1);
    error = take_stream(&join, stream);
    if (error == 0) {
        tree_write(&join.tree, &join.tree.root, out);
        error = join.tree.error;
    }
    if (error == 0) {
        enum json_error parsed = json_parse(&join.doc, view_skip(buf_view(out), before), JOIN_LIMITS, &at);

        error = parsed == JSON_OK ? 0 : parsed == JSON_NO_MEMORY ? -ENOMEM : -EINVAL;
    }
    json_free(&join.doc);
    tree_free(&join.tree);
    sse_free(&join.sse);
    return error;
}
