/* Reads SRV records with their TTLs out of a DNS message (RFC 1035 §4.1, RFC 2782). Names are expanded by c-ares, which bounds
 * compression pointers; every other byte is looked at here. */
#include "net/dns.h"

#include <ares.h>
#include <errno.h>

#define TTL_MIN_MS 1000u
#define TTL_MAX_MS 300000u
#define TYPE_SRV 33u
#define CLASS_IN 1u
#define RECORDS_MAX 512u

struct reader {
    struct view message;
    size_t at;
};

static unsigned get16(const struct reader *r, size_t at)
{
    return (unsigned)(unsigned char)r->message.ptr[at] << 8 | (unsigned char)r->message.ptr[at + 1];
}

static bool has(const struct reader *r, size_t bytes)
{
    return r->message.len - r->at >= bytes;
}

/* Steps over the name at `at`; with `to` (254 bytes) copies it. */
static bool take_name(struct reader *r, char *to)
{
    const unsigned char *message = (const unsigned char *)r->message.ptr;
    char *name;
    long used;
    bool fits;

    if (!has(r, 1) || ares_expand_name(message + r->at, message, (int)r->message.len, &name, &used) != ARES_SUCCESS)
        return false;
    fits = strlen(name) < 254;
    if (to && fits)
        memcpy(to, name, strlen(name) + 1);
    ares_free_string(name);
    r->at += (size_t)used;
    return fits && r->at <= r->message.len;
}

static bool take_questions(struct reader *r, unsigned count)
{
    for (; count; count--) {
        if (!take_name(r, NULL) || !has(r, 4))
            return false;
        r->at += 4;
    }
    return true;
}

/* One record; an SRV one goes to ret. */
static bool take_record(struct reader *r, struct dns_srv *ret)
{
    struct dns_srv_target target;
    struct reader data;
    unsigned type, class, len;
    uint64_t ttl_ms;

    if (!take_name(r, NULL) || !has(r, 10))
        return false;
    type = get16(r, r->at);
    class = get16(r, r->at + 2);
    ttl_ms = ((uint64_t)get16(r, r->at + 4) << 16 | get16(r, r->at + 6)) * 1000;
    len = get16(r, r->at + 8);
    r->at += 10;
    if (!has(r, len))
        return false;
    data = *r;
    r->at += len;
    if (type != TYPE_SRV || class != CLASS_IN)
        return true;
    if (len < 7)
        return false;
    target.priority = (uint16_t)get16(&data, data.at);
    target.weight = (uint16_t)get16(&data, data.at + 2);
    target.port = (uint16_t)get16(&data, data.at + 4);
    data.at += 6;
    if (!take_name(&data, target.host) || data.at > r->at)
        return false;
    ret->ttl_ms = MIN(ret->ttl_ms, ttl_ms);
    /* "." means that there is decidedly no such service. */
    if (target.host[0] && target.port && ret->count < DNS_SRV_MAX)
        ret->targets[ret->count++] = target;
    return true;
}

int dns_srv_parse(struct view message, struct dns_srv *ret)
{
    struct reader r = { .message = message, .at = 12 };
    unsigned answers;

    ret->count = 0;
    ret->ttl_ms = TTL_MAX_MS;
    if (message.len < 12 || message.len > 65535)
        return -EBADMSG;
    answers = get16(&r, 6);
    if (answers > RECORDS_MAX || !take_questions(&r, get16(&r, 4)))
        return -EBADMSG;
    for (; answers; answers--)
        if (!take_record(&r, ret))
            return -EBADMSG;
    ret->ttl_ms = MAX(ret->ttl_ms, (uint64_t)TTL_MIN_MS);
    return 0;
}
