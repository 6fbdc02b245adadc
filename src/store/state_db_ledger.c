/* The ledger's tables. A row's id is its time in milliseconds and 20 bits that tell rows of one millisecond apart, so the table lies
 * in the order of time and needs no index for it; the index by tenant has the id in it as well.
 *
 * Sums are gathered over a batch in a small table by hash and written when another sum wants the place, and at the end: one
 * statement for some hundred rows instead of one each. Both happen in the transaction of the rows. */
#include "store/state_db.h"

#include "base/heap.h"

#include <errno.h>
#include <sys/random.h>

#define SEQUENCE_BITS 20
#define TIME_MAX (((int64_t)1 << 42) - 1)
#define DAY_MS 86400000
#define SUMS STATE_DB_LEDGER_SUMS
/* Rows a page looks at, and attempts to find a free id. */
#define PAGE_LOOKS 20000u
#define ID_TRIES 64

const char state_db_ledger_sql[] =
    "CREATE TABLE ledger(id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,"
    " route TEXT NOT NULL, client_model TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,"
    " region TEXT NOT NULL, error_class TEXT NOT NULL, input INTEGER NOT NULL, cached INTEGER NOT NULL,"
    " cache_write INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL, tokens INTEGER NOT NULL,"
    " reserved INTEGER NOT NULL, cost INTEGER NOT NULL, saved INTEGER NOT NULL, first_token_us INTEGER NOT NULL,"
    " duration_us INTEGER NOT NULL, attempts INTEGER NOT NULL, status INTEGER NOT NULL, similarity INTEGER NOT NULL,"
    " endpoint INTEGER NOT NULL, outcome INTEGER NOT NULL, tier INTEGER NOT NULL, estimated INTEGER NOT NULL);"
    "CREATE INDEX ledger_tenant ON ledger(tenant);"
    "CREATE TABLE ledger_sum(day INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,"
    " requests INTEGER NOT NULL, hits INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, cost INTEGER NOT NULL, saved INTEGER NOT NULL,"
    " PRIMARY KEY(day, tenant, key, model)) WITHOUT ROWID;";

int state_db_ledger_prepare(struct state_db *db)
{
    static const char columns[] =
        "SELECT id, request_id, tenant, key, route, client_model, provider, model, region, error_class, input, cached,"
        " cache_write, output, reasoning, tokens, reserved, cost, saved, first_token_us, duration_us, attempts, status,"
        " similarity, endpoint, outcome, tier, estimated FROM ledger WHERE ";
    struct state_db_ledger *l = &db->ledger;
    char by_time[1024], by_tenant[1024];
    const struct {
        sqlite3_stmt **to;
        const char *sql;
    } list[] = {
        { &l->insert, "INSERT INTO ledger VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
                      " ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)" },
        { &l->add, "INSERT INTO ledger_sum VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                   " ON CONFLICT(day, tenant, key, model) DO UPDATE SET requests = requests + excluded.requests,"
                   " hits = hits + excluded.hits, input = input + excluded.input, output = output + excluded.output,"
                   " tokens = tokens + excluded.tokens, cost = cost + excluded.cost, saved = saved + excluded.saved" },
        { &l->forget, "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE id < ?1 ORDER BY id LIMIT ?2)" },
        { &l->by_time, by_time },
        { &l->by_tenant, by_tenant },
        { &l->sums, "SELECT day, tenant, key, model, requests, hits, input, output, tokens, cost, saved FROM ledger_sum"
                    " WHERE day BETWEEN ?1 AND ?2 ORDER BY day, tenant, key, model" },
    };
    struct text text = TEXT_ON(by_time);
    int rc = SQLITE_OK;

    text_printf(&text, "%sid > ?1 AND id < ?2 ORDER BY id LIMIT ?3", columns);
    text_str(&text);
    text = (struct text)TEXT_ON(by_tenant);
    text_printf(&text, "%stenant = ?4 AND id > ?1 AND id < ?2 ORDER BY id LIMIT ?3", columns);
    text_str(&text);
    for (size_t i = 0; i < ARRAY_LEN(list) && rc == SQLITE_OK; i++)
        rc = sqlite3_prepare_v3(db->handle, list[i].sql, -1, SQLITE_PREPARE_PERSISTENT, list[i].to, NULL);
    /* Rows of one millisecond before and after a restart differ in their sequence, most likely; the rest is tried again. */
    if (getrandom(&l->sequence, sizeof(l->sequence), 0) != sizeof(l->sequence))
        l->sequence = 0;
    return rc;
}

void state_db_ledger_close(struct state_db *db)
{
    struct state_db_ledger *l = &db->ledger;
    sqlite3_stmt *list[] = { l->insert, l->add, l->forget, l->by_time, l->by_tenant, l->sums };

    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        sqlite3_finalize(list[i]);
}

/* ---- writing ---- */

static void bind_text(sqlite3_stmt *statement, int at, struct view v)
{
    sqlite3_bind_text64(statement, at, v.len ? v.ptr : "", v.len, SQLITE_STATIC, SQLITE_UTF8);
}

