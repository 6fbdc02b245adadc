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
        if (!json_get(doc, 0, rules->forbidden[i]))
            continue;
        refuse(reason, 400, rules->forbidden[i]);
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

/* The value a member is forced to, by its token or else by its name. */
static const struct ai_forced *forced_for(const struct ai_rules *const *levels, size_t count, const struct json *doc,
                                          uint32_t token, struct view name)
{
    for (size_t level = 0; level < count; level++)
        for (size_t i = 0; i < levels[level]->forced_count; i++) {
            const struct ai_forced *forced = &levels[level]->forced[i];

            if (token ? json_is(doc, token, forced->name) : view_eq(name, forced->name))
                return forced;
        }
    return NULL;
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
        const struct ai_forced *forced = forced_for(levels, count, doc, name, VIEW_NONE);

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

            if (json_get(doc, 0, forced->name) || forced_for(levels, count, doc, 0, forced->name) != forced)
                continue;
            add_name(&w, forced->name);
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
