/* The listener before a real PostgreSQL: nothing is skipped, whatever was away meanwhile. Skipped where PostgreSQL is not
 * installed. */
#include "pg_fixture.h"

#include "base/heap.h"
#include "cache/purge_pg.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define OUTBOX_SQL "examples/purge-on-write/outbox.sql"
#define SEEN_MAX 8192

/* One listener with its state and loop; what it applied, as lines. */
static struct {
    char path[128];
    struct state *state;
    struct loop *loop;
    pthread_t thread;
    struct purge_pg *listener;
    pthread_mutex_t lock;
    pthread_cond_t more;
    char *seen[SEEN_MAX];
    unsigned count, caught_up;
    unsigned answer_ms;
    int refuse; /* so many events are answered with -ENOSPC */
    int report; /* descriptor for each line, or -1 */
} here = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .report = -1 };

static void on_event(void *arg, const struct purge_event *event, struct purge_pg_done *done)
{
    static char memory[PURGE_TARGET_MAX + 64];
    struct text line = TEXT_ON(memory);
    int r = 0;

    assert_ptr_equal(arg, &here);
    purge_event_put(&line, event);
    pthread_mutex_lock(&here.lock);
    if (here.refuse > 0) {
        here.refuse--;
        r = -ENOSPC;
    } else {
        assert_true(here.count < SEEN_MAX);
        here.seen[here.count++] = heap_strdup(line.ptr, line.len);
        text_char(&line, '\n');
        if (here.report >= 0 && write(here.report, line.ptr, line.len) < 0)
            _exit(1);
    }
    pthread_cond_broadcast(&here.more);
    pthread_mutex_unlock(&here.lock);
    purge_pg_done(done, r);
}

static void on_caught_up(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&here.lock);
    here.caught_up++;
    pthread_cond_broadcast(&here.more);
    pthread_mutex_unlock(&here.lock);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void start_listener_on(const char *url)
{
    struct purge_pg_options options = {
        .url = view_str(url), .apply = on_event, .caught_up = on_caught_up, .arg = &here
    };
    char memory[256];
    struct text reason = TEXT_ON(memory);

    options.poll_ms = 50;
    options.answer_ms = here.answer_ms;
    if (state_open(view_str(here.path), &here.state, &reason) != 0)
        fail_msg("%s", text_str(&reason));
    assert_int_equal(loop_new(&here.loop, 0), 0);
    assert_int_equal(pthread_create(&here.thread, NULL, run_loop, here.loop), 0);
    options.state = here.state;
    options.loop = here.loop;
    if (purge_pg_new(&options, &here.listener, &reason) != 0)
        fail_msg("%s", text_str(&reason));
}

static void start_listener(void)
{
    start_listener_on(pg.url);
}

static void stop_listener(void)
{
    purge_pg_stop(here.listener);
    loop_stop(here.loop);
    pthread_join(here.thread, NULL);
    purge_pg_free(here.listener);
    loop_free(here.loop);
    state_close(here.state);
    here.listener = NULL;
}

static void forget_seen(void)
{
    pthread_mutex_lock(&here.lock);
    while (here.count > 0)
        heap_free(here.seen[--here.count]);
    here.caught_up = 0;
    pthread_mutex_unlock(&here.lock);
}

/* ---- waiting ---- */

static unsigned times_seen(const char *line)
{
    unsigned times = 0;

    for (unsigned i = 0; i < here.count; i++)
        times += strcmp(here.seen[i], line) == 0;
    return times;
}

/* Waits for what another thread signals; the lock is held in between. */
#define WAIT_UNTIL(condition) \
    do { \
        struct timespec until; \
        int rc = 0; \
        clock_gettime(CLOCK_REALTIME, &until); \
        until.tv_sec += 60; \
        pthread_mutex_lock(&here.lock); \
        while (!(condition) && rc == 0) \
            rc = pthread_cond_timedwait(&here.more, &here.lock, &until); \
        pthread_mutex_unlock(&here.lock); \
        if (rc != 0) \
            fail_msg("not within a minute: %s (%u events, trouble '%s')", #condition, here.count, \
                     stats_now().trouble); \
    } while (0)

static struct purge_pg_stats stats_now(void)
{
    struct purge_pg_stats stats;

    purge_pg_stats(here.listener, &stats);
    return stats;
}

static void wait_seen(const char *line)
{
    WAIT_UNTIL(times_seen(line) > 0);
}

