/* The worker pool: jobs run off the loop and come back to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/work.h"

#include <pthread.h>

#define JOBS 500

struct job {
    struct work work;
    pthread_t ran_on;
    unsigned runs, order;
};

static struct loop *loop;
static struct workers *workers;
static struct job jobs[JOBS];
static unsigned back, order;

static void job_run(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);

    job->runs++;
    job->ran_on = pthread_self();
}

static void job_run_in_order(struct work *work)
{
    CONTAINER_OF(work, struct job, work)->order = order++;
    job_run(work);
}

static void job_done(struct loop *here, struct message *message)
{
    struct job *job = CONTAINER_OF(CONTAINER_OF(message, struct work, done), struct job, work);

    assert_ptr_equal(here, loop);
    assert_int_equal(job->runs, 1);
    assert_false(pthread_equal(job->ran_on, pthread_self()));
    if (++back == JOBS)
        loop_stop(here);
}

static void submit_all(struct task *task)
{
    (void)task;
    for (int i = 0; i < JOBS; i++)
        workers_submit(workers, &jobs[i].work);
}

static void make_jobs(void (*run)(struct work *))
{
    back = order = 0;
    for (int i = 0; i < JOBS; i++)
        jobs[i] = (struct job){ .work = { .done.handle = job_done, .run = run, .loop = loop } };
}

static void jobs_come_back(void **state)
{
    /* Every job runs once, on another thread, and is told to its loop. */
    struct task submit;

    (void)state;
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(workers_new(&workers, 3), 0);
    make_jobs(job_run);
    task_init(&submit, loop, submit_all);
    task_wake(&submit);
    loop_run(loop);
    assert_int_equal(back, JOBS);
    workers_free(workers);
    loop_free(loop);
}

static void free_finishes(void **state)
{
    /* Freeing the pool finishes what is queued; one worker runs the jobs in order. */
    (void)state;
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(workers_new(&workers, 1), 0);
    make_jobs(job_run_in_order);
    submit_all(NULL);
    workers_free(workers);
    for (unsigned i = 0; i < JOBS; i++)
        assert_int_equal(jobs[i].order, i);
    assert_int_equal(back, 0);
    loop_run(loop); /* the messages have waited */
    assert_int_equal(back, JOBS);
    loop_free(loop);
    workers_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_come_back),
        cmocka_unit_test(free_finishes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
