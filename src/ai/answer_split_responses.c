/* A response told as a stream: response.created, its items with their parts, each added, grown and done, and at last the whole. */
#include "ai/answer_split.h"

#include <errno.h>

#define NOTHING ((struct split_other){ { 0 }, { 0 } })

static void begin(struct split *s, struct view type)
{
    split_event(s, type);
    split_member_u64(s, VIEW("sequence_number"), s->sequence++);
}

/* Where something grows: an item, and a part of it. */
struct spot {
    uint32_t item_id;   /* 0: the item has none */
    uint64_t item;      /* its place in the output */
    struct view member; /* what the place of the part is called; empty: the item has no parts */
    uint64_t part;
};

static void put_spot(struct split *s, const struct spot *spot)
{
    if (spot->item_id)
        split_member_raw(s, VIEW("item_id"), spot->item_id);
    else
        buf_lit(s->out, ",\"item_id\":\"\"");
    split_member_u64(s, VIEW("output_index"), spot->item);
    if (spot->member.len)
        split_member_u64(s, spot->member, spot->part);
}

static void begin_at(struct split *s, struct view type, const struct spot *spot)
{
    begin(s, type);
    put_spot(s, spot);
}

/* Text `text` in pieces: events of type `delta`, then one of type `done` with the whole as `member`. */
static void put_text(struct split *s, const struct spot *spot, struct view delta, struct view done, struct view member,
                     uint32_t text)
{
    struct pieces pieces = pieces_of(split_inside(s, text));
    bool output = view_eq(delta, VIEW("response.output_text.delta"));
    struct view piece;

    while (!s->out->failed && pieces_next(&pieces, &piece)) {
        begin_at(s, delta, spot);
        buf_lit(s->out, ",\"delta\":\"");
        buf_put(s->out, piece);
        buf_char(s->out, '"');
        if (output)
            buf_lit(s->out, ",\"logprobs\":[]");
        split_end(s);
    }
    begin_at(s, done, spot);
    split_member_raw(s, member, text);
    if (output)
        buf_lit(s->out, ",\"logprobs\":[]");
    split_end(s);
}

static void put_annotations(struct split *s, const struct spot *spot, uint32_t annotations)
{
    uint64_t index = 0;

    if (!annotations)
        return;
    for (uint32_t i = json_first(&s->doc, annotations); i < json_end(&s->doc, annotations);
         i = json_after(&s->doc, i)) {
        begin_at(s, VIEW("response.output_text.annotation.added"), spot);
        split_member_u64(s, VIEW("annotation_index"), index++);
        split_member_raw(s, VIEW("annotation"), i);
        split_end(s);
    }
}

/* How each kind of part is told. */
static const struct kind {
    struct view type, text, delta, done;
} kinds[] = {
    { { "output_text", 11 }, { "text", 4 }, { "response.output_text.delta", 26 }, { "response.output_text.done", 25 } },
    { { "refusal", 7 }, { "refusal", 7 }, { "response.refusal.delta", 22 }, { "response.refusal.done", 21 } },
    { { "reasoning_text", 14 },
      { "text", 4 },
      { "response.reasoning_text.delta", 29 },
      { "response.reasoning_text.done", 28 } },
    { { "summary_text", 12 },
      { "text", 4 },
      { "response.reasoning_summary_text.delta", 37 },
      { "response.reasoning_summary_text.done", 36 } },
};

static const struct kind *kind_of(const struct split *s, uint32_t part)
{
    uint32_t type = json_get(&s->doc, part, VIEW("type"));

    for (size_t i = 0; type && i < ARRAY_LEN(kinds); i++)
        if (json_is(&s->doc, type, kinds[i].type))
            return &kinds[i];
    return NULL;
}

static void put_part(struct split *s, const struct spot *spot, uint32_t part, bool summary)
{
    const struct kind *kind = kind_of(s, part);
    uint32_t text = kind ? json_get_typed(&s->doc, part, kind->text, JSON_STRING) : 0;

    begin_at(s, summary ? VIEW("response.reasoning_summary_part.added") : VIEW("response.content_part.added"), spot);
    buf_lit(s->out, ",\"part\":");
    split_object(s, part,
                 (struct split_other[]){
                     { text ? kind->text : VIEW_NONE, VIEW("\"\"") }, { VIEW("annotations"), VIEW("[]") }, NOTHING });
    split_end(s);
    if (text) {
        put_text(s, spot, kind->delta, kind->done, kind->text, text);
        put_annotations(s, spot, json_get_typed(&s->doc, part, VIEW("annotations"), JSON_ARRAY));
    }
    begin_at(s, summary ? VIEW("response.reasoning_summary_part.done") : VIEW("response.content_part.done"), spot);
    split_member_raw(s, VIEW("part"), part);
    split_end(s);
}

