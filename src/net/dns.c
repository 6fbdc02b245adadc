/* Names by c-ares, one channel per loop, made on the first question that needs it.
 *
 * Objects: an entry per name (hash table, plus a ring by last use that bounds their number); waiters hang on an entry
 * while its query runs. The resolver owns the entries; waiters belong to their askers.
 *
 * c-ares tells which descriptors it wants watched. The loop's readiness is edge-triggered and its callback may not
 * touch the channel, so readiness is noted in the dns_sock and the resolver's task does the work. c-ares may close
 * any of its sockets inside ares_process_fd(): the ring is searched from its start after each call.
 *
 * Invariant: an entry with waiters has a query in flight. */
#include "net/dns.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/key.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>

#define BUCKETS 256u
#define ENTRIES_MAX 1024u
#define SOCKS_MAX 64u
#define NAME_MAX_LEN 253u
#define TTL_MIN_MS 1000u
#define TTL_MAX_MS 300000u
#define FAILURE_TTL_MS 1000u
/* Addresses older than this wait for the new answer; younger ones are used while it comes. */
#define STALE_AT_ONCE_MS 60000u
/* What a dead name server may cost before old addresses are given up (RFC 8767 §5 suggests 1 to 3 days). */
#define STALE_MAX_MS 86400000u
#define READS_PER_TURN 64

struct dns_entry {
    struct node lru;
    struct dns_entry *next; /* in its bucket */
    struct node waiters;
    struct dns_resolver *resolver;
    uint64_t expires_ms;  /* of what is known; 0: nothing is */
    uint64_t answered_ms; /* when `answer` came */
    int error;            /* 0: `answer` holds */
    bool in_flight;
    struct dns_answer answer; /* count == 0: never had one */
    char name[];              /* NUL-terminated, lower case */
};

struct dns_sock {
    struct node link;
    struct io io;
    struct dns_resolver *resolver;
    unsigned pending; /* IO_ flags not yet handed to c-ares */
};

struct dns_resolver {
    struct loop *loop;
    ares_channel channel;
    struct task task;
    struct timer timer;
    struct node socks, lru;
    unsigned sock_count, entry_count;
    bool closing;
    struct dns_entry *buckets[BUCKETS];
};

/* ---- sockets of c-ares ---- */

static void dns_sock_ready(struct io *io, unsigned events)
{
    struct dns_sock *s = CONTAINER_OF(io, struct dns_sock, io);

    s->pending |= events;
    task_wake(&s->resolver->task);
}

static struct dns_sock *find_sock(struct dns_resolver *d, int fd)
{
    LIST_EACH (it, &d->socks) {
        struct dns_sock *s = CONTAINER_OF(it, struct dns_sock, link);

        if (s->io.fd == fd)
            return s;
    }
    return NULL;
}

static void watch(struct dns_resolver *d, int fd)
{
    struct dns_sock *s;

    /* Unwatched sockets only mean that their query times out. */
    if (d->sock_count >= SOCKS_MAX)
        return;
    s = heap_zalloc(sizeof(*s));
    if (!s)
        return;
    s->io = (struct io){ .fd = fd, .ready = dns_sock_ready };
    s->resolver = d;
    if (loop_io_add(d->loop, &s->io) < 0) {
        heap_free(s);
        return;
    }
    list_push(&d->socks, &s->link);
    d->sock_count++;
}

static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct dns_resolver *d = arg;
    struct dns_sock *s = find_sock(d, fd);

    if (!readable && !writable) {
        if (!s)
            return;
        loop_io_remove(d->loop, &s->io);
        list_remove(&s->link);
        d->sock_count--;
        heap_free(s);
    } else if (!s) {
        watch(d, fd);
    } else if (writable) {
        /* It may have been writable all along, then no edge will come. */
        s->pending |= IO_WRITE;
        task_wake(&d->task);
    }
}

