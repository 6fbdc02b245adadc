/* The ledger's rows and sums in the state: kept whole or not at all, in the order of time, and older files are brought along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "store/state_ledger.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DAY_MS 86400000LL

static char folder[64], path[128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/doorstep-state-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/state", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static struct state *opened(void)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct state *state;

    if (state_open(view_str(path), &state, &reason) != 0)
        fail_msg("%.*s", VIEW_ARG(text_view(&reason)));
    return state;
}

static void with_sqlite(const char *sql)
{
    sqlite3 *handle;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(handle);
}

/* ---- writing ---- */

struct batch {
    struct state_rows rows;
    struct text text;
    sem_t done;
    int result;
};

static void batch_done(struct state_rows *rows, int result)
{
    struct batch *batch = CONTAINER_OF(rows, struct batch, rows);

    batch->result = result;
    sem_post(&batch->done);
}

static void batch_begin(struct batch *batch, char *memory, size_t cap)
{
    *batch = (struct batch){ .rows.done = batch_done, .text = text_make(memory, cap) };
    list_init(&batch->rows.link);
    sem_init(&batch->done, 0, 0);
}

static void batch_add(struct batch *batch, const struct ledger_row *row)
{
    assert_true(state_ledger_put(&batch->text, row));
    batch->rows.count++;
}

static int batch_send(struct state *state, struct batch *batch)
{
    batch->rows.batch = text_view(&batch->text);
    state_append(state, &batch->rows);
    sem_wait(&batch->done);
    sem_destroy(&batch->done);
    return batch->result;
}

static int write_one(struct state *state, const struct ledger_row *row)
{
    char memory[LEDGER_ROW_MAX];
    struct batch batch;

    batch_begin(&batch, memory, sizeof(memory));
    batch_add(&batch, row);
    return batch_send(state, &batch);
}

static const struct ledger_row full = {
    .time_ms = 20000 * DAY_MS + 5,
    .request_id = { "req", 3 },
    .tenant = { "acme", 4 },
    .key = { "k1", 2 },
    .route = { "ai", 2 },
    .client_model = { "fast", 4 },
    .provider = { "openai", 6 },
    .model = { "m1", 2 },
    .region = { "eu", 2 },
    .error_class = { "none", 4 },
    .input = 1,
    .cached = 2,
    .cache_write = 3,
    .output = 4,
    .reasoning = 5,
    .tokens = 6,
    .reserved = 7,
    .cost = 8,
    .saved = -9,
    .first_token_us = -1,
    .duration_us = 11,
    .attempts = 12,
    .status = 200,
    .similarity = 9876,
    .endpoint = 5,
    .outcome = LEDGER_COLLAPSED,
    .tier = LEDGER_TIER_SHARED,
    .estimated = true,
};

/* ---- reading ---- */

struct seen {
    struct ledger_row rows[64];
    char requests[64][16];
    unsigned count;
    int64_t cost;
};

static void see(const struct ledger_row *row, int64_t id, void *arg)
{
    struct seen *seen = arg;

    (void)id;
    seen->cost += row->cost;
    if (seen->count < ARRAY_LEN(seen->rows)) {
        seen->rows[seen->count] = *row;
        snprintf(seen->requests[seen->count], sizeof(seen->requests[0]), "%.*s", VIEW_ARG(row->request_id));
    }
    seen->count++;
}

static struct seen all(struct state *state, struct state_ledger_query query)
{
    struct seen seen = { 0 };

    do {
        assert_int_equal(state_ledger_page(state, &query, see, &seen, &query.after), 0);
    } while (query.after);
    return seen;
}

struct sums {
    struct ledger_sum total;
    unsigned count;
};

static void sum_up(const struct ledger_sum *sum, void *arg)
{
    struct sums *sums = arg;

    sums->count++;
    sums->total.requests += sum->requests;
    sums->total.hits += sum->hits;
    sums->total.tokens += sum->tokens;
    sums->total.cost += sum->cost;
    sums->total.saved += sum->saved;
}

