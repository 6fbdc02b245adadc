/* The loop: order of tasks, messages from other threads, readiness, hooks. Nothing waits by time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static char trace[256];

static int open_loop(void **state)
{
    (void)state;
    trace[0] = '\0';
    return loop_new(&loop, 3);
}

static int close_loop(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void note(char c)
{
    size_t len = strlen(trace);

    assert_true(len + 1 < sizeof(trace));
    trace[len] = c;
    trace[len + 1] = '\0';
}

/* ---- tasks ---- */

struct letter {
    struct task task;
    struct letter *wakes, *cancels;
    char name;
    int again;
};

static void letter_run(struct task *task)
{
    struct letter *l = CONTAINER_OF(task, struct letter, task);

    note(l->name);
    if (l->cancels)
        task_cancel(&l->cancels->task);
    if (l->wakes) {
        task_wake(&l->wakes->task);
        task_wake(&l->wakes->task);
    }
    if (l->again-- > 0)
        task_wake(task);
}

static struct letter letter(char name)
{
    return (struct letter){ .name = name };
}

static void stop_run(struct task *task)
{
    loop_stop(task->loop);
}

static void turn_ends(struct loop *which, void *arg)
{
    (void)which;
    note(*(char *)arg);
}

static void tasks_in_order(void **state)
{
    /* Tasks run once per wake in the order they were woken; what is woken meanwhile goes to the back; a cancelled task does
     * not run; the hooks run in order once all have. */
    struct letter a = letter('a'), b = letter('b'), c = letter('c'), d = letter('d');
    struct letter *all[] = { &a, &b, &c, &d };
    struct task stop;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        task_init(&all[i]->task, loop, letter_run);
    task_init(&stop, loop, stop_run);
    a.wakes = &d;
    a.again = 2;
    b.cancels = &c;
    task_wake(&a.task);
    task_wake(&b.task);
    task_wake(&c.task);
    task_wake(&a.task);
    task_wake(&stop);
    loop_at_turn_end(loop, (struct loop_hook){ turn_ends, &(char){ '.' } });
    loop_at_turn_end(loop, (struct loop_hook){ turn_ends, &(char){ '!' } });
    loop_run(loop);
    assert_string_equal(trace, "abdadad.!");
    assert_int_equal(loop_index(loop), 3);
    assert_null(*loop_slot(loop, LOOP_SLOT_HTTP));
}

static void stop_message(struct loop *which, struct message *message)
{
    (void)message;
    loop_stop(which);
}

static void post_at_first(struct loop *which, void *arg)
{
    struct message **message = arg;

    if (*message)
        loop_post(which, *message);
    *message = NULL;
}

static void pass_run(struct task *task)
{
    task_wake(&CONTAINER_OF(task, struct letter, task)->wakes->task);
}

static void busy_tasks_let_others_in(void **state)
{
    /* Two tasks that wake each other without end do not keep a message out. */
    struct letter a = letter('a'), b = letter('b');
    struct message stop = { .handle = stop_message }, *first = &stop;

    (void)state;
    task_init(&a.task, loop, pass_run);
    task_init(&b.task, loop, pass_run);
    a.wakes = &b;
    b.wakes = &a;
    task_wake(&a.task);
    loop_at_turn_end(loop, (struct loop_hook){ post_at_first, &first });
    loop_run(loop);
    assert_null(first);
    task_cancel(&a.task);
    task_cancel(&b.task);
}

/* ---- messages ---- */

#define SENDERS 4
#define EACH 2000

struct numbered {
    struct message message;
    unsigned sender, number;
};

static struct numbered mail[SENDERS][EACH];
static unsigned next_number[SENDERS], handled;

static void numbered_handle(struct loop *which, struct message *message)
{
    struct numbered *m = CONTAINER_OF(message, struct numbered, message);

    assert_ptr_equal(which, loop);
    assert_int_equal(m->number, next_number[m->sender]++);
    if (++handled == SENDERS * EACH)
        loop_stop(which);
}

static void *send_all(void *arg)
{
    struct numbered *row = arg;

    for (unsigned i = 0; i < EACH; i++)
        loop_post(loop, &row[i].message);
    return NULL;
}

static void messages_keep_order(void **state)
{
    /* Each sender's messages arrive once and in order, however many send at the same time to a loop that sleeps. */
    pthread_t threads[SENDERS];

    (void)state;
    handled = 0;
    memset(next_number, 0, sizeof(next_number));
    for (unsigned s = 0; s < SENDERS; s++) {
        for (unsigned i = 0; i < EACH; i++)
            mail[s][i] = (struct numbered){ .message.handle = numbered_handle, .sender = s, .number = i };
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, mail[s]), 0);
    }
    loop_run(loop);
    for (unsigned s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
    assert_int_equal(handled, SENDERS * EACH);
}

/* ---- two loops ---- */

struct ball {
    struct message message;
    struct loop *other;
    int left;
};