static int put_parts(struct split *s, struct spot spot, uint32_t parts, bool summary)
{
    spot.member = summary ? VIEW("summary_index") : VIEW("content_index");
    if (!parts)
        return 0;
    for (uint32_t i = json_first(&s->doc, parts); i < json_end(&s->doc, parts);
         i = json_after(&s->doc, i), spot.part++) {
        if (json_type(&s->doc, i) != JSON_OBJECT)
            return -EINVAL;
        put_part(s, &spot, i, summary);
    }
    return 0;
}

/* What of an item comes later is left empty when it is added. */
static void put_added(struct split *s, const struct spot *spot, uint32_t item, bool message, bool reasoning,
                      struct view text)
{
    struct split_other others[4] = { 0 };
    size_t count = 0;

    if (json_get(&s->doc, item, VIEW("status")))
        others[count++] = (struct split_other){ VIEW("status"), VIEW("\"in_progress\"") };
    if (message || reasoning)
        others[count++] = (struct split_other){ VIEW("content"), VIEW("[]") };
    if (reasoning)
        others[count++] = (struct split_other){ VIEW("summary"), VIEW("[]") };
    else if (text.len)
        others[count++] = (struct split_other){ text, VIEW("\"\"") };
    begin(s, VIEW("response.output_item.added"));
    split_member_u64(s, VIEW("output_index"), spot->item);
    buf_lit(s->out, ",\"item\":");
    split_object(s, item, others);
    split_end(s);
}

static bool is_type(const struct split *s, uint32_t item, struct view type)
{
    uint32_t said = json_get(&s->doc, item, VIEW("type"));

    return said && json_is(&s->doc, said, type);
}

static int put_item(struct split *s, uint64_t place, uint32_t item)
{
    struct spot spot = { .item = place, .item_id = json_get_typed(&s->doc, item, VIEW("id"), JSON_STRING) };
    bool message = is_type(s, item, VIEW("message")), reasoning = is_type(s, item, VIEW("reasoning"));
    uint32_t arguments = 0, input = 0;
    int error = 0;

    if (is_type(s, item, VIEW("function_call")))
        arguments = json_get_typed(&s->doc, item, VIEW("arguments"), JSON_STRING);
    else if (is_type(s, item, VIEW("custom_tool_call")))
        input = json_get_typed(&s->doc, item, VIEW("input"), JSON_STRING);
    put_added(s, &spot, item, message, reasoning, arguments ? VIEW("arguments") : input ? VIEW("input") : VIEW_NONE);
    if (reasoning)
        error = put_parts(s, spot, json_get_typed(&s->doc, item, VIEW("summary"), JSON_ARRAY), true);
    if (error == 0 && (message || reasoning))
        error = put_parts(s, spot, json_get_typed(&s->doc, item, VIEW("content"), JSON_ARRAY), false);
    if (arguments)
        put_text(s, &spot, VIEW("response.function_call_arguments.delta"),
                 VIEW("response.function_call_arguments.done"), VIEW("arguments"), arguments);
    if (input)
        put_text(s, &spot, VIEW("response.custom_tool_call_input.delta"), VIEW("response.custom_tool_call_input.done"),
                 VIEW("input"), input);
    begin(s, VIEW("response.output_item.done"));
    split_member_u64(s, VIEW("output_index"), place);
    split_member_raw(s, VIEW("item"), item);
    split_end(s);
    return error;
}

static void put_begun(struct split *s, struct view type)
{
    static const struct split_other begun[] = { { { "status", 6 }, { "\"in_progress\"", 13 } },
                                                { { "output", 6 }, { "[]", 2 } },
                                                { { "output_text", 11 }, { "\"\"", 2 } },
                                                { { "usage", 5 }, { "null", 4 } },
                                                { { "completed_at", 12 }, { "null", 4 } },
                                                { { "incomplete_details", 18 }, { "null", 4 } },
                                                { { 0 }, { 0 } } };

    begin(s, type);
    buf_lit(s->out, ",\"response\":");
    split_object(s, 0, begun);
    split_end(s);
}

int split_responses(struct split *s)
{
    uint32_t output = json_get_typed(&s->doc, 0, VIEW("output"), JSON_ARRAY);
    uint32_t status = json_get(&s->doc, 0, VIEW("status"));
    bool incomplete = status && json_is(&s->doc, status, VIEW("incomplete"));
    uint64_t place = 0;
    int error = 0;

    if (!output || (status && !incomplete && !json_is(&s->doc, status, VIEW("completed"))))
        return -EINVAL;
    put_begun(s, VIEW("response.created"));
    put_begun(s, VIEW("response.in_progress"));
    for (uint32_t i = json_first(&s->doc, output); error == 0 && i < json_end(&s->doc, output);
         i = json_after(&s->doc, i))
        error = json_type(&s->doc, i) == JSON_OBJECT ? put_item(s, place++, i) : -EINVAL;
    begin(s, incomplete ? VIEW("response.incomplete") : VIEW("response.completed"));
    split_member_raw(s, VIEW("response"), 0);
    split_end(s);
    return error;
}
