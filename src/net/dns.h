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

/* ---- SRV records (RFC 2782) ---- */

#define DNS_SRV_MAX 32

enum dns_srv_state { DNS_SRV_IDLE, DNS_SRV_ASKED, DNS_SRV_DONE };

struct dns_srv_target {
    char host[254]; /* NUL-terminated */
    uint16_t port, priority, weight;
};

/* A question, embedded in the asker. Zero it and set `task` before first use. */
struct dns_srv {
    enum dns_srv_state state;
    struct task *task;
    struct dns_srv_query *query; /* in flight */
    /* DONE: */
    int error;       /* 0, or as dns_lookup() says it; the rest is valid with 0 only */
    uint64_t ttl_ms; /* 1 s to 5 min */
    unsigned count;  /* 0: "decidedly not available" */
    struct dns_srv_target targets[DNS_SRV_MAX];
};

/* Asks; nothing is kept here. 0: `task` is woken when the state is DONE. -EINVAL, -ENOMEM. Not while ASKED. */
int dns_srv_ask(struct loop *loop, struct view name, struct dns_srv *srv);
/* Forgets the question. Call before its memory goes. */
void dns_srv_cancel(struct dns_srv *srv);
/* The answer section of a DNS message (foreign bytes) into ret->targets, count and ttl_ms. 0 or -EBADMSG. For dns.c and tests. */
int dns_srv_parse(struct view message, struct dns_srv *ret);

/* Asks these name servers ("192.0.2.1,[2001:db8::1]:5353") instead of the system's, from now on. 0, -EINVAL, -ENOMEM. */
int dns_use_servers(struct loop *loop, const char *servers);

/* Frees the loop's resolver; before loop_free(). Nobody may be waiting. */
void dns_loop_close(struct loop *loop);