/* What nobody signals: statistics. */
static void poll_until(bool (*condition)(const struct purge_pg_stats *stats))
{
    for (int i = 0; i < 6000; i++) {
        struct purge_pg_stats stats = stats_now();

        if (condition(&stats))
            return;
        usleep(10000);
    }
    fail_msg("not within a minute");
}

static bool complains(const struct purge_pg_stats *stats)
{
    return stats->trouble[0] != '\0';
}

static bool is_kept(const struct purge_pg_stats *stats)
{
    return stats->kept;
}

static uint64_t reads_wanted;

static bool has_read(const struct purge_pg_stats *stats)
{
    return stats->reads >= reads_wanted;
}

/* The table is looked at at least this often from now on. */
static void wait_looks(unsigned looks)
{
    reads_wanted = stats_now().reads + looks + 1;
    poll_until(has_read);
}

/* What was seen would not be applied again after a restart. */
static void wait_kept(void)
{
    wait_looks(1);
    poll_until(is_kept);
}

static void put_tag(const char *tag)
{
    char sql[128];

    snprintf(sql, sizeof(sql), "INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', '%s')", tag);
    pg_sql(sql);
}

/* ---- each test: an empty outbox, no state, no listener ---- */

static int each_set_up(void **state)
{
    (void)state;
    if (!pg.bin[0])
        return 0;
    snprintf(here.path, sizeof(here.path), "%s/state", pg.folder);
    unlink(here.path);
    pg_sql("DROP TABLE IF EXISTS doorstep_outbox, doorstep_outbox_state");
    pg_sql_file(OUTBOX_SQL);
    return 0;
}

static int each_tear_down(void **state)
{
    char wal[140];

    (void)state;
    if (!pg.bin[0])
        return 0;
    if (here.listener)
        stop_listener();
    forget_seen();
    here.refuse = 0;
    here.answer_ms = 0;
    if (!pg.pid)
        pg_start();
    unlink(here.path);
    snprintf(wal, sizeof(wal), "%s-wal", here.path);
    unlink(wal);
    return 0;
}

#define NEED_PG() \
    do { \
        (void)state; \
        if (!pg.bin[0]) \
            skip(); \
    } while (0)

/* A listener that has read everything there is, and whose position is kept. */
static void start_settled(void)
{
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    put_tag("settled");
    wait_seen("tag settled");
    wait_kept();
}

static void stop_and_forget(void)
{
    stop_listener();
    forget_seen();
}

/* ---- the tests ---- */

static void rows_become_events(void **state)
{
    /* The first start makes what may be there stale, once; each row then is an event, also from a trigger; what says no purge is
     * skipped and counted. */
    NEED_PG();
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 1);
    assert_string_equal(here.seen[0], "soft all");
    assert_true(purge_pg_current(here.listener));
    pg_sql("CREATE TABLE product (id int PRIMARY KEY, category text);"
           "CREATE TRIGGER purge AFTER INSERT OR UPDATE OR DELETE ON product FOR EACH ROW"
           " EXECUTE FUNCTION doorstep_purge('tag product-{id}', 'soft url /category/{category}')");
    pg_sql("INSERT INTO product VALUES (42, NULL)");
    wait_seen("tag product-42");
    pg_sql("UPDATE product SET category = 'a' WHERE id = 42");
    wait_seen("soft url /category/a");
    pg_sql("UPDATE product SET category = 'b', id = 43 WHERE id = 42");
    wait_seen("soft url /category/b");
    wait_seen("tag product-43");
    assert_int_equal(times_seen("tag product-42"), 3);
    assert_int_equal(times_seen("soft url /category/a"), 2);
    pg_sql("INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'a,b'), ('url', 'nowhere'), ('all', '')");
    wait_seen("all");
    assert_int_equal(stats_now().refused, 2);
    pg_sql("DROP TABLE product");
}

static void late_commits_are_not_skipped(void **state)
{
    /* A writes first, B writes later and commits first: both are applied, once each. */
    PGconn *a, *b;

    NEED_PG();
    start_settled();
    a = pg_session();
    b = pg_session();
    pg_exec(a, "BEGIN; INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'first')");
    pg_exec(b, "INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'second')");
    wait_seen("tag second");
    wait_kept(); /* with A's transaction open in it */
    stop_and_forget();
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 0);
    pg_exec(a, "COMMIT");
    wait_seen("tag first");
    wait_looks(3);
    assert_int_equal(here.count, 1);
    PQfinish(a);
    PQfinish(b);
}

