/* RCU (liburcu, QSBR) as this program uses it: a registered thread is a reader from rcu_online() to rcu_offline(), and says
 * with rcu_quiet() that it holds no pointer from before. liburcu is not compiled with TSan, which therefore cannot see that a
 * grace period orders what readers did before what the writer frees; the three annotations below say it. */
#pragma once

#include <urcu-qsbr.h>

#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#ifdef RCU_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define rcu_annotate_release(address) __tsan_release(address)
#define rcu_annotate_acquire(address) __tsan_acquire(address)
#else
#define rcu_annotate_release(address) ((void)(address))
#define rcu_annotate_acquire(address) ((void)(address))
#endif

/* What the annotations order by; never touched otherwise. */
extern char rcu_order;

/* The end of a turn: no pointer from before is held any more. */
static inline void rcu_quiet(void)
{
    rcu_annotate_release(&rcu_order);
    urcu_qsbr_quiescent_state();
    rcu_annotate_acquire(&rcu_order);
}

/* Around anything that may block. */
static inline void rcu_offline(void)
{
    rcu_annotate_release(&rcu_order);
    urcu_qsbr_thread_offline();
}

static inline void rcu_online(void)
{
    urcu_qsbr_thread_online();
    rcu_annotate_acquire(&rcu_order);
}

/* Waits until every reader that was online has been quiet once. Takes the caller offline meanwhile if it is a reader. */
static inline void rcu_synchronize(void)
{
    rcu_annotate_release(&rcu_order);
    urcu_qsbr_synchronize_rcu();
    rcu_annotate_acquire(&rcu_order);
}
