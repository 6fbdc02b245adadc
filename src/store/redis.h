/* A client for servers that speak the Redis protocol (Redis, Valkey; one server or a Cluster): commands of any loop, pipelined
 * over that loop's own connections, answers as parsed RESP values.
 *
 * A call is embedded in its owner and belongs to one loop. What is sent during a turn leaves together at its end. Every call
 * ends: with an answer, an error reply, or -errno (timeout, connection lost, breaker open, queue full); its task is woken once.
 * A call that was sent before its connection broke is not repeated: the caller knows whether repeating is safe.
 *
 * Commands that nobody waits for (redis_forget()) have a connection of their own per server: large writes never stand before a
 * read. They leave, and are carried out, in the order they were made. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"
#include "net/tls.h"
#include "proto/resp.h"

#include <stdatomic.h>

struct redis;

struct redis_options {
    struct view host; /* name or address */
    uint16_t port;
    struct view path; /* Unix socket instead of host and port; empty: none */
    bool tls;
    struct tls_options tls_options;
    const char *tls_name;       /* NULL: the host */
    struct view user, password; /* AUTH; empty: none */
    unsigned database;
    bool cluster;         /* follow slots, MOVED and ASK; a server that says it is a cluster turns it on by itself */
    unsigned connections; /* per loop and server; 0: 2; with 2 and more the last one is for redis_forget() alone */
    unsigned loops;       /* 0: 1 */
    uint32_t connect_timeout_ms; /* with TLS and handshake; 0: 1000 */
    uint64_t queue_bytes;        /* of unanswered requests per loop, for calls and for forgotten ones each; 0: 16 MiB */
    uint64_t reply_max;          /* bytes of one reply; 0: 64 MiB */
    /* The breaker, per server and loop: after this many failures in a row (0: 5), or when at least 10 calls and half of them
     * timed out within 5 s, calls fail at once for a while (0.5 s, doubling to 30 s, jittered), then one goes through to probe.
     * A failure is a connection that cannot be made or breaks with requests on it, a turn in which calls timed out, a reply
     * that is rubbish or says LOADING, MASTERDOWN or CLUSTERDOWN. A success is a call that is answered in time. */
    unsigned breaker_failures;
};

/* Calls with a timeout from here on are patient: while a connection is up an open breaker does not refuse them (it protects
 * requests that would wait for nothing; a purge would rather be late than lost), and their answers do not close it. */
#define REDIS_PATIENT_MS 1000u

/* 0, -EINVAL with the reason, -ENOMEM. Connects on first use. Copies the options. */
int redis_new(const struct redis_options *options, struct redis **ret, struct text *reason);
/* On each loop's thread, before redis_free(): closes its connections; its calls end with -ECANCELED. Channels must be closed
 * before. Nothing may be sent on that loop afterwards. */
void redis_loop_close(struct redis *redis, struct loop *loop);
void redis_free(struct redis *redis);

/* The clock of a server against this node's wall clock, as one loop measures it (TIME) on every connect and every 10 s. */
struct redis_clock {
    bool known;
    int64_t offset_ms; /* server minus node */
    uint32_t error_ms; /* it can be wrong by so much: half the round trip, rounding, drift since */
};
/* The clock of the server that serves `key` (empty: the configured one). Not known before the first connection, and after this
 * node's wall clock was set (it no longer keeps step with the monotonic one) until it has been measured again. */
void redis_clock(struct redis *redis, struct loop *loop, struct view key, struct redis_clock *ret);

enum redis_call_state { REDIS_IDLE, REDIS_WAITING, REDIS_DONE };

struct redis_call {
    struct task *task; /* woken when it is done */
    enum redis_call_state state;
    int error;                /* 0: see reply */
    struct resp_value *reply; /* valid until redis_call_end(); may be an error reply (resp_is_error()) */
    struct redis_clock clock; /* of the server that answered, when it did */
    uint32_t took_us;         /* from redis_send() */
    void *request;            /* internal */
};

/* Sends a command of `count` arguments on the loop of `task`. The bytes are copied. `key` is the index of the argument that
 * names the Cluster slot; -1: none. `timeout_ms` from now, connecting included. Refusals (-EBUSY: queue full; -EHOSTDOWN: the
 * breaker is open, or no connection and too early for another attempt; -ENOMEM) are returned; the call is REDIS_IDLE then.
 *
 * Errors of a call that was taken: -ETIMEDOUT; -ECANCELED; -EBADMSG: the server talks rubbish; -EMSGSIZE: its reply is above a
 * limit; -ENOMEM; -EACCES: it refuses our credentials or database; others: the connection. Redirections of a Cluster are
 * followed (3 at most), all other error replies go to the caller. */
int redis_send(struct redis *redis, struct task *task, struct redis_call *call, const struct view *args, unsigned count,
               int key, uint32_t timeout_ms);
/* Ends a call in any state; frees the reply. A zeroed call is fine. What was sent already is still carried out. */
void redis_call_end(struct redis_call *call);

/* What became of the commands that one module forgot on one loop; zeroed at first. It must live until redis_loop_close(). Written
 * by the loop, read by anybody. */
struct redis_ledger {
    _Atomic uint64_t bytes;                 /* not answered yet */
    _Atomic uint64_t done, refused, failed; /* refused: error replies; failed: no reply */
};

/* The same with nobody waiting; refusals are returned as by redis_send() (and not entered in the ledger). `ledger` may be NULL. */
int redis_forget(struct redis *redis, struct loop *loop, const struct view *args, unsigned count, int key,
                 struct redis_ledger *ledger);
/* The same for a command that is encoded already (resp_put_*), in a heap block that is taken over, also when it is refused. */
int redis_forget_block(struct redis *redis, struct loop *loop, char *block, size_t len, struct view key,
                       struct redis_ledger *ledger);

/* A connection of its own for commands that block or push (XREAD BLOCK, SUBSCRIBE): outside pool, breaker and pipeline, to the
 * configured server (in a Cluster: any node serves SUBSCRIBE; a stream's key wants redis_channel_open() with `key`). It
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
    uint64_t connections; /* open ones */
    bool breaker_open;    /* of any server, on any loop */
};
/* Any thread. */
void redis_stats(struct redis *redis, struct redis_stats *ret);
