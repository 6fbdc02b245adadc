/* Byte classes and the fast searches the HTTP/1 parsers share. Sixteen bytes at a time where SSE2 is there (every
 * x86-64), one at a time elsewhere; never a byte past `end`. Private to src/proto. */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    SCAN_TOKEN = 1,  /* tchar, RFC 9110 §5.6.2 */
    SCAN_VALUE = 2,  /* field-value bytes: HTAB, SP, VCHAR, obs-text (§5.5) */
    SCAN_TARGET = 4, /* request target: visible ASCII without '#', which never travels (RFC 9112 §3.2) */
    SCAN_HOST = 8,   /* unreserved (RFC 3986 §2.3) */
};

extern const uint8_t scan_class[256];

static inline bool scan_is(char c, unsigned class)
{
    return (scan_class[(unsigned char)c] & class) != 0;
}

static inline const char *scan_class_end(const char *at, const char *end, unsigned class)
{
    while (at < end && scan_is(*at, class))
        at++;
    return at;
}

/* The first byte that is not part of a token, or `end`. */
static inline const char *scan_token(const char *at, const char *end)
{
    return scan_class_end(at, end, SCAN_TOKEN);
}

/* The first byte that no field value may hold, or `end`. */
static inline const char *scan_value(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i last_control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
        __m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), control), _mm_cmpeq_epi8(bytes, del));
        unsigned hits = (unsigned)_mm_movemask_epi8(bad);

        if (hits)
            return at + __builtin_ctz(hits);
    }
#endif
    return scan_class_end(at, end, SCAN_VALUE);
}

/* The first byte that no request target may hold, or `end`. */
static inline const char *scan_target(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i space = _mm_set1_epi8(' '), hash = _mm_set1_epi8('#'), del = _mm_set1_epi8(0x7f);

    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, hash), _mm_cmpeq_epi8(bytes, del));
        /* Signed: bytes from 0x80 are negative and fail this as well. */
        __m128i good = _mm_andnot_si128(stop, _mm_cmpgt_epi8(bytes, space));
        unsigned hits = (unsigned)_mm_movemask_epi8(good) ^ 0xffffu;

        if (hits)
            return at + __builtin_ctz(hits);
    }
#endif
    return scan_class_end(at, end, SCAN_TARGET);
}
