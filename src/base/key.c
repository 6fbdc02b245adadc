#include "base/key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct key key_of(struct view text)
{
    XXH128_hash_t h = XXH3_128bits(text.ptr, text.len);

    return (struct key){ .hash = { h.low64, h.high64 }, .text = text };
}

uint64_t hash64(struct view v)
{
    return XXH3_64bits(v.ptr, v.len);
}
