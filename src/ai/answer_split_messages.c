/* Anthropic's message told as a stream: message_start, each block begun, grown and stopped, message_delta, message_stop. */
#include "ai/answer_split.h"

#include <errno.h>

#define NOTHING ((struct split_other){ { 0 }, { 0 } })

static void put_deltas(struct split *s, uint64_t index, struct view type, struct view member, struct view inside)
{
    struct pieces pieces = pieces_of(inside);
    struct view piece;

    while (!s->out->failed && pieces_next(&pieces, &piece)) {
        split_event(s, VIEW("content_block_delta"));
        split_member_u64(s, VIEW("index"), index);
        buf_lit(s->out, ",\"delta\":{\"type\":\"");
        buf_put(s->out, type);
        buf_lit(s->out, "\",\"");
        buf_put(s->out, member);
        buf_lit(s->out, "\":\"");
        buf_put(s->out, piece);
        buf_lit(s->out, "\"}");
        split_end(s);
    }
}

static void put_citations(struct split *s, uint64_t index, uint32_t citations)
{
    if (!citations)
        return;
    for (uint32_t i = json_first(&s->doc, citations); i < json_end(&s->doc, citations); i = json_after(&s->doc, i)) {
        split_event(s, VIEW("content_block_delta"));
        split_member_u64(s, VIEW("index"), index);
        buf_lit(s->out, ",\"delta\":{\"type\":\"citations_delta\",\"citation\":");
        split_raw(s, i);
        buf_char(s->out, '}');
        split_end(s);
    }
}

static void begin_block(struct split *s, uint64_t index, uint32_t block, const struct split_other *others)
{
    split_event(s, VIEW("content_block_start"));
    split_member_u64(s, VIEW("index"), index);
    buf_lit(s->out, ",\"content_block\":");
    split_object(s, block, others);
    split_end(s);
}

/* The input of a tool call as the text it would have come in. */
static int put_input(struct split *s, uint64_t index, uint32_t input)
{
    struct buf text = buf_make(s->out->max);
    int error = 0;

    buf_json(&text, json_raw(&s->doc, input));
    if (text.failed)
        error = -ENOMEM;
    else
        put_deltas(s, index, VIEW("input_json_delta"), VIEW("partial_json"), view_make(text.ptr + 1, text.len - 2));
    buf_free(&text);
    return error;
}

static int put_block(struct split *s, uint64_t index, uint32_t block)
{
    const struct json *doc = &s->doc;
    uint32_t kind = json_get_typed(doc, block, VIEW("type"), JSON_STRING);
    uint32_t text = json_get_typed(doc, block, VIEW("text"), JSON_STRING);
    uint32_t thinking = json_get_typed(doc, block, VIEW("thinking"), JSON_STRING);
    uint32_t signature = json_get_typed(doc, block, VIEW("signature"), JSON_STRING);
    uint32_t input = json_get_typed(doc, block, VIEW("input"), JSON_OBJECT);
    uint32_t citations = json_get_typed(doc, block, VIEW("citations"), JSON_ARRAY);
    struct view type = kind ? json_plain(doc, kind) : VIEW_NONE;
    int error = 0;

    if (view_eq(type, VIEW("text")) && text) {
        begin_block(s, index, block,
                    (struct split_other[]){ { VIEW("text"), VIEW("\"\"") },
                                            { citations ? VIEW("citations") : VIEW_NONE, VIEW("[]") },
                                            NOTHING });
        put_citations(s, index, citations);
        put_deltas(s, index, VIEW("text_delta"), VIEW("text"), split_inside(s, text));
    } else if (view_eq(type, VIEW("thinking")) && thinking) {
        begin_block(s, index, block,
                    (struct split_other[]){ { VIEW("thinking"), VIEW("\"\"") },
                                            { signature ? VIEW("signature") : VIEW_NONE, VIEW("\"\"") },
                                            NOTHING });
        put_deltas(s, index, VIEW("thinking_delta"), VIEW("thinking"), split_inside(s, thinking));
        if (split_inside(s, signature).len) {
            split_event(s, VIEW("content_block_delta"));
            split_member_u64(s, VIEW("index"), index);
            buf_lit(s->out, ",\"delta\":{\"type\":\"signature_delta\"");
            split_member_raw(s, VIEW("signature"), signature);
            buf_char(s->out, '}');
            split_end(s);
        }
    } else if (view_ends_with(type, VIEW("tool_use")) && input) {
        begin_block(s, index, block, (struct split_other[]){ { VIEW("input"), VIEW("{}") }, NOTHING });
        if (doc->tokens[input].count > 0)
            error = put_input(s, index, input);
    } else {
        begin_block(s, index, block, &NOTHING);
    }
    split_event(s, VIEW("content_block_stop"));
    split_member_u64(s, VIEW("index"), index);
    split_end(s);
    return error;
}

/* The end: why it stopped, and what it cost. Members of message_delta that the message does not have stay unsaid; those that clients take
 * from there, though the message has said them, are said again. */
static void put_end(struct split *s)
{
    static const struct view again[] = { { "stop_details", 12 }, { "container", 9 } };
    uint32_t reason = json_get(&s->doc, 0, VIEW("stop_reason")), sequence = json_get(&s->doc, 0, VIEW("stop_sequence"));
    uint32_t usage = json_get_typed(&s->doc, 0, VIEW("usage"), JSON_OBJECT);
    uint32_t output = usage ? json_get_typed(&s->doc, usage, VIEW("output_tokens"), JSON_NUMBER) : 0;

    split_event(s, VIEW("message_delta"));
    buf_lit(s->out, ",\"delta\":{\"stop_reason\":");
    if (reason)
        split_raw(s, reason);
    else
        buf_lit(s->out, "null");
    buf_lit(s->out, ",\"stop_sequence\":");
    if (sequence)
        split_raw(s, sequence);
    else
        buf_lit(s->out, "null");
    for (size_t i = 0; i < ARRAY_LEN(again); i++)
        if (json_get(&s->doc, 0, again[i]))
            split_member_raw(s, again[i], json_get(&s->doc, 0, again[i]));
    buf_lit(s->out, "},\"usage\":{\"output_tokens\":");
    if (output)
        split_raw(s, output);
    else
        buf_char(s->out, '0');
    buf_char(s->out, '}');
    split_end(s);
    split_event(s, VIEW("message_stop"));
    split_end(s);
}

int split_messages(struct split *s)
{
    static const struct split_other begun[] = { { { "content", 7 }, { "[]", 2 } },
                                                { { "stop_reason", 11 }, { "null", 4 } },
                                                { { "stop_sequence", 13 }, { "null", 4 } },
                                                { { 0 }, { 0 } } };
    uint32_t content = json_get_typed(&s->doc, 0, VIEW("content"), JSON_ARRAY);
    uint64_t index = 0;
    int error = 0;

    if (!content)
        return -EINVAL;
    split_event(s, VIEW("message_start"));
    buf_lit(s->out, ",\"message\":");
    split_object(s, 0, begun);
    split_end(s);
    for (uint32_t i = json_first(&s->doc, content); error == 0 && i < json_end(&s->doc, content);
         i = json_after(&s->doc, i))
        error = json_type(&s->doc, i) == JSON_OBJECT ? put_block(s, index++, i) : -EINVAL;
    if (error == 0)
        put_end(s);
    return error;
}
