/* An index of unit vectors for the semantic cache: int8 rows, and one bit for each dimension in front of them that says quickly which
 * rows are worth a look. Every vector is turned by one fixed random rotation first, so that the bits of any model tell angles well.
 *
 * Not thread-safe: the owner locks. Searches change nothing and may go on together. Memory grows and shrinks in blocks of 256 entries. */
#pragma once

#include "base/view.h"

struct vectors;

#define VECTORS_DIMS_MIN 8
#define VECTORS_DIMS_MAX 4096
/* Revision of the row form (rotation and quantisation): what was saved under another one is dropped. */
#define VECTORS_FORM 1

struct vectors_hit {
    uint64_t id;
    float similarity; /* cosine, -1..1; its error is below 0.002 at 256 dimensions */
};

/* 0, -EINVAL (dims), -ENOMEM. `max`: entries it may hold. */
int vectors_new(unsigned dims, uint32_t max, struct vectors **ret);
void vectors_free(struct vectors *v);

/* Adds `dims` floats of length about 1 under `id`, which is not in yet. `partition` is whatever must be equal for two entries to
 * be comparable at all, hashed; since it has 32 bits only, the caller checks in full what it finds.
 * 0, -EEXIST, -EINVAL (a zero or not finite vector), -ENOSPC (`max` are in), -ENOMEM. */
int vectors_add(struct vectors *v, const float *unit, uint32_t partition, uint64_t id);
/* O(1). False: there was none. */
bool vectors_remove(struct vectors *v, uint64_t id);
bool vectors_has(const struct vectors *v, uint64_t id);
/* The entries of `partition` at least this similar, best first, at most `max`. Returns their number; 0 too for a vector that is no
 * vector. The higher `min_similarity`, the faster and the surer: near neighbours are always found; of what is not really near (-1: anything
 * goes) the bits may miss a few in a hundred. Up to 2,048 entries it is exact. */
unsigned vectors_search(const struct vectors *v, const float *unit, uint32_t partition, float min_similarity,
                        struct vectors_hit *hits, unsigned max);

uint32_t vectors_count(const struct vectors *v);
unsigned vectors_dims(const struct vectors *v);
/* Heap memory held. */
size_t vectors_bytes(const struct vectors *v);

/* ---- keeping entries with their objects ---- */

/* Copies the row of `id` (dims bytes) to `row`. False: not in. */
bool vectors_save(const struct vectors *v, uint64_t id, int8_t *row);
/* Adds an entry from a saved row. As vectors_add(); -EINVAL when the row is all zeros. */
int vectors_restore(struct vectors *v, const int8_t *row, uint32_t partition, uint64_t id);
/* Visits all entries in no order; `row` is dims bytes, valid during the call, in which the index must not change. False from `visit` stops. */
void vectors_each(const struct vectors *v, bool (*visit)(uint64_t id, uint32_t partition, const int8_t *row, void *arg),
                  void *arg);

/* The kernels chosen for this machine: "avx512", "avx2", "ssse3" or "portable". */
const char *vectors_kernel(void);
/* For tests and benches: use this one from now on, in the whole process. False: unknown, or not on this machine. */
bool vectors_use_kernel(const char *name);
