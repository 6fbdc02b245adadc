/* The ledger: what loops write is on disk after the end, exactly; trouble with the disk loses no row with money while there is room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_fixture.h"

#include "ai/ledger.h"
#include "base/buf.h"

#define DAY_MS 86400000LL

static char folder[64], path[128];
static struct state *store;
static struct ledger *ledger;

static void open_state(void)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);

    if (state_open(view_str(path), &store, &reason) < 0)
        fail_msg("%s", text_str(&reason));
}

static int begin(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/doorstep-ledger-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/state", folder);
    open_state();
    bench_start();
    return 0;
}

static void close_on(void *arg)
{
    (void)arg;
    ledger_loop_close(ledger, bench_loop);
}

/* As a node ends. */
static void shut(void)
{
    on_loop(close_on, NULL);
    bench_stop();
    ledger_close(ledger);
    state_close(store);
}

static int end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static struct ledger_stats stats(void)
{
    struct ledger_stats s;

    ledger_stats(ledger, &s);
    return s;
}

/* Rows from..to with a cost of `cost` each. */
struct job {
    int from, to;
    int64_t cost;
};

static void write_rows(void *arg)
{
    const struct job *job = arg;

    for (int i = job->from; i < job->to; i++) {
        char id[32], tenant[16];
        struct ledger_row row = { .time_ms = 20000 * DAY_MS + i,
                                  .key = VIEW("k1"),
                                  .provider = VIEW("p"),
                                  .model = VIEW("m"),
                                  .client_model = VIEW("fast"),
                                  .cost = job->cost,
                                  .tokens = 7,
                                  .input = 5,
                                  .output = 2,
                                  .status = 200,
                                  .first_token_us = -1 };

        snprintf(id, sizeof(id), "req-%d", i);
        snprintf(tenant, sizeof(tenant), "t%d", i % 3);
        row.request_id = view_str(id);
        row.tenant = view_str(tenant);
        ledger_write(ledger, bench_loop, &row);
    }
}

static struct view exported(struct buf *out, enum ledger_format format, struct view tenant, unsigned limit)
{
    struct state_ledger_query query = { .tenant = tenant, .limit = limit };

    do {
        assert_int_equal(ledger_export(ledger, &query, format, out, &query.after), 0);
    } while (query.after);
    return buf_view(out);
}

static unsigned lines(struct view text)
{
    unsigned count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '\n';
    return count;
}

static void what_is_written_is_there(void **unused)
{
    /* More rows than a batch holds, from a loop, are all there after the node's end, and sums say the same. */
    struct ledger_options options = { .state = store, .retention_days = 100000, .batch_bytes = 16384 };
    struct job job = { 0, 5000, 11 };
    struct buf out = buf_make(1 << 24), sums = buf_make(1 << 16);

    (void)unused;
    assert_int_equal(ledger_new(&options, &ledger), 0);
    on_loop(write_rows, &job);
    assert_int_equal(stats().rows, 5000);
    shut();
    open_state();
    options.state = store;
    assert_int_equal(ledger_new(&options, &ledger), 0);
    assert_int_equal(lines(exported(&out, LEDGER_JSON, VIEW_NONE, 999)), 5000);
    out.len = 0;
    assert_int_equal(lines(exported(&out, LEDGER_CSV, VIEW("t1"), 100)), 1 + 1667);
    assert_int_equal(ledger_export_sums(ledger, INT32_MIN, INT32_MAX, VIEW_NONE, LEDGER_BY_TENANT, LEDGER_CSV, &sums),
                     0);
    buf_char(&sums, '\0');
    assert_string_equal(sums.ptr, "tenant,requests,hits,input_tokens,output_tokens,charged_tokens,cost_micro,"
                                  "saved_micro\n"
                                  "t0,1667,0,8335,3334,11669,18337,0\n"
                                  "t1,1667,0,8335,3334,11669,18337,0\n"
                                  "t2,1666,0,8330,3332,11662,18326,0\n");
    sums.len = 0;
    assert_int_equal(ledger_export_sums(ledger, INT32_MIN, INT32_MAX, VIEW("t2"), LEDGER_BY_DAY, LEDGER_JSON, &sums),
                     0);
    buf_char(&sums, '\0');
    assert_string_equal(sums.ptr, "{\"day\":\"2024-10-04\",\"requests\":1666,\"hits\":0,\"input_tokens\":8330,"
                                  "\"output_tokens\":3332,\"charged_tokens\":11662,\"cost_micro\":18326,"
                                  "\"saved_micro\":0}\n");
    buf_free(&out);
    buf_free(&sums);
    ledger_close(ledger);
    state_close(store);
}

