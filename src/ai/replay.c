/* Filtering a stream on its way to a client.
 *
 * Without a pace and with nothing to hide, a run is all of the input. To hide, events are told apart: those that lie whole in the input
 * and follow each other make one run, copied only when something within it is left out: a copy costs less than another write. An event
 * that is cut is kept by the reader until it is whole and is a run of its own. With a pace
 * a run is what is due: events without text cost nothing, others as many tokens as their text is long. */
#include "ai/replay.h"

#include <errno.h>

#define BYTES_PER_TOKEN 4
#define EDITED_ENOUGH ((size_t)64 << 10) /* a run that is copied ends here */

void replay_init(struct replay *r, enum ai_endpoint endpoint, bool hide_usage, uint32_t tokens_per_s)
{
    *r = (struct replay){ .hide_usage = hide_usage && (endpoint == AI_CHAT || endpoint == AI_COMPLETIONS),
                          .us_per_token = tokens_per_s ? MAX(1000000u / tokens_per_s, 1u) : 0 };
    sse_init(&r->sse, REPLAY_EVENT_MAX);
    r->edited = buf_make(REPLAY_EVENT_MAX + EDITED_ENOUGH);
}

void replay_free(struct replay *r)
{
    sse_free(&r->sse);
    json_free(&r->doc);
    buf_free(&r->edited);
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

/* How deep in objects and arrays does `at` lie? The data may be anything. */
static size_t depth_at(struct view data, const char *at)
{
    size_t depth = 0;
    bool in_string = false;

    for (const char *p = data.ptr; p < at; p++) {
        if (*p == '\\' && in_string)
            p++;
        else if (*p == '"')
            in_string = !in_string;
        else if (!in_string && (*p == '{' || *p == '['))
            depth++;
        else if (!in_string && (*p == '}' || *p == ']'))
            depth -= depth > 0;
    }
    return depth;
}

/* The member at `name` with one comma: the one before it, or behind the first member the one after it. */
static struct view with_comma(struct view data, const char *name, const char *end)
{
    const char *before = name;
    struct view rest = skip_blanks(view_skip(data, (size_t)(end - data.ptr)));

    while (before > data.ptr && memchr(" \t\r\n", before[-1], 4))
        before--;
    if (before > data.ptr && before[-1] == ',')
        name = before - 1;
    else if (rest.len && rest.ptr[0] == ',')
        end = rest.ptr + 1;
    return view_make(name, (size_t)(end - name));
}

bool replay_has_null(struct view data, struct view *ret)
{
    struct view at = data, rest;

    while ((at = find(at, VIEW("\"usage\""))).len) {
        const char *name = at.ptr;

        at = view_skip(at, sizeof("\"usage\"") - 1);
        rest = skip_blanks(at);
        if (rest.len == 0 || rest.ptr[0] != ':')
            continue;
        rest = skip_blanks(view_skip(rest, 1));
        if (!view_starts_with(rest, VIEW("null")) || depth_at(data, name) != 1)
            continue;
        *ret = with_comma(data, name, rest.ptr + 4);
        return true;
    }
    return false;
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

/* Appends the event to the run; *ret_run is the run as far as nothing was left out of it. */
static void add_event(struct replay *r, const struct sse_event *event, struct view *ret_run)
{
    struct view null = VIEW_NONE, raw = event->raw;
    /* Data of several lines is joined elsewhere. */
    bool inside = event->data.ptr >= raw.ptr && event->data.ptr < raw.ptr + raw.len;

    if (!r->hide_usage || event->comment || !inside || !replay_has_null(event->data, &null))
        null = VIEW_NONE;
    if (!null.ptr && r->edited.len == 0) {
        ret_run->len += raw.len;
        ret_run->ptr = ret_run->ptr ? ret_run->ptr : raw.ptr;
        return;
    }
    if (r->edited.len == 0)
        buf_put(&r->edited, *ret_run);
    buf_put(&r->edited, view_first(raw, null.ptr ? (size_t)(null.ptr - raw.ptr) : raw.len));
    if (null.ptr)
        buf_put(&r->edited, view_skip(raw, (size_t)(null.ptr - raw.ptr) + null.len));
    if (r->edited.failed)
        r->error = -ENOMEM;
    *ret_run = buf_view(&r->edited);
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
    r->edited.len = 0;
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
            add_event(r, &event, &run);
            r->held.raw = run;
            return r->error ? r->error : take_kept(r, now_us, ret_run, ret_wait_us);
        }
        if (r->us_per_token && !is_due(r, cost_us(r, &event), now_us, ret_wait_us)) {
            *input = before;
            break;
        }
        add_event(r, &event, &run);
        if (r->error)
            return r->error;
        if (r->edited.len >= EDITED_ENOUGH)
            break;
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
