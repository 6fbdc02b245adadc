/* A plain answer told as a stream: what all share, and OpenAI's chat and completions.
 *
 * Values go over as they are spelled. Texts come in pieces, tool calls piece by piece as a model would send them; members nobody has told
 * us of come with the first chunk of what they belong to, so that putting the stream together again gives the same answer. */
#include "ai/answer_split.h"

#include "ai/answer.h"

#include <errno.h>

#define SPLIT_LIMITS ((struct json_limits){ .depth = 128, .tokens = 1u << 20 })
#define PIECE_MIN ((size_t)16)
#define PIECE_MAX ((size_t)4096)

/* ---- shared ---- */

static void put_line(struct buf *out, struct view raw)
{
    while (raw.len) {
        size_t len = MIN(view_find(raw, '\n'), view_find(raw, '\r'));

        buf_put(out, view_first(raw, len));
        raw = view_skip(raw, len + 1);
    }
}

void split_raw(struct split *s, uint32_t i)
{
    put_line(s->out, json_raw(&s->doc, i));
}

struct view split_inside(const struct split *s, uint32_t i)
{
    struct view raw = json_raw(&s->doc, i);

    return i && json_type(&s->doc, i) == JSON_STRING ? view_make(raw.ptr + 1, raw.len - 2) : VIEW_NONE;
}

static void put_name(struct split *s, struct view name)
{
    buf_char(s->out, '"');
    buf_put(s->out, name);
    buf_lit(s->out, "\":");
}

void split_object(struct split *s, uint32_t i, const struct split_other *others)
{
    bool any = false;

    buf_char(s->out, '{');
    for (uint32_t name = json_first(&s->doc, i); name < json_end(&s->doc, i); name = json_after(&s->doc, name + 1)) {
        const struct split_other *other = others;

        while (other->name.len && !view_eq(other->name, split_inside(s, name)))
            other++;
        if (any)
            buf_char(s->out, ',');
        any = true;
        put_name(s, split_inside(s, name));
        if (other->name.len)
            buf_put(s->out, other->raw);
        else
            split_raw(s, name + 1);
    }
    buf_char(s->out, '}');
}

void split_event(struct split *s, struct view type)
{
    buf_lit(s->out, "event: ");
    buf_put(s->out, type);
    buf_lit(s->out, "\ndata: {\"type\":\"");
    buf_put(s->out, type);
    buf_char(s->out, '"');
}

void split_end(struct split *s)
{
    buf_lit(s->out, "}\n\n");
}

void split_member_u64(struct split *s, struct view name, uint64_t value)
{
    buf_char(s->out, ',');
    put_name(s, name);
    buf_u64(s->out, value);
}

void split_member_raw(struct split *s, struct view name, uint32_t i)
{
    buf_char(s->out, ',');
    put_name(s, name);
    split_raw(s, i);
}

struct pieces pieces_of(struct view inside)
{
    return (struct pieces){ .rest = inside, .want = MIN(MAX(inside.len / 256, PIECE_MIN), PIECE_MAX) };
}

static bool is_high_surrogate(const char *escape)
{
    return (escape[2] | 0x20) == 'd' && strchr("89abAB", escape[3]) != NULL;
}

