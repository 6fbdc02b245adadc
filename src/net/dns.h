/* Names to addresses, asynchronously, per loop (c-ares): A and AAAA, /etc/hosts, literal addresses. Answers are kept for
 * their TTL (1 s to 5 min), failures for 1 s; while a name is asked again the old addresses stay in use. */
#pragma once

#include "net/address.h"

#include "loop/loop.h"

#define DNS_ADDRESSES_MAX 8

struct dns_answer {
    unsigned count; /* >= 1 */
    struct address list[DNS_ADDRESSES_MAX];
};

struct dns_entry;

/* A place in the wait list of a name; embedded in the asker. Zero it before first use. */
struct dns_waiter {
    struct node link;
    struct dns_entry *entry; /* NULL: not waiting */
    struct task *task;
};

/* Asks for `name` (no brackets, no port). 0: *ret is filled. -EAGAIN: waiter->task will be woken; ask again then. -ENOENT: no
 * such name or no address. -ETIMEDOUT: no name server answered. -EINVAL: not a name. -EBUSY: too many names in
 * flight. -ENOMEM. -EIO: name server failure. A waiter that is already waiting may ask again at any time. */
int dns_lookup(struct loop *loop, struct view name, uint16_t port, struct dns_waiter *waiter, struct dns_answer *ret);
/* Forgets the waiter; harmless when it does not wait. Call before its memory goes. */
void dns_cancel(struct dns_waiter *waiter);

/* Asks these name servers ("192.0.2.1,[2001:db8::1]:5353") instead of the system's, from now on. 0, -EINVAL, -ENOMEM. */
int dns_use_servers(struct loop *loop, const char *servers);

/* Frees the loop's resolver; before loop_free(). Nobody may be waiting. */
void dns_loop_close(struct loop *loop);
