/* The vector index and embedding by themselves: how long a search takes, how often it finds the true nearest, bytes for an entry.
 *
 *   vectors [entries] [dims] [queries]
 *
 * Three sets of data: directions at random (the hardest: all are equally far), and directions that share a large common part and vary in few
 * dimensions (as those of real models do). Queries are copies with noise (cosine about 0.95), asked with a limit of 0.8 and of none, and
 * directions of their own. Truth is an exhaustive search in floats; what is within 0.001 of the limit is left out, since eight bits cannot tell. */
#include "ai/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct set {
    unsigned dims, entries, queries;
    float *rows, *asked;
    uint32_t *nearest;
    float *nearest_similarity;
};

static uint64_t state = 88172645463325252u;

static float uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)(state >> 40) / 16777216.0f;
}

static float normal(void)
{
    return sqrtf(-2 * logf(uniform() + 1e-9f)) * cosf(6.2831853f * uniform());
}

/* Time of this thread: others on the machine are not measured. */
static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void unify(float *x, unsigned dims)
{
    float square = 0;

    for (unsigned i = 0; i < dims; i++)
        square += x[i] * x[i];
    square = 1 / sqrtf(square);
    for (unsigned i = 0; i < dims; i++)
        x[i] *= square;
}

/* `shared`: how strong the part is that all have in common; dimensions further back vary less. */
static void direction(float *x, unsigned dims, float shared)
{
    for (unsigned i = 0; i < dims; i++)
        x[i] = shared > 0 ? normal() / (1 + (float)i / 16) + shared * (i % 7 == 0) : normal();
    unify(x, dims);
}

static void make(struct set *set, float shared, bool copies)
{
    float noise = sqrtf(1 / (0.95f * 0.95f) - 1) / sqrtf((float)set->dims);

    state = 88172645463325252u;
    for (unsigned i = 0; i < set->entries; i++)
        direction(set->rows + (size_t)i * set->dims, set->dims, shared);
    for (unsigned i = 0; i < set->queries; i++) {
        float *x = set->asked + (size_t)i * set->dims;

        direction(x, set->dims, shared);
        if (!copies)
            continue;
        memcpy(x, set->rows + (size_t)(i * 7919u % set->entries) * set->dims, set->dims * sizeof(*x));
        for (unsigned d = 0; d < set->dims; d++)
            x[d] += noise * normal();
        unify(x, set->dims);
    }
}

static void find_truth(struct set *set)
{
    for (unsigned i = 0; i < set->queries; i++) {
        const float *x = set->asked + (size_t)i * set->dims;

        set->nearest_similarity[i] = -2;
        for (unsigned e = 0; e < set->entries; e++) {
            const float *row = set->rows + (size_t)e * set->dims;
            float sum[8] = { 0 }, dot = 0;

            for (unsigned d = 0; d + 8 <= set->dims; d += 8)
                for (unsigned k = 0; k < 8; k++)
                    sum[k] += x[d + k] * row[d + k];
            for (unsigned k = 0; k < 8; k++)
                dot += sum[k];
            if (dot > set->nearest_similarity[i]) {
                set->nearest_similarity[i] = dot;
                set->nearest[i] = e;
            }
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void measure(struct vectors *v, const struct set *set, float limit, const char *name)
{
    uint64_t *took = calloc(set->queries, sizeof(*took));
    unsigned right = 0, due = 0;
    double error = 0;

    if (!took)
        return;
    for (unsigned i = 0; i < set->queries; i++) {
        struct vectors_hit hit = { UINT64_MAX, 0 };
        uint64_t start = now_ns();
        unsigned found = vectors_search(v, set->asked + (size_t)i * set->dims, 7, limit, &hit, 1);

        took[i] = now_ns() - start;
        due += set->nearest_similarity[i] >= limit + 0.001f;
        if (found && hit.id == set->nearest[i] && set->nearest_similarity[i] >= limit + 0.001f) {
            right++;
            error = fmax(error, fabs((double)hit.similarity - (double)set->nearest_similarity[i]));
        }
    }
    qsort(took, set->queries, sizeof(*took), compare);
    printf("%-9s %-34s limit %5.2f  p50 %7.1f us  p99 %7.1f us  recall@1 %.4f  error <= %.5f\n", vectors_kernel(), name,
           (double)limit, (double)took[set->queries / 2] / 1e3, (double)took[set->queries * 99 / 100] / 1e3,
           due ? (double)right / due : 1.0, error);
    free(took);
}

static void run(struct set *set, float shared, bool copies, const char *name)
{
    static const char *const kernels[] = { "avx512", "avx2", "ssse3", "portable" };
    struct vectors *v;
    uint64_t start;

    make(set, shared, copies);
    find_truth(set);
    if (vectors_new(set->dims, set->entries, &v) < 0)
        return;
    start = now_ns();
    for (unsigned i = 0; i < set->entries; i++)
        if (vectors_add(v, set->rows + (size_t)i * set->dims, 7, i) < 0)
            return;
    printf("%s: %u entries of %u dimensions, %.1f bytes each, added in %.2f us each\n", name, vectors_count(v),
           set->dims, (double)vectors_bytes(v) / set->entries, (double)(now_ns() - start) / 1e3 / set->entries);
    for (unsigned k = 0; k < 4; k++) {
        if (!vectors_use_kernel(kernels[k]))
            continue;
        measure(v, set, 0.95f, name);
        measure(v, set, 0.8f, name);
        measure(v, set, -1, name);
    }
    vectors_use_kernel(NULL);
    vectors_free(v);
}

int main(int argc, char **argv)
{
    struct set set = { .dims = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 256,
                       .entries = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100000,
                       .queries = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 300 };

    if (set.dims < 8 || set.entries == 0 || set.queries == 0)
        return 2;
    set.rows = calloc((size_t)set.entries * set.dims, sizeof(float));
    set.asked = calloc((size_t)set.queries * set.dims, sizeof(float));
    set.nearest = calloc(set.queries, sizeof(uint32_t));
    set.nearest_similarity = calloc(set.queries, sizeof(float));
    if (!set.rows || !set.asked || !set.nearest || !set.nearest_similarity)
        return 1;
    run(&set, 0, true, "random, noisy copies");
    run(&set, 0, false, "random, strangers");
    run(&set, 0.3f, true, "shared part, noisy copies");
    run(&set, 0.3f, false, "shared part, strangers");
    return 0;
}
