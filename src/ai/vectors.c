/* The vector index: entries in slots 0..count-1, in blocks of 256; the last one moves into the slot of one that is removed.
 *
 * An entry is a row (the rotated vector in int8, scaled by its own largest value, with its length kept) and a code (the sign of each dimension),
 * which stands with those of 31 others so that one shuffle scores them together. A search sums up, for every code, the query's weight
 * where signs agree: that is an estimate of the cosine with a known error (0.6 / sqrt(dims) standard deviation: RaBitQ's analysis). What is
 * below the asked similarity by five deviations is not looked at; of the rest the best are multiplied out, the query in 12 bits.
 *
 * Invariants: a slot's id is in the map and nowhere else; codes of a slot >= count are noise and masked out. */
#include "ai/vectors.h"

#include "ai/vectors_kernel.h"
#include "ai/vectors_rotate.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>

#define BLOCK 256u
#define BLOCK_GROUPS (BLOCK / VECTORS_GROUP)
#define LINE 64u /* bytes of a cache line */
#define KEEP 2048u
#define BUCKETS 4096u
#define QUERY_MAX 4095.0f /* 4095 * 127 * VECTORS_DIMS_MAX is below 2^31 */
#define AHEAD 12u         /* rows asked of memory before they are needed */

struct block {
    void *memory;
    int8_t *rows;
    uint8_t *codes;
    uint64_t *ids;
    uint32_t *partitions;
    float *scales; /* 1 / length of the row */
};

struct candidate {
    uint32_t slot, score;
};

/* What a search works with, one for each thread: searches do not disturb each other, and a small index stays small. */
struct scratch {
    float turned[VECTORS_DIMS_MAX];
    int16_t query[VECTORS_DIMS_MAX];
    uint8_t table[VECTORS_DIMS_MAX / 4 * 16];
    struct candidate candidates[2 * KEEP];
    uint16_t buckets[BUCKETS];
    uint32_t found;
    uint32_t threshold;
    float query_scale; /* 1 / length of the query */
};

struct vectors {
    unsigned dims, stride, positions;
    uint32_t count, max;
    struct block *blocks;
    uint32_t block_count, block_cap;
    uint32_t *map; /* slot + 1; 0: free. Linear probing */
    uint32_t map_cap;
    int8_t *row; /* scratch for adding: stride bytes */
};

static _Thread_local struct scratch scratch;

static uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

int vectors_new(unsigned dims, uint32_t max, struct vectors **ret)
{
    struct vectors *v;

    if (dims < VECTORS_DIMS_MIN || dims > VECTORS_DIMS_MAX)
        return -EINVAL;
    v = heap_zalloc(sizeof(*v));
    if (!v)
        return -ENOMEM;
    v->dims = dims;
    v->stride = round_up(dims, 32);
    v->positions = round_up(dims, 64) / 4;
    v->max = MIN(max, UINT32_MAX / 4);
    v->row = heap_zalloc(v->stride);
    if (!v->row) {
        vectors_free(v);
        return -ENOMEM;
    }
    *ret = v;
    return 0;
}

void vectors_free(struct vectors *v)
{
    if (!v)
        return;
    for (uint32_t i = 0; i < v->block_count; i++)
        heap_free(v->blocks[i].memory);
    heap_free(v->blocks);
    heap_free(v->map);
    heap_free(v->row);
    heap_free(v);
}

/* ---- slots ---- */

static struct block *block_of(const struct vectors *v, uint32_t slot)
{
    return &v->blocks[slot / BLOCK];
}

static int8_t *row_of(const struct vectors *v, uint32_t slot)
{
    return block_of(v, slot)->rows + (size_t)(slot % BLOCK) * v->stride;
}

static uint64_t *id_of(const struct vectors *v, uint32_t slot)
{
    return &block_of(v, slot)->ids[slot % BLOCK];
}

