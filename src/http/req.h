/* One client request: a reader with an offset, walked through its steps by req_run(). Internal to src/http.
 *
 *     ROUTE -> ADMIT -> LOOKUP -> FETCH -> DELIVER -> FINISH      (and TUNNEL instead of DELIVER)
 *                         ^-> CLIMB: the rungs below memory, once, then LOOKUP again
 *
 * Memory: the struct and the first part of its arena are one pooled block; views of the request borrow from the connection's
 * input block, which is not touched while the request runs, or from `block` once the body had to be read. */
#pragma once

#include "base/arena.h"
#include "cache/decide.h"
#include "cache/purger.h"
#include "cache/service.h"
#include "http/server.h"
#include "proto/range.h"

enum step {
    STEP_ROUTE,
    STEP_ADMIT,
    STEP_PURGE,
    STEP_ADMIN,
    STEP_LOOKUP,
    STEP_CLIMB,
    STEP_FETCH,
    STEP_DELIVER,
    STEP_TUNNEL,
    STEP_SERVICE,
    STEP_FINISH,
    STEP_COUNT
};
enum flow { FLOW_CONTINUE, FLOW_WAIT, FLOW_DONE };

#define REQ_FIELDS_MAX 256
#define DELIVERY_SEGMENTS 32

/* A part of the body: text, then bytes of the object. One part unless multipart/byteranges is sent. */
struct part {
    struct view prefix;
    uint64_t first, len; /* in the complete body; len UINT64_MAX: until the end */
};

struct delivery {
    struct iovec segments[DELIVERY_SEGMENTS]; /* borrowed; what is queued and not yet written */
    unsigned at, count;
    uint64_t queued_body; /* object bytes among the segments, and in the file */
    int file;             /* after the segments: this much of a file's page cache */
    off_t file_at;
    uint64_t file_left;
    struct object_cursor cursor;
    enum http_body framing;
    struct part *parts;
    unsigned part, part_count;
    uint64_t part_sent;
    bool prefix_queued;
    struct view suffix; /* after the last part, or a body that is not an object */
    bool suffix_queued;
    bool head_queued;
    char frame[24]; /* chunk size line */
    struct part one;
};

struct req {
    struct conn *conn;
    struct task *task; /* what to wake: the connection's */
    struct http_loop *hl;
    struct http_config *config;
    bool config_held;
    enum step step;
    struct arena arena;

    struct http_request request;
    struct view request_bytes; /* the head */
    char *block;               /* owns request_bytes once pinned */
    uint32_t block_cap;

    const struct route *route;
    struct view scheme;
    uint8_t client_address[16]; /* behind trusted proxies; IPv4 mapped */
    struct view request_id;
    struct key key;
    struct view url;
    struct cache_control cc;
    struct decision decision;
    enum http_outcome outcome;
    enum why why;
    enum why forward_why; /* why it went to the origin */
    int64_t now_ms;

    struct object *object; /* being delivered; held by `object_held` or by the reader's fill */
    bool object_held;
    struct object *stored;            /* reference: for revalidation and for stale answers */
    const struct object *newest_seen; /* newest variant at LOOKUP; compared in the same turn, never followed */
    struct fill_reader *reader;
    struct ladder_waiter climb;      /* while the rungs below memory are asked */
    struct ladder_answer raised;     /* what they said; its object is a reference */
    struct disk_stream *disk_stream; /* the body being delivered lies on disk */
    struct purge_job *purge;
    struct admin_wait *admin_wait;
    enum rung rung;     /* where `object` was found, with from_cache */
    bool climbed;       /* the rungs below memory were asked */
    bool unconditional; /* what is stored could not be confirmed: ask for the whole */
    bool child;         /* it comes from a node that showed our token */
    bool fell_back;     /* the route's fallback is asked */
    bool insists;       /* the parent is to ask the origin, whatever it holds */
    uint32_t fresher_s; /* asked ahead of time: the parent's copy must last that much longer; 0: whatever it has */
    bool trace_goes_on; /* the client sent a valid traceparent */
    bool discreet;      /* what it says, and who says it, is not for the logs of this node */
    bool collapsed, no_collapse, private_fetch, forwarded, range_forwarded, from_cache;
    unsigned restarts;
    uint16_t fwd_status;
    bool stored_flag; /* this answer is being stored */

    struct http1_chunked decoder;
    uint64_t body_left;
    uint64_t body_seen;
    size_t chunk_pending; /* decoded bytes of a chunked body, in the socket's buffer, not yet taken */
    struct text body_trailers;
    bool body_done, body_end_written;
    bool write_stalled;   /* the client takes nothing since the last write */
    bool body_stalled;    /* the client sends nothing since the last read */
    bool timer_chosen;    /* this wait has a limit */
    uint64_t deadline_ms; /* monotonic; 0: none */

