/* The purge bus on ordinary days: publishing, following, acknowledgements, restarts. */
#include "bus_fixture.h"

/* What a copy from the shared store with this position is taken for. */
static enum mark_verdict foreign(struct testnode *node, uint64_t bus)
{
    struct key key = key_of(VIEW("http://h/"));
    struct object_parts parts = { .key = key.text, .url = VIEW("http://h/"), .head = VIEW("HTTP/1.1 200 OK\r\n") };
    struct object *object = object_new(&key, &parts);
    enum mark_verdict verdict;

    assert_non_null(object);
    atomic_store(&object->purge_pos, bus);
    verdict = marks_check_foreign(node->marks, object);
    object_unref(object);
    return verdict;
}

static void reaches_all(void **state)
{
    /* What one node publishes is applied on both with the entry's position; the acknowledgement counts both nodes after they made
     * their positions durable. */
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(asked(1000, "HLEN t:{eu}:nodes").integer == 2);
    ack = publish(A, "tag product-42", 10000);
    assert_int_equal(ack.result, 0);
    assert_int_equal(ack.nodes, 2);
    assert_int_equal(ack.applied, 2);
    assert_true(strchr(ack.id, '-'));
    assert_int_equal(times_applied(A, "tag product-42"), 1);
    assert_int_equal(times_applied(B, "tag product-42"), 1);
    assert_true(applied(A, "tag product-42").bus == ack.position && applied(B, "tag product-42").bus == ack.position);
    assert_true(now(B).position == ack.position && marks_bus_at(B->marks, UINT64_MAX) == ack.position);
    assert_true(trusts(A) && trusts(B));
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
    assert_int_equal(now(A).published, 1);
    node_stop(B);
    until(asked(1000, "HLEN t:{eu}:nodes").integer == 1);
    assert_int_equal(publish(A, "soft host h", 10000).nodes, 1);
}

static void catches_up(void **state)
{
    /* A node that was cut off reads what it missed when it is back, in order, and only that; while it was away it trusted what
     * it had, and the others did not wait for it for ever. */
    char line[32];

    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag before", 10000);
    until(times_applied(B, "tag before") >= 1);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    assert_true(trusts(B));
    for (int i = 0; i < 20; i++) {
        struct bus_ack ack;

        snprintf(line, sizeof(line), "tag missed-%d", i);
        ack = publish(A, line, 20);
        assert_int_equal(ack.result, 0);
        assert_true(ack.applied <= 1);
    }
    assert_int_equal(times_applied(B, "tag missed-0"), 0);
    relay_set(&B->relay, RELAY_PASS);
    until(times_applied(B, "tag missed-19"));
    for (int i = 0; i < 20; i++) {
        snprintf(line, sizeof(line), "tag missed-%d", i);
        assert_int_equal(times_applied(B, line), 1);
        assert_true(applied(B, line).doubt);
    }
    assert_int_equal(times_applied(B, "tag before"), 1);
    assert_false(applied(B, "tag before").doubt);
    until(now(B).caught_up);
    assert_true(trusts(B));
    assert_int_equal(now(B).gaps, 0);
}

static void remembers(void **state)
{
    /* A node that was stopped goes on behind its durable position; its marks and the position come back from the state. */
    struct bus_ack last;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag one", 10000).applied == 2);
    node_stop(B);
    publish(A, "tag two", 10000);
    last = publish(A, "tag three", 10000);
    node_start(B);
    assert_false(now(B).position == 0);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "tag one"), 0);
    assert_int_equal(times_applied(B, "tag two"), 1);
    assert_int_equal(times_applied(B, "tag three"), 1);
    assert_true(now(B).position == last.position);
    assert_int_equal(now(B).gaps, 0);
}

