/* The exchange as its own files see it: exchange.c (life and connection), exchange_head.c (sending the head, reading
 * heads), exchange_body.c (bodies both ways), exchange_retry.c (which server, again or not, what the breakers learn),
 * exchange_error.c (names). */
#pragma once

#include "net/dns.h"
#include "upstream/exchange.h"
#include "upstream/choose.h"

enum exchange_step {
    X_BACKOFF, /* before the same server is tried again */
    X_ACQUIRE, /* a server, and a place among its connections */
    X_RESOLVE,
    X_CONNECT,
    X_TLS,
    X_SEND,    /* the request head */
    X_HEAD,    /* reading; the request body may still be written */
    X_INTERIM, /* a 1xx head lies in the input until the owner took it */
    X_BODY,
    X_TUNNEL,
    X_DONE,
    X_FAILED,
    X_TWIN, /* given up: the twin has won, or is waited for */
};

enum exchange_verdict { X_CONTINUE, X_WAIT };

#define EXCHANGE_FIELDS_MAX 200u
#define EXCHANGE_TRAILERS_MAX 4096u
#define EXCHANGE_INTERIM_MAX 32u
#define EXCHANGE_ATTEMPTS_MAX 8u

struct exchange {
    enum exchange_step step;
    struct upstream *upstream;
    struct pool *pool;
    struct task *owner; /* borrowed */
    struct task task;
    struct timer timer; /* of the present phase */
    struct timer total;
    struct timer late;     /* when this fires a second server is asked */
    struct exchange *twin; /* the request to it; owned */
    bool twin_won;
    struct exchange_request request;
    uint64_t started_us, phase_us;

    /* connecting */
    struct pool_place place;
    struct conn *conn;
    struct dns_waiter dns;
    struct dns_answer addresses;
    struct choice choice;        /* the server; held while the attempt there lasts */
    struct breaker_ticket whole; /* of the upstream's own breaker */
    bool has_whole;
    uint32_t tried; /* bit i: server i failed this request */
    unsigned address;
    bool fresh; /* an idle connection will not do: one has just proved stale */
    bool same;  /* a retry at the same server */
    bool renewed;
    bool blamed;        /* its owner says that it failed */
    bool check;         /* goes to the given server and no other, past limit and breaker */
    bool by_deadline;   /* the timer `total` is the owner's deadline */
    bool deadline_over; /* it failed because its owner's time was over */
    uint8_t retries;
    uint64_t queue_until_ms; /* 0: never queued */

    /* the request on its way */
    struct iovec out[8]; /* bytes of ours still to be sent, in order, before anything of the owner's */
    int out_at, out_count;
    char frame[20]; /* the size line of the present chunk */
    uint8_t frame_at, frame_len;
    uint64_t chunk_left, body_left;
    struct view trailers_out;
    bool sent_any, body_started, body_ended, write_blocked, write_dead;

    /* the response */
    size_t scanned, interim_len, head_len;
    unsigned interim_count;
    struct http_response response;
    char *block; /* holds the head */
    uint32_t block_cap, block_at;
    uint64_t left; /* of a body with known length */
    struct http1_chunked decoder;
    size_t run; /* decoded bytes at the front of the input */
    bool mid_chunk, read_waiting, have_head;
    struct text trailers;

    enum exchange_error error;
    struct exchange_timing timing;
    char detail[96];
    struct field fields[EXCHANGE_FIELDS_MAX];
    char trailers_memory[EXCHANGE_TRAILERS_MAX];
};

/* Ends the exchange with an error; the connection is closed, the head stays readable. */
void exchange_fail(struct exchange *x, enum exchange_error error, const char *detail);
/* Would the request be sent once more if its connection broke now? */
bool exchange_may_retry(const struct exchange *x);
/* Takes a server and breaker tickets. 0; -ENOENT: nobody may be asked; -EAGAIN: who may be asked is not known yet. */
int exchange_choose(struct exchange *x);
/* The attempt at this server failed with `error` and nothing of an answer has come: puts the exchange on its way to another
 * server (or, when nothing was sent, to the same one after a pause) as far as limits and budget allow. False: it was the
 * last attempt; the exchange is unchanged. The server's breaker knows in either case. */
bool exchange_try_again(struct exchange *x, enum exchange_error error);
/* The final head lies in the input: tells the breakers what they can know. True when it is a failure worth another attempt,
 * which is then under way. */
bool exchange_judge_head(struct exchange *x);
/* The end: error EXCHANGE_OK when it went well or was given up by its owner. */
void exchange_judge_end(struct exchange *x, enum exchange_error error);
/* The connection broke (error 0: ended) before the final head: tries again where that is safe, else fails. */
enum exchange_verdict exchange_broken(struct exchange *x, int error);
/* ---- hedging (exchange_hedge.c) ---- */

/* Who acts for it: itself, or the twin that has won. */
static inline struct exchange *exchange_live(const struct exchange *x)
{
    return x->twin_won ? x->twin : (struct exchange *)(uintptr_t)x;
}

/* When to ask a second server, if ever. */
void exchange_hedge_arm(struct exchange *x);
/* The final head has come: remembers how long that took. */
void exchange_hedge_note(struct exchange *x);
/* No second server, or not any more. */
void exchange_hedge_drop(struct exchange *x);
/* After a wake: sends the twin when it is time, looks how it does. */
void exchange_hedge_look(struct exchange *x);
/* The second request; it is never tried again. */
int exchange_start_twin(struct exchange **ret, struct exchange *of, uint32_t tried) must_use;

/* A check of one server: as exchange_start(), but nothing is counted, nothing is tried again. */
int exchange_start_check(struct exchange **ret, struct upstream *upstream, struct task *owner,
                         const struct exchange_request *request, unsigned server) must_use;

/* Closes the connection, if there is one. */
void exchange_drop_conn(struct exchange *x);
/* 0: no timer. */
void exchange_arm(struct exchange *x, uint32_t after_ms);

/* Puts the head (and, if the owner is ahead of us, the end) in line. */
void exchange_queue_head(struct exchange *x);
enum exchange_verdict exchange_step_send(struct exchange *x);
enum exchange_verdict exchange_step_head(struct exchange *x);

/* Sends what stands in line. 0, -EAGAIN, -EPIPE. */
int exchange_flush(struct exchange *x);
void exchange_queue_end(struct exchange *x);
bool exchange_request_sent(const struct exchange *x);
