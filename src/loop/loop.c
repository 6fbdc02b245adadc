/* The event loop over epoll (edge-triggered, both directions registered once, so that no system call follows a change of
 * interest).
 *
 * A turn: wait, mark readiness, take messages, fire timers, run tasks until none is queued (tasks woken while running go to
 * the back), end-of-turn hooks, quiescent state. Tasks run only here, from a fresh stack.
 *
 * Thread ownership: everything in struct loop belongs to its thread except `inbox`, `wakefd` and `stopping`. */
#include "loop/loop.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/rcu.h"
#include "loop/timers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256
#define FREE_BLOCKS_MAX 256
#define HOOKS_MAX 4
/* Tasks that keep waking each other must not starve the sockets. */
#define TASK_ROUNDS_PER_TURN 64

struct free_block {
    struct free_block *next;
};

struct loop {
    int epfd, wakefd;
    unsigned index;
    uint64_t now_ms;
    int64_t wall_ms;
    struct node run_queue;
    struct timers timers;
    struct epoll_event events[EVENTS_PER_TURN];
    int event_at, event_count; /* events of this turn not yet dispatched: [event_at, event_count) */
    struct free_block *free_blocks;
    unsigned free_block_count;
    void *slots[LOOP_SLOT_COUNT];
    struct loop_hook hooks[HOOKS_MAX];
    unsigned hook_count;
    _Alignas(64) _Atomic(struct message *) inbox; /* newest first */
    atomic_bool stopping;
};

/* ---- tasks ---- */

void task_init(struct task *task, struct loop *loop, void (*run)(struct task *))
{
    list_init(&task->link);
    task->run = run;
    task->loop = loop;
}

void task_wake(struct task *task)
{
    if (!list_linked(&task->link))
        list_push(&task->loop->run_queue, &task->link);
}

void task_cancel(struct task *task)
{
    list_remove(&task->link);
}

/* Runs what is queued now; what gets queued meanwhile waits for the next round. */
static void run_tasks(struct loop *loop)
{
    struct node round, *link;

    for (int i = 0; i < TASK_ROUNDS_PER_TURN && !list_empty(&loop->run_queue); i++) {
        list_take(&round, &loop->run_queue);
        while ((link = list_pop(&round))) {
            struct task *task = CONTAINER_OF(link, struct task, link);

            task->run(task);
        }
    }
}

/* ---- timers ---- */

void timer_init(struct timer *timer, struct task *task)
{
    list_init(&timer->link);
    timer->expires_ms = timer->slot_ms = 0;
    timer->task = task;
    timer->fired = false;
}

void timer_set(struct timer *timer, uint64_t after_ms)
{
    struct loop *loop = timer->task->loop;

    timer->fired = false;
    timer->expires_ms = loop->now_ms + MAX(after_ms, 1);
    /* Later than it is filed: leave it, the wheel refiles it when the old slot comes up. */
    if (list_linked(&timer->link) && timer->expires_ms >= timer->slot_ms)
        return;
    timers_file(&loop->timers, timer);
}

void timer_clear(struct timer *timer)
{
    timer->fired = false;
    timer->expires_ms = 0;
    list_remove(&timer->link);
}

/* ---- readiness ---- */

int loop_io_add(struct loop *loop, struct io *io)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = io };

    return epoll_ctl(loop->epfd, EPOLL_CTL_ADD, io->fd, &event) < 0 ? -errno : 0;
}

void loop_io_remove(struct loop *loop, struct io *io)
{
    /* The kernel forgets a closed descriptor by itself; an explicit removal also covers duplicated descriptors. */
    epoll_ctl(loop->epfd, EPOLL_CTL_DEL, io->fd, NULL);
    for (int i = loop->event_at; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == io)
            loop->events[i].data.ptr = NULL;
}

static void dispatch_events(struct loop *loop)
{
    while (loop->event_at < loop->event_count) {
        const struct epoll_event *event = &loop->events[loop->event_at++];
        struct io *io = event->data.ptr;
        unsigned flags = 0;

        if (!io)
            continue;
        if (event->events & EPOLLIN)
            flags |= IO_READ;
        if (event->events & EPOLLOUT)
            flags |= IO_WRITE;
        if (event->events & (EPOLLRDHUP | EPOLLHUP))
            flags |= IO_HANGUP | IO_READ;
        if (event->events & EPOLLERR)
            flags |= IO_ERROR | IO_READ | IO_WRITE;
        io->ready(io, flags);
    }
}

/* ---- messages ---- */

static void loop_kick(struct loop *loop)
{
    uint64_t one = 1;

    /* A full counter already means "wake up". */
    if (write(loop->wakefd, &one, sizeof(one)) < 0)
        CHECK(errno == EAGAIN);
}

