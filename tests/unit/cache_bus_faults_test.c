/* The purge bus when things go wrong: gaps of every kind, servers that are killed, emptied, replaced, loading or mad, purges that
 * cannot be sent. */
#include "bus_fixture.h"

#include <sys/resource.h>

/* ---- gaps ---- */

static void trimmed(void **state)
{
    /* Entries that were removed from the stream before a node read them make everything older stale there, once. A node that had read them all notices nothing, even when the stream is empty. */
    struct bus_ack last;

    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag seen", 10000);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    publish(A, "tag unseen-1", 10);
    publish(A, "tag unseen-2", 10);
    last = publish(A, "tag there", 10);
    assert_int_equal(asked(1000, "XTRIM t:{eu}:purges MAXLEN 1").integer, 3);
    relay_set(&B->relay, RELAY_PASS);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "soft all"), 1);
    assert_int_equal(times_applied(B, "tag there"), 1);
    assert_true(now(B).position == last.position && applied(B, "soft all").bus == 0);
    assert_int_equal(now(B).gaps, 1);
    assert_int_equal(now(A).gaps, 0);

    assert_int_equal(asked(1000, "XTRIM t:{eu}:purges MAXLEN 0").integer, 1);
    until(publish(B, "tag after", 10000).applied == 2);
    node_stop(B);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void trimmed_unread(void **state)
{
    /* The same with nothing left behind the hole, and across a restart. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag seen", 10000);
    node_stop(B);
    publish(A, "tag unseen", 10000);
    assert_int_equal(asked(1000, "XTRIM t:{eu}:purges MAXLEN 0").integer, 2);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "soft all"), 1);
    assert_int_equal(now(B).gaps, 1);
    node_stop(B);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(now(B).gaps, 0);
}

static void old_server(void **state)
{
    /* A server that does not count what was added: a node follows and catches up without a gap, and where the stream no longer
     * reaches back to it, there is one. */
    (void)state;
    NEEDS_SERVER();
    A->relay.old = B->relay.old = true;
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    publish(A, "tag two", 10);
    relay_set(&B->relay, RELAY_PASS);
    until(now(B).caught_up);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    publish(A, "tag three", 10);
    publish(A, "tag four", 10);
    asked(1000, "XTRIM t:{eu}:purges MAXLEN 1");
    relay_set(&B->relay, RELAY_PASS);
    until(now(B).caught_up);
    assert_int_equal(now(B).gaps, 1);
    assert_int_equal(times_applied(B, "soft all"), 1);
}

static void another_stream(void **state)
{
    /* A server that was emptied: everything older is stale on every node, and positions go on above the old ones. */
    struct bus_ack before, after;

    (void)state;
    NEEDS_SERVER();
    start_both();
    before = publish(A, "tag one", 10000);
    /* As if another clock had given it: what comes now would lie below. */
    asked(1000, "XADD t:{eu}:purges 9999999999999-5 event all");
    until(times_applied(A, "all") && times_applied(B, "all"));
    asked(1000, "FLUSHALL");
    until(now(A).gaps >= 1 && now(B).gaps >= 1);
    until(times_applied(A, "soft all") >= 1 && times_applied(B, "soft all") >= 1);
    assert_true(applied(A, "soft all").bus == 0);
    until(asked(1000, "XLEN t:{eu}:purges").integer == 1);
    after = publish(A, "tag two", 10000);
    assert_int_equal(after.applied, 2);
    assert_true(after.position > before.position && after.position > applied(A, "all").bus);
    node_stop(A);
    node_start(A);
    until(now(A).caught_up);
    assert_int_equal(now(A).gaps, 0);
    assert_int_equal(now(B).gaps, 1);
}