    struct service_call *call; /* a service makes the answer */
    struct buf body;           /* the whole request body, for it */
    struct view served_by, served_rung;
    uint64_t answer_left; /* of a body of known length */
    bool permitted;       /* 100 (Continue) was sent */
    bool answered;        /* all of the answer is queued */

    struct delivery out;
    uint16_t status; /* sent; 0 until then */
    bool close;      /* the connection ends with this answer */
    bool broken;     /* the answer cannot be completed: cut the connection */
    uint64_t started_us, looked_up_us;
    uint64_t bytes_out;

    struct sock tunnel; /* the origin's side */
    bool tunnel_open;
    struct view error_body;
    const char *proxy_error;
    uint64_t retry_after_s; /* 0: not said */
    const char *allow;      /* methods for a 405; NULL: those that routes take */
    struct field field_list[REQ_FIELDS_MAX];
    char memory[]; /* first arena block: the rest of the pooled block */
};

/* conn.c */
int req_fill_input(struct req *r); /* reads more request body bytes: as sock_fill */
struct sock *req_sock(struct req *r);
void req_set_timer(struct req *r, uint64_t after_ms);
void req_pin(struct req *r);
bool req_client_gone(struct req *r);

/* req.c */
bool req_make_url(struct req *r);
enum flow req_run(struct req *r);
/* Keeps what must survive the turn; called when a step waits. False: the object it reads is already on its way out. */
bool req_hold(struct req *r);
void req_release(struct req *r);

/* A random number for ids, never for secrets. */
uint64_t req_random(struct req *r);

/* one step each */
enum flow step_route(struct req *r);
enum flow step_admit(struct req *r);
enum flow step_purge(struct req *r);
enum flow step_admin(struct req *r);
enum flow step_lookup(struct req *r);
enum flow step_climb(struct req *r);
enum flow step_fetch(struct req *r);
enum flow step_deliver(struct req *r);
enum flow step_tunnel(struct req *r);
enum flow step_service(struct req *r);
enum flow step_finish(struct req *r);

/* purge_step.c: carries out what was asked for; the result is the answer. */
enum flow purge_begin(struct req *r, const struct purge_event *event);

/* lookup.c: may the request have this object, as far as Vary goes? */
bool object_fits(struct req *r, const struct object *object);

/* fetch.c: starts the revalidation of r->object that nobody waits for, unless one is under way. */
void fetch_in_background(struct req *r);
/* A fresh hit of a parent's response: perhaps the time has come to refresh it, before it runs out. Mostly one compare. */
void fetch_early(struct req *r);
/* Whom a forwarded request was sent to. */
const struct hop *fetch_hop(const struct req *r);

/* client.c */
/* Fills in client_address and scheme. */
void client_identify(struct req *r);
/* The client's address without port; nothing for a Unix socket. */
void client_print(const struct req *r, struct text *out);

/* forward.c: the head for the origin. `validators`: of a stored response to confirm. `strip`: leave the client's conditions and
 * Range out. Empty view when memory is out. */
struct view forward_head(struct req *r, const struct object *validators, struct view range, bool strip);

/* reply.c: answers of our own */
enum flow reply_error(struct req *r, int status, const char *detail);
enum flow reply_upstream_error(struct req *r);
enum flow reply_text(struct req *r, int status, const char *content_type, struct view body);

/* "Bad Request" */
struct view reply_reason(int status);

/* service.c: the service words the refusal of a request that could not be read whole. */
enum flow service_refuse(struct req *r, int status, const char *detail);

/* head.c: the fields we add to every answer */
void head_fields(struct req *r, struct text *t);

/* deliver.c */
/* Writes queued segments. FLOW_CONTINUE: all written. */
enum flow deliver_flush(struct req *r);
void deliver_push(struct delivery *d, struct view v);
/* The object to send is settled: chooses status (200, 206, 304, 412, 416) and queues the head. */
enum flow deliver_object(struct req *r);

/* deliver_disk.c: bodies that lie on disk */
/* 0: it can be read; -ESTALE: it is not there any more. */
int deliver_disk_open(struct req *r);
/* As queue_runs() in deliver.c has it: > 0 bytes at `offset` of the body, in *ret or, with that empty, queued as a piece of a file;
 * -EAGAIN: later; -EIO: broken. */
ssize_t deliver_disk_read(struct req *r, uint64_t offset, uint64_t max, struct view *ret);
/* Sends the piece of a file that is queued. 0: all of it; -EAGAIN; other -errno: the connection is dead. */
int deliver_disk_send(struct req *r);

/* upload.c */
/* Moves request body bytes to the origin. FLOW_CONTINUE: nothing (more) to move now; FLOW_DONE: the request must end
 * (r->step is set). */
enum flow upload_some(struct req *r);
