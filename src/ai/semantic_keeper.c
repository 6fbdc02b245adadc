/* The semantic index's housekeeper. Each round it forgets prompts whose answers have expired, were purged or evicted, and writes the index
 * when it has changed, so that a node that is killed loses seconds of it. Rounds are as far apart as they are long times a hundred.
 *
 * An answer that only the disk has is read when a purge came since the last round, for only then can it be known whether it was meant; a bounded
 * number of them a round. Where there is a shared store, an answer that is not here may be there: its prompt waits for its expiry. */
#include "ai/semantic_keeper.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/rcu.h"

#include <errno.h>
#include <pthread.h>

#define PAUSE_MS 1000u
#define PAUSE_MAX_MS 60000u
#define SHARE 100u /* of the time that is not spent here */
#define READS_MAX 500u

struct semantic_keeper {
    struct semantic_keeper_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ending;      /* under the lock */
    uint64_t changes; /* when it was last written */
    uint64_t purges;  /* marks that all entries have been compared with */
    bool purged;      /* this round: there were new ones */
    unsigned reads;   /* of the disk, this round */
    bool in_trouble;  /* said so */
};

/* Is this object of the memory tier an answer that may still be given? The caller holds no reference: within one turn. */
static bool is_good(const struct semantic_keeper *keeper, struct object *object)
{
    return marks_check(keeper->options.marks, object) != MARKS_HARD;
}

static bool is_on_disk(struct semantic_keeper *keeper, const struct key *key)
{
    struct disk *disk = keeper->options.disk;
    struct entry_key at = entry_key_primary(key);
    struct object *object;
    bool good;

    if (!disk || !disk_has(disk, at))
        return false;
    if (!keeper->purged || keeper->reads >= READS_MAX)
        return true;
    keeper->reads++;
    rcu_offline();
    good = disk_get_blocking(disk, at, key, &object) == 0;
    rcu_online();
    if (!good)
        return false;
    good = is_good(keeper, object);
    object_unref(object);
    return good;
}

static bool lives(void *arg, struct view text)
{
    struct semantic_keeper *keeper = arg;
    struct key key = key_of(text);
    const struct memory_entry *entry = memory_find(keeper->options.memory, &key);
    struct memory_variants variants = entry ? memory_variants(entry) : (struct memory_variants){ 0 };
    bool good;

    if (variants.count)
        good = is_good(keeper, memory_variant(variants, 0));
    else
        good = is_on_disk(keeper, &key) || keeper->options.shared;
    rcu_quiet();
    return good;
}

static void sweep(struct semantic_keeper *keeper)
{
    uint64_t purges = marks_position(keeper->options.marks);
    struct disk_stats stats = { .on = true };

    if (keeper->options.disk)
        disk_stats(keeper->options.disk, &stats);
    if (!stats.on)
        return; /* what it has is there again when it is */
    keeper->purged = purges != keeper->purges;
    keeper->reads = 0;
    rcu_online();
    (void)semantic_sweep(keeper->options.semantic, clock_wall_ms(), lives, keeper);
    rcu_offline();
    if (keeper->reads < READS_MAX)
        keeper->purges = purges;
}

static void save(struct semantic_keeper *keeper)
{
    uint64_t changes = semantic_changes(keeper->options.semantic);
    int r;

    if (!keeper->options.path || changes == keeper->changes)
        return;
    r = semantic_save(keeper->options.semantic, keeper->options.path, keeper->options.model);
    if (r == 0)
        keeper->changes = changes;
    if (r < 0 && !keeper->in_trouble)
        log_warn("ai: %s was not written: %s", keeper->options.path, strerrordesc_np(-r));
    keeper->in_trouble = r < 0;
}

/* True: it is time for another round. */
static bool wait_for(struct semantic_keeper *keeper, uint64_t ms)
{
    struct timespec until;
    bool ending;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    CHECK(pthread_mutex_lock(&keeper->lock) == 0);
    while (!keeper->ending && pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until) == 0)
        ;
    ending = keeper->ending;
    CHECK(pthread_mutex_unlock(&keeper->lock) == 0);
    return !ending;
}

static void *keeper_main(void *arg)
{
    struct semantic_keeper *keeper = arg;
    uint64_t pause = keeper->options.pause_ms;

    (void)pthread_setname_np(pthread_self(), "semantic");
    urcu_qsbr_register_thread();
    rcu_offline();
    while (wait_for(keeper, pause)) {
        uint64_t since = clock_mono_ms();

        sweep(keeper);
        save(keeper);
        pause = MIN(MAX((clock_mono_ms() - since) * SHARE, (uint64_t)keeper->options.pause_ms), (uint64_t)PAUSE_MAX_MS);
    }
    urcu_qsbr_unregister_thread();
    return NULL;
}

int semantic_keeper_new(const struct semantic_keeper_options *options, struct semantic_keeper **ret)
{
    struct semantic_keeper *keeper = heap_zalloc(sizeof(*keeper));
    pthread_condattr_t attributes;
    int r;

    if (!keeper)
        return -ENOMEM;
    keeper->options = *options;
    keeper->options.pause_ms = options->pause_ms ? options->pause_ms : PAUSE_MS;
    keeper->changes = semantic_changes(options->semantic);
    keeper->purges = UINT64_MAX; /* what was loaded may have been purged while it was not here */
    CHECK(pthread_mutex_init(&keeper->lock, NULL) == 0 && pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&keeper->wake, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes);
    r = -pthread_create(&keeper->thread, NULL, keeper_main, keeper);
    if (r < 0) {
        (void)pthread_cond_destroy(&keeper->wake);
        (void)pthread_mutex_destroy(&keeper->lock);
        heap_free(keeper);
        return r;
    }
    *ret = keeper;
    return 0;
}

void semantic_keeper_free(struct semantic_keeper *keeper)
{
    if (!keeper)
        return;
    CHECK(pthread_mutex_lock(&keeper->lock) == 0);
    keeper->ending = true;
    CHECK(pthread_cond_signal(&keeper->wake) == 0);
    CHECK(pthread_mutex_unlock(&keeper->lock) == 0);
    CHECK(pthread_join(keeper->thread, NULL) == 0);
    save(keeper);
    (void)pthread_cond_destroy(&keeper->wake);
    (void)pthread_mutex_destroy(&keeper->lock);
    heap_free(keeper);
}
