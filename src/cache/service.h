/* A service answers the requests of its routes itself, in place of the cache: it gets each request whole and gives an answer piece by
 * piece. The interface between the HTTP side, which knows clients, and those who make answers; main brings them together.
 *
 * All calls come on the loop of the request. A service never calls upward: it wakes the task, and is asked again. */
#pragma once

#include "base/arena.h"
#include "loop/loop.h"
#include "proto/http1.h"

#include <sys/types.h>

struct service_call; /* one request being answered; the service's own */

struct service_request {
    const struct http_request *request; /* its views are valid until close() */
    struct view body;                   /* complete; valid until close() */
    struct view client;                 /* the client's address in text */
    struct view request_id;             /* for logs and traces; as the access log has it */
    struct view scheme;
    bool trace_goes_on;  /* the client sent a valid traceparent */
    int64_t now_ms;      /* wall clock when the head arrived */
    uint64_t started_us; /* monotonic, likewise */
    int refused; /* 0; else the status for a request that could not be read whole, and why: `body` is not to be used */
    const char *detail; /* static */
    bool *
        discreet; /* set by open(): what the request says, and who says it, must not be written down on this node; or NULL */
};

/* What is known once the head is. */
struct service_head {
    uint16_t status;
    struct view fields; /* complete lines with CRLF, Content-Type among them; valid until close() */
    bool length_known;
    uint64_t length;      /* of the body, with length_known */
    bool hit;             /* no fetch was made for it */
    bool collapsed;       /* it waited for another's fetch */
    struct view rung;     /* "memory", "disk", "shared": where a hit was; static */
    struct view upstream; /* who was asked, for the log; valid until close() */
    bool stored;          /* it is being stored */
    bool refused;         /* an error of the service's own making */
};

struct service {
    void *arg;
    /* 0 and *ret, or -ENOMEM. `task` is woken when there is more to see. */
    int (*open)(void *arg, const void *route, struct loop *loop, struct task *task,
                const struct service_request *request, struct service_call **ret);
    /* 0: *ret is filled in; -EAGAIN: later; -ENOMEM: there will be none. */
    int (*head)(struct service_call *call, struct service_head *ret);
    /* The next body bytes, borrowed until took() or close(): > 0 and *ret; 0: the end; -EAGAIN: later; -EIO: cut the connection. */
    ssize_t (*read)(struct service_call *call, struct view *ret);
    /* The client has taken this many of the bytes shown. */
    void (*took)(struct service_call *call, size_t len);
    /* The end, in any state; before the end of the body: the client has gone. */
    void (*close)(struct service_call *call);
};
