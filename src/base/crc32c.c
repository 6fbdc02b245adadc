/* Eight bytes per instruction where the processor has one for it, a table otherwise. The choice is made once. */
#include "base/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t step_bits(uint32_t crc)
{
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
    return crc;
}

static uint32_t by_table(uint32_t crc, const unsigned char *at, size_t len)
{
    static uint32_t table[256];
    static atomic_bool made;

    /* Two threads may both make it: they write the same values. */
    if (!atomic_load_explicit(&made, memory_order_acquire)) {
        for (uint32_t i = 0; i < 256; i++)
            __atomic_store_n(&table[i], step_bits(i), __ATOMIC_RELAXED);
        atomic_store_explicit(&made, true, memory_order_release);
    }
    while (len--)
        crc = __atomic_load_n(&table[(crc ^ *at++) & 0xff], __ATOMIC_RELAXED) ^ crc >> 8;
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *at, size_t len)
{
    uint64_t wide = crc, word;

    for (; len >= sizeof(word); at += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    while (len--)
        crc = _mm_crc32_u8(crc, *at++);
    return crc;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}
#else
static uint32_t by_instruction(uint32_t crc, const unsigned char *at, size_t len)
{
    return by_table(crc, at, len);
}

static bool has_instruction(void)
{
    return false;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t len)
{
    return ~(has_instruction() ? by_instruction(~crc, bytes, len) : by_table(~crc, bytes, len));
}