static void lies_behind(void **state)
{
    /* A stream that lost its end, under the same name: those that had read it find the gap, and tell the others, which may not
     * have read it. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag one", 10000);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    publish(A, "tag lost", 10);
    until(times_applied(A, "tag lost") >= 1);
    relay_set(&A->relay, RELAY_CUT);
    until(!now(A).connected);
    /* As it was after the first purge: one entry, the last id is its own, one was added. */
    assert_int_equal(asked(1000, "XTRIM t:{eu}:purges MAXLEN 0").integer, 2);
    asked(1000, "DEL t:{eu}:purges");
    asked(1000, "XADD t:{eu}:purges 1-1 event all");
    relay_set(&A->relay, RELAY_PASS);
    until(now(A).gaps >= 1);
    until(times_applied(A, "soft all") >= 2);
    relay_set(&B->relay, RELAY_PASS);
    until(times_applied(B, "soft all") >= 1);
    until(publish(B, "tag two", 10000).applied == 2);
}

static void taken_back(void **state)
{
    /* A replica that never had the last entry takes over and goes on with others: the last id tells nothing, the counts do. One that had
     * everything is no gap. */
    struct server second;
    char line[160];

    (void)state;
    NEEDS_SERVER();
    snprintf(line, sizeof(line), "--replicaof 127.0.0.1 %u", server.port);
    assert_true(server_start(&second, 0, line));
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    assert_int_equal(asked(5000, "WAIT 1 5000").integer, 1);

    /* Fails over while nothing is missing. */
    snprintf(line, sizeof(line), "redis-cli -s %s REPLICAOF NO ONE >/dev/null", second.path);
    assert_int_equal(system(line), 0);
    until(publish(A, "tag two", 10000).applied == 2); /* only the first server has this */
    relay_set(&A->relay, RELAY_CUT);
    until(!now(A).connected);
    B->relay.to = &second;
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    relay_set(&B->relay, RELAY_PASS);
    until(now(B).connected);
    until(now(B).gaps >= 1); /* it lies behind what it has read */
    A->relay.to = &second;
    until(publish(B, "tag three", 10).applied >= 1);
    relay_set(&A->relay, RELAY_PASS);
    until(now(A).caught_up);
    assert_int_equal(now(A).gaps, 1); /* it lies ahead, but the counts differ */
    until(publish(B, "tag four", 10000).applied == 2);
    node_stop(A);
    node_stop(B);
    server_end(&second);
}

static void fails_over(void **state)
{
    /* A replica that has everything takes over: no gap, and purges flow. */
    struct server second;
    char line[160];

    (void)state;
    NEEDS_SERVER();
    snprintf(line, sizeof(line), "--replicaof 127.0.0.1 %u", server.port);
    assert_true(server_start(&second, 0, line));
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    assert_int_equal(asked(5000, "WAIT 1 5000").integer, 1);
    server_kill(&server);
    A->relay.to = B->relay.to = &second;
    /* It only reads until it is promoted: purges are kept. */
    until(now(A).caught_up && now(B).caught_up);
    assert_int_equal(publish(A, "tag two", 10000).result, -ENOTCONN);
    snprintf(line, sizeof(line), "redis-cli -s %s REPLICAOF NO ONE >/dev/null", second.path);
    assert_int_equal(system(line), 0);
    until(times_applied(B, "tag two") >= 1);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
    node_stop(A);
    node_stop(B);
    server_end(&second);
}

static void put_position(struct testnode *node, struct view value)
{
    char path[128], memory[256];
    struct text reason = TEXT_ON(memory);
    struct state_write write = { .name = VIEW("bus.position"), .value = value };
    struct state *kept;

    snprintf(path, sizeof(path), "%s/state", node->dir);
    assert_int_equal(state_open(view_str(path), &kept, &reason), 0);
    assert_int_equal(state_write_wait(kept, &write), 0);
    state_close(kept);
}