static void late_batches_are_whole(void **state)
{
    /* Two open transactions with more rows than a batch commit after others: each row is applied once. */
    PGconn *a, *b;

    NEED_PG();
    start_settled();
    a = pg_session();
    b = pg_session();
    pg_exec(a,
            "BEGIN; INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', 'a' || i FROM generate_series(1, 1700) i");
    pg_exec(b,
            "BEGIN; INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', 'b' || i FROM generate_series(1, 1700) i");
    put_tag("between");
    wait_seen("tag between");
    wait_kept();
    stop_and_forget();
    pg_exec(a,
            "INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', 'c' || i FROM generate_series(1, 300) i; COMMIT");
    pg_exec(b, "COMMIT");
    pg_sql("INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', 'd' || i FROM generate_series(1, 1300) i");
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    wait_looks(3);
    assert_int_equal(here.count, 5000);
    assert_int_equal(times_seen("tag a1700"), 1);
    assert_int_equal(times_seen("tag b1"), 1);
    assert_int_equal(times_seen("tag c300"), 1);
    assert_int_equal(times_seen("tag d1300"), 1);
    PQfinish(a);
    PQfinish(b);
}

static void long_transactions_delay_nothing(void **state)
{
    /* While a transaction stays open elsewhere, later rows are applied at once and once; what rolls back is never applied. */
    PGconn *slow, *undone;
    char tag[32], line[40];

    NEED_PG();
    start_settled();
    slow = pg_session();
    undone = pg_session();
    pg_exec(slow, "BEGIN; SELECT pg_current_xact_id()");
    for (int i = 0; i < 20; i++) {
        pg_exec(undone, "BEGIN; INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'undone'); ROLLBACK");
        snprintf(tag, sizeof(tag), "t%d", i);
        snprintf(line, sizeof(line), "tag t%d", i);
        put_tag(tag);
        wait_seen(line);
    }
    wait_looks(3);
    assert_int_equal(here.count, 20 + 2);
    PQfinish(slow); /* rolls back */
    PQfinish(undone);
    put_tag("end");
    wait_seen("tag end");
    assert_int_equal(here.count, 20 + 3);
}

static void nothing_is_lost_while_away(void **state)
{
    /* What happens between a stop and the next start is applied then, more than one batch of it, nothing of it twice, and
     * nothing from before. Rows may be as large as they get. */
    NEED_PG();
    start_settled();
    stop_and_forget();
    pg_sql("INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', 'n' || i FROM generate_series(1, 2500) i");
    pg_sql(
        "INSERT INTO doorstep_outbox (kind, target) SELECT 'tag', repeat('x', 8185) || i FROM generate_series(1000, 1500) i");
    pg_sql("ALTER TABLE doorstep_outbox DROP CONSTRAINT doorstep_outbox_target_check;"
           "INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', repeat('y', 50000000))");
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 3001);
    assert_int_equal(times_seen("tag n1"), 1);
    assert_int_equal(times_seen("tag n2500"), 1);
    assert_int_equal(stats_now().refused, 1);
    assert_int_equal(stats_now().gaps, 0);
}

static void what_is_not_durable_comes_again(void **state)
{
    /* An event that could not be made durable is told again until it was. */
    NEED_PG();
    start_settled();
    here.refuse = 2;
    put_tag("again");
    wait_seen("tag again");
    assert_int_equal(here.refuse, 0);
    WAIT_UNTIL(here.caught_up > 1);
    wait_kept();
    stop_and_forget();
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 0);
}

static void server_restarts(void **state)
{
    /* The server is stopped, crashes, is not there at our start: what is committed is applied once it is back. */
    NEED_PG();
    start_settled();
    for (int round = 0; round < 2; round++) {
        char tag[32], line[40];

        pg_stop(round ? SIGQUIT : SIGINT);
        poll_until(complains);
        pg_start();
        snprintf(tag, sizeof(tag), "round%d", round);
        snprintf(line, sizeof(line), "tag %s", tag);
        put_tag(tag);
        wait_seen(line);
    }
    wait_kept();
    stop_and_forget();
    pg_stop(SIGINT);
    start_listener();
    assert_false(purge_pg_current(here.listener));
    pg_start();
    put_tag("late");
    wait_seen("tag late");
    assert_int_equal(times_seen("soft all"), 0);
}

