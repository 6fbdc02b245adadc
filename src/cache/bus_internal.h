/* The parts of the purge bus, for its own files. All of it belongs to the bus's loop, but for the counters.
 *
 *   bus.c          life, durable values, statistics
 *   bus_follow.c   reading the stream: position, gaps, catching up, doubt
 *   bus_nodes.c    who is live and has applied what: saying it and hearing it
 *   bus_publish.c  sending, and waiting for acknowledgements
 *   bus_unsent.c   purges that could not be sent
 *   bus_channel.c  purges from a pub/sub channel */
#pragma once

#include "cache/bus.h"

#define BUS_CALL_MS 1000u
#define BUS_TICK_MS 2000u
#define BUS_LIVE_MS 10000u
#define BUS_LINE_MAX (PURGE_TARGET_MAX + 64)

struct stream_id {
    uint64_t ms, seq;
};

#define STREAM_ID_MAX 44 /* characters of an id */

/* "ms-seq"; false: it is none. */
bool stream_id_parse(struct view v, struct stream_id *ret);
void stream_id_put(struct text *out, struct stream_id id);
int stream_id_compare(struct stream_id a, struct stream_id b);
static inline uint64_t stream_id_position(struct stream_id id)
{
    return bus_position_of(id.ms, id.seq);
}

/* ---- reading the stream ---- */

enum follow_step {
    FOLLOW_AWAY,    /* not connected, or nothing came back yet */
    FOLLOW_PAUSED,  /* the server does not do what we need: asking again later */
    FOLLOW_ASKED,   /* where does the stream stand? */
    FOLLOW_READING, /* what comes behind our position? Blocks */
    FOLLOW_WRITING, /* catching up: no further before what was read is durable */
};

/* What the server said of the stream. */
struct stream_facts {
    char identity[64];
    size_t identity_len;
    struct stream_id last;       /* ever given out */
    struct stream_id first, end; /* of the entries still there, when there are any */
    uint64_t length, added;      /* entries there; entries ever added */
    bool counts;                 /* it says how many were added (Redis 7) */
    uint64_t server_ms;
};

/* `ordinal`: how many entries the stream had been given when `id` was its last one: two equal counts at the same id are the
 * proof that nothing was trimmed or lost between two looks. */
struct follow_position {
    struct stream_id id;
    uint64_t ordinal;
};

struct follow {
    struct redis_channel *channel;
    struct task task;
    struct timer timer; /* how long an answer may take, or the pause */
    struct timer doubt_timer;
    enum follow_step step;
    unsigned epoch, answers; /* answers: to FOLLOW_ASKED, so far */
    uint32_t pause_ms;
    struct stream_facts facts;
    struct follow_position at, durable; /* applied; committed */
    bool has_position, has_durable;
    uint64_t highest;  /* bus position that a mark was given: those of marks never go back */
    char identity[64]; /* of the stream that the position is in */
    size_t identity_len;
    bool connected, caught_up, waited; /* waited: doubt_ms have passed since the start */
    bool ever_caught_up, target_known;
    struct stream_id target;  /* the stream's last id when we came back */
    uint64_t target_ordinal;  /* ours at that moment */
    struct stream_id raising; /* the stream is lifted above this position */
    bool raise, raise_purges;
    struct redis_call raise_call;
    bool writing, write_again;
    bool identity_due;   /* to be written behind the next position */
    bool torn, distrust; /* the state lost a write, so a restart cannot trust its marks; this is such a restart */
    struct follow_position written;
    uint64_t state_errors;
    uint64_t server_ms, server_at_ms; /* the server's clock, and when it was read */
    uint64_t bad_logged_ms;
};

int follow_load(struct bus *bus);
void follow_start(struct bus *bus);
void follow_stop(struct bus *bus);
/* The server's clock now; 0: not known yet. */
uint64_t follow_server_ms(const struct bus *bus);
/* The position could not be written: try again. */
void follow_write_position(struct bus *bus);
/* A bad event: counted, logged now and then. */
void bus_bad_event(struct bus *bus, const char *from);

