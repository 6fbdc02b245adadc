/* One HTTP/1.1 request and its response with an upstream. The exchange drives itself on its loop and wakes the owner's task
 * whenever something changed; the owner looks at exchange_state() and takes what is there. It never calls upward.
 *
 *   state       what the owner may do
 *   CONNECTING  wait (in the queue, name, connect, TLS)
 *   WAITING     write the request body; wait for the head
 *   INTERIM     exchange_interim(): a 1xx head; also write
 *   BODY        exchange_head(), exchange_read(); also write
 *   TUNNEL      101: exchange_head(), exchange_take_sock()
 *   DONE        exchange_head(), exchange_trailers(): the body was read to its end
 *   FAILED      exchange_error(); exchange_head() when it failed in the body
 *
 * exchange_close() is legal in every state and the only end. */
#pragma once

#include "net/sock.h"
#include "proto/http1.h"
#include "upstream/upstream.h"

struct exchange;

enum exchange_state {
    EXCHANGE_CONNECTING,
    EXCHANGE_WAITING,
    EXCHANGE_INTERIM,
    EXCHANGE_BODY,
    EXCHANGE_TUNNEL,
    EXCHANGE_DONE,
    EXCHANGE_FAILED,
};

struct exchange_request {
    enum http_method method;
    struct view head;        /* request line, fields, empty line; with BODY_NONE a body may follow, which is then
                                sent again whenever the head is; borrowed until exchange_close() */
    enum http_body body;     /* NONE, LENGTH or CHUNKED, as the head says */
    uint64_t content_length; /* for LENGTH */
    bool replayable;         /* idempotent: may be sent again on a fresh connection (RFC 9110 §9.2.2) */
    bool upgrade;            /* the head asks for an Upgrade: a 101 is expected, the connection must not be shared */
    bool want_interim;       /* show 1xx heads; otherwise they are dropped */
    uint64_t key_hash;       /* of what is asked for: consistent hashing sends equal ones to the same server */
    uint64_t deadline_ms;    /* monotonic; no phase outlives it; 0: none */
};

/* Starts at once, on the pool of owner->loop. 0 or -ENOMEM; every other failure is told by the state. The owner is woken after
 * changes that happen later; look at the state right after the call too. */
int exchange_start(struct exchange **ret, struct upstream *upstream, struct task *owner,
                   const struct exchange_request *request) must_use;
/* Ends it: the connection goes back to the pool when the messages were complete both ways, else it is closed. NULL is fine. */
void exchange_close(struct exchange *x);
/* The answer turned out to be worthless to its owner (late, broken inside): for the breakers the exchange has failed. Before
 * exchange_close(). */
void exchange_blame(struct exchange *x);
/* Another task is woken from now on (a fill outlives the request that started it). */
void exchange_set_owner(struct exchange *x, struct task *owner);

enum exchange_state exchange_state(const struct exchange *x);

/* ---- the request body ---- */

/* Takes what the connection takes; chunk framing is added here. >0: bytes taken; offer the rest later, beginning with the same
 * bytes. -EAGAIN: the owner will be woken (also while still connecting). -EPIPE: the origin does not want more: read its
 * answer or the error. -EMSGSIZE: more than content_length. */
ssize_t exchange_write(struct exchange *x, const struct iovec *iov, int count);
/* The body is complete. `trailers`: raw lines with CRLF, borrowed until exchange_close(), only for CHUNKED. 0, also when
 * some bytes still wait for room (they leave by themselves); -EPIPE; -EMSGSIZE when less than content_length was written. */
int exchange_write_end(struct exchange *x, struct view trailers);

/* ---- the response ---- */

/* In state INTERIM: the 1xx head (never 101). Valid until exchange_interim_next(), which drops it and looks for more. */
const struct http_response *exchange_interim(const struct exchange *x);
void exchange_interim_next(struct exchange *x);

/* The final head once the state is BODY, TUNNEL or DONE, else NULL. Views are valid until exchange_close(). keep_alive,
 * body and content_length are already applied; the owner needs none of them to read. */
const struct http_response *exchange_head(const struct exchange *x);
/* The bytes of the head, status line to empty line. */
struct view exchange_head_bytes(const struct exchange *x);

/* The next body bytes, decoded, into memory (`cap` > 0); a body of known length is received straight into it. >0: bytes.
 * 0: the complete end (state DONE). -EAGAIN: the owner will be woken. -EIO: the body ended short or broke (state FAILED). */
ssize_t exchange_read(struct exchange *x, void *memory, size_t cap);
/* Body bytes still to come when the length is known, else UINT64_MAX. */
uint64_t exchange_body_left(const struct exchange *x);
/* Raw trailer lines; empty until DONE. Valid until exchange_close(). */
struct view exchange_trailers(const struct exchange *x);

/* State TUNNEL: moves the connection out, with what was already read. The sock wakes `task` from now on; the caller closes
 * it. It stays counted as a connection of the upstream until exchange_close(), so keep x open. 0 or -errno. */
int exchange_take_sock(struct exchange *x, struct task *task, struct sock *ret);

/* ---- what happened ---- */

enum exchange_error exchange_error(const struct exchange *x);
/* "connection_refused": the Proxy-Status error token. "" for OK. */
struct view exchange_error_token(enum exchange_error error);
/* The status to answer with: 502, 503, 504 or 500. */
int exchange_error_status(enum exchange_error error);
/* A short sentence for a log line: "certificate has expired". Valid until exchange_close(). */
const char *exchange_error_detail(const struct exchange *x);

struct exchange_timing {
    uint32_t queue_us, dns_us, connect_us, tls_us; /* of the last attempt; 0 when reused */
    uint32_t first_byte_us;                        /* exchange_start to the first byte of the response */
    uint32_t server;                               /* index in the upstream */
    uint8_t attempts;                              /* connections tried */
    bool reused;
    bool hedged; /* the answer is that of a second request, sent because the first took long */
};
const struct exchange_timing *exchange_timing(const struct exchange *x);
