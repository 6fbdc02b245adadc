/* The semantic cache without HTTP: which stored answer may be given to a prompt that was never asked in these words.
 *
 * Level 0 (canonical prompts, ai/canonical.h) needs no index: the gateway keeps a small alias in its cache from the canonical fingerprint to
 * the exact one. Level 1 is here: vectors of earlier prompts, one bounded index a scope (a tenant, a user, everyone), and in it hard
 * partitions: prompts of two partitions never meet. A near vector is a hit only when the guards (ai/guards.h) agree too.
 *
 * Both levels are counted, shadowed and verified through the same report. Verdicts on hits move the threshold of an entry and of its scope up,
 * and back down, never below the configured one, so that a configured share of wrong answers is held.
 *
 * All functions may be called from any thread: a lock per shard of scopes, held for a search (docs/ai-semantic.md has times). */
#pragma once

#include "base/view.h"

struct semantic;

enum semantic_level { SEMANTIC_CANONICAL, SEMANTIC_EMBEDDING, SEMANTIC_LEVELS };

/* Longer keys and prompts are not kept. */
#define SEMANTIC_KEY_MAX 512
#define SEMANTIC_TEXT_MAX 4096

struct semantic_options {
    uint32_t entries_max;  /* a scope; 0: 10,000 */
    size_t bytes_max;      /* a scope, index and texts; 0: 32 MiB */
    uint32_t scopes_max;   /* 0: 256; the one longest unused makes way */
    float threshold;       /* similarity, 0.8 to 1; 0: 0.95 */
    double false_hit_rate; /* to be held, up to 0.5; 0: 0.01 */
};

struct semantic_query {
    uint8_t partition
        [16]; /* hash of all that must be equal: model, parameters, system prompt, earlier turns, embedding model, ... */
    struct view scope;   /* first part of every cache key; never crossed */
    struct view text;    /* the last user message */
    const float *vector; /* of length 1 */
    unsigned dims;
    float threshold;    /* the caller's; raises the configured one, never lowers it */
    int64_t expires_ms; /* of what is added: when its answer is too old (wall clock); 0: never */
};

struct semantic_match {
    enum semantic_level level;
    float similarity;
    uint64_t scope; /* hash */
    size_t key_len;
    char key[SEMANTIC_KEY_MAX]; /* exact key text of the stored answer */
};

static inline struct view semantic_key(const struct semantic_match *m)
{
    return view_make(m->key, m->key_len);
}

/* 0, -EINVAL (an option out of its range), -ENOMEM. */
int semantic_new(const struct semantic_options *options, struct semantic **ret);
void semantic_free(struct semantic *s);

/* Counts a lookup. 1 and *ret: this stored answer will do; 0: none will (*ret untouched). The caller says with semantic_count() what came
 * of it, and calls semantic_forget() when the answer is gone. */
int semantic_lookup(struct semantic *s, const struct semantic_query *query, struct semantic_match *ret);
/* Remembers that the answer to query->text is stored under `key`; one entry a key, the newer replaces. The oldest entries of the scope make
 * way. 0; -E2BIG (text or key too long, or more than the scope may hold), -EINVAL (not a unit vector, no scope), -ENOMEM. */
int semantic_add(struct semantic *s, const struct semantic_query *query, struct view key);
/* The answer under `key` is gone. `name` of its scope; empty: whichever it is in. True: there was an entry. */
bool semantic_forget(struct semantic *s, struct view name, struct view key);
/* Everything of a scope (a tenant leaves); an empty one: all. */
void semantic_forget_scope(struct semantic *s, struct view name);

/* ---- proving itself ---- */

enum semantic_event {
    SEMANTIC_LOOKUP, /* level 0 only: semantic_lookup() counts its own */
    SEMANTIC_HIT,    /* served */
    SEMANTIC_SHADOW, /* would have been served */
};

void semantic_count(struct semantic *s, enum semantic_level level, enum semantic_event event);
/* A verdict on a hit, from verification or shadow mode: was the stored answer right? Counted; teaches the entry and its scope (level 1). After
 * a wrong one of level 0 the caller drops its alias. */
void semantic_feedback(struct semantic *s, const struct semantic_match *match, bool correct);

struct semantic_report {
    struct {
        uint64_t lookups, hits, shadow_hits, verified, wrong;
        double false_hit_rate, low, high; /* estimated, with its 95 % interval; 0, 0, 1 when nothing was verified */
    } level[SEMANTIC_LEVELS];
    uint64_t refused_by_guards, refused_by_threshold; /* near enough for the configured threshold, but ... (level 1) */
    uint64_t evicted;
    uint32_t scopes, entries;
    size_t bytes;
};

void semantic_report(struct semantic *s, struct semantic_report *ret);

/* Do two answers to what should be the same question agree? Same numbers (those of the shorter answer all in the longer one), the same first
 * word when one of them begins with yes or no, the same count of negations in short answers, and word overlap (Dice) of at least one half.
 * Good enough to count doubtful hits, not to judge prose: errs towards "no" for short and towards "yes" for long answers. Pure. */
bool semantic_agree(struct view answer_a, struct view answer_b);

/* ---- keeping house; these take a while, but hold no lock for long ---- */

/* Forgets what has expired, and what `lives` says no answer is stored for; it is called without a lock. Returns how many went. */
unsigned semantic_sweep(struct semantic *s, int64_t now_ms, bool (*lives)(void *arg, struct view key), void *arg);
/* Counts up with every change. */
uint64_t semantic_changes(const struct semantic *s);

/* ---- across restarts; these block ---- */

/* Writes everything to `path` (mode 0600: it holds prompts), by way of path.new. `model`: of the vectors; text of at most 32 bytes.
 * 0 or -errno. */
int semantic_save(struct semantic *s, const char *path, const char *model);
/* Adds what `path` holds and has not expired. Returns the entries read, -errno (-ENOENT: none there; -EINVAL: not such a file, or of another
 * version; -ESTALE: of another model). Damaged records are left out and counted in *ret_bad, which is written on every return. */
int semantic_load(struct semantic *s, const char *path, const char *model, int64_t now_ms, uint32_t *ret_bad);