/* ---- the nodes ---- */

struct nodes {
    struct task task;
    struct timer tick, poll;
    struct redis_call say, ask;
    struct redis_call placing; /* an entry without an event: the place of marks that came another way */
    uint64_t placed;           /* our marks up to this position */
    bool say_again;
    uint32_t poll_ms; /* pause between polls, growing */
};

void nodes_start(struct bus *bus);
void nodes_stop(struct bus *bus);
/* Our durable position has moved. */
void nodes_say(struct bus *bus);
/* Somebody waits for the others. */
void nodes_poll(struct bus *bus);

/* ---- sending ---- */

struct parcel {
    struct node link;
    struct message message;
    struct bus *bus;
    struct loop *from;
    struct bus_send *send; /* only touched on `from`; NULL: forgotten */
    bool awaited;
    struct redis_call call;
    struct bus_ack ack;
    struct stream_id id;
    uint32_t wait_ms;
    uint64_t deadline_ms;
    uint64_t marks_position; /* our newest mark when it was sent */
    uint64_t unsent_version; /* queued: it is durable once this version is */
    size_t len;
    char line[];
};

struct publish {
    struct task task;
    struct node sending, waiting, queued; /* of struct parcel */
};

void publish_start(struct bus *bus);
void publish_stop(struct bus *bus);
/* Ends it: tells its sender, or frees it. */
void parcel_end(struct parcel *parcel, int result);
/* The queued ones up to a version of the unsent lines. */
void publish_queued(struct bus *bus, uint64_t version, int result);
/* Ends those that waited long enough, or for nobody. */
void publish_check(struct bus *bus);
/* XADD. As redis_send(). */
int publish_send(struct bus *bus, struct task *task, struct redis_call *call, struct view id, struct view line);

struct unsent {
    struct task task;
    struct redis_call call;
    char *bytes; /* lines */
    size_t len, cap;
    unsigned lines;
    uint64_t version, written, durable; /* of the bytes; of what was queued last; of what was committed last */
    size_t sending_len;
    bool writing;
};

int unsent_load(struct bus *bus);
void unsent_start(struct bus *bus);
void unsent_stop(struct bus *bus);
/* 0 and the version that holds the line, or -ENOMEM. It is not written yet. */
int unsent_add(struct bus *bus, struct view line, uint64_t *ret_version);
/* Queues the lines to the state, if they have changed; whoever waits is told when they are committed, or at once that they cannot be. */
void unsent_write(struct bus *bus);
/* Sends, if there is something and the bus is there. */
void unsent_drain(struct bus *bus);

/* ---- the channel ---- */

struct hearing {
    struct redis_channel *channel;
    struct task task;
    struct timer timer; /* to ask whether somebody is there, and how long the answer may take */
    unsigned epoch;
    bool asked;
};

void hearing_start(struct bus *bus);
void hearing_stop(struct bus *bus);

/* ---- the whole ---- */

struct bus_counters {
    atomic_bool connected, caught_up;
    _Atomic uint64_t position, published, received, gaps, queued, bad;
    atomic_uint nodes;
};

struct bus {
    struct redis *redis;
    struct state *state;
    struct marks *marks;
    struct loop *loop;
    struct view node, channel;                       /* node: its name in the hash, unique */
    struct view stream_key, identity_key, nodes_key; /* in `memory` */
    uint32_t stream_max, doubt_ms;
    void (*apply)(void *arg, struct loop *loop, const struct purge_event *event, uint64_t bus);
    void *arg;
    bool running;
    struct follow follow;
    struct nodes nodes;
    struct publish publish;
    struct unsent unsent;
    struct hearing hearing;
    struct node writes; /* of struct bus_write, not answered yet */
    struct bus_counters counters;
    char memory[];
};

/* Queues a named value to the state; `done` is called on the loop after the commit, unless the bus was stopped meanwhile. 0 or
 * -ENOMEM. */
int bus_write(struct bus *bus, struct view name, struct view value, void (*done)(struct bus *bus, int result));