/* Bytes that must stay together: a character, its escape, or the two escapes of one. The text is well formed. */
static size_t unit(struct view v)
{
    unsigned char c = (unsigned char)v.ptr[0];

    if (c == '\\') {
        if (v.ptr[1] != 'u')
            return 2;
        return v.len >= 12 && is_high_surrogate(v.ptr) && v.ptr[6] == '\\' && v.ptr[7] == 'u' ? 12 : 6;
    }
    return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

bool pieces_next(struct pieces *p, struct view *ret)
{
    size_t at = 0;

    if (p->rest.len == 0)
        return false;
    while (at < p->rest.len) {
        bool space = p->rest.ptr[at] == ' ';

        at += unit(view_skip(p->rest, at));
        if (at >= p->want && (space || at >= p->want + PIECE_MIN))
            break;
    }
    *ret = view_first(p->rest, at);
    p->rest = view_skip(p->rest, at);
    return true;
}

/* ---- chat and completions ---- */

struct chunks {
    struct split *s;
    struct buf head; /* up to the choices, the same for all */
    bool begun;      /* the members that come once have come */
    uint64_t index;
};

static bool is_one_of(struct view name, const struct view *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (view_eq(name, names[i]))
            return true;
    return false;
}

static bool is_repeated(struct view name)
{
    static const struct view names[] = {
        { "id", 2 },      { "created", 7 }, { "model", 5 }, { "service_tier", 12 }, { "system_fingerprint", 18 },
        { "provider", 8 }
    };

    return is_one_of(name, names, ARRAY_LEN(names));
}

static bool is_told_apart(struct view name)
{
    static const struct view names[] = { { "choices", 7 }, { "usage", 5 }, { "object", 6 } };

    return is_one_of(name, names, ARRAY_LEN(names));
}

static void put_members(struct split *s, bool repeated)
{
    for (uint32_t name = json_first(&s->doc, 0); name < json_end(&s->doc, 0); name = json_after(&s->doc, name + 1)) {
        struct view said = split_inside(s, name);

        if (!is_told_apart(said) && is_repeated(said) == repeated) {
            put_name(s, said);
            split_raw(s, name + 1);
            buf_char(s->out, ',');
        }
    }
}

static void make_head(struct chunks *c, struct view object)
{
    struct split s = *c->s;

    s.out = &c->head;
    buf_lit(s.out, "data: {\"object\":\"");
    buf_put(s.out, object);
    buf_lit(s.out, "\",");
    put_members(&s, true);
}

static void begin_chunk(struct chunks *c)
{
    buf_put(c->s->out, buf_view(&c->head));
    if (!c->begun)
        put_members(c->s, false);
    c->begun = true;
    buf_lit(c->s->out, "\"choices\":[");
}

static void begin_choice(struct chunks *c)
{
    begin_chunk(c);
    buf_lit(c->s->out, "{\"index\":");
    buf_u64(c->s->out, c->index);
}

static void end_choice(struct chunks *c)
{
    buf_lit(c->s->out, ",\"finish_reason\":null}]}\n\n");
}

/* A chunk whose delta is { before "piece" after }. */
static void put_pieces(struct chunks *c, struct view before, struct view inside, struct view after)
{
    struct pieces pieces = pieces_of(inside);
    struct view piece;

    while (!c->s->out->failed && pieces_next(&pieces, &piece)) {
        begin_choice(c);
        buf_put(c->s->out, before);
        buf_char(c->s->out, '"');
        buf_put(c->s->out, piece);
        buf_char(c->s->out, '"');
        buf_put(c->s->out, after);
        end_choice(c);
    }
}

/* The members of a choice that are neither its text nor its end: logprobs, filters. */
static void put_choice_members(struct chunks *c, uint32_t choice)
{
    static const struct view apart[] = { { "index", 5 }, { "message", 7 }, { "text", 4 }, { "finish_reason", 13 } };
    struct split *s = c->s;

    for (uint32_t name = json_first(&s->doc, choice); name < json_end(&s->doc, choice);
         name = json_after(&s->doc, name + 1))
        if (!is_one_of(split_inside(s, name), apart, ARRAY_LEN(apart)))
            split_member_raw(s, split_inside(s, name), name + 1);
}

static void put_finish(struct chunks *c, uint32_t choice, struct view nothing)
{
    uint32_t reason = json_get(&c->s->doc, choice, VIEW("finish_reason"));

    begin_choice(c);
    buf_put(c->s->out, nothing);
    buf_lit(c->s->out, ",\"finish_reason\":");
    if (reason)
        split_raw(c->s, reason);
    else
        buf_lit(c->s->out, "null");
    buf_lit(c->s->out, "}]}\n\n");
}

static const struct {
    struct view name, before;
} texts[] = {
    { { "reasoning_content", 17 }, { ",\"delta\":{\"reasoning_content\":", 30 } },
    { { "reasoning", 9 }, { ",\"delta\":{\"reasoning\":", 22 } },
    { { "content", 7 }, { ",\"delta\":{\"content\":", 20 } },
    { { "refusal", 7 }, { ",\"delta\":{\"refusal\":", 20 } },
};

static bool comes_in_pieces(const struct split *s, struct view name, uint32_t value)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (view_eq(name, texts[i].name))
            return json_type(&s->doc, value) == JSON_STRING;
    return false;
}

