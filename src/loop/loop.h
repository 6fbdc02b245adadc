/* The event loop: one per core, each on its own thread. A loop runs tasks; everything else (readiness, timers, messages
 * from other threads) only wakes them. Nobody calls upward: a wake queues the task, the loop runs it from a fresh stack.
 *
 * A wake is a hint. The task re-reads its state and decides again, so a spurious wake is harmless. */
#pragma once

#include "base/list.h"
#include "base/view.h"

#include <stdatomic.h>
#include <stdint.h>

struct loop;

/* ---- tasks ---- */

/* Something that can be resumed; embedded in its owner and dies with it. It is on the run queue, or not. */
struct task {
    struct node link;
    void (*run)(struct task *task);
    struct loop *loop;
};

void task_init(struct task *task, struct loop *loop, void (*run)(struct task *));
/* Queues the task on its loop. Only on that loop's thread. Harmless when already queued. */
void task_wake(struct task *task);
/* Takes the task off the run queue; call before its memory goes. */
void task_cancel(struct task *task);

/* ---- timers (a wheel of 4 ms ticks: never early, up to two ticks late) ---- */

struct timer {
    struct node link;
    uint64_t expires_ms; /* monotonic; 0: not set */
    uint64_t slot_ms;    /* where it is filed; an extended timer is refiled lazily when this passes */
    struct task *task;   /* woken when it fires */
    bool fired;          /* set before the wake, cleared by timer_set and timer_clear */
};

void timer_init(struct timer *timer, struct task *task);
/* (Re)arms for `after_ms` from loop_now_ms(). Extending a running timer costs one store. */
void timer_set(struct timer *timer, uint64_t after_ms);
void timer_clear(struct timer *timer);

/* ---- readiness (edge-triggered) ---- */

enum {
    IO_READ = 1,
    IO_WRITE = 2,
    IO_HANGUP = 4 /* the peer closed its sending side, or the whole connection */,
    IO_ERROR = 8
};

struct io {
    int fd;
    void (*ready)(struct io *io, unsigned events); /* must not close; records flags and wakes */
};

/* Adds fd for both directions, edge-triggered. 0 or -errno. */
int loop_io_add(struct loop *loop, struct io *io);
/* Forgets io and any event of it still pending in this turn. Does not close fd. */
void loop_io_remove(struct loop *loop, struct io *io);

/* ---- messages from other threads ---- */

struct message {
    struct message *next;
    void (*handle)(struct loop *loop, struct message *message); /* runs on the receiving loop; owns the message */
};

/* Any thread. The message must stay valid until handled. Order per sender is kept. */
void loop_post(struct loop *loop, struct message *message);

/* ---- pooled blocks (input buffers, request arenas) ---- */

#define LOOP_BLOCK_SIZE ((size_t)16384)
/* NULL when memory is out. A bounded number of free blocks is kept per loop. */
void *loop_block_get(struct loop *loop) must_use;
void loop_block_put(struct loop *loop, void *block);

/* ---- the loop ---- */

int loop_new(struct loop **ret, unsigned index);
void loop_free(struct loop *loop);
/* Runs until loop_stop(). Registers the thread with RCU (QSBR): a quiescent state every turn, offline while blocked. */
void loop_run(struct loop *loop);
/* Any thread. */
void loop_stop(struct loop *loop);

unsigned loop_index(const struct loop *loop);
/* Taken once a turn. */
uint64_t loop_now_ms(const struct loop *loop);
int64_t loop_wall_ms(const struct loop *loop);

/* Per-loop state of higher modules: slot i holds a pointer. Slots are given out at start by loop_slot(). */
enum loop_slot_id { LOOP_SLOT_DNS, LOOP_SLOT_HTTP, LOOP_SLOT_COUNT };
void **loop_slot(struct loop *loop, enum loop_slot_id id);

/* Called at the end of every turn, after all tasks have run (flush batched logs). At most 4 per loop. */
struct loop_hook {
    void (*run)(struct loop *loop, void *arg);
    void *arg;
};
void loop_at_turn_end(struct loop *loop, struct loop_hook hook);