static void rearm(struct dns_resolver *d)
{
    struct timeval tv;

    if (ares_timeout(d->channel, NULL, &tv))
        timer_set(&d->timer, (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1);
    else
        timer_clear(&d->timer);
}

static struct dns_sock *next_pending(struct dns_resolver *d)
{
    LIST_EACH (it, &d->socks) {
        struct dns_sock *s = CONTAINER_OF(it, struct dns_sock, link);

        if (s->pending)
            return s;
    }
    return NULL;
}

static void resolver_run(struct task *task)
{
    struct dns_resolver *d = CONTAINER_OF(task, struct dns_resolver, task);
    struct dns_sock *s;
    char peek;

    for (int i = 0; i < READS_PER_TURN && (s = next_pending(d)); i++) {
        int fd = s->io.fd;
        unsigned events = s->pending;

        s->pending = 0;
        ares_process_fd(d->channel, events & (IO_READ | IO_HANGUP | IO_ERROR) ? fd : ARES_SOCKET_BAD,
                        events & IO_WRITE ? fd : ARES_SOCKET_BAD);
        /* Over TCP c-ares reads once per call; an edge-triggered loop must be sure that nothing is left. */
        s = find_sock(d, fd);
        if (s && recv(fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
            s->pending |= IO_READ;
    }
    if (next_pending(d))
        task_wake(&d->task);
    if (d->timer.fired)
        ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm(d);
}

/* ---- the resolver ---- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_error;

static void library_start(void)
{
    library_error = ares_library_init(ARES_LIB_INIT_ALL);
}

static int resolver_get(struct loop *loop, struct dns_resolver **ret)
{
    void **slot = loop_slot(loop, LOOP_SLOT_DNS);
    struct ares_options options = { .timeout = 1500, .tries = 3 };
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    struct dns_resolver *d = *slot;

    if (!d) {
        pthread_once(&library_once, library_start);
        if (library_error != ARES_SUCCESS)
            return -ENOMEM;
        d = heap_zalloc(sizeof(*d));
        if (!d)
            return -ENOMEM;
        d->loop = loop;
        list_init(&d->socks);
        list_init(&d->lru);
        task_init(&d->task, loop, resolver_run);
        timer_init(&d->timer, &d->task);
        options.sock_state_cb = on_sock_state;
        options.sock_state_cb_data = d;
        if (ares_init_options(&d->channel, &options, mask) != ARES_SUCCESS) {
            heap_free(d);
            return -ENOMEM;
        }
        *slot = d;
    }
    *ret = d;
    return 0;
}

static struct dns_entry **bucket_of(struct dns_resolver *d, struct view name)
{
    return &d->buckets[hash64(name) % BUCKETS];
}

static void entry_drop(struct dns_entry *e)
{
    struct dns_entry **at = bucket_of(e->resolver, view_str(e->name));

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    list_remove(&e->lru);
    e->resolver->entry_count--;
    heap_free(e);
}

/* Makes room for one more name; the least recently asked gives way. */
static bool make_room(struct dns_resolver *d)
{
    if (d->entry_count < ENTRIES_MAX)
        return true;
    LIST_EACH (it, &d->lru) {
        struct dns_entry *e = CONTAINER_OF(it, struct dns_entry, lru);

        if (!e->in_flight) {
            entry_drop(e);
            return true;
        }
    }
    return false;
}

static int entry_get(struct dns_resolver *d, struct view name, struct dns_entry **ret)
{
    struct dns_entry **bucket = bucket_of(d, name), *e;

    for (e = *bucket; e; e = e->next) {
        if (view_eq(view_str(e->name), name)) {
            list_remove(&e->lru);
            list_push(&d->lru, &e->lru);
            *ret = e;
            return 0;
        }
    }
    if (!make_room(d))
        return -EBUSY;
    e = heap_zalloc(sizeof(*e) + name.len + 1);
    if (!e)
        return -ENOMEM;
    memcpy(e->name, name.ptr, name.len);
    list_init(&e->waiters);
    e->resolver = d;
    e->next = *bucket;
    *bucket = e;
    list_push(&d->lru, &e->lru);
    d->entry_count++;
    *ret = e;
    return 0;
}

/* ---- answers ---- */

static int status_to_errno(int status)
{
    switch (status) {
    case ARES_SUCCESS: return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME: return -ENOENT;
    case ARES_ETIMEOUT: return -ETIMEDOUT;
    case ARES_ENOMEM: return -ENOMEM;
    default: return -EIO;
    }
}

/* Copies the addresses; returns the shortest TTL in milliseconds, in our bounds. */
static uint64_t take_addresses(const struct ares_addrinfo *info, struct dns_answer *answer)
{
    uint64_t ttl_ms = TTL_MAX_MS;

    answer->count = 0;
    for (const struct ares_addrinfo_node *n = info->nodes; n && answer->count < DNS_ADDRESSES_MAX; n = n->ai_next) {
        struct address *a = &answer->list[answer->count];

        if ((n->ai_family != AF_INET && n->ai_family != AF_INET6) || n->ai_addrlen > sizeof(a->is))
            continue;
        memset(a, 0, sizeof(*a));
        memcpy(&a->is, n->ai_addr, n->ai_addrlen);
        a->len = n->ai_addrlen;
        answer->count++;
        ttl_ms = MIN(ttl_ms, (uint64_t)MAX(n->ai_ttl, 0) * 1000);
    }
    return MAX(ttl_ms, TTL_MIN_MS);
}

static void wake_waiters(struct dns_entry *e)
{
    struct node *link;

    while ((link = list_pop(&e->waiters))) {
        struct dns_waiter *w = CONTAINER_OF(link, struct dns_waiter, link);

        w->entry = NULL;
        task_wake(w->task);
    }
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct dns_entry *e = arg;
    struct dns_answer answer = { .count = 0 };
    uint64_t now = loop_now_ms(e->resolver->loop), ttl_ms = FAILURE_TTL_MS;
    int r = status_to_errno(status);

    (void)timeouts;
    if (info) {
        ttl_ms = take_addresses(info, &answer);
        ares_freeaddrinfo(info);
    }
    e->in_flight = false;
    if (e->resolver->closing)
        return;
    if (r == 0 && answer.count == 0)
        r = -ENOENT;
    if (r == 0) {
        e->answer = answer;
        e->answered_ms = now;
        e->error = 0;
    } else if (r == -ENOENT) {
        e->answer.count = 0;
        e->error = r;
        ttl_ms = FAILURE_TTL_MS;
    } else {
        /* The name servers failed, which says nothing about the name: old addresses beat none. */
        e->error = e->answer.count && now - e->answered_ms < STALE_MAX_MS ? 0 : r;
        ttl_ms = FAILURE_TTL_MS;
    }
    e->expires_ms = now + ttl_ms;
    wake_waiters(e);
}

static void ask(struct dns_entry *e)
{
    struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };

    e->in_flight = true;
    ares_getaddrinfo(e->resolver->channel, e->name, NULL, &hints, on_answer, e);
    rearm(e->resolver);
}

static int give(const struct dns_entry *e, uint16_t port, struct dns_answer *ret)
{
    if (e->error)
        return e->error;
    *ret = e->answer;
    for (unsigned i = 0; i < ret->count; i++)
        address_set_port(&ret->list[i], port);
    return 0;
}

/* ---- the questions ---- */

static bool name_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* Lower case, without the final dot. */
static int normalise(struct view name, char *memory, struct view *ret)
{
    if (name.len && name.ptr[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len > NAME_MAX_LEN)
        return -EINVAL;
    for (size_t i = 0; i < name.len; i++) {
        memory[i] = ascii_lower(name.ptr[i]);
        if (!name_char_ok(memory[i]))
            return -EINVAL;
    }
    *ret = view_make(memory, name.len);
    return 0;
}

static void await(struct dns_waiter *waiter, struct dns_entry *e)
{
    if (waiter->entry == e)
        return;
    dns_cancel(waiter);
    waiter->entry = e;
    list_init(&waiter->link);
    list_push(&e->waiters, &waiter->link);
}

int dns_lookup(struct loop *loop, struct view name, uint16_t port, struct dns_waiter *waiter, struct dns_answer *ret)
{
    char memory[NAME_MAX_LEN];
    struct dns_resolver *d;
    struct dns_entry *e;
    uint64_t now = loop_now_ms(loop);
    int r;

    if (address_parse_ip(name, port, &ret->list[0]) == 0) {
        ret->count = 1;
        return 0;
    }
    r = normalise(name, memory, &name);
    if (r < 0)
        return r;
    r = resolver_get(loop, &d);
    if (r < 0)
        return r;
    r = entry_get(d, name, &e);
    if (r < 0)
        return r;
    if (e->expires_ms <= now && !e->in_flight)
        ask(e);
    if (e->in_flight && !(e->answer.count && now < e->expires_ms + STALE_AT_ONCE_MS)) {
        await(waiter, e);
        return -EAGAIN;
    }
    dns_cancel(waiter);
    return give(e, port, ret);
}

void dns_cancel(struct dns_waiter *waiter)
{
    if (!waiter->entry)
        return;
    list_remove(&waiter->link);
    waiter->entry = NULL;
}

/* ---- SRV ---- */

/* Outlives its question when that is cancelled: c-ares has no way to take one query back. */
struct dns_srv_query {
    struct dns_srv *srv; /* NULL: cancelled */
    struct dns_resolver *resolver;
};

static void on_srv(void *arg, int status, int timeouts, unsigned char *message, int len)
{
    struct dns_srv_query *query = arg;
    struct dns_srv *srv = query->srv;
    bool closing = query->resolver->closing;

    (void)timeouts;
    heap_free(query);
    if (!srv)
        return;
    srv->query = NULL;
    srv->error = status_to_errno(status);
    if (srv->error == 0)
        srv->error = dns_srv_parse(view_make((const char *)message, (size_t)MAX(len, 0)), srv) < 0 ? -EIO : 0;
    srv->state = DNS_SRV_DONE;
    if (!closing)
        task_wake(srv->task);
}

int dns_srv_ask(struct loop *loop, struct view name, struct dns_srv *srv)
{
    char memory[NAME_MAX_LEN + 1];
    struct dns_srv_query *query;
    struct dns_resolver *d;
    int r = normalise(name, memory, &name);

    if (r < 0)
        return r;
    memory[name.len] = '\0';
    r = resolver_get(loop, &d);
    if (r < 0)
        return r;
    query = heap_zalloc(sizeof(*query));
    if (!query)
        return -ENOMEM;
    *query = (struct dns_srv_query){ .srv = srv, .resolver = d };
    srv->query = query;
    srv->state = DNS_SRV_ASKED;
    ares_query(d->channel, memory, 1 /* IN */, 33 /* SRV */, on_srv, query);
    rearm(d);
    return 0;
}

void dns_srv_cancel(struct dns_srv *srv)
{
    if (srv->query)
        srv->query->srv = NULL;
    srv->query = NULL;
    srv->state = DNS_SRV_IDLE;
}

int dns_use_servers(struct loop *loop, const char *servers)
{
    struct dns_resolver *d;
    int r = resolver_get(loop, &d);

    if (r < 0)
        return r;
    return ares_set_servers_ports_csv(d->channel, servers) == ARES_SUCCESS ? 0 : -EINVAL;
}

void dns_loop_close(struct loop *loop)
{
    void **slot = loop_slot(loop, LOOP_SLOT_DNS);
    struct dns_resolver *d = *slot;

    if (!d)
        return;
    d->closing = true;
    ares_destroy(d->channel);
    CHECK(list_empty(&d->socks));
    while (!list_empty(&d->lru)) {
        struct dns_entry *e = CONTAINER_OF(d->lru.next, struct dns_entry, lru);

        CHECK(list_empty(&e->waiters));
        entry_drop(e);
    }
    timer_clear(&d->timer);
    task_cancel(&d->task);
    heap_free(d);
    *slot = NULL;
}