static uint8_t *group_of(const struct vectors *v, uint32_t slot)
{
    return block_of(v, slot)->codes + (size_t)(slot % BLOCK / VECTORS_GROUP) * v->positions * 16;
}

static int add_block(struct vectors *v)
{
    size_t rows = (size_t)BLOCK * v->stride, codes = (size_t)BLOCK_GROUPS * v->positions * 16;
    struct block block;
    char *at;

    if (v->block_count == v->block_cap) {
        uint32_t cap = MAX(8u, v->block_cap * 2);
        struct block *more = heap_resize(v->blocks, cap * sizeof(*more));

        if (!more)
            return -ENOMEM;
        v->blocks = more;
        v->block_cap = cap;
    }
    block.memory = heap_alloc(rows + codes + BLOCK * (sizeof(uint64_t) + sizeof(uint32_t) + sizeof(float)) + LINE);
    if (!block.memory)
        return -ENOMEM;
    at = (char *)block.memory + (LINE - (uintptr_t)block.memory % LINE) % LINE;
    block.rows = (int8_t *)at;
    block.codes = (uint8_t *)(at + rows);
    block.ids = (uint64_t *)(void *)(at + rows + codes);
    block.partitions = (uint32_t *)(void *)(block.ids + BLOCK);
    block.scales = (float *)(void *)(block.partitions + BLOCK);
    memset(block.codes, 0, codes);
    v->blocks[v->block_count++] = block;
    return 0;
}

/* Signs of `row` into the code of `slot`; zero counts as positive. */
static void write_code(struct vectors *v, uint32_t slot, const int8_t *row)
{
    uint8_t *byte = group_of(v, slot) + slot % 16;
    unsigned shift = slot % VECTORS_GROUP < 16 ? 0 : 4;

    for (unsigned i = 0; i < v->dims; i += 4, byte += 16) {
        unsigned nibble = 0;

        for (unsigned bit = 0; bit < 4 && i + bit < v->dims; bit++)
            nibble |= (unsigned)(row[i + bit] >= 0) << bit;
        *byte = (uint8_t)((*byte & ~(15u << shift)) | nibble << shift);
    }
}

static void write_slot(struct vectors *v, uint32_t slot, const int8_t *row, uint32_t partition, uint64_t id,
                       float scale)
{
    memcpy(row_of(v, slot), row, v->stride);
    write_code(v, slot, row);
    *id_of(v, slot) = id;
    block_of(v, slot)->partitions[slot % BLOCK] = partition;
    block_of(v, slot)->scales[slot % BLOCK] = scale;
}

/* ---- id -> slot ---- */

static uint32_t map_home(const struct vectors *v, uint64_t id)
{
    id = (id ^ (id >> 32)) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(id >> 32) & (v->map_cap - 1);
}

/* The place of `id`, or the free one where it would go. */
static uint32_t map_find(const struct vectors *v, uint64_t id)
{
    uint32_t at = map_home(v, id);

    while (v->map[at] && *id_of(v, v->map[at] - 1) != id)
        at = (at + 1) & (v->map_cap - 1);
    return at;
}

static int map_grow(struct vectors *v)
{
    uint32_t cap = MAX(64u, v->map_cap * 2), *old = v->map, *map;

    if (v->map && v->count < v->map_cap - v->map_cap / 8)
        return 0;
    map = heap_zalloc(cap * sizeof(*map));
    if (!map)
        return -ENOMEM;
    v->map = map;
    v->map_cap = cap;
    for (uint32_t slot = 0; slot < v->count; slot++)
        map[map_find(v, *id_of(v, slot))] = slot + 1;
    heap_free(old);
    return 0;
}

/* Closes the gap: what stands behind and belongs before it moves up. */
static void map_remove(struct vectors *v, uint32_t gap)
{
    uint32_t mask = v->map_cap - 1, at = gap;

    for (;;) {
        at = (at + 1) & mask;
        if (!v->map[at])
            break;
        if (((at - map_home(v, *id_of(v, v->map[at] - 1))) & mask) < ((at - gap) & mask))
            continue;
        v->map[gap] = v->map[at];
        gap = at;
    }
    v->map[gap] = 0;
}