static void a_tick_brings_rows_to_disk(void **unused)
{
    /* A few rows leave by themselves, without a full batch or an end. */
    struct ledger_options options = { .state = store, .retention_days = 100000 };
    struct job job = { 0, 3, 1 };

    (void)unused;
    assert_int_equal(ledger_new(&options, &ledger), 0);
    on_loop(write_rows, &job);
    while (stats().committed < 3)
        usleep(1000);
    job = (struct job){ 3, 5, 1 };
    on_loop(write_rows, &job);
    while (stats().committed < 5)
        usleep(1000);
    assert_int_equal(stats().lost, 0);
    shut();
}

static void trouble_keeps_money(void **unused)
{
    /* While commits fail, rows with money wait in memory and are written when the trouble is over; when there is no more room,
     * rows without money are lost first, and all that is lost is counted. */
    struct ledger_options options = {
        .state = store, .retention_days = 100000, .batch_bytes = 8192, .pending_bytes = 8 * 8192
    };
    struct job job = { 0, 10, 5 };
    char away[160];
    struct ledger_stats s;

    (void)unused;
    snprintf(away, sizeof(away), "%s.away", path);
    assert_int_equal(ledger_new(&options, &ledger), 0);
    assert_int_equal(rename(path, away), 0);
    on_loop(write_rows, &job);
    while (!stats().in_trouble)
        usleep(1000);
    job = (struct job){ 10, 1000, 0 };
    on_loop(write_rows, &job);
    s = stats();
    assert_true(s.lost > 0 && s.lost < 990);
    assert_int_equal(s.lost_money, 0);
    job = (struct job){ 1000, 1020, 5 };
    on_loop(write_rows, &job);
    assert_int_equal(stats().lost_money, 0);
    job = (struct job){ 1020, 3000, 5 };
    on_loop(write_rows, &job);
    s = stats();
    assert_true(s.lost_money > 0);
    assert_int_equal(s.lost_cost, 5 * (int64_t)s.lost_money);
    assert_int_equal(s.committed, 0);
    assert_true(s.pending_bytes <= options.pending_bytes);
    assert_int_equal(rename(away, path), 0);
    while (s = stats(), s.committed + s.lost < s.rows)
        usleep(1000);
    assert_true(s.retried > 0);
    shut();
}

static void old_rows_go(void **unused)
{
    /* Rows older than the retention are deleted, in steps, and their sums stay. */
    struct ledger_options options = { .state = store, .retention_days = 30 };
    struct job job = { 0, 2500, 2 };
    struct buf sums = buf_make(1 << 16), out = buf_make(1 << 20);

    (void)unused;
    assert_int_equal(ledger_new(&options, &ledger), 0);
    on_loop(write_rows, &job); /* of 2024 */
    while (stats().forgotten < 2500)
        usleep(1000);
    assert_int_equal(exported(&out, LEDGER_JSON, VIEW_NONE, 100).len, 0);
    assert_int_equal(ledger_export_sums(ledger, INT32_MIN, INT32_MAX, VIEW_NONE, LEDGER_BY_MODEL, LEDGER_JSON, &sums),
                     0);
    buf_char(&sums, '\0');
    assert_non_null(strstr(sums.ptr, "\"cost_micro\":5000,"));
    buf_free(&sums);
    buf_free(&out);
    shut();
}

static void write_odd(void *arg)
{
    struct ledger_row row = { .time_ms = 1, .request_id = VIEW("=1+1"), .tenant = VIEW("a,\"b\"\n"), .endpoint = 200 };

    (void)arg;
    ledger_write(ledger, bench_loop, &row);
}

static void csv_and_json_are_safe(void **unused)
{
    /* Quotes, line breaks and what a spreadsheet would compute are quoted. */
    struct ledger_options options = { .state = store, .retention_days = 100000 };
    struct buf out = buf_make(1 << 16);

    (void)unused;
    assert_int_equal(ledger_new(&options, &ledger), 0);
    on_loop(write_odd, NULL);
    while (stats().committed < 1)
        usleep(1000);
    exported(&out, LEDGER_CSV, VIEW_NONE, 10);
    buf_char(&out, '\0');
    assert_non_null(strstr(out.ptr, ",\"'=1+1\",\"a,\"\"b\"\"\n\","));
    out.len = 0;
    exported(&out, LEDGER_JSON, VIEW_NONE, 10);
    buf_char(&out, '\0');
    assert_non_null(strstr(out.ptr, "{\"time\":\"1970-01-01T00:00:00.001Z\","));
    assert_non_null(strstr(out.ptr, "\"request_id\":\"=1+1\",\"tenant\":\"a,\\\"b\\\"\\"));
    buf_free(&out);
    shut();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_there), TEST(a_tick_brings_rows_to_disk), TEST(trouble_keeps_money), TEST(old_rows_go),
        TEST(csv_and_json_are_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
