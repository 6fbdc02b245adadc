/* What all embedding models share: the length of results, and jobs.
 *
 * A job belongs to the loop that started it. One that is on a worker cannot be called back: dropped, it stays until its message comes home,
 * and frees itself there. */
#include "ai/embed.h"

#include "ai/embed_internal.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>

struct embed_job {
    struct work work;
    const struct embed *embed;
    struct task *task;
    bool done, dropped;
    int result;
    size_t len;
    float *out; /* behind the struct; the text behind that */
    char *text;
};

void embed_free(struct embed *e)
{
    if (!e)
        return;
    wordpiece_free(e->words);
    e->destroy(e);
}

unsigned embed_dims(const struct embed *e)
{
    return e->dims;
}

const char *embed_id(const struct embed *e)
{
    return e->id;
}

bool embed_blocks(const struct embed *e)
{
    return e->blocks;
}

size_t embed_bytes(const struct embed *e)
{
    return e->bytes + (e->words ? wordpiece_bytes(e->words) : 0);
}

int embed_text(const struct embed *e, struct view text, float *out)
{
    float square = 0, scale;
    int r = e->run(e, view_first(text, EMBED_TEXT_MAX), out);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < e->dims; i++)
        square += out[i] * out[i];
    if (!isfinite(square) || square < 1e-24f)
        return -ENODATA;
    scale = 1 / sqrtf(square);
    for (unsigned i = 0; i < e->dims; i++)
        out[i] *= scale;
    return 0;
}

/* ---- jobs ---- */

static void job_run(struct work *work)
{
    struct embed_job *job = CONTAINER_OF(work, struct embed_job, work);

    job->result = embed_text(job->embed, view_make(job->text, job->len), job->out);
}

static void job_home(struct loop *loop, struct message *message)
{
    struct embed_job *job = CONTAINER_OF(CONTAINER_OF(message, struct work, done), struct embed_job, work);

    (void)loop;
    if (job->dropped) {
        heap_free(job);
        return;
    }
    job->done = true;
    task_wake(job->task);
}

struct embed_job *embed_start(const struct embed *e, struct workers *workers, struct loop *loop, struct task *task,
                              struct view text)
{
    size_t floats = e->dims * sizeof(float), len = MIN(text.len, (size_t)EMBED_TEXT_MAX);
    struct embed_job *job = heap_alloc(sizeof(*job) + floats + (e->blocks ? len : 0));

    if (!job)
        return NULL;
    *job = (struct embed_job){ .work = { .done.handle = job_home, .run = job_run, .loop = loop },
                               .embed = e,
                               .task = task,
                               .len = len,
                               .out = (float *)(void *)(job + 1) };
    job->text = (char *)(job + 1) + floats;
    if (e->blocks) {
        if (len)
            memcpy(job->text, text.ptr, len);
        workers_submit(workers, &job->work);
    } else {
        job->result = embed_text(e, view_first(text, len), job->out);
        job->done = true;
        task_wake(task);
    }
    return job;
}

int embed_done(const struct embed_job *job, float *out)
{
    if (!job->done)
        return -EAGAIN;
    if (job->result == 0)
        memcpy(out, job->out, job->embed->dims * sizeof(*out));
    return job->result;
}

void embed_drop(struct embed_job *job)
{
    if (!job)
        return;
    if (job->done)
        heap_free(job);
    else
        job->dropped = true;
}