/* ---- adding and removing ---- */

static int insert(struct vectors *v, const int8_t *row, uint32_t partition, uint64_t id)
{
    uint64_t square = 0;
    uint32_t at;

    for (unsigned i = 0; i < v->dims; i++)
        square += (uint64_t)(row[i] * row[i]);
    if (square == 0)
        return -EINVAL;
    if (vectors_has(v, id))
        return -EEXIST;
    if (v->count >= v->max)
        return -ENOSPC;
    if (v->count == v->block_count * BLOCK && add_block(v) < 0)
        return -ENOMEM;
    if (map_grow(v) < 0)
        return -ENOMEM;
    at = map_find(v, id);
    write_slot(v, v->count, row, partition, id, 1.0f / sqrtf((float)square));
    v->map[at] = ++v->count;
    return 0;
}

/* Copies, turns and measures: the largest magnitude, or 0 when there is no direction in it. */
static float turn(const struct vectors *v, const float *unit, float *turned)
{
    float most = 0, square = 0;

    memcpy(turned, unit, v->dims * sizeof(*turned));
    vectors_rotate(turned, v->dims);
    for (unsigned i = 0; i < v->dims; i++) {
        square += turned[i] * turned[i];
        most = fmaxf(most, fabsf(turned[i]));
    }
    return isfinite(square) && square > 1e-12f ? most : 0;
}

int vectors_add(struct vectors *v, const float *unit, uint32_t partition, uint64_t id)
{
    float *turned = scratch.turned, most = turn(v, unit, turned);

    if (most <= 0)
        return -EINVAL;
    for (unsigned i = 0; i < v->dims; i++)
        v->row[i] = (int8_t)lrintf(turned[i] * (127.0f / most));
    return insert(v, v->row, partition, id);
}

int vectors_restore(struct vectors *v, const int8_t *row, uint32_t partition, uint64_t id)
{
    memcpy(v->row, row, v->dims);
    return insert(v, v->row, partition, id);
}

bool vectors_remove(struct vectors *v, uint64_t id)
{
    uint32_t at, slot, last = v->count - 1;

    if (!vectors_has(v, id))
        return false;
    at = map_find(v, id);
    slot = v->map[at] - 1;
    map_remove(v, at);
    if (slot != last) {
        struct block *from = block_of(v, last);

        v->map[map_find(v, *id_of(v, last))] = slot + 1;
        write_slot(v, slot, row_of(v, last), from->partitions[last % BLOCK], *id_of(v, last),
                   from->scales[last % BLOCK]);
    }
    v->count--;
    /* One empty block stays, so that adding and removing at its edge does not go to the heap each time. */
    if (v->block_count > (v->count + BLOCK - 1) / BLOCK + 1)
        heap_free(v->blocks[--v->block_count].memory);
    return true;
}

bool vectors_has(const struct vectors *v, uint64_t id)
{
    return v->count && v->map[map_find(v, id)];
}

/* ---- searching ---- */

/* The query in 12 bits. False: it has no direction. */
static bool prepare(const struct vectors *v, const float *unit)
{
    struct scratch *s = &scratch;
    float most = turn(v, unit, s->turned), square = 0;

    if (most <= 0)
        return false;
    memset(s->query, 0, v->stride * sizeof(*s->query));
    for (unsigned i = 0; i < v->dims; i++) {
        s->query[i] = (int16_t)lrintf(s->turned[i] * (QUERY_MAX / most));
        square += (float)(s->query[i] * s->query[i]);
    }
    s->query_scale = 1.0f / sqrtf(square);
    return true;
}