static void ball_handle(struct loop *here, struct message *message)
{
    struct ball *ball = CONTAINER_OF(message, struct ball, message);
    struct loop *to = ball->other;

    if (ball->left-- == 0) {
        loop_stop(to);
        loop_stop(here);
        return;
    }
    ball->other = here;
    loop_post(to, message);
}

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void loops_play(void **state)
{
    /* A message goes back and forth between two sleeping loops without ever being lost. */
    struct ball ball = { .message.handle = ball_handle, .left = 5000 };
    struct loop *second;
    pthread_t thread;

    (void)state;
    assert_int_equal(loop_new(&second, 1), 0);
    ball.other = second;
    loop_post(loop, &ball.message);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, second), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    assert_int_equal(ball.left, -1);
    loop_free(second);
}

static void *stop_it(void *arg)
{
    loop_stop(arg);
    return NULL;
}

static void stop_from_outside(void **state)
{
    /* A loop with nothing to do sleeps until another thread stops it. */
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, stop_it, loop), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
}

/* ---- readiness ---- */

struct probe {
    struct io io;
    struct task task;
    int peer;
    unsigned seen, calls;
};

static void probe_ready(struct io *io, unsigned events)
{
    struct probe *p = CONTAINER_OF(io, struct probe, io);

    p->seen |= events;
    p->calls++;
    task_wake(&p->task);
}

static void probe_open(struct probe *p, void (*run)(struct task *))
{
    int ends[2];

    memset(p, 0, sizeof(*p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    p->io = (struct io){ .fd = ends[0], .ready = probe_ready };
    p->peer = ends[1];
    task_init(&p->task, loop, run);
    assert_int_equal(loop_io_add(loop, &p->io), 0);
}

static void probe_close(struct probe *p)
{
    loop_io_remove(loop, &p->io);
    task_cancel(&p->task);
    close(p->io.fd);
    if (p->peer >= 0)
        close(p->peer);
}

/* Writable first; then bytes; then the peer half-closes; then it goes. */
static void stages_run(struct task *task)
{
    struct probe *p = CONTAINER_OF(task, struct probe, task);
    char c;

    switch (p->calls) {
    case 1:
        assert_int_equal(p->seen, IO_WRITE);
        assert_int_equal(send(p->peer, "x", 1, 0), 1);
        break;
    case 2:
        assert_true(p->seen & IO_READ);
        assert_false(p->seen & IO_HANGUP);
        assert_int_equal(recv(p->io.fd, &c, 1, 0), 1);
        shutdown(p->peer, SHUT_WR);
        break;
    case 3:
        assert_true(p->seen & IO_HANGUP);
        assert_int_equal(recv(p->io.fd, &c, 1, 0), 0);
        close(p->peer);
        p->peer = -1;
        break;
    default: loop_stop(loop);
    }
    p->seen = 0;
}

static void readiness(void **state)
{
    /* Each change of a socket is told once, as what it is. */
    struct probe p;

    (void)state;
    probe_open(&p, stages_run);
    loop_run(loop);
    assert_int_equal(p.calls, 4);
    probe_close(&p);
}

static struct probe pair[2];

/* Whoever of the two is told first removes the other, whose event waits in the same turn. */
static void rival_ready(struct io *io, unsigned events)
{
    struct probe *p = CONTAINER_OF(io, struct probe, io), *other = p == &pair[0] ? &pair[1] : &pair[0];

    (void)events;
    p->calls++;
    loop_io_remove(loop, &other->io);
    task_wake(&p->task);
}

static void removed_io_is_silent(void **state)
{
    /* An io removed while its event waits in the same turn never hears of it. */
    (void)state;
    for (int i = 0; i < 2; i++) {
        probe_open(&pair[i], stop_run);
        pair[i].io.ready = rival_ready;
    }
    loop_run(loop);
    assert_int_equal(pair[0].calls + pair[1].calls, 1);
    for (int i = 0; i < 2; i++)
        probe_close(&pair[i]);
}

static void bad_descriptor(void **state)
{
    /* A descriptor that cannot be watched is an error, not an assertion. */
    struct io io = { .fd = -1, .ready = probe_ready };

    (void)state;
    assert_int_equal(loop_io_add(loop, &io), -EBADF);
}

/* ---- blocks ---- */

static void blocks_are_reused(void **state)
{
    /* A block given back is the next one given out; more than the loop keeps go to the heap. */
    static void *blocks[300];
    void *last;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        blocks[i] = loop_block_get(loop);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, LOOP_BLOCK_SIZE);
    }
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        loop_block_put(loop, blocks[i]);
    loop_block_put(loop, NULL);
    last = loop_block_get(loop);
    loop_block_put(loop, last);
    assert_ptr_equal(loop_block_get(loop), last);
    loop_block_put(loop, last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tasks_in_order, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(busy_tasks_let_others_in, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(messages_keep_order, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(loops_play, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(stop_from_outside, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(readiness, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(removed_io_is_silent, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(bad_descriptor, open_loop, close_loop),
        cmocka_unit_test_setup_teardown(blocks_are_reused, open_loop, close_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