static void replays(void **state)
{
    /* A node that keeps nothing reads the stream again at every start, and a wiped one does. Copies from before the stream's first
     * entry are not trusted then, not even after another restart; younger ones are. */
    uint64_t first;

    (void)state;
    NEEDS_SERVER();
    B->durable = false;
    start_both();
    publish(A, "tag zero", 10000);
    publish(A, "tag one", 10000);
    publish(A, "tag two", 10000);
    node_stop(B);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "tag zero") + times_applied(B, "tag one") + times_applied(B, "tag two"), 3);

    assert_int_equal(asked(1000, "XTRIM t:{eu}:purges MAXLEN 2").integer, 1);
    first = applied(B, "tag one").bus;
    node_stop(B);
    B->durable = true;
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "tag zero"), 0);
    assert_int_equal(times_applied(B, "tag one") + times_applied(B, "tag two"), 2);
    assert_int_equal(now(B).gaps, 0);
    assert_true(applied(B, "tag one").doubt);
    assert_int_equal(foreign(B, first - 2), MARKS_HARD);
    assert_int_equal(foreign(B, first), MARKS_CLEAR);
    until(publish(B, "tag three", 10000).applied == 2);
    node_stop(B);
    node_start(B);
    until(now(B).caught_up);
    assert_int_equal(B->count, 0);
    assert_int_equal(foreign(B, first - 2), MARKS_HARD);
    assert_int_equal(foreign(B, first), MARKS_CLEAR);
}

static void doubts(void **state)
{
    /* At the start a node trusts nothing until it has caught up, or until the bus has been away for a while. */
    (void)state;
    NEEDS_SERVER();
    relay_set(&A->relay, RELAY_CUT);
    relay_set(&B->relay, RELAY_CUT);
    B->doubt_ms = 20;
    node_start(A);
    node_start(B);
    until(trusts(B));
    assert_false(trusts(A));
    relay_set(&A->relay, RELAY_PASS);
    until(trusts(A));
    assert_true(now(A).caught_up);
}

static void entries_by_hand(void **state)
{
    /* Anybody may add entries. What is no purge is left out and counted; what comes behind it counts. An entry without an event
     * is nothing. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    asked(1000, "XADD t:{eu}:purges * event nonsense");
    asked(1000, "XADD t:{eu}:purges * other thing");
    asked(1000, "XADD t:{eu}:purges * node x");
    asked(1000, "XADD t:{eu}:purges * event all");
    until(times_applied(A, "all") && times_applied(B, "all"));
    assert_int_equal(now(A).bad, 2);
    assert_int_equal(now(A).received, 4);
    until(publish(A, "tag x", 10000).applied == 2);
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
}

static void on_the_channel(void **state)
{
    /* A message on the channel is a purge for every node that listens, without a position, also after the connection broke. */
    (void)state;
    NEEDS_SERVER();
    start_both();
    until(asked(1000, "PUBLISH purges all").integer == 2);
    until(times_applied(A, "all") && times_applied(B, "all"));
    assert_true(applied(A, "all").bus == 0);
    assert_int_equal(asked(1000, "PUBLISH purges what").integer, 2);
    until(now(A).bad == 1);
    relay_set(&A->relay, RELAY_CUT);
    until(!now(A).connected);
    relay_set(&A->relay, RELAY_PASS);
    until(asked(1000, "PUBLISH purges all").integer == 2);
    until(times_applied(A, "all") >= 2);
    assert_int_equal(asked(1000, "XLEN t:{eu}:purges").integer, 0);
}

static void not_all_answer(void **state)
{
    /* The acknowledgement does not wait for ever for a node that is live by its word but does not read. */
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag x", 10000).nodes == 2);
    relay_set(&B->relay, RELAY_HANG);
    ack = publish(A, "tag y", 1000);
    assert_int_equal(ack.result, 0);
    assert_int_equal(ack.nodes, 2);
    assert_int_equal(ack.applied, 1);
    until(!now(B).connected);
    assert_true(trusts(B));
    relay_set(&B->relay, RELAY_PASS);
    until(times_applied(B, "tag y") >= 1);
}

static void forget_now(void *arg)
{
    bus_forget(&((struct sender *)arg)->send);
}

static void far_begin(void *arg)
{
    struct sender *sender = arg;

    task_init(&sender->task, B->loop, sender_run);
    assert_int_equal(bus_publish(A->bus, B->loop, &sender->event, sender->wait_ms, &sender->task, &sender->send), 0);
}

static void nobody_begin(void *arg)
{
    struct sender *sender = arg;

    assert_int_equal(bus_publish(A->bus, B->loop, &sender->event, 0, NULL, NULL), 0);
}

