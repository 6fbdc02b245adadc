/* Which server a request goes to, and what is learned from how it ended there. Internal to src/upstream; the calls are made on
 * the pool's loop. */
#pragma once

#include "upstream/pool.h"

struct choice {
    unsigned server;
    struct breaker_ticket ticket;
    uint64_t since_ms;    /* when its connection was there or asked for */
    uint64_t answered_ms; /* when its head came; 0: not yet */
    bool held;            /* counts as in flight at the server */
    bool reported;        /* the breaker knows how it ended */
};

struct choose_ask {
    uint32_t tried;  /* bit i: server i has failed this request */
    uint64_t key;    /* for hashing */
    bool replayable; /* others are better not used as a probe */
};

/* Chooses among the servers that may be asked now: breaker closed or due for a probe, not found unhealthy, not tried; those
 * with a free connection first. 0, or -ENOENT when there is none. */
int choose_server(struct pool *pool, const struct choose_ask *ask, struct choice *ret);
/* Would choose_server() find one? */
bool choose_possible(struct pool *pool, uint32_t tried);
/* This server once more, for a retry there. 0, or -ENOENT when it may not be asked. */
int choose_same(struct pool *pool, unsigned server, struct choice *ret);
/* The chosen server may not be asked any more: do not wait for it. */
bool choose_is_void(struct pool *pool, const struct choice *choice);

/* Milliseconds until its answer began, or until now. */
uint64_t choice_took(const struct choice *choice, uint64_t now_ms);

/* Tells the breaker, once; later calls do nothing. */
void choose_report(struct pool *pool, struct choice *choice, enum breaker_outcome outcome);
/* The request has left the server (reported as NOTHING if nobody said more). */
void choose_end(struct pool *pool, struct choice *choice);