/* For each nibble position, the query's weight where a nibble has its signs. Returns the factor from weight to table units. */
static float fill_table(struct scratch *s, unsigned dims, unsigned positions)
{
    float most = 0, factor;

    for (unsigned i = 0; i < dims; i += 4) {
        float sum = 0;

        for (unsigned bit = 0; bit < 4 && i + bit < dims; bit++)
            sum += fabsf(s->turned[i + bit]);
        most = fmaxf(most, sum);
    }
    factor = (float)VECTORS_TABLE_MAX / most;
    memset(s->table, 0, (size_t)positions * 16);
    for (unsigned i = 0; i < dims; i += 4) {
        for (unsigned nibble = 0; nibble < 16; nibble++) {
            float sum = 0;

            for (unsigned bit = 0; bit < 4 && i + bit < dims; bit++)
                if ((s->turned[i + bit] >= 0) == (nibble >> bit & 1))
                    sum += fabsf(s->turned[i + bit]);
            s->table[i * 4 + nibble] = (uint8_t)lrintf(sum * factor);
        }
    }
    return factor;
}

/* The score that an entry of this similarity has at the very least. For unit x with signs s and a query q, <q, s> / sqrt(dims) is
 * 0.798 cos on average and 0.603 / sqrt(dims) off; a score is half of (<q, s> + the sum of |q|). */
static uint32_t score_floor(const struct vectors *v, float min_similarity, float factor)
{
    float root = sqrtf((float)v->dims), weight = 0, square = 0, product, slack;

    for (unsigned i = 0; i < v->dims; i++) {
        weight += fabsf(scratch.turned[i]);
        square += scratch.turned[i] * scratch.turned[i];
    }
    product = sqrtf(square) * (0.798f * min_similarity * root - 5 * 0.603f);
    slack = 5 * 0.29f * sqrtf((float)v->positions); /* rounding of the table */
    return (uint32_t)fmaxf(factor * (product + weight) / 2 - slack, 0);
}

/* Keeps the best KEEP of the candidates, in their order, and raises the threshold to what is worth adding. */
static void shrink(const struct vectors *v)
{
    struct scratch *s = &scratch;
    uint32_t shift = 0, bucket = BUCKETS - 1, above = 0, left, kept = 0;

    while ((v->positions * VECTORS_TABLE_MAX) >> shift >= BUCKETS)
        shift++;
    memset(s->buckets, 0, sizeof(s->buckets));
    for (uint32_t i = 0; i < s->found; i++)
        s->buckets[s->candidates[i].score >> shift]++;
    while (above + s->buckets[bucket] < KEEP)
        above += s->buckets[bucket--];
    left = KEEP - above; /* of the bucket at the edge, so many stay */
    for (uint32_t i = 0; i < s->found; i++) {
        struct candidate candidate = s->candidates[i];
        uint32_t in = candidate.score >> shift;

        if (in < bucket || (in == bucket && left == 0))
            continue;
        left -= in == bucket;
        s->candidates[kept++] = candidate;
    }
    s->found = kept;
    s->threshold = MAX(s->threshold, (bucket + 1) << shift);
}

/* Entries of one group that may be near. */
static void collect_group(const struct vectors *v, const struct vectors_kernel *kernel, uint32_t first,
                          uint32_t partition)
{
    struct scratch *s = &scratch;
    const uint32_t *partitions = block_of(v, first)->partitions + first % BLOCK;
    uint16_t scores[VECTORS_GROUP];
    uint32_t mask;

    if (s->threshold > UINT16_MAX)
        return;
    mask = kernel->score(group_of(v, first), s->table, v->positions, (uint16_t)s->threshold, scores);
    if (v->count - first < VECTORS_GROUP)
        mask &= (1u << (v->count - first)) - 1;
    for (; mask; mask &= mask - 1) {
        uint32_t j = (uint32_t)__builtin_ctz(mask);

        if (partitions[j] != partition)
            continue;
        if (s->found == 2 * KEEP)
            shrink(v);
        s->candidates[s->found++] = (struct candidate){ first + j, scores[j] };
    }
}