static struct sums sums_of(struct state *state, int32_t first, int32_t last)
{
    struct sums sums = { 0 };

    assert_int_equal(state_ledger_sums(state, first, last, sum_up, &sums), 0);
    return sums;
}

/* ---- tests ---- */

static void check_full(const struct ledger_row *row, int64_t id, void *arg)
{
    (void)id;
    ++*(unsigned *)arg;
    assert_true(row->time_ms == full.time_ms && view_eq(row->request_id, full.request_id) &&
                view_eq(row->tenant, full.tenant) && view_eq(row->key, full.key) && view_eq(row->route, full.route));
    assert_true(view_eq(row->client_model, full.client_model) && view_eq(row->provider, full.provider) &&
                view_eq(row->model, full.model) && view_eq(row->region, full.region) &&
                view_eq(row->error_class, full.error_class));
    assert_true(row->input == 1 && row->cached == 2 && row->cache_write == 3 && row->output == 4 &&
                row->reasoning == 5 && row->tokens == 6);
    assert_true(row->reserved == 7 && row->cost == 8 && row->saved == -9 && row->first_token_us == -1 &&
                row->duration_us == 11);
    assert_true(row->attempts == 12 && row->status == 200 && row->similarity == 9876 && row->endpoint == 5 &&
                row->outcome == LEDGER_COLLAPSED && row->tier == LEDGER_TIER_SHARED && row->estimated);
}

static void every_column_comes_back(void **unused)
{
    /* All that a row says is there after closing and opening; a text that is too long is cut. */
    struct state *state = opened();
    struct state_ledger_query query = { .limit = 10 };
    char longer[300];
    struct ledger_row row = full;
    struct seen seen;
    unsigned count = 0;

    (void)unused;
    assert_int_equal(write_one(state, &full), 0);
    state_close(state);
    state = opened();
    assert_int_equal(state_ledger_page(state, &query, check_full, &count, &query.after), 0);
    assert_int_equal(count, 1);
    assert_int_equal(query.after, 0);
    memset(longer, 'x', sizeof(longer));
    row.model = view_make(longer, sizeof(longer));
    row.time_ms++;
    assert_int_equal(write_one(state, &row), 0);
    seen = all(state, (struct state_ledger_query){ .since_ms = row.time_ms, .limit = 1 });
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.rows[0].model.len, LEDGER_TEXT_MAX);
    state_close(state);
}

static void pages_in_order_of_time(void **unused)
{
    /* Pages of any size give each row of the asked time, tenant and key once, in the order of time, rows of one millisecond too. */
    struct state *state = opened();
    char memory[65536], id[16];
    struct batch batch;
    struct seen seen;

    (void)unused;
    batch_begin(&batch, memory, sizeof(memory));
    for (int i = 0; i < 60; i++) {
        struct ledger_row row = full;

        snprintf(id, sizeof(id), "r%d", i);
        row.request_id = view_str(id);
        row.time_ms = 1000000 + (59 - i) / 2; /* backwards, two of each */
        row.tenant = i % 3 ? VIEW("a") : VIEW("b");
        row.key = i % 2 ? VIEW("odd") : VIEW("even");
        batch_add(&batch, &row);
    }
    assert_int_equal(batch_send(state, &batch), 0);
    for (unsigned limit = 1; limit < 70; limit += 7) {
        seen = all(state, (struct state_ledger_query){ .limit = limit });
        assert_int_equal(seen.count, 60);
        for (unsigned i = 1; i < 60; i++)
            assert_true(seen.rows[i - 1].time_ms <= seen.rows[i].time_ms);
        assert_int_equal(
            all(state, (struct state_ledger_query){ .since_ms = 1000010, .until_ms = 1000020, .limit = limit }).count,
            20);
        assert_int_equal(all(state, (struct state_ledger_query){ .tenant = VIEW("b"), .limit = limit }).count, 20);
        assert_int_equal(
            all(state, (struct state_ledger_query){ .tenant = VIEW("a"), .key = VIEW("odd"), .limit = limit }).count,
            20);
        assert_int_equal(all(state, (struct state_ledger_query){ .tenant = VIEW("c"), .limit = limit }).count, 0);
    }
    state_close(state);
}