/* What SQLite holds: 63 bits. */
static void bind_u64(sqlite3_stmt *statement, int at, uint64_t value)
{
    sqlite3_bind_int64(statement, at, (int64_t)MIN(value, (uint64_t)INT64_MAX));
}

static int64_t first_id(int64_t time_ms)
{
    return MIN(MAX(time_ms, 0), TIME_MAX) * ((int64_t)1 << SEQUENCE_BITS);
}

static void bind_row(sqlite3_stmt *statement, const struct ledger_row *row)
{
    const struct view texts[] = { row->request_id, row->tenant, row->key,    row->route,      row->client_model,
                                  row->provider,   row->model,  row->region, row->error_class };
    const uint64_t counts[] = { row->input, row->cached, row->cache_write, row->output, row->reasoning, row->tokens };
    const int64_t numbers[] = { row->reserved,    row->cost,     row->saved,  row->first_token_us,
                                row->duration_us, row->attempts, row->status, row->similarity,
                                row->endpoint,    row->outcome,  row->tier,   row->estimated };
    int at = 2;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        bind_text(statement, at++, texts[i]);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        bind_u64(statement, at++, counts[i]);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        sqlite3_bind_int64(statement, at++, numbers[i]);
}

static int insert_row(struct state_db *db, const struct ledger_row *row)
{
    struct state_db_ledger *l = &db->ledger;
    int64_t base = first_id(row->time_ms);
    int rc = SQLITE_CONSTRAINT;

    bind_row(l->insert, row);
    for (int i = 0; i < ID_TRIES && (rc & 0xff) == SQLITE_CONSTRAINT; i++) {
        uint32_t sequence = l->sequence++ & ((1u << SEQUENCE_BITS) - 1);

        sqlite3_bind_int64(l->insert, 1, base + sequence);
        rc = sqlite3_step(l->insert);
        sqlite3_reset(l->insert);
    }
    return state_db_errno(rc);
}

static int put_sum(struct state_db *db, const struct ledger_sum *sum)
{
    sqlite3_stmt *add = db->ledger.add;
    int rc;

    sqlite3_bind_int(add, 1, sum->day);
    bind_text(add, 2, sum->tenant);
    bind_text(add, 3, sum->key);
    bind_text(add, 4, sum->model);
    bind_u64(add, 5, sum->requests);
    bind_u64(add, 6, sum->hits);
    bind_u64(add, 7, sum->input);
    bind_u64(add, 8, sum->output);
    bind_u64(add, 9, sum->tokens);
    sqlite3_bind_int64(add, 10, sum->cost);
    sqlite3_bind_int64(add, 11, sum->saved);
    rc = sqlite3_step(add);
    sqlite3_reset(add);
    return state_db_errno(rc);
}

/* Writes what was gathered, and forgets it. */
static int write_sum(struct state_db *db, struct ledger_sum *sum)
{
    int r = sum->requests ? put_sum(db, sum) : 0;

    sum->requests = 0;
    return r;
}

static uint32_t hash_view(uint32_t hash, struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        hash = (hash ^ (unsigned char)v.ptr[i]) * 16777619u;
    return (hash ^ 0xff) * 16777619u;
}

static int add_row(struct state_db *db, struct ledger_sum sums[SUMS], const struct ledger_row *row)
{
    int32_t day = (int32_t)(MIN(MAX(row->time_ms, 0), TIME_MAX) / DAY_MS);
    uint32_t hash = hash_view(hash_view(hash_view(2166136261u, row->tenant), row->key), row->model);
    struct ledger_sum *sum = &sums[(hash ^ hash >> 16 ^ (uint32_t)day) % SUMS];
    int r = 0;

    if (sum->requests && (sum->day != day || !view_eq(sum->tenant, row->tenant) || !view_eq(sum->key, row->key) ||
                          !view_eq(sum->model, row->model)))
        r = write_sum(db, sum);
    if (sum->requests == 0)
        *sum = (struct ledger_sum){ .day = day, .tenant = row->tenant, .key = row->key, .model = row->model };
    sum->requests++;
    sum->hits += row->outcome == LEDGER_HIT || row->outcome == LEDGER_COLLAPSED;
    sum->input += row->input;
    sum->output += row->output;
    sum->tokens += row->tokens - MIN(row->other_tokens, row->tokens);
    sum->cost += row->cost - row->other_cost;
    sum->saved += row->saved;
    if (r == 0 && row->other_model.len)
        r = put_sum(db, &(struct ledger_sum){ .day = day,
                                              .tenant = row->tenant,
                                              .key = row->key,
                                              .model = row->other_model,
                                              .tokens = row->other_tokens,
                                              .cost = row->other_cost });
    return r;
}

static int forget_rows(struct state_db *db, struct state_rows *rows)
{
    sqlite3_stmt *forget = db->ledger.forget;
    int rc;

    sqlite3_bind_int64(forget, 1, first_id(rows->forget_before));
    sqlite3_bind_int64(forget, 2, rows->forget_max);
    rc = sqlite3_step(forget);
    rows->forgotten = rc == SQLITE_DONE ? (unsigned)sqlite3_changes(db->handle) : 0;
    sqlite3_reset(forget);
    return state_db_errno(rc);
}

