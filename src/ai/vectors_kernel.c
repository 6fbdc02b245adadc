/* The inner loops of the vector index. Scoring looks up 16 nibbles at once in a 16-byte table with a byte shuffle, which SSSE3, AVX2
 * and AVX-512 have in three widths; a wider register takes several nibble positions, each with its own table, and adds them up at the end.
 * Machines without (and architectures that we cannot test here) run the portable loops.
 *
 * Bytes are summed in two 16-bit accumulators: one adds the pairs as they are (even + 256 * odd, modulo 2^16), the other the odd bytes alone. */
#include "ai/vectors_kernel.h"

#include "ai/vectors.h"

#include <stdatomic.h>

static uint32_t score_portable(const uint8_t *codes, const uint8_t *table, unsigned positions, uint16_t threshold,
                               uint16_t *scores)
{
    uint32_t mask = 0;

    memset(scores, 0, VECTORS_GROUP * sizeof(*scores));
    for (unsigned p = 0; p < positions; p++, codes += 16, table += 16) {
        for (unsigned j = 0; j < 16; j++) {
            scores[j] = (uint16_t)(scores[j] + table[codes[j] & 15]);
            scores[j + 16] = (uint16_t)(scores[j + 16] + table[codes[j] >> 4]);
        }
    }
    for (unsigned j = 0; j < VECTORS_GROUP; j++)
        mask |= (uint32_t)(scores[j] >= threshold) << j;
    return mask;
}

static int32_t dot_portable(const int8_t *row, const int16_t *query, unsigned len)
{
    int32_t sum = 0;

    for (unsigned i = 0; i < len; i++)
        sum += row[i] * query[i];
    return sum;
}

static const struct vectors_kernel portable = { "portable", score_portable, dot_portable };

#ifdef __x86_64__
#include <immintrin.h>

/* 16 scores in order from the two accumulators. */
static inline uint32_t finish(__m128i pairs, __m128i odd, uint16_t threshold, uint16_t *scores)
{
    __m128i even = _mm_sub_epi16(pairs, _mm_slli_epi16(odd, 8));
    __m128i first = _mm_unpacklo_epi16(even, odd), second = _mm_unpackhi_epi16(even, odd);
    __m128i limit = _mm_set1_epi16((short)threshold), zero = _mm_setzero_si128();

    _mm_storeu_si128((__m128i *)(void *)scores, first);
    _mm_storeu_si128((__m128i *)(void *)(scores + 8), second);
    first = _mm_cmpeq_epi16(_mm_subs_epu16(limit, first), zero);
    second = _mm_cmpeq_epi16(_mm_subs_epu16(limit, second), zero);
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(first, second));
}

static inline __m128i load128(const void *from)
{
    return _mm_loadu_si128((const __m128i *)from);
}

__attribute__((target("ssse3"))) static uint32_t score_ssse3(const uint8_t *codes, const uint8_t *table,
                                                             unsigned positions, uint16_t threshold, uint16_t *scores)
{
    __m128i low_pairs = _mm_setzero_si128(), low_odd = low_pairs, high_pairs = low_pairs, high_odd = low_pairs;
    const __m128i nibble = _mm_set1_epi8(15);

    for (unsigned p = 0; p < positions; p += 4) {
        __m128i low = _mm_setzero_si128(), high = low;

        for (unsigned i = 0; i < 4; i++, codes += 16, table += 16) {
            __m128i code = load128(codes), worth = load128(table);

            low = _mm_add_epi8(low, _mm_shuffle_epi8(worth, _mm_and_si128(code, nibble)));
            high = _mm_add_epi8(high, _mm_shuffle_epi8(worth, _mm_and_si128(_mm_srli_epi16(code, 4), nibble)));
        }
        low_pairs = _mm_add_epi16(low_pairs, low);
        low_odd = _mm_add_epi16(low_odd, _mm_srli_epi16(low, 8));
        high_pairs = _mm_add_epi16(high_pairs, high);
        high_odd = _mm_add_epi16(high_odd, _mm_srli_epi16(high, 8));
    }
    return finish(low_pairs, low_odd, threshold, scores) | finish(high_pairs, high_odd, threshold, scores + 16) << 16;
}

__attribute__((target("ssse3"))) static int32_t dot_ssse3(const int8_t *row, const int16_t *query, unsigned len)
{
    __m128i sum = _mm_setzero_si128();

    for (unsigned i = 0; i < len; i += 16) {
        __m128i bytes = load128(row + i), sign = _mm_cmpgt_epi8(_mm_setzero_si128(), bytes);

        sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_unpacklo_epi8(bytes, sign), load128(query + i)));
        sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_unpackhi_epi8(bytes, sign), load128(query + i + 8)));
    }
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