static void sums_equal_rows(void **unused)
{
    /* Over many tenants, keys, models and days the sums add up to what the rows say, also when rows are deleted by age. */
    struct state *state = opened();
    static char memory[1 << 20];
    struct batch batch;
    int64_t cost = 0, cost_of_day = 0;
    uint64_t hits = 0, tokens = 0;
    struct sums sums;

    (void)unused;
    batch_begin(&batch, memory, sizeof(memory));
    for (int i = 0; i < 3000; i++) {
        struct ledger_row row = full;
        char names[3][16];

        snprintf(names[0], sizeof(names[0]), "t%d", i % 7);
        snprintf(names[1], sizeof(names[1]), "k%d", i % 101);
        snprintf(names[2], sizeof(names[2]), "m%d", i % 5);
        row.tenant = view_str(names[0]);
        row.key = view_str(names[1]);
        row.model = view_str(names[2]);
        row.time_ms = (100 + i % 4) * DAY_MS + i;
        row.cost = (int64_t)i * 997;
        row.tokens = (uint64_t)i;
        row.outcome = (uint8_t)(i % LEDGER_OUTCOMES);
        batch_add(&batch, &row);
        cost += row.cost;
        cost_of_day += i % 4 == 2 ? row.cost : 0;
        tokens += row.tokens;
        hits += row.outcome == LEDGER_HIT || row.outcome == LEDGER_COLLAPSED;
    }
    assert_int_equal(batch_send(state, &batch), 0);
    sums = sums_of(state, INT32_MIN, INT32_MAX);
    assert_int_equal(sums.total.cost, cost);
    assert_int_equal(sums.total.tokens, tokens);
    assert_int_equal(sums.total.requests, 3000);
    assert_int_equal(sums.total.hits, hits);
    assert_int_equal(sums_of(state, 102, 102).total.cost, cost_of_day);
    assert_int_equal(all(state, (struct state_ledger_query){ .limit = 500 }).cost, cost);

    for (unsigned round = 0; round < 8; round++) {
        batch_begin(&batch, memory, 0);
        batch.rows.forget_before = 102 * DAY_MS;
        batch.rows.forget_max = 200;
        assert_int_equal(batch_send(state, &batch), 0);
        assert_int_equal(batch.rows.forgotten, round < 7 ? 200 : 100);
    }
    assert_int_equal(all(state, (struct state_ledger_query){ .limit = 500 }).count, 1500);
    assert_int_equal(sums_of(state, INT32_MIN, INT32_MAX).total.cost, cost);
    state_close(state);
}

static void see_model(const struct ledger_sum *sum, void *arg)
{
    struct ledger_sum *of = arg;

    of[view_eq(sum->model, VIEW("m-2"))] = *sum;
}

static void each_model_has_its_part(void **unused)
{
    /* A row with calls of two models: each model's sum has its own, and the request is counted once. */
    struct state *state = opened();
    struct ledger_row row = {
        .time_ms = 86400000LL * 100,
        .request_id = VIEW("r"),
        .tenant = VIEW("t"),
        .model = VIEW("m-1"),
        .other_model = VIEW("m-2"),
        .tokens = 30,
        .cost = 70,
        .other_tokens = 10,
        .other_cost = 20,
    };
    struct ledger_sum of[2] = { 0 };

    (void)unused;
    assert_int_equal(write_one(state, &row), 0);
    row.request_id = VIEW("s");
    assert_int_equal(write_one(state, &row), 0);
    assert_int_equal(state_ledger_sums(state, INT32_MIN, INT32_MAX, see_model, of), 0);
    assert_int_equal(of[0].requests, 2);
    assert_int_equal(of[0].cost, 100);
    assert_int_equal(of[0].tokens, 40);
    assert_int_equal(of[1].requests, 0);
    assert_int_equal(of[1].cost, 40);
    assert_int_equal(of[1].tokens, 20);
    state_close(state);
}