static void bad_position(void **state)
{
    /* A durable position that says the state has lost something, or says nothing, is not trusted: everything older is stale. What
     * came since is read all the same. */
    static const char *const values[] = { "", "x", "1-1", "99999999999999999999-5 3 torn" };
    char value[128];
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    ack = publish(A, "tag one", 10000);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        node_stop(B);
        if (i == 0)
            snprintf(value, sizeof(value), "%s 1 torn", ack.id);
        else
            snprintf(value, sizeof(value), "%s", values[i]);
        put_position(B, view_str(value));
        publish(A, "tag two", 10000);
        node_start(B);
        until(now(B).caught_up);
        assert_int_equal(now(B).gaps, 1);
        assert_int_equal(times_applied(B, "soft all"), 1);
        assert_true(times_applied(B, "tag two") >= 1);
        node_stop(B);
        node_start(B);
        until(now(B).caught_up);
        assert_int_equal(now(B).gaps, 0);
        assert_int_equal(times_applied(B, "tag two"), 0);
    }
    assert_int_equal(now(A).gaps, 0);
    assert_true(publish(A, "tag three", 10000).position < UINT64_MAX / 2);
}

/* ---- what cannot be sent ---- */

static void kept_for_later(void **state)
{
    /* Without the bus a purge is kept durably, through a restart too, and sent in order when the bus is back. */
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag zero", 10000);
    relay_set(&A->relay, RELAY_CUT);
    until(!now(A).connected);
    ack = publish(A, "tag one", 10000);
    assert_int_equal(ack.result, -ENOTCONN);
    assert_string_equal(ack.id, "");
    assert_int_equal(publish(A, "soft tag two", 10000).result, -ENOTCONN);
    assert_int_equal(now(A).queued, 2);
    node_stop(A);
    node_start(A);
    assert_int_equal(now(A).queued, 2);
    assert_int_equal(publish(A, "tag three", 10000).result, -ENOTCONN);
    relay_set(&A->relay, RELAY_PASS);
    until(times_applied(B, "tag three") >= 1);
    assert_int_equal(B->count, 4);
    assert_string_equal(B->list[1].line, "tag one");
    assert_string_equal(B->list[2].line, "soft tag two");
    until(now(A).queued == 0 && now(A).position == now(B).position);
    node_stop(A);
    node_start(A);
    assert_int_equal(now(A).queued, 0);
    until(now(A).caught_up);
    assert_int_equal(times_applied(B, "tag one"), 1);
}

static void too_many_kept(void **state)
{
    /* What is kept is bounded: too many become one line that covers them all. */
    static struct sender senders[1010];

    (void)state;
    NEEDS_SERVER();
    start_both();
    relay_set(&A->relay, RELAY_CUT);
    until(!now(A).connected);
    for (size_t i = 0; i < ARRAY_LEN(senders); i++)
        send_begin(&senders[i], A, "tag many", 0);
    for (size_t i = 0; i < ARRAY_LEN(senders); i++)
        assert_int_equal(send_end(&senders[i]).result, -ENOTCONN);
    assert_int_equal(now(A).queued, 10);
    relay_set(&A->relay, RELAY_PASS);
    until(times_applied(B, "soft all") >= 1 && times_applied(B, "tag many") >= 9);
    until(now(A).queued == 0);
}

/* ---- servers ---- */