__attribute__((target("avx2"))) static inline __m128i fold256(__m256i v)
{
    return _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

__attribute__((target("avx2"))) static uint32_t score_avx2(const uint8_t *codes, const uint8_t *table,
                                                           unsigned positions, uint16_t threshold, uint16_t *scores)
{
    __m256i low_pairs = _mm256_setzero_si256(), low_odd = low_pairs, high_pairs = low_pairs, high_odd = low_pairs;
    const __m256i nibble = _mm256_set1_epi8(15);

    for (unsigned p = 0; p < positions; p += 8) {
        __m256i low = _mm256_setzero_si256(), high = low;

        for (unsigned i = 0; i < 4; i++, codes += 32, table += 32) {
            __m256i code = _mm256_loadu_si256((const __m256i *)(const void *)codes);
            __m256i worth = _mm256_loadu_si256((const __m256i *)(const void *)table);

            low = _mm256_add_epi8(low, _mm256_shuffle_epi8(worth, _mm256_and_si256(code, nibble)));
            code = _mm256_and_si256(_mm256_srli_epi16(code, 4), nibble);
            high = _mm256_add_epi8(high, _mm256_shuffle_epi8(worth, code));
        }
        low_pairs = _mm256_add_epi16(low_pairs, low);
        low_odd = _mm256_add_epi16(low_odd, _mm256_srli_epi16(low, 8));
        high_pairs = _mm256_add_epi16(high_pairs, high);
        high_odd = _mm256_add_epi16(high_odd, _mm256_srli_epi16(high, 8));
    }
    return finish(fold256(low_pairs), fold256(low_odd), threshold, scores) |
           finish(fold256(high_pairs), fold256(high_odd), threshold, scores + 16) << 16;
}

__attribute__((target("avx2"))) static int32_t dot_avx2(const int8_t *row, const int16_t *query, unsigned len)
{
    __m256i first = _mm256_setzero_si256(), second = first;
    __m128i sum;

    for (unsigned i = 0; i < len; i += 32) {
        __m256i a = _mm256_cvtepi8_epi16(load128(row + i)), b = _mm256_cvtepi8_epi16(load128(row + i + 16));

        a = _mm256_madd_epi16(a, _mm256_loadu_si256((const __m256i *)(const void *)(query + i)));
        b = _mm256_madd_epi16(b, _mm256_loadu_si256((const __m256i *)(const void *)(query + i + 16)));
        first = _mm256_add_epi32(first, a);
        second = _mm256_add_epi32(second, b);
    }
    first = _mm256_add_epi32(first, second);
    sum = _mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
}

#define AVX512 "avx512f,avx512bw,avx512vl,avx2"

__attribute__((target(AVX512))) static inline __m128i fold512(__m512i v)
{
    __m256i half = _mm256_add_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

    return _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

__attribute__((target(AVX512))) static uint32_t score_avx512(const uint8_t *codes, const uint8_t *table,
                                                             unsigned positions, uint16_t threshold, uint16_t *scores)
{
    __m512i low_pairs = _mm512_setzero_si512(), low_odd = low_pairs, high_pairs = low_pairs, high_odd = low_pairs;
    const __m512i nibble = _mm512_set1_epi8(15);

    for (unsigned p = 0; p < positions; p += 16) {
        __m512i low = _mm512_setzero_si512(), high = low;

        for (unsigned i = 0; i < 4; i++, codes += 64, table += 64) {
            __m512i code = _mm512_loadu_si512(codes), worth = _mm512_loadu_si512(table);

            low = _mm512_add_epi8(low, _mm512_shuffle_epi8(worth, _mm512_and_si512(code, nibble)));
            code = _mm512_and_si512(_mm512_srli_epi16(code, 4), nibble);
            high = _mm512_add_epi8(high, _mm512_shuffle_epi8(worth, code));
        }
        low_pairs = _mm512_add_epi16(low_pairs, low);
        low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16(low, 8));
        high_pairs = _mm512_add_epi16(high_pairs, high);
        high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16(high, 8));
    }
    return finish(fold512(low_pairs), fold512(low_odd), threshold, scores) |
           finish(fold512(high_pairs), fold512(high_odd), threshold, scores + 16) << 16;
}

static const struct vectors_kernel ssse3 = { "ssse3", score_ssse3, dot_ssse3 };
static const struct vectors_kernel avx2 = { "avx2", score_avx2, dot_avx2 };
/* The product waits for memory, not for the registers: 256 bits do. */
static const struct vectors_kernel avx512 = { "avx512", score_avx512, dot_avx2 };
#endif

static const struct vectors_kernel *find(const char *name)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if ((!name || strcmp(name, "avx512") == 0) && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2"))
        return &avx512;
    if ((!name || strcmp(name, "avx2") == 0) && __builtin_cpu_supports("avx2"))
        return &avx2;
    if ((!name || strcmp(name, "ssse3") == 0) && __builtin_cpu_supports("ssse3"))
        return &ssse3;
#endif
    return !name || strcmp(name, "portable") == 0 ? &portable : NULL;
}

static _Atomic(const struct vectors_kernel *) chosen;

const struct vectors_kernel *vectors_kernel_get(void)
{
    const struct vectors_kernel *kernel = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (unlikely(!kernel)) {
        kernel = find(NULL);
        atomic_store_explicit(&chosen, kernel, memory_order_relaxed);
    }
    return kernel;
}

const char *vectors_kernel(void)
{
    return vectors_kernel_get()->name;
}

bool vectors_use_kernel(const char *name)
{
    const struct vectors_kernel *kernel = find(name);

    if (kernel)
        atomic_store_explicit(&chosen, kernel, memory_order_relaxed);
    return kernel != NULL;
}
