/* GET /ai/ledger: a page of rows, or sums. Reading the database may wait for a commit, so a worker does it and the answer comes
 * later. Who wants more gives the id of the last row as `after`; an empty page is the end. */
#include "admin/answer.h"

#include "ai/ledger.h"
#include "ai/price.h"
#include "base/heap.h"

#include <errno.h>

#define LIMIT_DEFAULT 1000u
#define LIMIT_MAX 10000u
#define BODY_MAX ((size_t)64 << 20)

struct ledger_wait {
    struct admin_wait wait;
    struct work work;
    struct task *task;
    struct ledger *ledger;
    struct state_ledger_query query;
    char tenant[LEDGER_TEXT_MAX + 1], key[LEDGER_TEXT_MAX + 1];
    enum ledger_format format;
    bool sums;
    enum ledger_by by;
    struct buf out;
    int result;
    bool finished, left; /* the loop's */
};

/* ---- on a worker ---- */

static unsigned rows_in(const struct buf *out)
{
    unsigned rows = 0;

    for (size_t i = 0; i < out->len; i++)
        rows += out->ptr[i] == '\n';
    return rows;
}

/* Until the page is full: one that looked at many rows and found none is not the end. */
static int read_rows(struct ledger_wait *wait)
{
    unsigned limit = wait->query.limit, head = wait->format == LEDGER_CSV && wait->query.after == 0;
    int r;

    do {
        r = ledger_export(wait->ledger, &wait->query, wait->format, &wait->out, &wait->query.after);
        wait->query.limit = limit - MIN(limit, rows_in(&wait->out) - MIN(head, rows_in(&wait->out)));
    } while (r == 0 && wait->query.after && wait->query.limit);
    return r;
}

static void run(struct work *work)
{
    struct ledger_wait *wait = CONTAINER_OF(work, struct ledger_wait, work);
    int64_t until = wait->query.until_ms;

    wait->result = wait->sums ? ledger_export_sums(wait->ledger, price_day(wait->query.since_ms),
                                                   until ? price_day(until - 1) : INT32_MAX, wait->query.tenant,
                                                   wait->by, wait->format, &wait->out)
                              : read_rows(wait);
}

/* ---- on the loop ---- */

static void wait_free(struct ledger_wait *wait)
{
    buf_free(&wait->out);
    heap_free(wait);
}

static void handle(struct loop *loop, struct message *message)
{
    struct ledger_wait *wait = CONTAINER_OF(CONTAINER_OF(message, struct work, done), struct ledger_wait, work);

    (void)loop;
    if (wait->left) {
        wait_free(wait);
        return;
    }
    wait->finished = true;
    task_wake(wait->task);
}

static void write_body(struct text *out, void *arg)
{
    const struct ledger_wait *wait = arg;

    text_put(out, buf_view(&wait->out));
}

static bool is_done(struct admin_wait *base, struct admin_answer *ret)
{
    struct ledger_wait *wait = CONTAINER_OF(base, struct ledger_wait, wait);

    if (!wait->finished)
        return false;
    if (wait->result < 0)
        answer_error(ret, 503, wait->result == -ENOMEM ? "out of memory" : "the ledger cannot be read");
    else
        answer_write(ret, 200, wait->format == LEDGER_CSV ? "text/csv; charset=utf-8" : "application/x-ndjson",
                     write_body, wait);
    return true;
}

static void leave(struct admin_wait *base)
{
    struct ledger_wait *wait = CONTAINER_OF(base, struct ledger_wait, wait);

    wait->left = true;
    if (wait->finished)
        wait_free(wait);
}

/* ---- what is asked for ---- */

/* A number that may be left out. False: it is none. */
static bool read_number(const struct http_request *request, struct view name, int64_t *ret)
{
    char memory[24];
    struct text text = TEXT_ON(memory);
    uint64_t value;

    if (!answer_param(request, name, &text))
        return true;
    if (text.overflow || !view_parse_u64(text_view(&text), &value) || value > INT64_MAX)
        return false;
    *ret = (int64_t)value;
    return true;
}

static bool read_name(const struct http_request *request, struct view name, char *memory, size_t cap, struct view *ret)
{
    struct text text = text_make(memory, cap);

    answer_param(request, name, &text);
    *ret = text_view(&text);
    return !text.overflow;
}

/* NULL, or what is wrong. */
static const char *read_wish(const struct http_request *request, struct ledger_wait *wait)
{
    static const struct view bys[] = { { "day", 3 }, { "tenant", 6 }, { "key", 3 }, { "model", 5 } };
    struct state_ledger_query *query = &wait->query;
    char memory[16];
    struct text text = TEXT_ON(memory);
    int64_t limit = LIMIT_DEFAULT;

    if (!read_number(request, VIEW("since"), &query->since_ms) ||
        !read_number(request, VIEW("until"), &query->until_ms) || !read_number(request, VIEW("after"), &query->after))
        return "since and until want milliseconds since 1970, after wants the id of a row";
    if (!read_number(request, VIEW("limit"), &limit) || limit < 1 || limit > LIMIT_MAX)
        return "limit wants 1 to 10000 rows";
    query->limit = (unsigned)limit;
    if (!read_name(request, VIEW("tenant"), wait->tenant, LEDGER_TEXT_MAX, &query->tenant) ||
        !read_name(request, VIEW("key"), wait->key, LEDGER_TEXT_MAX, &query->key))
        return "tenant and key want at most 255 bytes";
    if (answer_param(request, VIEW("format"), &text) && !view_eq(text_view(&text), VIEW("csv")) &&
        !view_eq(text_view(&text), VIEW("json")))
        return "format wants csv or json";
    wait->format = view_eq(text_view(&text), VIEW("csv")) ? LEDGER_CSV : LEDGER_JSON;
    text.len = 0;
    wait->sums = answer_param(request, VIEW("sum"), &text);
    for (unsigned i = 0; wait->sums && i < ARRAY_LEN(bys); i++)
        if (view_eq(bys[i], text_view(&text))) {
            wait->by = (enum ledger_by)i;
            return NULL;
        }
    return wait->sums ? "sum wants tenant, key, model or day" : NULL;
}

void admin_ledger(struct admin *admin, struct loop *loop, const struct http_request *request, struct admin_answer *ret)
{
    struct ledger_wait *wait;
    const char *wrong;

    if (!admin->ledger || !ledger_workers(admin->ledger)) {
        answer_error(ret, 404, "this node has no ledger: its configuration has no `ai`, or no `state.path`");
        return;
    }
    wait = heap_zalloc(sizeof(*wait));
    wrong = wait ? read_wish(request, wait) : "out of memory";
    if (wrong) {
        answer_error(ret, wait ? 400 : 503, wrong);
        heap_free(wait);
        return;
    }
    wait->wait.done = is_done;
    wait->wait.leave = leave;
    wait->task = ret->task;
    wait->ledger = admin->ledger;
    wait->out = buf_make(BODY_MAX);
    wait->work = (struct work){ .done.handle = handle, .run = run, .loop = loop };
    list_init(&wait->work.link);
    workers_submit(ledger_workers(admin->ledger), &wait->work);
    ret->wait = &wait->wait;
}