int state_db_ledger_write(struct state_db *db, struct state_rows *rows)
{
    struct ledger_sum *sums = db->ledger.gathered;
    struct view rest = rows->batch;
    struct ledger_row row;
    int r = 0;

    memset(sums, 0, sizeof(db->ledger.gathered));
    while (r == 0 && state_ledger_take(&rest, &row)) {
        r = insert_row(db, &row);
        if (r == 0)
            r = add_row(db, sums, &row);
    }
    for (unsigned i = 0; r == 0 && i < STATE_DB_LEDGER_SUMS; i++)
        r = write_sum(db, &sums[i]);
    if (r == 0 && rows->forget_before > 0)
        r = forget_rows(db, rows);
    return r;
}

/* ---- reading ---- */

static struct view column_text(sqlite3_stmt *row, int at)
{
    const void *bytes = sqlite3_column_text(row, at);

    return view_make(bytes, (size_t)sqlite3_column_bytes(row, at));
}

static void read_row(sqlite3_stmt *from, int64_t *ret_id, struct ledger_row *ret)
{
    struct view *const texts[] = { &ret->request_id, &ret->tenant, &ret->key,    &ret->route,      &ret->client_model,
                                   &ret->provider,   &ret->model,  &ret->region, &ret->error_class };
    uint64_t *const counts[] = { &ret->input,  &ret->cached,    &ret->cache_write,
                                 &ret->output, &ret->reasoning, &ret->tokens };
    int64_t *const numbers[] = { &ret->reserved, &ret->cost, &ret->saved, &ret->first_token_us, &ret->duration_us };
    int at = 1;

    memset(ret, 0, sizeof(*ret));
    *ret_id = sqlite3_column_int64(from, 0);
    ret->time_ms = *ret_id >> SEQUENCE_BITS;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *texts[i] = column_text(from, at++);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        *counts[i] = (uint64_t)sqlite3_column_int64(from, at++);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        *numbers[i] = sqlite3_column_int64(from, at++);
    ret->attempts = (uint32_t)sqlite3_column_int64(from, at++);
    ret->status = (uint16_t)sqlite3_column_int(from, at++);
    ret->similarity = (uint16_t)sqlite3_column_int(from, at++);
    ret->endpoint = (uint8_t)sqlite3_column_int(from, at++);
    ret->outcome = (uint8_t)sqlite3_column_int(from, at++);
    ret->tier = (uint8_t)sqlite3_column_int(from, at++);
    ret->estimated = sqlite3_column_int(from, at) != 0;
}

int state_db_ledger_page(struct state_db *db, const struct state_ledger_query *query,
                         void (*each)(const struct ledger_row *row, int64_t id, void *arg), void *arg,
                         int64_t *ret_after)
{
    sqlite3_stmt *select = query->tenant.len ? db->ledger.by_tenant : db->ledger.by_time;
    unsigned given = 0, looked = 0;
    int64_t id = 0;
    int rc;

    sqlite3_bind_int64(select, 1, MAX(query->after, first_id(query->since_ms) - 1));
    sqlite3_bind_int64(select, 2, query->until_ms > 0 ? first_id(query->until_ms) : INT64_MAX);
    sqlite3_bind_int64(select, 3, PAGE_LOOKS);
    if (query->tenant.len)
        bind_text(select, 4, query->tenant);
    while ((rc = sqlite3_step(select)) == SQLITE_ROW) {
        struct ledger_row row;

        read_row(select, &id, &row);
        looked++;
        if (query->key.len && !view_eq(query->key, row.key))
            continue;
        each(&row, id, arg);
        if (++given >= query->limit)
            break;
    }
    sqlite3_reset(select);
    sqlite3_clear_bindings(select);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return state_db_errno(rc);
    *ret_after = rc == SQLITE_ROW || looked == PAGE_LOOKS ? id : 0;
    return 0;
}

int state_db_ledger_sums(struct state_db *db, int32_t first, int32_t last,
                         void (*each)(const struct ledger_sum *sum, void *arg), void *arg)
{
    sqlite3_stmt *sums = db->ledger.sums;
    int rc;

    sqlite3_bind_int(sums, 1, first);
    sqlite3_bind_int(sums, 2, last);
    while ((rc = sqlite3_step(sums)) == SQLITE_ROW) {
        const struct ledger_sum sum = {
            .day = sqlite3_column_int(sums, 0),
            .tenant = column_text(sums, 1),
            .key = column_text(sums, 2),
            .model = column_text(sums, 3),
            .requests = (uint64_t)sqlite3_column_int64(sums, 4),
            .hits = (uint64_t)sqlite3_column_int64(sums, 5),
            .input = (uint64_t)sqlite3_column_int64(sums, 6),
            .output = (uint64_t)sqlite3_column_int64(sums, 7),
            .tokens = (uint64_t)sqlite3_column_int64(sums, 8),
            .cost = sqlite3_column_int64(sums, 9),
            .saved = sqlite3_column_int64(sums, 10),
        };

        each(&sum, arg);
    }
    sqlite3_reset(sums);
    return state_db_errno(rc);
}