static bool has_calls(const struct split *s, struct view name, uint32_t value)
{
    return view_eq(name, VIEW("tool_calls")) && json_type(&s->doc, value) == JSON_ARRAY &&
           s->doc.tokens[value].count > 0;
}

/* The first chunk of a choice: the role, every other member, and texts begun empty. */
static void put_first(struct chunks *c, uint32_t choice, uint32_t message)
{
    struct split *s = c->s;
    bool any = false;

    begin_choice(c);
    put_choice_members(c, choice);
    buf_lit(s->out, ",\"delta\":{");
    for (uint32_t name = json_first(&s->doc, message); name < json_end(&s->doc, message);
         name = json_after(&s->doc, name + 1)) {
        struct view said = split_inside(s, name);

        if (has_calls(s, said, name + 1))
            continue;
        if (any)
            buf_char(s->out, ',');
        any = true;
        put_name(s, said);
        if (comes_in_pieces(s, said, name + 1))
            buf_lit(s->out, "\"\"");
        else
            split_raw(s, name + 1);
    }
    buf_char(s->out, '}');
    end_choice(c);
}

/* Begins a chunk with tool call `place`: its delta up to the call's other members. */
static void begin_call(struct chunks *c, uint64_t place)
{
    begin_choice(c);
    buf_lit(c->s->out, ",\"delta\":{\"tool_calls\":[{\"index\":");
    buf_u64(c->s->out, place);
}

static void put_call(struct chunks *c, uint32_t call, uint64_t place)
{
    static const struct split_other begun[] = { { { "arguments", 9 }, { "\"\"", 2 } }, { { 0 }, { 0 } } };
    struct split *s = c->s;
    uint32_t function = json_get_typed(&s->doc, call, VIEW("function"), JSON_OBJECT);
    uint32_t arguments = function ? json_get_typed(&s->doc, function, VIEW("arguments"), JSON_STRING) : 0;
    struct pieces pieces = pieces_of(split_inside(s, arguments));
    struct view piece;

    begin_call(c, place);
    for (uint32_t name = json_first(&s->doc, call); name < json_end(&s->doc, call);
         name = json_after(&s->doc, name + 1)) {
        if (view_eq(split_inside(s, name), VIEW("index")))
            continue;
        buf_char(s->out, ',');
        put_name(s, split_inside(s, name));
        if (name + 1 == function && arguments)
            split_object(s, function, begun);
        else
            split_raw(s, name + 1);
    }
    buf_lit(s->out, "}]}");
    end_choice(c);
    while (!s->out->failed && pieces_next(&pieces, &piece)) {
        begin_call(c, place);
        buf_lit(s->out, ",\"function\":{\"arguments\":\"");
        buf_put(s->out, piece);
        buf_lit(s->out, "\"}}]}");
        end_choice(c);
    }
}

