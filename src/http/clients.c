/* Connections per client address on one loop: a chained hash table that exists only where a limit is configured. */
#include "http/conn.h"

#include "base/heap.h"

#include <errno.h>

#define BUCKETS 1024

struct client {
    struct client *next;
    uint8_t address[16];
    uint64_t connections;
};

struct client_count {
    struct client *buckets[BUCKETS];
};

static struct client **find(struct client_count *clients, const uint8_t address[16])
{
    struct client **at = &clients->buckets[hash64(view_make((const char *)address, 16)) % BUCKETS];

    while (*at && memcmp((*at)->address, address, 16) != 0)
        at = &(*at)->next;
    return at;
}

int clients_add(struct http_loop *hl, const uint8_t address[16], uint64_t limit)
{
    struct client **at;

    if (limit == 0)
        return 0;
    if (!hl->clients && !(hl->clients = heap_zalloc(sizeof(*hl->clients))))
        return -ENOMEM;
    at = find(hl->clients, address);
    if (!*at) {
        *at = heap_zalloc(sizeof(**at));
        if (!*at)
            return -ENOMEM;
        memcpy((*at)->address, address, 16);
    }
    if ((*at)->connections >= limit)
        return -EUSERS;
    (*at)->connections++;
    return 0;
}

void clients_remove(struct http_loop *hl, const uint8_t address[16])
{
    struct client **at = hl->clients ? find(hl->clients, address) : NULL, *gone;

    if (!at || !*at || --(*at)->connections > 0)
        return;
    gone = *at;
    *at = gone->next;
    heap_free(gone);
}