static void killed_and_empty(void **state)
{
    /* A server without memory that is killed and comes back: a gap on each node, and then all is as before. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    server_kill(&server);
    until(!now(A).connected && !now(B).connected);
    assert_true(trusts(A) && trusts(B));
    assert_int_equal(publish(A, "tag away", 10000).result, -ENOTCONN);
    server_run(&server, "");
    until(now(A).gaps >= 1 && now(B).gaps >= 1);
    until(times_applied(B, "tag away") >= 1);
    until(publish(B, "tag two", 10000).applied == 2);
    assert_true(now(A).position > applied(A, "tag one").bus);
    assert_int_equal(times_applied(A, "soft all"), 1);
    assert_int_equal(now(A).gaps + now(B).gaps, 2);
}

static void killed_and_kept(void **state)
{
    /* One that keeps what it was told: no gap. */
    (void)state;
    NEEDS_SERVER();
    server_kill(&server);
    server_run(&server, "--appendonly yes --appendfsync always");
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    server_kill(&server);
    until(!now(A).connected && !now(B).connected);
    server_run(&server, "--appendonly yes --appendfsync always");
    until(publish(B, "tag two", 10000).applied == 2);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void paused(void **state)
{
    /* A server that stops in the middle of everything: nodes go on with what they have, purges are kept, and flow afterwards. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    kill(server.pid, SIGSTOP);
    assert_int_equal(publish(A, "tag two", 10000).result, -ENOTCONN);
    until(!now(A).connected && !now(B).connected);
    assert_true(trusts(A) && trusts(B));
    kill(server.pid, SIGCONT);
    until(times_applied(B, "tag two") >= 1);
    until(now(A).caught_up && now(B).caught_up);
    until(publish(B, "tag three", 10000).applied == 2);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void mad_and_loading(void **state)
{
    /* A server that talks rubbish, and one that answers everything with an error: the node keeps trying, but not often, trusts
     * what it has, and is back when the server is. */
    static const enum relay_mode modes[] = { RELAY_RUBBISH, RELAY_LOADING };

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct bus_ack ack;

        relay_set(&B->relay, modes[i]);
        until(!now(B).connected);
        assert_true(trusts(B));
        B->relay.accepted = B->relay.pieces = 0;
        ack = publish(B, "tag kept", 10000);
        assert_int_equal(ack.result, -ENOTCONN);
        until(B->relay.pieces >= 5);
        assert_true(B->relay.pieces + B->relay.accepted < 200);
        relay_set(&B->relay, RELAY_CUT); /* what was answered wrongly must not be answered once more */
        relay_set(&B->relay, RELAY_PASS);
        until(now(B).caught_up && now(B).queued == 0);
        until(times_applied(A, "tag kept") == i + 1);
        until(publish(A, "tag two", 10000).applied == 2);
    }
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void another_type(void **state)
{
    /* The stream's key holds something else: purges are kept until it is a stream again; then it is another one, and that is a
     * gap. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    asked(1000, "SET t:{eu}:purges x");
    assert_int_equal(publish(A, "tag two", 10000).result, -ENOTCONN);
    until(!now(A).connected && !now(B).connected);
    asked(1000, "DEL t:{eu}:purges");
    until(now(A).gaps >= 1 && now(B).gaps >= 1);
    until(times_applied(B, "tag two") >= 1);
}

static void on_off(void **state)
{
    /* Connections that end again and again while purges flow: each purge arrives in the end, without a gap. */
    char line[32];

    (void)state;
    NEEDS_SERVER();
    start_both();
    for (int i = 0; i < 60; i++) {
        struct testnode *node = &nodes[i % 2];

        snprintf(line, sizeof(line), "tag flap-%d", i);
        relay_set(&node->relay, RELAY_CUT);
        publish(A, line, 2);
        relay_set(&node->relay, RELAY_PASS);
    }
    for (int i = 0; i < 60; i++) {
        snprintf(line, sizeof(line), "tag flap-%d", i);
        until(times_applied(A, line) >= 1);
        until(times_applied(B, line) >= 1);
    }
    both_ready();
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void garbled(void **state)
{
    /* Answers with wrong bytes in them, in every place that an answer has: nothing breaks, nothing spins, and the node is back when
     * the bytes are right. What it was made to believe meanwhile is another matter. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    B->relay.random = 4711;
    relay_set(&B->relay, RELAY_GARBLE);
    for (int i = 0; B->relay.pieces < 150 && i < 3000; i++)
        publish(i % 2 ? A : B, i % 3 ? "tag one" : "soft url http://h/a", 2);
    relay_set(&B->relay, RELAY_CUT);
    asked(1000, "FLUSHALL");
    relay_set(&B->relay, RELAY_PASS);
    until(now(B).connected && now(B).caught_up && now(B).queued == 0);
    publish(A, "tag good", 10000);
    until(times_applied(B, "tag good") >= 1);
}

/* ---- the state ---- */

static void disk_gone(void **state)
{
    /* A node whose state cannot be written applies purges, but does not say so: it may not know them after a restart. After one it
     * has them, from its file or from the stream. */
    char path[128], away[136];
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    snprintf(path, sizeof(path), "%s/state", B->dir);
    snprintf(away, sizeof(away), "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    ack = publish(A, "tag two", 1000);
    assert_int_equal(ack.nodes, 2);
    assert_int_equal(ack.applied, 1);
    until(times_applied(B, "tag two") >= 1);
    node_stop(B);
    assert_int_equal(rename(away, path), 0);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "tag one"), 0);
    assert_true(marks_bus_at(B->marks, UINT64_MAX) == ack.position);
}

static void disk_full(void **state)
{
    /* The state loses writes and then takes some again: a mark may be among what was lost, so after a restart everything older is
     * stale. */
    struct rlimit limit, none;
    struct state_stats stats;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    getrlimit(RLIMIT_FSIZE, &limit);
    none = (struct rlimit){ 0, limit.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    publish(A, "tag two", 100);
    do
        state_stats(B->state, &stats);
    while (stats.errors == 0 && usleep(1000) == 0);
    setrlimit(RLIMIT_FSIZE, &limit);
    until(publish(A, "tag three", 10000).applied == 2);
    until(publish(A, "tag four", 10000).applied == 2);
    node_stop(B);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(now(B).gaps, 1);
    assert_int_equal(times_applied(B, "soft all"), 1);
}

/* ---- a cluster ---- */

static void in_a_cluster(void **state)
{
    /* The keys lie in one slot, on one of three servers, and not the configured one for each node: the stream is found there. */
    struct server trio[3];

    (void)state;
    NEEDS_SERVER();
    if (!trio_start(trio))
        skip();
    A->port = trio[0].port;
    B->port = trio[2].port;
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    until(publish(B, "tag two", 10000).applied == 2);
    assert_int_equal(times_applied(A, "tag two"), 1);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
    node_stop(A);
    node_stop(B);
    for (int i = 0; i < 3; i++)
        server_end(&trio[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trimmed, open_all, close_all),
        cmocka_unit_test_setup_teardown(trimmed_unread, open_all, close_all),
        cmocka_unit_test_setup_teardown(old_server, open_all, close_all),
        cmocka_unit_test_setup_teardown(another_stream, open_all, close_all),
        cmocka_unit_test_setup_teardown(lies_behind, open_all, close_all),
        cmocka_unit_test_setup_teardown(taken_back, open_with_port, close_all),
        cmocka_unit_test_setup_teardown(fails_over, open_with_port, close_all),
        cmocka_unit_test_setup_teardown(bad_position, open_all, close_all),
        cmocka_unit_test_setup_teardown(kept_for_later, open_all, close_all),
        cmocka_unit_test_setup_teardown(too_many_kept, open_all, close_all),
        cmocka_unit_test_setup_teardown(killed_and_empty, open_all, close_all),
        cmocka_unit_test_setup_teardown(killed_and_kept, open_all, close_all),
        cmocka_unit_test_setup_teardown(paused, open_all, close_all),
        cmocka_unit_test_setup_teardown(mad_and_loading, open_all, close_all),
        cmocka_unit_test_setup_teardown(another_type, open_all, close_all),
        cmocka_unit_test_setup_teardown(on_off, open_all, close_all),
        cmocka_unit_test_setup_teardown(garbled, open_all, close_all),
        cmocka_unit_test_setup_teardown(disk_gone, open_all, close_all),
        cmocka_unit_test_setup_teardown(disk_full, open_all, close_all),
        cmocka_unit_test_setup_teardown(in_a_cluster, open_all, close_all),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