static void connection_is_cut(void **state)
{
    /* The server ends our connection again and again while rows come in: each is applied. */
    char tag[32], line[40];

    NEED_PG();
    start_settled();
    for (int i = 0; i < 10; i++) {
        pg_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorstep'");
        snprintf(tag, sizeof(tag), "cut%d", i);
        snprintf(line, sizeof(line), "tag cut%d", i);
        put_tag(tag);
        wait_seen(line);
    }
    assert_int_equal(times_seen("soft all"), 1);
}

static void silent_server_is_left(void **state)
{
    /* A server that takes our questions and does not answer any more (the backend is frozen) is left for a new connection. */
    PGconn *conn;
    PGresult *result;
    pid_t backend;

    NEED_PG();
    here.answer_ms = 300;
    start_settled();
    conn = pg_session();
    result = PQexec(conn, "SELECT pid FROM pg_stat_activity WHERE application_name = 'doorstep'");
    assert_int_equal(PQntuples(result), 1);
    backend = (pid_t)strtol(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    PQfinish(conn);
    assert_int_equal(kill(backend, SIGSTOP), 0);
    put_tag("frozen");
    wait_seen("tag frozen");
    assert_int_equal(kill(backend, SIGCONT), 0);
    assert_int_equal(times_seen("soft all"), 1);
}

static void tables_are_missing(void **state)
{
    /* Without the tables it says what to do, and goes on once they are there. */
    NEED_PG();
    pg_sql("DROP TABLE doorstep_outbox, doorstep_outbox_state");
    start_listener();
    poll_until(complains);
    assert_non_null(strstr(stats_now().trouble, "outbox.sql"));
    pg_sql_file(OUTBOX_SQL);
    WAIT_UNTIL(here.caught_up > 0);
    assert_string_equal(stats_now().trouble, "");
}

static void password_is_wrong(void **state)
{
    /* A refused password is said, without the password, and tried again. */
    char url[256], command[200];

    NEED_PG();
    pg_sql("DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'right'");
    pg_sql("GRANT SELECT ON doorstep_outbox, doorstep_outbox_state TO guarded");
    snprintf(
        command, sizeof(command),
        "printf 'local all guarded scram-sha-256\nlocal all all trust\nlocal replication all trust\n' > %s/data/pg_hba.conf",
        pg.folder);
    pg_run(command);
    pg_sql("SELECT pg_reload_conf()");
    snprintf(url, sizeof(url), "host=%s dbname=postgres user=guarded password=wr0ng", pg.folder);
    start_listener_on(url);
    poll_until(complains);
    assert_non_null(strstr(stats_now().trouble, "authentication failed"));
    assert_null(strstr(stats_now().trouble, "wr0ng"));
    pg_sql("ALTER ROLE guarded PASSWORD 'wr0ng'");
    WAIT_UNTIL(here.caught_up > 0);
    put_tag("guarded");
    wait_seen("tag guarded");
    pg_sql("DROP OWNED BY guarded; DROP ROLE guarded");
}

static void deleted_rows_are_a_gap(void **state)
{
    /* Rows that were deleted while we were away make everything stale; rows that we had read may go. */
    NEED_PG();
    start_settled();
    stop_and_forget();
    pg_sql("SELECT doorstep_prune('0')");
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 0);
    put_tag("read");
    wait_seen("tag read");
    wait_kept();
    stop_and_forget();
    put_tag("unread");
    pg_sql("SELECT doorstep_prune('0')");
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    assert_int_equal(here.count, 1);
    assert_int_equal(times_seen("soft all"), 1);
    pg_sql("TRUNCATE doorstep_outbox");
    WAIT_UNTIL(times_seen("soft all") == 2);
    wait_looks(5);
    assert_int_equal(here.count, 2); /* a gap is one gap */
}

static void numbers_of_another_server_are_left_alone(void **state)
{
    /* Rows with numbers beyond the present, from a dump of another server, are no purges, and pruning them is no gap. */
    NEED_PG();
    start_settled();
    pg_sql(
        "INSERT INTO doorstep_outbox (xid, kind, target, made)"
        " SELECT (4000000000 + i)::text::xid8, 'tag', 'foreign', now() - interval '2 days' FROM generate_series(1, 10) i");
    put_tag("own");
    wait_seen("tag own");
    pg_sql("SELECT doorstep_prune()");
    put_tag("after");
    wait_seen("tag after");
    wait_looks(3);
    assert_int_equal(here.count, 4); /* the first "soft all", settled, own, after */
}

