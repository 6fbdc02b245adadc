/* A client for servers that speak the Redis protocol (Redis, Valkey; one server or a Cluster): commands of any loop, pipelined
 * over that loop's own connections, answers as parsed RESP values.
 *
 * A call is embedded in its owner and belongs to one loop. What is sent during a turn leaves together at its end. Every call
 * ends: with an answer, an error reply, or -errno (timeout, connection lost, breaker open, queue full); its task is woken once.
 * A call that was sent before its connection broke is not repeated: the caller knows whether repeating is safe. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"
#include "net/tls.h"
#include "proto/resp.h"

struct redis;

struct redis_options {
    struct view host;    /* NUL-terminated text behind it */
    uint16_t port;
    struct view path;    /* Unix socket instead of host and port; empty: none */
    bool tls;
    struct tls_options tls_options;
    const char *tls_name;      /* NULL: the host */
    struct view user, password; /* AUTH; empty: none */
    unsigned database;
    bool cluster;            /* follow slots, MOVED and ASK; a server that says it is a cluster turns it on by itself */
    unsigned connections;    /* per loop and server; 0: 2 */
    unsigned loops;
    uint32_t connect_timeout_ms; /* 0: 1000 */
    uint64_t queue_bytes;    /* of unsent and unanswered requests per loop; 0: 16 MiB */
    uint64_t reply_max;      /* bytes of one reply; 0: 64 MiB */
    /* The breaker: after this many failures in a row calls fail at once for a while (jittered, growing). 0: 5. */
    unsigned breaker_failures;
};

/* 0, -EINVAL with the reason, -ENOMEM. Connects on first use. Copies the options. */
int redis_new(const struct redis_options *options, struct redis **ret, struct text *reason);
/* On each loop's thread, before redis_free(): closes its connections; its calls end with -ECANCELED. */
void redis_loop_close(struct redis *redis, struct loop *loop);
void redis_free(struct redis *redis);

enum redis_call_state { REDIS_IDLE, REDIS_WAITING, REDIS_DONE };

struct redis_call {
    struct node link;
    struct task *task; /* woken when it is done; NULL: nobody waits and the call must have been made by redis_forget() */
    struct timer timer;
    enum redis_call_state state;
    int error;                /* 0: see reply */
    struct resp_value *reply; /* valid until redis_call_end(); may be an error reply (resp_is_error()) */
    void *owner;              /* the connection; internal */
    uint32_t sent_us, took_us;
};

/* Sends a command of `count` arguments on the loop of `task`. The bytes are copied. `key` is the index of the argument that
 * names the Cluster slot; -1: none. `timeout_ms` from now, connecting included. Refusals (-EBUSY: queue full; -EHOSTDOWN: the
 * breaker is open; -ENOMEM) are returned; the call is untouched then. */
int redis_send(struct redis *redis, struct task *task, struct redis_call *call, const struct view *args, unsigned count,
               int key, uint32_t timeout_ms);
/* The same with nobody waiting: the answer is only looked at for errors, which are counted. */
int redis_forget(struct redis *redis, struct loop *loop, const struct view *args, unsigned count, int key);
/* Ends a call in any state; frees the reply. */
void redis_call_end(struct redis_call *call);

/* A connection of its own for commands that block or push (XREAD BLOCK, SUBSCRIBE): outside pool, breaker and pipeline. It
 * reconnects by itself with growing, jittered pauses; the task is woken on every change. */
struct redis_channel;
int redis_channel_open(struct redis *redis, struct task *task, struct redis_channel **ret);
bool redis_channel_ready(const struct redis_channel *channel);
/* How often it has connected: a change means that whatever was asked before is gone. */
unsigned redis_channel_epoch(const struct redis_channel *channel);
/* Only while ready. 0, -ENOTCONN, -ENOMEM. */
int redis_channel_send(struct redis_channel *channel, const struct view *args, unsigned count);
/* The next answer or push in order: 0 and *ret_value (valid until the next call); -EAGAIN; -ENOTCONN. */
int redis_channel_next(struct redis_channel *channel, struct resp_value **ret_value);
/* Drops the connection (a reply came too late, or made no sense); it connects anew. */
void redis_channel_reset(struct redis_channel *channel);
void redis_channel_close(struct redis_channel *channel);

struct redis_stats {
    uint64_t calls, errors, timeouts, refused_full, refused_breaker, connects, connect_failures, redirects, bytes_in,
        bytes_out;
    uint64_t connections;
    bool breaker_open;
};
void redis_stats(struct redis *redis, struct redis_stats *ret);
