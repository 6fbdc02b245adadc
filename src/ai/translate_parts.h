/* What the translators share: a JSON writer without state, look-ups that are safe with "not there", and pieces that both directions need.
 * Private to src/ai/translate*.c. */
#pragma once

#include "ai/translate.h"
#include "ai/usage.h"

#include <errno.h>

/* Tools that stand for a response format: an answer in one of them is the content, not a call. */
#define ANSWER_TOOL VIEW("json_answer__")

/* One request on its way. */
struct translation {
    const struct json *in;
    struct view model;
    struct buf *out;
    struct text *reason;
    struct json inner; /* arguments, read as JSON */
    struct buf decoded;
};

/* An answer that breaks off with -EINVAL and says which member is to blame. */
#define REFUSE(t, ...) (text_printf((t)->reason, __VA_ARGS__), -EINVAL)

/* ---- reading ---- */

/* As json_get(), but nothing is in what is not there. A member that is null is not there. */
uint32_t part_get(const struct json *in, uint32_t object, struct view name);
/* A member of the whole. */
uint32_t part_top(const struct json *in, struct view name);
static inline bool part_is_type(const struct json *in, uint32_t i, enum json_type type)
{
    return i && json_type(in, i) == type;
}
/* A string as it stands in the text, without quotes; VIEW_NONE for anything else. */
struct view part_inside(const struct json *in, uint32_t i);
/* A string with something in it. */
static inline bool part_has_text(const struct json *in, uint32_t i)
{
    return part_inside(in, i).len > 0;
}
/* Is member `type` of `object` this? */
static inline bool part_is(const struct json *in, uint32_t object, struct view type)
{
    uint32_t i = part_get(in, object, VIEW("type"));

    return i && json_is(in, i, type);
}

/* ---- writing ---- */

/* A comma when something stands before in this container. */
static inline void put_next(struct buf *out)
{
    char last = out->len ? out->ptr[out->len - 1] : '{';

    if (last != '{' && last != '[' && last != ':' && last != ',')
        buf_char(out, ',');
}
/* "name": with the comma before it. `name` is ours. */
void put_name(struct buf *out, struct view name);
void put_string(struct buf *out, struct view name, struct view value);
void put_u64(struct buf *out, struct view name, uint64_t value);
/* "name": followed by value `i` as it stands. */
void put_raw(struct buf *out, struct view name, const struct json *in, uint32_t i);
/* The same if the source has it. */
void put_copy(struct buf *out, struct view name, const struct json *in, uint32_t i);
void put_id_bytes(struct buf *out, struct view id);
/* "name": and the identifier of a tool call: both dialects' readers want [A-Za-z0-9_-]; other bytes become '_', the same way on both
 * ways. */
void put_id(struct buf *out, struct view name, const struct json *in, uint32_t i);

/* Appends the JSON object in string `i` as it stands there; {} when it is empty. 0; -EINVAL: no string, or no object in
 * it; -ENOMEM. */
int part_put_arguments(const struct json *in, uint32_t i, struct json *inner, struct buf *decoded, struct buf *out);
/* Does this tool stand for a response format? */
static inline bool part_is_answer_tool(const struct json *in, uint32_t name)
{
    return view_starts_with(part_inside(in, name), ANSWER_TOOL);
}

/* ---- requests, answers, errors ---- */

int translate_chat_to_messages(struct translation *t, uint64_t default_max_tokens);
int translate_messages_to_chat(struct translation *t);

/* "tools", "tool_choice" and "response_format" of chat as messages say it. *ret_forced: a tool must be called, with which there is no
 * thinking. */
int translate_tools_to_messages(struct translation *t, bool *ret_forced);
/* And back. */
int translate_tools_to_chat(struct translation *t);

/* Anthropic's stop_reason for OpenAI's finish_reason and back. */
struct view translate_stop_reason(struct view finish_reason, bool called, bool refused);
struct view translate_finish_reason(struct view stop_reason, bool called);
/* "usage": in either shape. */
void put_usage_chat(struct buf *out, const struct ai_usage *usage);
void put_usage_messages(struct buf *out, const struct ai_usage *usage);

/* The error that an event's data (`in`) is, as an event for a client of `to`. */
void translate_error_inside(enum ai_endpoint to, const struct json *in, struct buf *out);

/* ---- streams ---- */

#define STREAM_BLOCKS 256

struct translate_stream {
    enum ai_endpoint from, to;
    uint64_t now;
    bool include_usage;
    bool begun, finished, ended, failed; /* finished: the reason to stop was said */
    bool called, refused;                /* a tool call, a refusal was seen */
    char model[256];
    size_t model_len;
    char id[128]; /* the provider's, as it stands in its text */
    size_t id_len;
    struct ai_usage usage;
    struct json doc;   /* the event at hand */
    struct buf event;  /* the data being written */
    struct buf staged; /* what the event at hand becomes */

    /* messages -> chat: what each block is */
    struct {
        uint8_t kind; /* enum block_kind */
        bool filled;  /* a tool's arguments have begun */
        uint32_t call;
    } blocks[STREAM_BLOCKS];
    uint32_t calls; /* begun so far, both ways */

    /* chat -> messages */
    uint8_t open;     /* enum block_kind of the open block */
    uint32_t block;   /* its number, or the next one's */
    uint64_t call;    /* the open call: its index */
    uint64_t call_id; /* and a hash of its id; 0: it has none */
    char finish[32];
    size_t finish_len;
};

enum block_kind { BLOCK_NONE, BLOCK_TEXT, BLOCK_THINKING, BLOCK_TOOL, BLOCK_ANSWER };

/* Keeps the answer's id, and its model when the caller named none. */
void translate_stream_named(struct translate_stream *s, uint32_t id, uint32_t model);
/* Read one event's JSON (s->doc) into s->staged. 0 or -EBADMSG. */
int translate_event_to_chat(struct translate_stream *s);
int translate_event_to_messages(struct translate_stream *s);
/* The terminal event, or its absence where all else was said. */
int translate_done_to_messages(struct translate_stream *s);
int translate_stop_to_chat(struct translate_stream *s);
/* Begins the data of an event with "{"; ends it with "}" and moves it into s->staged. `name` may be empty. */
struct buf *translate_event_begin(struct translate_stream *s);
void translate_event_put(struct translate_stream *s, struct view name);
