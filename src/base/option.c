/* The little that users of an options struct share. Everything else about options is in conf/. */
#include "base/option.h"

static bool range_holds(const struct option_cidr *range, const uint8_t address[16])
{
    unsigned whole = MIN(range->bits, 128u) / 8;
    unsigned rest = MIN(range->bits, 128u) % 8;
    unsigned mask = rest ? 0xffu << (8 - rest) & 0xffu : 0;

    if (memcmp(range->address, address, whole) != 0)
        return false;
    return rest == 0 || ((range->address[whole] ^ address[whole]) & mask) == 0;
}

bool option_cidrs_match(const struct option_cidrs *ranges, const uint8_t address[16])
{
    for (size_t i = 0; i < ranges->count; i++)
        if (range_holds(&ranges->items[i], address))
            return true;
    return false;
}
