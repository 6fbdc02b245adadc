/* First: its headers use `unused` as an attribute name, which base/compiler.h makes a macro. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/key.h"

struct key key_of(struct view text)
{
    XXH128_hash_t h = XXH3_128bits(text.ptr, text.len);

    return (struct key){ .hash = { h.low64, h.high64 }, .text = text };
}

uint64_t hash64(struct view v)
{
    return XXH3_64bits(v.ptr, v.len);
}