static void other_table_is_a_gap(void **state)
{
    /* The tables are dropped and made anew, as restoring a dump does. */
    NEED_PG();
    start_settled();
    pg_sql("DROP TABLE doorstep_outbox, doorstep_outbox_state");
    pg_sql_file(OUTBOX_SQL);
    WAIT_UNTIL(times_seen("soft all") == 2);
    put_tag("new");
    wait_seen("tag new");
}

static void restored_database_is_a_gap(void **state)
{
    /* The server's files are put back as they were: its transactions are behind our position, or have other rows. */
    char command[300];

    NEED_PG();
    start_settled();
    for (int round = 0; round < 2; round++) {
        forget_seen();
        pg_stop(SIGINT);
        snprintf(command, sizeof(command), "rm -rf %s/copy; cp -a %s/data %s/copy", pg.folder, pg.folder, pg.folder);
        pg_run(command);
        pg_start();
        put_tag("lost");
        wait_seen("tag lost");
        wait_kept();
        stop_and_forget();
        pg_stop(SIGINT);
        snprintf(command, sizeof(command), "rm -rf %s/data; mv %s/copy %s/data", pg.folder, pg.folder, pg.folder);
        pg_run(command);
        pg_start();
        if (round == 1) /* it has gone on since, past our position */
            for (int i = 0; i < 50; i++)
                put_tag("other");
        start_listener();
        WAIT_UNTIL(here.caught_up > 0);
        assert_int_equal(times_seen("soft all"), 1);
        put_tag("after");
        wait_seen("tag after");
        wait_kept();
    }
}

static void promoted_standby_is_a_gap(void **state)
{
    /* A standby takes over that had not got everything: another timeline. */
    char command[400];

    NEED_PG();
    start_settled();
    snprintf(command, sizeof(command), "%s/pg_basebackup -h %s -U postgres -D %s/standby -R -c fast --no-sync", pg.bin,
             pg.folder, pg.folder);
    pg_run(command);
    put_tag("lost");
    wait_seen("tag lost");
    pg_stop(SIGQUIT);
    snprintf(command, sizeof(command), "rm -rf %s/data; mv %s/standby %s/data", pg.folder, pg.folder, pg.folder);
    pg_run(command);
    pg_start();
    snprintf(command, sizeof(command), "%s/pg_ctl -s -w -D %s/data promote", pg.bin, pg.folder);
    pg_run(command);
    WAIT_UNTIL(times_seen("soft all") == 2);
    put_tag("after");
    wait_seen("tag after");
}

static void unsynced_numbers_are_given_again(void **state)
{
    /* The server crashes and forgets a transaction that we had read (synchronous_commit = off); another one gets its number.
     * That one is applied. */
    char tag[32], line[40];

    NEED_PG();
    pg_sql("ALTER SYSTEM SET wal_writer_delay = '10s'");
    pg_sql("SELECT pg_reload_conf()");
    start_settled();
    for (int i = 0; i < 5; i++) {
        pg_sql("SET synchronous_commit = off; INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'ghost')");
        WAIT_UNTIL(times_seen("tag ghost") > (unsigned)i);
        pg_stop(SIGQUIT);
        pg_start();
        snprintf(tag, sizeof(tag), "real%d", i);
        snprintf(line, sizeof(line), "tag real%d", i);
        put_tag(tag);
        wait_seen(line);
    }
    pg_sql("ALTER SYSTEM RESET wal_writer_delay");
}

/* ---- kill -9 ---- */

/* What killed listeners wrote, line by line, into seen. */
static void collect(int fd)
{
    char line[64];
    unsigned len = 0;
    char c;

    while (read(fd, &c, 1) == 1) {
        if (c == '\n' && here.count < SEEN_MAX)
            here.seen[here.count++] = heap_strdup(line, len);
        len = c == '\n' ? 0 : len + 1;
        if (len)
            line[MIN(len - 1, (unsigned)sizeof(line) - 1)] = c;
    }
}

