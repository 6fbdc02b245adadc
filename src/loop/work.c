/* The worker pool: one queue under one lock. A job is its submitter's memory; the pool only links it and posts it home. */
#include "loop/work.h"

#include "base/heap.h"

#include <errno.h>
#include <pthread.h>

#define THREADS_MAX 16

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct node queue; /* of struct work, oldest first */
    bool stopping;
    unsigned count;
    pthread_t threads[THREADS_MAX];
};

static void *worker_main(void *arg)
{
    struct workers *workers = arg;
    struct node *link;

    (void)pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        while (!(link = list_pop(&workers->queue)) && !workers->stopping)
            pthread_cond_wait(&workers->more, &workers->lock);
        if (!link)
            break;
        pthread_mutex_unlock(&workers->lock);
        struct work *work = CONTAINER_OF(link, struct work, link);
        work->run(work);
        loop_post(work->loop, &work->done);
        pthread_mutex_lock(&workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

int workers_new(struct workers **ret, unsigned threads)
{
    struct workers *workers = heap_zalloc(sizeof(*workers));

    if (!workers)
        return -ENOMEM;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->more, NULL);
    list_init(&workers->queue);
    for (; workers->count < MIN(threads, (unsigned)THREADS_MAX); workers->count++) {
        int r = pthread_create(&workers->threads[workers->count], NULL, worker_main, workers);

        if (r != 0) {
            workers_free(workers);
            return -r;
        }
    }
    *ret = workers;
    return 0;
}

void workers_free(struct workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->more);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->count; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_cond_destroy(&workers->more);
    pthread_mutex_destroy(&workers->lock);
    heap_free(workers);
}

void workers_submit(struct workers *workers, struct work *work)
{
    pthread_mutex_lock(&workers->lock);
    list_push(&workers->queue, &work->link);
    pthread_cond_signal(&workers->more);
    pthread_mutex_unlock(&workers->lock);
}
