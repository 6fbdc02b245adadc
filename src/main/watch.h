/* Says in the log what changes by itself while the node runs: the disk tier goes off or comes back, the shared store is left alone,
 * the breaker of an upstream's server or of an AI provider opens or closes. Modules below do not log; their state is looked at once a second. */
#pragma once

#include "http/server.h"

#define WATCH_SERVERS 256u /* changes of further upstream servers and providers are not logged; metrics have them all */

struct watch {
    struct server *server;
    struct task task;
    struct timer timer;
    bool disk_off, store_away;
    struct {
        uint64_t name; /* hash of what it is called; 0: free */
        bool open;
    } servers[WATCH_SERVERS];
};

/* On the thread of `loop`. */
void watch_start(struct watch *watch, struct server *server, struct loop *loop);
/* On that thread; harmless when it was not started. */
void watch_stop(struct watch *watch);