void loop_post(struct loop *loop, struct message *message)
{
    struct message *head = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

    do {
        message->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &head, message, memory_order_release,
                                                    memory_order_relaxed));
    if (!head)
        loop_kick(loop);
}

static void take_messages(struct loop *loop)
{
    struct message *newest = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire), *oldest = NULL;

    while (newest) {
        struct message *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct message *message = oldest;

        oldest = message->next;
        message->handle(loop, message);
    }
}

static void wake_ready(struct io *io, unsigned events)
{
    uint64_t count;

    (void)events;
    /* Edge-triggered: the counter must be drained for the next write to be an edge. */
    if (read(io->fd, &count, sizeof(count)) < 0)
        CHECK(errno == EAGAIN);
}

/* ---- blocks ---- */

void *loop_block_get(struct loop *loop)
{
    struct free_block *block = loop->free_blocks;

    if (!block)
        return heap_alloc(LOOP_BLOCK_SIZE);
    loop->free_blocks = block->next;
    loop->free_block_count--;
    return block;
}

void loop_block_put(struct loop *loop, void *memory)
{
    struct free_block *block = memory;

    if (!block)
        return;
    if (loop->free_block_count >= FREE_BLOCKS_MAX) {
        heap_free(block);
        return;
    }
    block->next = loop->free_blocks;
    loop->free_blocks = block;
    loop->free_block_count++;
}

/* ---- the loop ---- */

static struct io *wake_io(struct loop *loop)
{
    /* Allocated with the loop, right behind it. */
    return (struct io *)(void *)(loop + 1);
}

static void update_clock(struct loop *loop)
{
    loop->now_ms = clock_mono_ms();
    loop->wall_ms = clock_wall_ms();
}

int loop_new(struct loop **ret, unsigned index)
{
    struct loop *loop = aligned_alloc(64, (sizeof(*loop) + sizeof(struct io) + 63) & ~(size_t)63);
    int r;

    if (!loop)
        return -ENOMEM;
    memset(loop, 0, sizeof(*loop));
    loop->index = index;
    list_init(&loop->run_queue);
    update_clock(loop);
    timers_init(&loop->timers, loop->now_ms);
    loop->epfd = epoll_create1(EPOLL_CLOEXEC);
    loop->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->epfd < 0 || loop->wakefd < 0) {
        r = -errno;
        loop_free(loop);
        return r;
    }
    *wake_io(loop) = (struct io){ .fd = loop->wakefd, .ready = wake_ready };
    r = loop_io_add(loop, wake_io(loop));
    if (r < 0) {
        loop_free(loop);
        return r;
    }
    *ret = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->free_blocks) {
        struct free_block *next = loop->free_blocks->next;

        heap_free(loop->free_blocks);
        loop->free_blocks = next;
    }
    if (loop->epfd >= 0)
        close(loop->epfd);
    if (loop->wakefd >= 0)
        close(loop->wakefd);
    heap_free(loop);
}

static int wait_timeout_ms(struct loop *loop)
{
    if (!list_empty(&loop->run_queue) || atomic_load_explicit(&loop->inbox, memory_order_relaxed))
        return 0;
    return timers_next_ms(&loop->timers, loop->now_ms);
}

/* Blocks offline, so that an idle loop never holds up a grace period of the others. */
static void wait_events(struct loop *loop)
{
    int timeout = wait_timeout_ms(loop), n;

    if (timeout == 0) {
        rcu_quiet();
        n = epoll_wait(loop->epfd, loop->events, EVENTS_PER_TURN, 0);
    } else {
        rcu_offline();
        n = epoll_wait(loop->epfd, loop->events, EVENTS_PER_TURN, timeout);
        rcu_online();
    }
    CHECK(n >= 0 || errno == EINTR);
    loop->event_at = 0;
    loop->event_count = MAX(n, 0);
}

void loop_run(struct loop *loop)
{
    urcu_qsbr_register_thread();
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
        wait_events(loop);
        update_clock(loop);
        dispatch_events(loop);
        take_messages(loop);
        timers_fire(&loop->timers, loop->now_ms);
        run_tasks(loop);
        for (unsigned i = 0; i < loop->hook_count; i++)
            loop->hooks[i].run(loop, loop->hooks[i].arg);
    }
    urcu_qsbr_unregister_thread();
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    loop_kick(loop);
}

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

int64_t loop_wall_ms(const struct loop *loop)
{
    return loop->wall_ms;
}

void **loop_slot(struct loop *loop, enum loop_slot_id id)
{
    return &loop->slots[id];
}

void loop_at_turn_end(struct loop *loop, struct loop_hook hook)
{
    CHECK(loop->hook_count < HOOKS_MAX);
    loop->hooks[loop->hook_count++] = hook;
}
