/* Rows and sums as CSV (RFC 4180) and as JSON lines. Money stays a whole number of micro-units. */
#include "ai/ledger.h"

#include "ai/endpoint.h"
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define DAY_S 86400

static const struct view outcome_names[LEDGER_OUTCOMES] = {
    { "ok", 2 }, { "hit", 3 }, { "collapsed", 9 }, { "error", 5 }, { "disconnected", 12 }, { "refused", 7 },
};

static const struct view tier_names[LEDGER_TIERS] = {
    { "none", 4 }, { "memory", 6 }, { "disk", 4 }, { "shared", 6 }, { "semantic", 8 },
};

struct view ledger_outcome_name(enum ledger_outcome outcome)
{
    return (unsigned)outcome < LEDGER_OUTCOMES ? outcome_names[outcome] : VIEW("unknown");
}

struct view ledger_tier_name(enum ledger_tier tier)
{
    return (unsigned)tier < LEDGER_TIERS ? tier_names[tier] : VIEW("unknown");
}

/* ---- fields ---- */

/* One line being written: names go before values in JSON, and to the head in CSV. */
struct line {
    struct buf *out;
    enum ledger_format format;
    bool head; /* the names instead of the values, CSV */
    unsigned fields;
};

static void begin_field(struct line *line, const char *name)
{
    if (line->format == LEDGER_JSON) {
        buf_char(line->out, line->fields ? ',' : '{');
        buf_json(line->out, view_str(name));
        buf_char(line->out, ':');
    } else {
        if (line->fields)
            buf_char(line->out, ',');
        if (line->head)
            buf_put(line->out, view_str(name));
    }
    line->fields++;
}

static void end_line(struct line *line)
{
    buf_put(line->out, line->format == LEDGER_JSON ? VIEW("}\n") : VIEW("\n"));
}

/* A spreadsheet takes a cell with one of these at its front for a formula; a request id may be a stranger's word. */
static bool is_formula(struct view v)
{
    return v.len && strchr("=+-@\t\r", v.ptr[0]);
}

static void put_csv(struct buf *out, struct view v)
{
    bool quoted = is_formula(v);

    for (size_t i = 0; i < v.len && !quoted; i++)
        quoted = strchr(",\"\r\n", v.ptr[i]) != NULL;
    if (!quoted) {
        buf_put(out, v);
        return;
    }
    buf_put(out, is_formula(v) ? VIEW("\"'") : VIEW("\""));
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] == '"')
            buf_char(out, '"');
        buf_char(out, v.ptr[i]);
    }
    buf_char(out, '"');
}

static void field_text(struct line *line, const char *name, struct view value)
{
    begin_field(line, name);
    if (line->format == LEDGER_JSON)
        buf_json(line->out, value);
    else if (!line->head)
        put_csv(line->out, value);
}

static void field_i64(struct line *line, const char *name, int64_t value)
{
    begin_field(line, name);
    if (!line->head)
        buf_i64(line->out, value);
}

static void field_u64(struct line *line, const char *name, uint64_t value)
{
    begin_field(line, name);
    if (!line->head)
        buf_u64(line->out, value);
}

/* Beyond 2^53, where JSON numbers stop being whole ones for most readers. */
static void field_id(struct line *line, const char *name, int64_t value)
{
    char memory[24];
    struct text text = TEXT_ON(memory);

    text_i64(&text, value);
    field_text(line, name, text_view(&text));
}

/* Seconds and milliseconds since 1970 as RFC 3339; ms < 0: a day alone. */
static struct view put_time(struct text *to, int64_t seconds, int ms)
{
    time_t at = (time_t)seconds;
    struct tm tm = { 0 };

    gmtime_r(&at, &tm);
    text_printf(to, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    if (ms >= 0)
        text_printf(to, "T%02d:%02d:%02d.%03dZ", tm.tm_hour, tm.tm_min, tm.tm_sec, ms);
    return text_view(to);
}

/* ---- rows ---- */

static void put_row(struct line *line, const struct ledger_row *row, int64_t id)
{
    char memory[40];
    struct text time = TEXT_ON(memory);

    field_text(line, "time", put_time(&time, row->time_ms / 1000, (int)(row->time_ms % 1000)));
    field_id(line, "id", id);
    field_text(line, "request_id", row->request_id);
    field_text(line, "tenant", row->tenant);
    field_text(line, "key", row->key);
    field_text(line, "route", row->route);
    field_text(line, "endpoint",
               row->endpoint < AI_ENDPOINT_COUNT ? ai_endpoint_name((enum ai_endpoint)row->endpoint) : VIEW("other"));
    field_text(line, "client_model", row->client_model);
    field_text(line, "provider", row->provider);
    field_text(line, "model", row->model);
    field_text(line, "region", row->region);
    field_text(line, "outcome", ledger_outcome_name((enum ledger_outcome)row->outcome));
    field_text(line, "tier", ledger_tier_name((enum ledger_tier)row->tier));
    field_u64(line, "status", row->status);
    field_text(line, "error_class", row->error_class);
    field_u64(line, "attempts", row->attempts);
    field_u64(line, "input_tokens", row->input);
    field_u64(line, "cached_tokens", row->cached);
    field_u64(line, "cache_write_tokens", row->cache_write);
    field_u64(line, "output_tokens", row->output);
    field_u64(line, "reasoning_tokens", row->reasoning);
    field_u64(line, "estimated", row->estimated);
    field_u64(line, "charged_tokens", row->tokens);
    field_i64(line, "reserved_micro", row->reserved);
    field_i64(line, "cost_micro", row->cost);
    field_i64(line, "saved_micro", row->saved);
    field_i64(line, "first_token_us", row->first_token_us);
    field_i64(line, "duration_us", row->duration_us);
    field_u64(line, "similarity_e4", row->similarity);
    end_line(line);
}

struct export
{
    struct buf *out;
    enum ledger_format format;
};

static void export_row(const struct ledger_row *row, int64_t id, void *arg)
{
    const struct export *to = arg;
    struct line line = { .out = to->out, .format = to->format };

    put_row(&line, row, id);
}

int ledger_export(struct ledger *ledger, const struct state_ledger_query *query, enum ledger_format format,
                  struct buf *out, int64_t *ret_after)
{
    struct export to = { out, format };
    int64_t after = 0;
    int r;