static void from_any_loop(void **state)
{
    /* Another loop than the bus's may publish: waiting, with nobody waiting, and leaving before the answer; the purge goes out
     * in each case. */
    struct sender sender = { .wait_ms = 10000 }, left;
    int result;

    (void)state;
    NEEDS_SERVER();
    start_both();
    sem_init(&sender.done, 0, 0);
    purge_event_parse(VIEW("tag far"), &sender.event);
    on_node(B, far_begin, &sender);
    assert_int_equal(send_end(&sender).result, 0);
    purge_event_parse(VIEW("tag nobody"), &sender.event);
    on_node(B, nobody_begin, &sender);
    for (int i = 0; i < 50; i++) {
        send_begin(&left, A, "tag left", 10000);
        on_node(A, forget_now, &left);
    }
    until(times_applied(B, "tag left") >= 50 && times_applied(B, "tag nobody") >= 1);
    /* Stopping with senders that wait. */
    relay_set(&B->relay, RELAY_HANG);
    send_begin(&left, A, "tag last", 60000);
    until(times_applied(A, "tag last") >= 1);
    on_node(A, bus_down, A);
    result = send_end(&left).result; /* it may not have heard of the entry on its own connection */
    assert_true(result == 0 || result == -ENOTCONN);
}

#define CROWD 300

static void many_at_once(void **state)
{
    /* Many purges in flight from both sides: each is acknowledged by both, and both have the same positions in the same order. */
    static struct sender senders[CROWD];
    static char lines[CROWD][32];

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(publish(A, "tag x", 10000).nodes == 2);
    for (int i = 0; i < CROWD; i++) {
        snprintf(lines[i], sizeof(lines[i]), "tag many-%d", i);
        send_begin(&senders[i], &nodes[i % 2], lines[i], 20000);
    }
    for (int i = 0; i < CROWD; i++) {
        struct bus_ack ack = send_end(&senders[i]);

        assert_int_equal(ack.result, 0);
        assert_int_equal(ack.applied, 2);
    }
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(times_applied(A, lines[i]), 1);
        assert_true(applied(A, lines[i]).bus == applied(B, lines[i]).bus);
    }
    for (unsigned i = 1; i < A->count; i++)
        assert_true(A->list[i].bus > A->list[i - 1].bus);
}

#define ALLOWED \
    "'~t:{eu}:*' +hello +auth +select +time +ping +set +get '+xinfo|stream' +xread +xadd +hset +hgetall +hdel"

static void little_allowed(void **state)
{
    /* A user of the server who may do just what the documentation lists is refused nothing; one who may not listen on the channel still
     * has the stream. */
    char command[512];

    (void)state;
    NEEDS_SERVER();
    snprintf(command, sizeof(command),
             "redis-cli -s %s ACL SETUSER a on '>a' " ALLOWED " '&purges' +subscribe >/dev/null", server.path);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command), "redis-cli -s %s ACL SETUSER b on '>b' " ALLOWED " >/dev/null", server.path);
    assert_int_equal(system(command), 0);
    A->user = "a";
    B->user = "b";
    node_start(A);
    until(now(A).caught_up);
    until(publish(A, "tag one", 10000).applied == 1);
    until(asked(1000, "PUBLISH purges all").integer == 1);
    until(times_applied(A, "all") >= 1);
    node_stop(A);
    until(asked(1000, "HLEN t:{eu}:nodes").integer == 0);
    assert_int_equal(asked(1000, "ACL LOG").items, 0);
    start_both();
    until(publish(B, "tag two", 10000).applied == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reaches_all, open_all, close_all),
        cmocka_unit_test_setup_teardown(catches_up, open_all, close_all),
        cmocka_unit_test_setup_teardown(remembers, open_all, close_all),
        cmocka_unit_test_setup_teardown(replays, open_all, close_all),
        cmocka_unit_test_setup_teardown(doubts, open_all, close_all),
        cmocka_unit_test_setup_teardown(entries_by_hand, open_all, close_all),
        cmocka_unit_test_setup_teardown(on_the_channel, open_all, close_all),
        cmocka_unit_test_setup_teardown(not_all_answer, open_all, close_all),
        cmocka_unit_test_setup_teardown(from_any_loop, open_all, close_all),
        cmocka_unit_test_setup_teardown(many_at_once, open_all, close_all),
        cmocka_unit_test_setup_teardown(little_allowed, open_all, close_all),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
