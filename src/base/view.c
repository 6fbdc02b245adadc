/* The view helpers too long to inline. */
#include "base/view.h"

bool view_parse_u64(struct view digits, uint64_t *ret)
{
    uint64_t value = 0;
    bool overflowed = false;

    if (digits.len == 0)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        uint64_t digit = (uint64_t)(unsigned char)digits.ptr[i] - '0';

        if (digit > 9)
            return false;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit, &value)) {
            value = UINT64_MAX;
            overflowed = true;
        }
    }
    *ret = overflowed ? UINT64_MAX : value;
    return true;
}

int view_compare(struct view a, struct view b)
{
    size_t common = MIN(a.len, b.len);
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

bool view_eq_secret(struct view sent, struct view secret)
{
    size_t difference = sent.len ^ secret.len;

    if (secret.len == 0)
        return false;
    for (size_t i = 0; i < sent.len; i++)
        difference |= (size_t)(unsigned char)(sent.ptr[i] ^ secret.ptr[i % secret.len]);
    return difference == 0;
}
