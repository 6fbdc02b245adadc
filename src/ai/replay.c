/* Filtering a stream on its way to a client.
 *
 * Without a pace and with nothing to hide, a run is all of the input. To hide, events are told apart: those that lie whole in the input
 * and follow each other make one run, an event that is cut is kept by the reader until it is whole and is a run of its own. With a pace
 * a run is what is due: events without text cost nothing, others as many tokens as their text is long. */
#include "ai/replay.h"

#define BYTES_PER_TOKEN 4

void replay_init(struct replay *r, enum ai_endpoint endpoint, bool hide_usage, uint32_t tokens_per_s)
{
    *r = (struct replay){ .hide_usage = hide_usage && (endpoint == AI_CHAT || endpoint == AI_COMPLETIONS),
                          .us_per_token = tokens_per_s ? MAX(1000000u / tokens_per_s, 1u) : 0 };
    sse_init(&r->sse, REPLAY_EVENT_MAX);
}

void replay_free(struct replay *r)
{
    sse_free(&r->sse);
    json_free(&r->doc);
}

static struct view skip_blanks(struct view v)
{
    while (v.len && memchr(" \t\r\n", v.ptr[0], 4))
        v = view_skip(v, 1);
    return v;
}

static struct view find(struct view in, struct view what)
{
    const char *hit = in.len ? memmem(in.ptr, in.len, what.ptr, what.len) : NULL;

    return hit ? view_skip(in, (size_t)(hit - in.ptr)) : VIEW_NONE;
}

/* "choices": [ ] is spelled somewhere, with any blanks. Within a string its quotes would be escaped. */
static bool has_no_choices(struct view data)
{
    struct view at = data;

    while ((at = find(at, VIEW("\"choices\""))).len) {
        struct view rest;

        at = view_skip(at, sizeof("\"choices\"") - 1);
        rest = skip_blanks(at);
        if (rest.len == 0 || rest.ptr[0] != ':')
            continue;
        rest = skip_blanks(view_skip(rest, 1));
        if (rest.len == 0 || rest.ptr[0] != '[')
            continue;
        rest = skip_blanks(view_skip(rest, 1));
        if (rest.len > 0 && rest.ptr[0] == ']')
            return true;
    }
    return false;
}

bool replay_is_usage(struct json *doc, struct view data)
{
    uint32_t choices;
    size_t at;

    if (!has_no_choices(data) ||
        json_parse(doc, data, (struct json_limits){ .depth = 64, .tokens = 1u << 16 }, &at) != JSON_OK)
        return false;
    choices = json_get_typed(doc, 0, VIEW("choices"), JSON_ARRAY);
    return choices && doc->tokens[choices].count == 0 && json_get_typed(doc, 0, VIEW("usage"), JSON_OBJECT);
}

/* Bytes of generated text in an event: the longest string among the members that carry text. Only an estimate, so that nothing need be
 * parsed; a member's name cannot stand unescaped within a string. */
static size_t text_len(struct view data)
{
    static const struct view members[] = { { "\"content\":\"", 11 },      { "\"text\":\"", 8 },
                                           { "\"delta\":\"", 9 },         { "\"arguments\":\"", 13 },
                                           { "\"partial_json\":\"", 16 }, { "\"thinking\":\"", 12 },
                                           { "\"reasoning\":\"", 13 },    { "\"reasoning_content\":\"", 21 } };
    size_t longest = 0;

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct view value = view_skip(find(data, members[i]), members[i].len);
        size_t len = view_find(value, '"');

        longest = MAX(longest, len);
    }
    return longest;
}

static uint64_t cost_us(const struct replay *r, const struct sse_event *event)
{
    /* What ends or sums up repeats text that was sent before. */
    if (event->comment || view_ends_with(event->name, VIEW(".done")) ||
        view_ends_with(event->name, VIEW(".completed")) || view_ends_with(event->name, VIEW(".added")))
        return 0;
    return (text_len(event->data) + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN * r->us_per_token;
}

/* False: not yet; *ret_wait_us says how long. */
static bool is_due(struct replay *r, uint64_t cost, uint64_t now_us, uint64_t *ret_wait_us)
{
    if (cost == 0)
        return true;
    if (r->due_us > now_us) {
        *ret_wait_us = r->due_us - now_us;
        return false;
    }
    /* No credit for time in which nothing came; but what the caller was late is not added to every event. */
    r->due_us = (r->due_us && r->due_us + cost > now_us ? r->due_us : now_us) + cost;
    return true;
}

static bool is_hidden(struct replay *r, const struct sse_event *event)
{
    return r->hide_usage && !event->comment && replay_is_usage(&r->doc, event->data);
}

/* An event that the reader keeps, because it came in pieces. */
static int take_kept(struct replay *r, uint64_t now_us, struct view *ret_run, uint64_t *ret_wait_us)
{
    r->holds = !is_due(r, r->us_per_token ? cost_us(r, &r->held) : 0, now_us, ret_wait_us);
    if (r->holds)
        return 0;
    *ret_run = r->held.raw;
    return 1;
}

int replay_next(struct replay *r, struct view *input, uint64_t now_us, struct view *ret_run, uint64_t *ret_wait_us)
{
    struct view run = VIEW_NONE;
    int got;

    *ret_wait_us = 0;
    if (r->error)
        return r->error;
    if (r->holds)
        return take_kept(r, now_us, ret_run, ret_wait_us);
    if (!r->hide_usage && !r->us_per_token) {
        *ret_run = *input;
        *input = view_skip(*input, input->len);
        return ret_run->len > 0;
    }
    for (;;) {
        struct view before = *input;
        struct sse_event event;

        got = sse_next(&r->sse, input, &event);
        if (got < 0)
            r->error = got; /* told with the next call, when there is a run to be sent first */
        if (got <= 0)
            break;
        if (is_hidden(r, &event)) {
            if (run.len)
                break;
            continue;
        }
        if (r->sse.taken) {
            r->held = event; /* the first of the input: no run has begun */
            return take_kept(r, now_us, ret_run, ret_wait_us);
        }
        if (r->us_per_token && !is_due(r, cost_us(r, &event), now_us, ret_wait_us)) {
            *input = before;
            break;
        }
        run.len += event.raw.len;
        run.ptr = run.ptr ? run.ptr : event.raw.ptr;
    }
    if (run.len == 0)
        return got < 0 ? got : 0;
    *ret_wait_us = 0;
    *ret_run = run;
    return 1;
}

int replay_end(struct replay *r, struct view *ret_run)
{
    *ret_run = r->sse.taken && !r->holds ? VIEW_NONE : buf_view(&r->sse.rest);
    r->holds = false;
    r->sse.taken = true;
    return ret_run->len > 0;
}
