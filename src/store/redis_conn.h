/* One connection to a Redis-protocol server: name, socket, TLS, greeting, then whole replies. Driven by its owner's task; nothing
 * here calls up. Internal to the Redis client. */
#pragma once

#include "net/dns.h"
#include "net/sock.h"
#include "store/redis.h"

struct redis_target {
    char *host; /* NUL-terminated; a path when port is 0 */
    uint16_t port;
};

/* What every connection of a client shares: immutable, the views point into the client's own copy. */
struct redis_access {
    struct tls_context *tls; /* NULL: plain */
    const char *tls_name;    /* NULL: the host */
    struct view user, password;
    unsigned database;
    uint32_t connect_timeout_ms;
    struct resp_limits limits;
};

enum redis_conn_step {
    CONN_CLOSED,
    CONN_RESOLVE,
    CONN_CONNECT,
    CONN_TLS,
    CONN_HELLO,  /* RESP3, with AUTH */
    CONN_AUTH,   /* a server without HELLO */
    CONN_SELECT, /* before anything else is sent: nothing may land in another database */
    CONN_READY,
};

struct redis_conn {
    struct sock sock;
    const struct redis_access *access;
    const struct redis_target *target; /* borrowed; may only change while closed */
    struct task *task;
    struct loop *loop;
    struct dns_waiter dns;
    struct dns_answer addresses;
    unsigned address;
    struct address preferred; /* that was ready last; len 0: none yet */
    struct timer timer;       /* the whole way to CONN_READY */
    struct tls_session session;
    enum redis_conn_step step;
    struct resp_scan scan;
    size_t hint;    /* no use in looking before so many bytes are there */
    char *greeting; /* handshake bytes not written yet */
    size_t greeting_len, greeting_sent;
    bool is_cluster; /* it said so */
    uint64_t bytes_in, bytes_out;
};

/* A reply in memory of its own. */
struct redis_reply {
    struct resp_value value;
    struct arena arena;
    char bytes[];
};

void redis_conn_init(struct redis_conn *conn, const struct redis_access *access, const struct redis_target *target,
                     struct task *task);
/* Only while closed. */
void redis_conn_start(struct redis_conn *conn);
/* 0: ready. -EAGAIN: the task will be woken. -ENOTCONN: closed and not started. Other -errno: it failed, and is closed:
 * -ETIMEDOUT, -EACCES: refused our password or database, -EBADMSG: no Redis, -EPROTO: TLS, what connecting said. */
int redis_conn_drive(struct redis_conn *conn);
/* The next complete reply as bytes, while ready; valid until redis_conn_consume() or the next redis_conn_peek(). 0; -EAGAIN;
 * -EBADMSG; -EMSGSIZE; -ECONNRESET and others: dead (the caller closes). */
int redis_conn_peek(struct redis_conn *conn, struct view *ret_reply);
void redis_conn_consume(struct redis_conn *conn, struct view reply);
void redis_conn_close(struct redis_conn *conn);
/* Closed for good; also the TLS session goes. */
void redis_conn_release(struct redis_conn *conn);

/* Copies and parses. 0, -ENOMEM, -EBADMSG, -EMSGSIZE. */
int redis_reply_new(struct view bytes, const struct resp_limits *limits, struct redis_reply **ret);
/* NULL is fine. */
void redis_reply_free(struct redis_reply *reply);

/* host:port as MOVED, ASK and CLUSTER SLOTS say it, IPv6 with or without brackets; an empty host is `fallback`. 0, -EBADMSG,
 * -ENOMEM. */
int redis_target_parse(struct view text, const char *fallback, struct redis_target *ret);
