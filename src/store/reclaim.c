/* The reclaiming thread. Deferred nodes form a stack that anybody pushes onto and only the thread takes, as a whole, so the
 * ABA problem cannot arise. The kind of a node rides in the low bits of the pointer to it. The semaphore is posted when the
 * stack was empty before; a thread that is busy finds later nodes without being woken again. */
#include "store/reclaim.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/rcu.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define KIND_MASK ((uintptr_t)3)
enum { KIND_BARRIER = 3 };

struct barrier {
    struct reclaim_node node;
    sem_t passed;
};

struct reclaim {
    struct reclaim_options options;
    _Atomic uintptr_t stack;
    atomic_bool stopping, work_wanted;
    sem_t wake;
    pthread_t thread;
};

/* Grace periods cost every reader a little: at most one or two a millisecond, however fast things are deferred. */
static void gather(const struct reclaim *reclaim)
{
    struct timespec pause = { .tv_nsec = 500000 };

    if (!atomic_load_explicit(&reclaim->stopping, memory_order_relaxed))
        nanosleep(&pause, NULL);
}

static void release_all(struct reclaim *reclaim, uintptr_t taken)
{
    struct barrier *barriers = NULL;

    while (taken) {
        struct reclaim_node *node = (struct reclaim_node *)(taken & ~KIND_MASK);
        unsigned kind = (unsigned)(taken & KIND_MASK);

        taken = (uintptr_t)atomic_load_explicit(&node->next, memory_order_relaxed);
        if (kind == KIND_BARRIER) {
            atomic_store_explicit(&node->next, (struct reclaim_node *)barriers, memory_order_relaxed);
            barriers = CONTAINER_OF(node, struct barrier, node);
        } else {
            reclaim->options.release(reclaim->options.arg, node, kind);
        }
    }
    /* Newer ones come off the stack first, so barriers open when all is done. */
    while (barriers) {
        struct barrier *barrier = barriers;

        barriers = (struct barrier *)atomic_load_explicit(&barrier->node.next, memory_order_relaxed);
        sem_post(&barrier->passed);
    }
}

static void *reclaim_main(void *arg)
{
    struct reclaim *reclaim = arg;
    bool last;

    (void)pthread_setname_np(pthread_self(), "reclaim");
    urcu_qsbr_register_thread();
    rcu_offline();
    do {
        uintptr_t taken;

        while (sem_wait(&reclaim->wake) < 0)
            CHECK(errno == EINTR);
        gather(reclaim);
        last = atomic_load(&reclaim->stopping);
        if (atomic_exchange(&reclaim->work_wanted, false)) {
            rcu_online();
            reclaim->options.work(reclaim->options.arg);
            rcu_offline();
        }
        taken = atomic_exchange(&reclaim->stack, 0);
        if (taken) {
            rcu_synchronize();
            release_all(reclaim, taken);
        }
    } while (!last);
    urcu_qsbr_unregister_thread();
    return NULL;
}

int reclaim_new(const struct reclaim_options *options, struct reclaim **ret)
{
    struct reclaim *reclaim = heap_zalloc(sizeof(*reclaim));
    int r;

    if (!reclaim)
        return -ENOMEM;
    reclaim->options = *options;
    CHECK(sem_init(&reclaim->wake, 0, 0) == 0);
    r = pthread_create(&reclaim->thread, NULL, reclaim_main, reclaim);
    if (r != 0) {
        sem_destroy(&reclaim->wake);
        heap_free(reclaim);
        return -r;
    }
    *ret = reclaim;
    return 0;
}

void reclaim_free(struct reclaim *reclaim)
{
    if (!reclaim)
        return;
    atomic_store(&reclaim->stopping, true);
    sem_post(&reclaim->wake);
    pthread_join(reclaim->thread, NULL);
    CHECK(atomic_load(&reclaim->stack) == 0);
    sem_destroy(&reclaim->wake);
    heap_free(reclaim);
}

void reclaim_barrier(struct reclaim *reclaim)
{
    bool reader = urcu_qsbr_read_ongoing();
    struct barrier barrier;

    CHECK(sem_init(&barrier.passed, 0, 0) == 0);
    if (reader)
        rcu_offline();
    reclaim_defer(reclaim, &barrier.node, KIND_BARRIER);
    while (sem_wait(&barrier.passed) < 0)
        CHECK(errno == EINTR);
    sem_destroy(&barrier.passed);
    if (reader)
        rcu_online();
}

void reclaim_defer(struct reclaim *reclaim, struct reclaim_node *node, unsigned kind)
{
    uintptr_t head = atomic_load_explicit(&reclaim->stack, memory_order_relaxed);

    CHECK(((uintptr_t)node & KIND_MASK) == 0 && kind <= KIND_MASK);
    do
        atomic_store_explicit(&node->next, (struct reclaim_node *)head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&reclaim->stack, &head, (uintptr_t)node | kind));
    if (head == 0)
        sem_post(&reclaim->wake);
}

void reclaim_wake(struct reclaim *reclaim)
{
    if (!atomic_exchange(&reclaim->work_wanted, true))
        sem_post(&reclaim->wake);
}
