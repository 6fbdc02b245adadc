/* Checks in the order of their cost, and one rewriting of the top object. What cannot be seen is refused where a rule
 * is about it. */
#include "ai/policy.h"

#include "base/glob.h"

#include <errno.h>

#define NAME_MAX_LEN ((size_t)512)
#define MINUTES_OF_DAY 1440
#define BYTES_PER_TOKEN 4

/* ---- windows ---- */

static const char *const day_names[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* 0 is Monday; -1: no day. */
static int read_day(struct view text)
{
    for (int i = 0; i < 7; i++)
        if (view_eq_icase(text, view_str(day_names[i])))
            return i;
    return -1;
}

/* "Mon-Fri,Sun". */
static int read_days(struct view text, uint8_t *ret)
{
    uint8_t days = 0;

    while (text.ptr) {
        struct view range = view_trim(view_cut(&text, ',')), last = range, first = view_cut(&last, '-');
        int from = read_day(first), until = last.ptr ? read_day(last) : from;

        if (from < 0 || until < 0)
            return -EINVAL;
        for (int day = from;; day = (day + 1) % 7) {
            days = (uint8_t)(days | 1u << day);
            if (day == until)
                break;
        }
    }
    *ret = days;
    return 0;
}

/* "08:00", up to "24:00". */
static int read_minute(struct view text, uint16_t *ret)
{
    struct view minutes = text, hours = view_cut(&minutes, ':');
    uint64_t h, m;

    if (hours.len != 2 || minutes.len != 2 || !view_parse_u64(hours, &h) || !view_parse_u64(minutes, &m))
        return -EINVAL;
    if (m > 59 || h * 60 + m > MINUTES_OF_DAY)
        return -EINVAL;
    *ret = (uint16_t)(h * 60 + m);
    return 0;
}

int ai_window_parse(struct view text, struct ai_window *ret)
{
    struct ai_window window = { .days = 0x7f };
    struct view trimmed = view_trim(text), days = trimmed, hours = trimmed, from;

    for (size_t i = trimmed.len; i-- > 0;) {
        if (trimmed.ptr[i] != ' ')
            continue;
        days = view_trim(view_first(trimmed, i));
        hours = view_skip(trimmed, i + 1);
        if (read_days(days, &window.days) < 0)
            return -EINVAL;
        break;
    }
    from = view_cut(&hours, '-');
    if (!hours.ptr || read_minute(from, &window.from) < 0 || read_minute(hours, &window.until) < 0 ||
        window.from == MINUTES_OF_DAY || window.from == window.until)
        return -EINVAL;
    *ret = window;
    return 0;
}

static bool is_open(const struct ai_rules *rules, int64_t now_ms)
{
    /* The offset of a week makes the quotient's sign no matter; 1970-01-01 was a Thursday. */
    int64_t local = now_ms / 60000 + rules->utc_offset + (int64_t)7 * MINUTES_OF_DAY;
    int minute = (int)(local % MINUTES_OF_DAY), today = (int)((local / MINUTES_OF_DAY + 3) % 7),
        yesterday = (today + 6) % 7;

    for (size_t i = 0; i < rules->window_count; i++) {
        const struct ai_window *w = &rules->windows[i];
        bool overnight = w->until <= w->from;

        if ((w->days & 1u << today) && minute >= w->from && (overnight || minute < w->until))
            return true;
        if (overnight && (w->days & 1u << yesterday) && minute < w->until)
            return true;
    }
    return rules->window_count == 0;
}

/* ---- models and regions ---- */

static struct view lowered(struct view text, char *memory)
{
    for (size_t i = 0; i < text.len; i++)
        memory[i] = ascii_lower(text.ptr[i]);
    return view_make(memory, text.len);
}

/* Some servers take names in any case, so a denied one must not come back in another. */
static bool is_denied(const struct ai_rules *rules, struct view model)
{
    char name[NAME_MAX_LEN], pattern[NAME_MAX_LEN];

    if (rules->deny_count && model.len > sizeof(name))
        return true;
    for (size_t i = 0; i < rules->deny_count; i++) {
        if (rules->deny[i].len > sizeof(pattern))
            return true;
        if (glob_match(lowered(rules->deny[i], pattern), lowered(model, name)))
            return true;
    }
    return false;
}

static bool is_allowed(const struct ai_rules *rules, struct view model)
{
    for (size_t i = 0; i < rules->allow_count; i++)
        if (glob_match(rules->allow[i], model))
            return true;
    return rules->allow_count == 0;
}

bool ai_rules_model(const struct ai_rules *const *levels, size_t count, struct view name)
{
    for (size_t level = 0; level < count; level++)
        if (is_denied(levels[level], name) || !is_allowed(levels[level], name))
            return false;
    return true;
}

bool ai_rules_region(const struct ai_rules *const *levels, size_t count, struct view region)
{
    for (size_t level = 0; level < count; level++) {
        const struct ai_rules *rules = levels[level];
        bool found = rules->region_count == 0;

        for (size_t i = 0; i < rules->region_count && !found; i++)
            found = view_eq(rules->regions[i], region);
        if (!found)
            return false;
    }
    return true;
}

bool ai_rules_candidate(const struct ai_rules *const *levels, size_t count, struct view model, struct view region)
{
    for (size_t level = 0; level < count; level++)
        if (is_denied(levels[level], model))
            return false;
    return ai_rules_region(levels, count, region);
}

/* ---- parameters that have other names elsewhere ---- */

enum {
    CHAT = 1 << AI_CHAT,
    RESPONSES = 1 << AI_RESPONSES,
    COMPLETIONS = 1 << AI_COMPLETIONS,
    MESSAGES = 1 << AI_MESSAGES,
    OPENAI = CHAT | RESPONSES | COMPLETIONS,
};

#define NAMED(literal) \
    { \
        literal, sizeof(literal) - 1 \
    }

/* Which interfaces have a parameter, and what means the same: `kind` in whatever form, `value` with the same value. 0: nothing does. What
 * is not here is taken for a parameter of every interface. */
static const struct parameter {
    struct view name;
    unsigned endpoints, kind, value;
} parameters[] = {
    { NAMED("max_tokens"), CHAT | COMPLETIONS | MESSAGES, 1, 1 },
    { NAMED("max_completion_tokens"), CHAT, 1, 1 },
    { NAMED("max_output_tokens"), RESPONSES, 1, 1 },
    { NAMED("stop"), CHAT | COMPLETIONS, 2, 2 },
    { NAMED("stop_sequences"), MESSAGES, 2, 2 },
    { NAMED("tools"), CHAT | RESPONSES | MESSAGES, 3, 0 },
    { NAMED("functions"), CHAT, 3, 0 },
    { NAMED("tool_choice"), CHAT | RESPONSES | MESSAGES, 4, 0 },
    { NAMED("function_call"), CHAT, 4, 0 },
    { NAMED("response_format"), CHAT, 5, 0 },
    { NAMED("text"), RESPONSES, 5, 0 },
    { NAMED("output_format"), MESSAGES, 5, 0 },
    { NAMED("output_config"), MESSAGES, 5, 0 },
    { NAMED("reasoning_effort"), CHAT, 6, 0 },
    { NAMED("reasoning"), CHAT | RESPONSES, 6, 0 },
    { NAMED("thinking"), MESSAGES, 6, 0 },
    { NAMED("frequency_penalty"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("presence_penalty"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("logit_bias"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("logprobs"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("top_logprobs"), CHAT | RESPONSES, 0, 0 },
    { NAMED("n"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("seed"), CHAT | COMPLETIONS, 0, 0 },
    { NAMED("verbosity"), CHAT, 0, 0 },
    { NAMED("store"), CHAT | RESPONSES, 0, 0 },
    { NAMED("parallel_tool_calls"), CHAT | RESPONSES, 0, 0 },
    { NAMED("prediction"), CHAT, 0, 0 },
    { NAMED("user"), OPENAI, 0, 0 },
};

static const struct parameter *parameter_of(struct view name)
{
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (view_eq(parameters[i].name, name))
            return &parameters[i];
    return NULL;
}

/* The member of the request that is this parameter under any of its names; 0: none. */
static uint32_t find_parameter(const struct json *doc, struct view name, struct view *ret_name)
{
    const struct parameter *parameter = parameter_of(name);
    uint32_t value = json_get(doc, 0, name);

    *ret_name = name;
    for (size_t i = 0; i < ARRAY_LEN(parameters) && !value && parameter && parameter->kind; i++) {
        if (parameters[i].kind != parameter->kind)
            continue;
        *ret_name = parameters[i].name;
        value = json_get(doc, 0, *ret_name);
    }
    return value;
}

/* What a parameter with this value is called in an interface; none: it has no such. */
static struct view name_there(struct view name, enum ai_endpoint endpoint)
{
    const struct parameter *parameter = parameter_of(name);

    if (!parameter || parameter->endpoints & 1u << endpoint)
        return name;
    for (size_t i = 0; i < ARRAY_LEN(parameters) && parameter->value; i++)
        if (parameters[i].value == parameter->value && parameters[i].endpoints & 1u << endpoint)
            return parameters[i].name;
    return VIEW_NONE;
}

/* ---- a request ---- */

static int refuse(struct text *reason, int status, struct view words)
{
    if (reason)
        text_put(reason, words);
    return status;
}

static bool is_about_content(const struct ai_rules *r)
{
    return r->max_tokens || r->no_tools || r->no_server_tools || r->no_images || r->no_audio || r->no_files ||
           r->forbidden_count || r->forced_count;
}

static int check_kinds(const struct ai_rules *rules, const struct ai_facts *facts, struct text *reason)
{
    const struct {
        bool refused;
        struct view words;
    } kinds[] = {
        { rules->no_tools && (facts->has_tools || facts->has_tool_turns), VIEW("tools are not allowed for this key") },
        { (rules->no_tools || rules->no_server_tools) && facts->has_server_tools,
          VIEW("tools that the provider runs are not allowed for this key") },
        { rules->no_images && facts->has_images, VIEW("images are not allowed for this key") },
        { rules->no_audio && facts->has_audio, VIEW("audio is not allowed for this key") },
        { rules->no_files && facts->has_files, VIEW("files are not allowed for this key") },
    };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].refused)
            return refuse(reason, 403, kinds[i].words);
    return 0;
}

static int check_sizes(const struct ai_rules *rules, const struct ai_facts *facts, struct text *reason)
{
    if (rules->max_tokens && facts->max_tokens > rules->max_tokens) {
        if (reason)
            text_printf(reason, "max_tokens: must be at most %llu for this key", (unsigned long long)rules->max_tokens);
        return 400;
    }
    if ((rules->context_bytes && facts->prompt_bytes > rules->context_bytes) ||
        (rules->context_tokens &&
         (facts->prompt_bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN > rules->context_tokens))
        return refuse(reason, 400, VIEW("the prompt is longer than is allowed for this key"));
    return 0;
}

static int check_forbidden(const struct ai_rules *rules, const struct json *doc, struct text *reason)
{
    if (doc->count == 0)
        return 0;
    for (size_t i = 0; i < rules->forbidden_count; i++) {
        struct view said;

        if (!find_parameter(doc, rules->forbidden[i], &said))
            continue;
        refuse(reason, 400, said);
        return refuse(reason, 400, VIEW(": is not allowed for this key"));
    }
    return 0;
}

static int check_level(const struct ai_rules *rules, const struct json *doc, const struct ai_facts *facts,
                       int64_t now_ms, struct text *reason)
{
    int status;

    if (!is_open(rules, now_ms))
        return refuse(reason, 403, VIEW("this key must not be used at this time"));
    if (is_denied(rules, facts->model) || !is_allowed(rules, facts->model))
        return refuse(reason, 403, VIEW("this model is not allowed for this key"));
    if (facts->never == AI_UNKNOWN && is_about_content(rules))
        return refuse(reason, 403, VIEW("this interface is not allowed for this key"));
    if ((status = check_kinds(rules, facts, reason)) != 0 || (status = check_sizes(rules, facts, reason)) != 0)
        return status;
    return check_forbidden(rules, doc, reason);
}

int ai_rules_check(const struct ai_rules *const *levels, size_t count, const struct json *doc,
                   const struct ai_facts *facts, int64_t now_ms, struct text *reason)
{
    int status = 0;

    for (size_t level = 0; level < count && status == 0; level++)
        status = check_level(levels[level], doc, facts, now_ms, reason);
    return status;
}

/* ---- rewriting ---- */

static struct view limit_name(enum ai_endpoint endpoint)
{
    return endpoint == AI_RESPONSES ? VIEW("max_output_tokens") : VIEW("max_tokens");
}

static bool is_limit(struct view name)
{
    return view_eq(name, VIEW("max_tokens")) || view_eq(name, VIEW("max_completion_tokens")) ||
           view_eq(name, VIEW("max_output_tokens"));
}

/* The same, or the same under another name that takes the same value. */
static bool is_same(struct view a, struct view b)
{
    const struct parameter *one = parameter_of(a), *other = parameter_of(b);

    return view_eq(a, b) || (one && other && one->value && one->value == other->value);
}

static const struct ai_forced *forced_for(const struct ai_rules *const *levels, size_t count, struct view name)
{
    for (size_t level = 0; level < count; level++)
        for (size_t i = 0; i < levels[level]->forced_count; i++)
            if (is_same(name, levels[level]->forced[i].name))
                return &levels[level]->forced[i];
    return NULL;
}

/* Of a member, by its name's token; decoded, so that an escape does not save it. */
static const struct ai_forced *forced_member(const struct ai_rules *const *levels, size_t count, const struct json *doc,
                                             uint32_t token)
{
    struct view name = json_plain(doc, token);

    if (name.ptr)
        return forced_for(levels, count, name);
    for (size_t level = 0; level < count; level++)
        for (size_t i = 0; i < levels[level]->forced_count; i++)
            if (json_is(doc, token, levels[level]->forced[i].name))
                return &levels[level]->forced[i];
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (json_is(doc, token, parameters[i].name))
            return forced_for(levels, count, parameters[i].name);
    return NULL;
}

static bool has_same(const struct json *doc, struct view name)
{
    if (json_get(doc, 0, name))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if (is_same(parameters[i].name, name) && json_get(doc, 0, parameters[i].name))
            return true;
    return false;
}

/* The limit of output that must be added; 0 when the request, or a forced member, has one. */
static uint64_t limit_to_add(const struct ai_rules *const *levels, size_t count, const struct ai_facts *facts)
{
    uint64_t limit = 0;

    for (size_t level = 0; level < count; level++) {
        uint64_t max = levels[level]->max_tokens;

        limit = max && (!limit || max < limit) ? max : limit;
        for (size_t i = 0; i < levels[level]->forced_count; i++)
            if (is_limit(levels[level]->forced[i].name))
                return 0;
    }
    return facts->max_tokens ? 0 : limit;
}

struct rewriting {
    const struct json *doc;
    struct buf *out;
    size_t copied; /* bytes of the request that were looked at */
    bool empty;    /* no member stands before the one to come */
};

static void copy_until(struct rewriting *w, size_t at)
{
    buf_put(w->out, view_make(w->doc->text.ptr + w->copied, at - w->copied));
    w->copied = at;
}

static void set_value(struct rewriting *w, uint32_t value, struct view json)
{
    copy_until(w, w->doc->tokens[value].at);
    buf_put(w->out, json);
    w->copied += w->doc->tokens[value].len;
}

static void add_name(struct rewriting *w, struct view name)
{
    if (!w->empty)
        buf_char(w->out, ',');
    w->empty = false;
    buf_json(w->out, name);
    buf_char(w->out, ':');
}

int ai_rules_apply(const struct ai_rules *const *levels, size_t count, enum ai_endpoint endpoint,
                   const struct json *doc, const struct ai_facts *facts, struct buf *out)
{
    bool generates =
        endpoint == AI_CHAT || endpoint == AI_RESPONSES || endpoint == AI_COMPLETIONS || endpoint == AI_MESSAGES;
    uint64_t limit = generates ? limit_to_add(levels, count, facts) : 0;
    struct rewriting w = { .doc = doc, .out = out };
    size_t from = out->len, forced_count = 0;

    for (size_t level = 0; level < count; level++)
        forced_count += levels[level]->forced_count;
    if (!generates || (limit == 0 && forced_count == 0))
        return 0;
    w.empty = doc->tokens[0].count == 0;
    for (uint32_t name = json_first(doc, 0); name < json_end(doc, 0); name = json_after(doc, name + 1)) {
        const struct ai_forced *forced = forced_member(levels, count, doc, name);

        if (forced)
            set_value(&w, name + 1, forced->json);
        if (limit && name + 1 == facts->max_at) { /* it says null */
            set_value(&w, name + 1, VIEW_NONE);
            buf_u64(out, limit);
            limit = 0;
        }
    }
    copy_until(&w, (size_t)doc->tokens[0].at + doc->tokens[0].len - 1);
    for (size_t level = 0; level < count; level++)
        for (size_t i = 0; i < levels[level]->forced_count; i++) {
            const struct ai_forced *forced = &levels[level]->forced[i];
            struct view name = name_there(forced->name, endpoint);

            if (!name.ptr || has_same(doc, name) || forced_for(levels, count, forced->name) != forced)
                continue;
            add_name(&w, name);
            buf_put(out, forced->json);
        }
    if (limit) {
        add_name(&w, limit_name(endpoint));
        buf_u64(out, limit);
    }
    copy_until(&w, doc->text.len);
    if (out->failed) {
        out->len = from;
        return -ENOMEM;
    }
    return 1;
}