    if (format == LEDGER_CSV && query->after == 0) {
        struct line line = { .out = out, .format = format, .head = true };

        put_row(&line, &(struct ledger_row){ 0 }, 0);
    }
    r = state_ledger_page(ledger_state(ledger), query, export_row, &to, &after);
    if (r == 0 && out->failed)
        r = -ENOMEM;
    if (r == 0)
        *ret_after = after;
    return r;
}

/* ---- sums ---- */

struct total {
    size_t name_at, name_len; /* in `names` */
    struct ledger_sum sum;    /* its views are not used */
};

struct totals {
    enum ledger_by by;
    struct view tenant;
    struct buf names;
    struct total *items;
    size_t count, cap;
    bool failed;
};

static struct total *new_total(struct totals *totals)
{
    if (totals->count == totals->cap) {
        size_t cap = totals->cap ? totals->cap * 2 : 64;
        struct total *items = heap_resize(totals->items, cap * sizeof(*items));

        if (!items)
            return NULL;
        totals->items = items;
        totals->cap = cap;
    }
    return &totals->items[totals->count++];
}

static void add_sum(struct ledger_sum *to, const struct ledger_sum *sum)
{
    to->requests += sum->requests;
    to->hits += sum->hits;
    to->input += sum->input;
    to->output += sum->output;
    to->tokens += sum->tokens;
    to->cost += sum->cost;
    to->saved += sum->saved;
}

static void gather(const struct ledger_sum *sum, void *arg)
{
    struct totals *totals = arg;
    char memory[16];
    struct text day = TEXT_ON(memory);
    struct view name = totals->by == LEDGER_BY_DAY      ? put_time(&day, (int64_t)sum->day * DAY_S, -1)
                       : totals->by == LEDGER_BY_TENANT ? sum->tenant
                       : totals->by == LEDGER_BY_KEY    ? sum->key
                                                        : sum->model;
    struct total *last = totals->count ? &totals->items[totals->count - 1] : NULL;

    if (totals->tenant.len && !view_eq(totals->tenant, sum->tenant))
        return;
    /* They come by day and tenant, so this often is the one before. */
    if (!last || !view_eq(name, view_make(totals->names.ptr + last->name_at, last->name_len))) {
        last = new_total(totals);
        if (!last) {
            totals->failed = true;
            return;
        }
        *last = (struct total){ .name_at = totals->names.len, .name_len = name.len };
        buf_put(&totals->names, name);
    }
    add_sum(&last->sum, sum);
}

static int compare(const void *a, const void *b, void *names)
{
    const struct total *x = a, *y = b;
    const char *bytes = names;

    return view_compare(view_make(bytes + x->name_at, x->name_len), view_make(bytes + y->name_at, y->name_len));
}

static void put_total(struct line *line, const char *by, struct view name, const struct ledger_sum *sum)
{
    field_text(line, by, name);
    field_u64(line, "requests", sum->requests);
    field_u64(line, "hits", sum->hits);
    field_u64(line, "input_tokens", sum->input);
    field_u64(line, "output_tokens", sum->output);
    field_u64(line, "charged_tokens", sum->tokens);
    field_i64(line, "cost_micro", sum->cost);
    field_i64(line, "saved_micro", sum->saved);
    end_line(line);
}

static void put_totals(struct totals *totals, enum ledger_format format, struct buf *out)
{
    static const char *const by[] = { "day", "tenant", "key", "model" };

    qsort_r(totals->items, totals->count, sizeof(totals->items[0]), compare, totals->names.ptr);
    if (format == LEDGER_CSV) {
        struct line head = { .out = out, .format = format, .head = true };

        put_total(&head, by[totals->by], VIEW_NONE, &(struct ledger_sum){ 0 });
    }
    for (size_t i = 0, next; i < totals->count; i = next) {
        struct total *first = &totals->items[i];
        struct line line = { .out = out, .format = format };

        for (next = i + 1; next < totals->count && compare(first, &totals->items[next], totals->names.ptr) == 0; next++)
            add_sum(&first->sum, &totals->items[next].sum);
        put_total(&line, by[totals->by], view_make(totals->names.ptr + first->name_at, first->name_len), &first->sum);
    }
}

int ledger_export_sums(struct ledger *ledger, int32_t first_day, int32_t last_day, struct view tenant,
                       enum ledger_by by, enum ledger_format format, struct buf *out)
{
    struct totals totals = { .by = by, .tenant = tenant, .names = buf_make((size_t)256 << 20) };
    int r = state_ledger_sums(ledger_state(ledger), first_day, last_day, gather, &totals);

    if (r == 0 && (totals.failed || totals.names.failed))
        r = -ENOMEM;
    if (r == 0)
        put_totals(&totals, format, out);
    if (r == 0 && out->failed)
        r = -ENOMEM;
    buf_free(&totals.names);
    heap_free(totals.items);
    return r;
}