static void collect(const struct vectors *v, const struct vectors_kernel *kernel, uint32_t partition,
                    float min_similarity)
{
    struct scratch *s = &scratch;

    s->found = 0;
    if (v->count <= KEEP) {
        for (uint32_t slot = 0; slot < v->count; slot++)
            if (block_of(v, slot)->partitions[slot % BLOCK] == partition)
                s->candidates[s->found++].slot = slot;
        return;
    }
    s->threshold = score_floor(v, min_similarity, fill_table(s, v->dims, v->positions));
    for (uint32_t first = 0; first < v->count; first += VECTORS_GROUP)
        collect_group(v, kernel, first, partition);
}

static unsigned insert_hit(struct vectors_hit *hits, unsigned count, unsigned max, struct vectors_hit hit)
{
    unsigned at = count < max ? count : max - 1;

    if (count == max && hits[at].similarity >= hit.similarity)
        return count;
    for (; at > 0 && hits[at - 1].similarity < hit.similarity; at--)
        hits[at] = hits[at - 1];
    hits[at] = hit;
    return MIN(count + 1, max);
}

static void prefetch(const int8_t *row, unsigned len)
{
    for (unsigned at = 0; at < len; at += LINE)
        __builtin_prefetch(row + at);
}

unsigned vectors_search(const struct vectors *v, const float *unit, uint32_t partition, float min_similarity,
                        struct vectors_hit *hits, unsigned max)
{
    const struct vectors_kernel *kernel = vectors_kernel_get();
    struct scratch *s = &scratch;
    unsigned count = 0;

    if (v->count == 0 || max == 0 || !prepare(v, unit))
        return 0;
    collect(v, kernel, partition, min_similarity);
    for (uint32_t i = 0; i < MIN(s->found, AHEAD); i++)
        prefetch(row_of(v, s->candidates[i].slot), v->stride);
    for (uint32_t i = 0; i < s->found; i++) {
        uint32_t slot = s->candidates[i].slot;
        int32_t dot;
        float similarity;

        if (i + AHEAD < s->found)
            prefetch(row_of(v, s->candidates[i + AHEAD].slot), v->stride);
        dot = kernel->dot(row_of(v, slot), s->query, v->stride);
        similarity = (float)dot * s->query_scale * block_of(v, slot)->scales[slot % BLOCK];
        similarity = fminf(fmaxf(similarity, -1), 1);
        if (similarity >= min_similarity)
            count = insert_hit(hits, count, max, (struct vectors_hit){ *id_of(v, slot), similarity });
    }
    return count;
}

/* ---- what is in ---- */

uint32_t vectors_count(const struct vectors *v)
{
    return v->count;
}

unsigned vectors_dims(const struct vectors *v)
{
    return v->dims;
}

size_t vectors_bytes(const struct vectors *v)
{
    size_t block = (size_t)BLOCK * v->stride + (size_t)BLOCK_GROUPS * v->positions * 16 +
                   BLOCK * (sizeof(uint64_t) + sizeof(uint32_t) + sizeof(float)) + LINE;

    return heap_cost(sizeof(*v)) + heap_cost(v->stride) + v->block_count * heap_cost(block) +
           (v->blocks ? heap_cost(v->block_cap * sizeof(*v->blocks)) : 0) +
           (v->map ? heap_cost(v->map_cap * sizeof(*v->map)) : 0);
}

bool vectors_save(const struct vectors *v, uint64_t id, int8_t *row)
{
    if (!vectors_has(v, id))
        return false;
    memcpy(row, row_of(v, v->map[map_find(v, id)] - 1), v->dims);
    return true;
}

void vectors_each(const struct vectors *v, bool (*visit)(uint64_t id, uint32_t partition, const int8_t *row, void *arg),
                  void *arg)
{
    for (uint32_t slot = 0; slot < v->count; slot++)
        if (!visit(*id_of(v, slot), block_of(v, slot)->partitions[slot % BLOCK], row_of(v, slot), arg))
            return;
}