static void killed_listener_skips_nothing(void **state)
{
    /* A listener is killed with -9 and started again while transactions commit out of order: every tag was applied by one of
     * them. */
    PGconn *late;
    int fds[2];
    char sql[128], line[32];
    unsigned made = 0;

    NEED_PG();
    start_settled();
    stop_and_forget();
    late = pg_session();
    assert_int_equal(pipe(fds), 0);
    for (int round = 0; round < 6; round++) {
        pid_t child = fork();

        if (child == 0) {
            close(fds[0]);
            here.report = fds[1];
            start_listener();
            for (;;)
                pause();
        }
        for (int i = 0; i < 40; i++, made += 2) {
            snprintf(sql, sizeof(sql), "BEGIN; INSERT INTO doorstep_outbox (kind, target) VALUES ('tag', 'k%u')", made);
            pg_exec(late, sql);
            snprintf(line, sizeof(line), "k%u", made + 1);
            put_tag(line);
            pg_exec(late, "COMMIT");
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    PQfinish(late);
    start_listener();
    WAIT_UNTIL(here.caught_up > 0);
    stop_listener();
    close(fds[1]);
    collect(fds[0]);
    close(fds[0]);
    for (unsigned i = 0; i < made; i++) {
        snprintf(line, sizeof(line), "tag k%u", i);
        if (times_seen(line) == 0)
            fail_msg("%s was never applied", line);
    }
    assert_int_equal(made, 480);
    assert_int_equal(times_seen("soft all"), 0);
}

static void end_loop(struct loop *loop, struct message *message)
{
    (void)message;
    loop_stop(loop);
}

/* On the loop: stops the listener whose batch waits behind this message. */
static void stop_here(struct loop *loop, struct message *message)
{
    static struct message end = { .handle = end_loop };

    (void)message;
    while (stats_now().reads < reads_wanted)
        usleep(1000);
    put_tag("too-late");
    usleep(50000); /* most likely it is posted by now; either way nothing may be called */
    purge_pg_stop(here.listener);
    loop_post(loop, &end); /* behind the batch */
}

static void nothing_is_called_after_stop(void **state)
{
    /* A batch that is posted when the loop's thread stops the listener is not handed out; the next start has it. */
    struct message stop = { .handle = stop_here };

    NEED_PG();
    start_settled();
    forget_seen();
    reads_wanted = stats_now().reads + 1;
    loop_post(here.loop, &stop);
    pthread_join(here.thread, NULL);
    assert_int_equal(here.count, 0);
    purge_pg_free(here.listener);
    loop_free(here.loop);
    state_close(here.state);
    start_listener();
    wait_seen("tag too-late");
    assert_int_equal(times_seen("soft all"), 0);
}

static void options_are_checked(void **state)
{
    /* What can never work is refused at once, and the reason shows no part of the password. */
    static const struct {
        const char *url, *channel, *table, *reason;
    } list[] = {
        { "postgres://u:se/cret@h/d", "c", "t", "not a PostgreSQL URL" },
        { "http://secret", "c", "t", "not a PostgreSQL URL" },
        { "", "c\"; DROP TABLE x", "t", "channel" },
        { "", "c", "a.b.c", "table" },
        { "", "c", "a b", "table" },
        { "", "c", ".b", "table" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        struct purge_pg_options options = { .url = view_str(list[i].url),
                                            .channel = view_str(list[i].channel),
                                            .table = view_str(list[i].table) };
        char memory[256];
        struct text reason = TEXT_ON(memory);
        struct purge_pg *listener;

        assert_int_equal(purge_pg_new(&options, &listener, &reason), -EINVAL);
        if (!strstr(text_str(&reason), list[i].reason) || strstr(memory, "cret"))
            fail_msg("'%s' for '%s'", memory, list[i].url);
    }
    purge_pg_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, each_set_up, each_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        TEST(rows_become_events),
        TEST(late_commits_are_not_skipped),
        TEST(late_batches_are_whole),
        TEST(long_transactions_delay_nothing),
        TEST(nothing_is_lost_while_away),
        TEST(what_is_not_durable_comes_again),
        TEST(server_restarts),
        TEST(connection_is_cut),
        TEST(silent_server_is_left),
        TEST(tables_are_missing),
        TEST(password_is_wrong),
        TEST(deleted_rows_are_a_gap),
        TEST(numbers_of_another_server_are_left_alone),
        TEST(other_table_is_a_gap),
        TEST(restored_database_is_a_gap),
        TEST(promoted_standby_is_a_gap),
        TEST(unsynced_numbers_are_given_again),
        TEST(nothing_is_called_after_stop),
        TEST(killed_listener_skips_nothing),
    };

    return cmocka_run_group_tests(tests, pg_set_up, pg_tear_down);
}