static void kill_keeps_batches_whole(void **unused)
{
    /* After kill -9 between two batches and others under way, each batch is there with all its rows and sums, or not at all. */
    int from_child[2], status;
    unsigned acknowledged = 0;
    struct state *state;
    struct seen seen;
    pid_t child;
    char byte;

    (void)unused;
    assert_int_equal(pipe(from_child), 0);
    child = fork();
    if (child == 0) {
        state = opened();
        for (int64_t i = 0;; i++) {
            char memory[LEDGER_ROW_MAX * 8];
            struct batch batch;

            batch_begin(&batch, memory, sizeof(memory));
            for (int k = 0; k < 7; k++) {
                struct ledger_row row = full;

                row.time_ms += i;
                row.cost = 3;
                batch_add(&batch, &row);
            }
            if (batch_send(state, &batch) != 0 || write(from_child[1], "x", 1) != 1)
                _exit(1);
        }
    }
    while (acknowledged < 20 && read(from_child[0], &byte, 1) == 1)
        acknowledged++;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(from_child[1]);
    while (read(from_child[0], &byte, 1) == 1)
        acknowledged++;
    close(from_child[0]);
    state = opened();
    seen = all(state, (struct state_ledger_query){ .limit = 100 });
    assert_true(seen.count >= acknowledged * 7);
    assert_int_equal(seen.count % 7, 0);
    assert_int_equal(sums_of(state, INT32_MIN, INT32_MAX).total.cost, seen.cost);
    state_close(state);
}

static void failed_batch_leaves_nothing(void **unused)
{
    /* A batch whose commit fails leaves neither rows nor sums, and may be written again. */
    struct state *state = opened();
    char away[160];

    (void)unused;
    assert_int_equal(write_one(state, &full), 0);
    snprintf(away, sizeof(away), "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(write_one(state, &full), -EIO);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(write_one(state, &full), 0);
    state_close(state);
    state = opened();
    /* The commit under the other name did reach the file, so the failed one may be there: but then with both, row and sum. */
    assert_int_equal(sums_of(state, INT32_MIN, INT32_MAX).total.requests,
                     all(state, (struct state_ledger_query){ .limit = 10 }).count);
    state_close(state);
}

static void format_1_is_brought_along(void **unused)
{
    /* A file of the first format keeps its identity, marks and values, and has a ledger afterwards. */
    struct state_write write = { .name = VIEW("n"), .value = VIEW("v") };
    struct state *state = opened();
    uint8_t identity[16];
    char *value;
    size_t len;

    (void)unused;
    memcpy(identity, state_identity(state), sizeof(identity));
    assert_int_equal(state_write_wait(state, &write), 0);
    state_close(state);
    with_sqlite("DROP TABLE ledger; DROP TABLE ledger_sum; PRAGMA user_version=1");
    state = opened();
    assert_memory_equal(identity, state_identity(state), sizeof(identity));
    assert_int_equal(state_get(state, VIEW("n"), &value, &len), 0);
    heap_free(value);
    assert_int_equal(write_one(state, &full), 0);
    state_close(state);
    state = opened();
    assert_int_equal(all(state, (struct state_ledger_query){ .limit = 10 }).count, 1);
    state_close(state);
}

static void no_path_takes_rows(void **unused)
{
    /* A state that keeps nothing answers batches at once and has no rows. */
    char memory[64];
    struct text reason = TEXT_ON(memory);
    struct state *state;

    (void)unused;
    assert_int_equal(state_open(VIEW_NONE, &state, &reason), 0);
    assert_int_equal(write_one(state, &full), 0);
    assert_int_equal(all(state, (struct state_ledger_query){ .limit = 10 }).count, 0);
    assert_int_equal(sums_of(state, INT32_MIN, INT32_MAX).count, 0);
    state_close(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_column_comes_back),   TEST(pages_in_order_of_time),   TEST(sums_equal_rows),
        TEST(each_model_has_its_part),   TEST(kill_keeps_batches_whole), TEST(failed_batch_leaves_nothing),
        TEST(format_1_is_brought_along), TEST(no_path_takes_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