static int put_chat_choice(struct chunks *c, uint32_t choice)
{
    struct split *s = c->s;
    uint32_t message = json_get_typed(&s->doc, choice, VIEW("message"), JSON_OBJECT), calls;
    uint64_t place = 0;

    if (!message)
        return -EINVAL;
    put_first(c, choice, message);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        put_pieces(c, texts[i].before, split_inside(s, json_get(&s->doc, message, texts[i].name)), VIEW("}"));
    calls = json_get_typed(&s->doc, message, VIEW("tool_calls"), JSON_ARRAY);
    for (uint32_t i = calls ? json_first(&s->doc, calls) : 0; calls && i < json_end(&s->doc, calls);
         i = json_after(&s->doc, i)) {
        if (json_type(&s->doc, i) != JSON_OBJECT)
            return -EINVAL;
        put_call(c, i, place++);
    }
    put_finish(c, choice, VIEW(",\"delta\":{}"));
    return 0;
}

static int put_text_choice(struct chunks *c, uint32_t choice)
{
    uint32_t text = json_get_typed(&c->s->doc, choice, VIEW("text"), JSON_STRING);
    bool logprobs = json_get(&c->s->doc, choice, VIEW("logprobs")) != 0;

    if (!text)
        return -EINVAL;
    begin_choice(c);
    put_choice_members(c, choice);
    buf_lit(c->s->out, ",\"text\":\"\"");
    end_choice(c);
    put_pieces(c, logprobs ? VIEW(",\"logprobs\":null,\"text\":") : VIEW(",\"text\":"), split_inside(c->s, text),
               VIEW(""));
    put_finish(c, choice, logprobs ? VIEW(",\"logprobs\":null,\"text\":\"\"") : VIEW(",\"text\":\"\""));
    return 0;
}

static int put_choices(struct chunks *c, bool chat)
{
    const struct json *doc = &c->s->doc;
    uint32_t choices = json_get_typed(doc, 0, VIEW("choices"), JSON_ARRAY), number;
    uint64_t place = 0;
    int error = choices && doc->tokens[choices].count > 0 ? 0 : -EINVAL;

    for (uint32_t i = choices + 1; error == 0 && i < json_end(doc, choices); i = json_after(doc, i)) {
        number = json_get_typed(doc, i, VIEW("index"), JSON_NUMBER);
        c->index = place++;
        if (json_type(doc, i) != JSON_OBJECT || (number && !json_u64(doc, number, &c->index)))
            return -EINVAL;
        error = chat ? put_chat_choice(c, i) : put_text_choice(c, i);
    }
    return error;
}

static int split_chunks(struct split *s, bool chat, bool include_usage)
{
    struct chunks c = { .s = s, .head = buf_make(s->out->max) };
    uint32_t usage = json_get_typed(&s->doc, 0, VIEW("usage"), JSON_OBJECT);
    int error;

    make_head(&c, chat ? VIEW("chat.completion.chunk") : VIEW("text_completion"));
    error = put_choices(&c, chat);
    if (error == 0 && include_usage && usage) {
        begin_chunk(&c);
        buf_char(s->out, ']');
        split_member_raw(s, VIEW("usage"), usage);
        split_end(s);
    }
    buf_lit(s->out, "data: [DONE]\n\n");
    if (error == 0 && c.head.failed)
        error = -ENOMEM;
    buf_free(&c.head);
    return error;
}

int ai_answer_stream(enum ai_endpoint endpoint, struct view plain, bool include_usage, struct buf *out)
{
    struct split s = { .out = out };
    enum json_error parsed;
    size_t at;
    int error = -EINVAL;

    parsed = json_parse(&s.doc, plain, SPLIT_LIMITS, &at);
    if (parsed == JSON_NO_MEMORY)
        error = -ENOMEM;
    else if (parsed == JSON_OK && json_type(&s.doc, 0) == JSON_OBJECT)
        switch (endpoint) {
        case AI_CHAT:
        case AI_COMPLETIONS: error = split_chunks(&s, endpoint == AI_CHAT, include_usage); break;
        case AI_MESSAGES: error = split_messages(&s); break;
        case AI_RESPONSES: error = split_responses(&s); break;
        default: break;
        }
    json_free(&s.doc);
    return error == 0 && out->failed ? -ENOMEM : error;
}
