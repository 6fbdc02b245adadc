/* Purge jobs. A job is held by its asker, by its write to the state and by its message on the bus; the last of them frees it.
 * Everything about one job happens on one loop. */
#include "cache/purger.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Positions that one run of the node may use up without being durable. */
#define BLOCK ((uint64_t)1 << 24)
#define WAIT_MS 1000u

struct purger {
    struct purger_options options;
    struct bus *bus;
    _Atomic uint64_t floor_kept; /* the marks' floor as the state knows it */
};

struct purge_job {
    struct bus_send send;
    struct task bus_task; /* woken by the bus */
    struct task *task;    /* the asker's; NULL when it left */
    struct purger *purger;
    bool written, sending;
    int write_result;
    uint64_t position;
    unsigned refs;
};

/* ---- start ---- */

static void restore(const struct state_mark *mark, void *arg)
{
    struct mark copy = { .kind = (enum mark_kind)mark->kind, .soft = mark->soft, .text = mark->text };

    if (mark->kind > 0 && mark->kind < MARK_KINDS)
        marks_restore(arg, &copy, mark->position, mark->bus);
}

static int read_number(struct state *state, struct view name, uint64_t *ret)
{
    char *text;
    size_t len;
    int r = state_get(state, name, &text, &len);

    *ret = 0;
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    *ret = strtoull(text, NULL, 10);
    heap_free(text);
    return 0;
}

static int write_number(struct state *state, struct view name, uint64_t value)
{
    char memory[24];
    struct text text = TEXT_ON(memory);
    struct state_write write = { .name = name };

    text_u64(&text, value);
    write.value = text_view(&text);
    return state_write_wait(state, &write);
}

static int restore_all(struct purger *purger)
{
    struct state *state = purger->options.state;
    struct marks *marks = purger->options.marks;
    uint64_t start, floor;
    int r = read_number(state, VIEW("marks.start"), &start);

    if (r == 0)
        r = read_number(state, VIEW("marks.floor"), &floor);
    if (r == 0)
        r = state_marks(state, restore, marks);
    if (r < 0)
        return r;
    start = MAX(start, marks_position(marks)) + BLOCK;
    marks_start_at(marks, start, floor);
    atomic_store(&purger->floor_kept, floor);
    return write_number(state, VIEW("marks.start"), start);
}

int purger_new(const struct purger_options *options, struct purger **ret)
{
    struct purger *purger = heap_zalloc(sizeof(*purger));
    int r;

    if (!purger)
        return -ENOMEM;
    purger->options = *options;
    if (!purger->options.wait_ms)
        purger->options.wait_ms = WAIT_MS;
    r = options->state ? restore_all(purger) : 0;
    if (r < 0) {
        heap_free(purger);
        return r;
    }
    *ret = purger;
    return 0;
}

void purger_free(struct purger *purger)
{
    heap_free(purger);
}

void purger_set_bus(struct purger *purger, struct bus *bus)
{
    purger->bus = bus;
}

/* ---- jobs ---- */

static void job_unref(struct purge_job *job)
{
    if (--job->refs)
        return;
    task_cancel(&job->bus_task);
    heap_free(job);
}

static void job_moved(struct purge_job *job)
{
    if (job->task)
        task_wake(job->task);
}

/* A write of the state and the job it belongs to; NULL: nobody waits for it. */
struct mark_write {
    struct state_write write;
    struct purge_job *job;
};

static void write_done(struct loop *loop, struct message *message)
{
    struct mark_write *done = CONTAINER_OF(message, struct mark_write, write.done);
    struct purge_job *job = done->job;

    (void)loop;
    if (done->write.result < 0)
        log_error("a purge is in effect but could not be made durable: %s", strerror(-done->write.result));
    if (job) {
        job->written = true;
        job->write_result = done->write.result;
        job_moved(job);
        job_unref(job);
    }
    heap_free(done);
}

static void bus_done(struct task *task)
{
    struct purge_job *job = CONTAINER_OF(task, struct purge_job, bus_task);

    if (!job->sending || !job->send.done)
        return;
    job->sending = false;
    job_moved(job);
    job_unref(job);
}

/* Queues the mark to the state; with it, when marks have been folded since, what need not be kept any more. */
static int keep(struct purger *purger, struct loop *loop, const struct mark *mark, uint64_t position, uint64_t bus,
                struct purge_job *job)
{
    struct mark_write *keeping;
    struct marks_stats stats;
    char memory[24];
    struct text floor = TEXT_ON(memory);
    int r;

    if (!purger->options.state) {
        if (job) {
            job->written = true;
            job->refs--;
        }
        return 0;
    }
    keeping = heap_zalloc(sizeof(*keeping));
    if (!keeping)
        return -ENOMEM;
    keeping->job = job;
    keeping->write.done.handle = write_done;
    keeping->write.loop = loop;
    keeping->write.mark = (struct state_mark){
        .position = position, .bus = bus, .kind = (uint16_t)mark->kind, .soft = mark->soft, .text = mark->text
    };
    marks_stats(purger->options.marks, &stats);
    if (stats.floor > atomic_load(&purger->floor_kept)) {
        atomic_store(&purger->floor_kept, stats.floor);
        text_u64(&floor, stats.floor);
        keeping->write.forget_before = stats.floor;
        keeping->write.name = VIEW("marks.floor");
        keeping->write.value = text_view(&floor);
    }
    r = state_write(purger->options.state, &keeping->write);
    if (r < 0)
        heap_free(keeping);
    return r;
}

void purger_apply(struct purger *purger, struct loop *loop, const struct mark *mark, uint64_t bus)
{
    uint64_t position = marks_add(purger->options.marks, mark, bus);

    if (keep(purger, loop, mark, position, bus, NULL) < 0)
        log_error("a purge is in effect but could not be made durable: out of memory");
}

int purger_purge(struct purger *purger, struct loop *loop, const struct mark *mark, const struct purge_event *event,
                 struct task *task, struct purge_job **ret_job)
{
    uint64_t position = marks_add(purger->options.marks, mark, 0);
    struct purge_job *job = heap_zalloc(sizeof(*job));

    if (!job)
        return -ENOMEM;
    job->purger = purger;
    job->position = position;
    job->task = task;
    job->refs = 2; /* the asker's and ours here */
    task_init(&job->bus_task, loop, bus_done);
    job->refs++;
    if (keep(purger, loop, mark, position, 0, job) < 0) {
        job->written = true;
        job->write_result = -ENOMEM;
        job->refs--;
    }
    if (purger->bus && event &&
        bus_publish(purger->bus, loop, event, purger->options.wait_ms, &job->bus_task, &job->send) == 0) {
        job->sending = true;
        job->refs++;
    }
    job_unref(job);
    if (task)
        *ret_job = job;
    else
        purge_job_leave(job);
    return 0;
}

bool purge_job_done(struct purge_job *job, struct purge_result *ret)
{
    if (!job->written || job->sending)
        return false;
    *ret = (struct purge_result){
        .durable = job->write_result == 0,
        .bus = job->send.done,
        .bus_result = job->send.ack.result,
        .position = job->position,
        .nodes = job->send.ack.nodes,
        .applied = job->send.ack.applied,
    };
    snprintf(ret->id, sizeof(ret->id), "%s", job->send.ack.id);
    return true;
}

void purge_job_leave(struct purge_job *job)
{
    if (!job)
        return;
    job->task = NULL;
    job_unref(job);
}
