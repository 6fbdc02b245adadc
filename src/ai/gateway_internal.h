/* One request at the gateway, as its own files see it: gateway.c (the service and the steps), gateway_read.c (what the request is and
 * whether it may), gateway_models.c (the list of models), gateway_lookup.c (the rungs), gateway_choose.c (candidates), gateway_ask.c (calls), gateway_body.c (the body for a provider),
 * gateway_hedge.c (two at once), gateway_answer.c (what the client gets), gateway_head.c (its fields). */
#pragma once

#include "ai/facts.h"
#include "ai/fingerprint.h"
#include "ai/gateway.h"
#include "ai/replay.h"
#include "proto/cache_control.h"

#define AI_CANDIDATES_MAX 16u
#define ADMIT_LEVELS_MAX 3u
#define AI_BODY_MAX ((size_t)64 * 1024 * 1024) /* for a provider: what the client sent, and what is added to it */

struct ai_gateway {
    struct ai_gateway_options options;
    struct service service;
};

enum ask_step {
    ASK_CANDIDATE, /* the next one: its key, memory */
    ASK_CLIMB,     /* the rungs below */
    ASK_SEMANTIC,  /* other words for the same */
    ASK_RESERVE,   /* may it be paid? */
    ASK_FILL,      /* a fill is joined or started */
    ASK_WAIT,      /* for its first content */
    ASK_ANSWER,    /* the answer is settled */
    ASK_STEPS
};

/* gateway_semantic.c */
enum semantic_step {
    SEM_START,
    SEM_ALIAS, /* the canonical prompt's alias, in memory */
    SEM_ALIAS_CLIMB,
    SEM_TARGET, /* the answer that an alias or a neighbour led to */
    SEM_TARGET_CLIMB,
    SEM_EMBED, /* the last user message becomes a vector */
    SEM_OVER
};

/* How the bytes of an answer reach the client. */
enum ask_form {
    ASK_TEXT,   /* `out`: an error of ours, or a converted answer */
    ASK_OBJECT, /* as they are in the object */
    ASK_FILTER, /* the object's stream, less what the client did not ask for */
    ASK_CONVERT /* once complete, in the other form: stream to plain or back */
};

/* Another candidate's call that is under way as well: gateway_hedge.c. */
struct ask_rival {
    struct fill_reader *reader; /* NULL: none is */
    struct ai_candidate *candidate;
    struct view model;
    struct key key;
    const struct object *newest_seen;
    bool collapsed;
};

struct service_call {
    struct ai_gateway *gateway;
    const struct ai_route *route;
    const struct ai_config *config;
    struct loop *loop;
    struct task *task;
    struct timer timer;
    enum ask_step step;
    struct service_request in;
    struct http_request request; /* copy; views into the connection's head, which stays */
    struct arena arena;

    enum ai_endpoint endpoint;
    enum ai_dialect dialect;
    struct view url;  /* for purges */
    struct view path; /* from "/v1/" on, without query */
    struct json doc;
    bool parsed;
    struct ai_facts facts;
    struct view tenant, key_id;
    struct view user;                                /* as the client said it, raw */
    const struct ai_rules *levels[ADMIT_LEVELS_MAX]; /* of key, tenant, route */
    const struct ai_ruleset *sets[ADMIT_LEVELS_MAX]; /* that they are of */
    const struct ai_private *privates[ADMIT_LEVELS_MAX + 1], *pins[ADMIT_LEVELS_MAX + 1];
    struct rate_subject limits[ADMIT_LEVELS_MAX];
    unsigned level_count, private_count, pin_count, limit_count;
    uint64_t policy_revision;
    const struct cache_policy *cache;     /* of the route: which rungs this answer may be on */
    struct buf aliased, forced, redacted; /* bodies that stand in for the client's */
    struct rate_result rate;
    bool limited;    /* `rate` is filled in */
    unsigned barred; /* candidates that could, and must not */
    struct cache_control cc;
    bool no_lookup, no_store; /* the client's wish */
    uint64_t ttl_ms;
    int64_t max_age_ms; /* the client's; -1: any */

    struct ai_model *alias; /* that the candidates are of; NULL: the model was named directly */
    struct ai_candidate *candidates[AI_CANDIDATES_MAX];
    unsigned candidate_count, at;
    unsigned last_resort;           /* from here on they are worse than an old answer of those before */
    struct ai_candidate *candidate; /* being tried, or whose answer it is */
    struct view model;              /* as it calls it */
    struct view scope;
    struct key key;
    struct view plain_model; /* the client's name for it, without a provider's */
    uint64_t wait_ms;        /* the shortest time after which a candidate that was passed over may be asked */
    bool tried;              /* some candidate was asked */

    struct ladder_waiter climb;
    struct ladder_answer raised;
    enum rung rung;
    uint32_t disk_us, shared_us;
    struct object *failed; /* the last candidate's error; a reference */
    struct ai_candidate *failed_of, *stale_of;
    const struct object *newest_seen; /* under q->key, when it was looked up; compared, never followed */
    bool cut_short;                   /* an answer that had to be whole before it could be converted, and was not */
    bool timed_out;
    bool later;    /* somebody who was passed over may be there soon */
    bool dead_end; /* who was passed over has no credential that is still accepted: to ask again is of no use */
    unsigned restarts;
    struct object *stale; /* an answer that is too old, in case nothing better comes; a reference */

    enum semantic_step semantic_step;
    struct key exact_key, alias_key; /* alias_key without text: this prompt has no canonical form */
    struct embed_job *embedding;
    struct embed_ask *asking; /* a provider, for the vector */
    struct ai_candidate *asked;
    struct reservation asked_reservation;
    uint64_t asked_span;
    float *vector;
    bool embedded, embed_failed, semantic_hit; /* the vector is there; will not be */
    struct semantic_match match;
    struct object *candidate_answer; /* what would have been served: to be compared; a reference */

    struct account *account;
    struct trace_context trace; /* for who is asked next */
    uint64_t since_us;          /* when the present lookup or wait began */
    struct reservation reservation;
    uint64_t reserve_until_ms;
    struct fill_reader *reader;
    struct ask_rival rival;
    bool hedged; /* a second candidate was asked before the first had failed */
    bool collapsed, hit, is_stale, stored;

    struct object *object; /* what is answered with: a reference, or the reader's fill's */
    bool object_held;
    enum ask_form form;
    bool streams; /* the client gets events */
    struct object_cursor cursor;
    struct replay replay;
    struct view input;   /* of the object, on its way through the filter */
    uint64_t consumed;   /* of the object, by what is being written */
    struct buf gathered; /* to be converted */
    struct buf out;
    size_t out_at;
    uint16_t status;
    bool refused, local; /* an error of ours; an answer of ours */
    const char *reason;  /* of a refusal, in a word; static */
    struct text fields;
    uint64_t read_us, looked_up_us; /* since the start */
    int64_t saved;
    bool ended;        /* the client has all of it */
    char memory[7168]; /* not zeroed; what most requests need */
};

/* gateway_read.c: 0, or the answer is settled already. */
int ask_read(struct service_call *q);
/* Reads this as the request's body. */
int ask_read_body(struct service_call *q, struct view body);

/* gateway_admit.c */
/* Settles the answer as ask_refuse() does; `reason` is the ledger's. Returns -EINVAL. */
int ask_bar(struct service_call *q, int status, const char *reason, struct view message, const char *code);
/* Who it is, and what rules and limits that brings. 0, or the answer is settled. */
int ask_identify(struct service_call *q);
/* Once the body is read: rules, limits, personal data. The body may be another afterwards. Likewise. */
int ask_admit(struct service_call *q);
/* May this one see it? */
bool ask_admits(const struct service_call *q, const struct ai_candidate *candidate);
/* All that could answer must not. */
void ask_refuse_barred(struct service_call *q);

/* gateway_private.c: 0, or the answer is settled. */
int ask_private(struct service_call *q);

/* gateway_models.c: true when it is answered here. */
bool ask_models(struct service_call *q);

/* What a purge by URL would name. */
struct view ask_url(struct service_call *q);

/* gateway_lookup.c */
/* What fills are told of a client's request: nothing. */
const struct http_request *ask_no_request(void);
/* A field of the request that says what the answer is; the lines of a list as one (RFC 9110 §5.3). What is in the key is what the provider
 * gets. */
struct view ask_field(struct service_call *q, struct view name);
/* The key of q->candidate. False: memory is out. */
bool ask_make_key(struct service_call *q);
/* The same of another kind, into *ret; its text lives as long as the request. */
bool ask_fingerprint(struct service_call *q, enum fingerprint_kind kind, struct view last_user, struct key *ret);
/* May what is stored be used for this request at all? */
bool ask_may_look(const struct service_call *q);
/* Looks in memory (or at what the climb brought). True: q->object is the answer. */
bool ask_find(struct service_call *q);
/* What the answer stored under q->key used, if it is in memory. */
bool ask_peek_usage(struct service_call *q, struct ai_usage *ret);
enum ask_climb { ASK_CLIMB_NONE, ASK_CLIMB_STARTED };
enum ask_climb ask_begin_climb(struct service_call *q);

/* gateway_semantic.c */
bool ask_semantic_wanted(const struct service_call *q);
/* Runs the semantic steps; false: wait. Ends in q->step ASK_ANSWER (a hit) or ASK_RESERVE. */
bool ask_semantic(struct service_call *q);
/* The answer is stored: later prompts like this one may find it. Compares it with what would have been served. */
void ask_semantic_learn(struct service_call *q);
void ask_semantic_end(struct service_call *q);

/* It may not be written down here: its answer is in memory only. */
static inline bool ask_is_passing(const struct service_call *q)
{
    return q->cache == &q->route->passing;
}

/* gateway.c */
/* It is this one's turn, or the answer is this one's though others were tried since. */
void ask_name(struct service_call *q, struct ai_candidate *candidate);
/* q->object is the answer, from a rung. */
void ask_use_hit(struct service_call *q);

/* gateway_choose.c */
/* Settles the answer when there is nobody to be asked, and the reason is known. */
void ask_choose_candidates(struct service_call *q);
/* Is it worth asking this one now? Notes for how long not. */
bool ask_candidate_is_up(struct service_call *q, struct ai_candidate *candidate);

/* gateway_ask.c */
/* Tokens that the candidate may answer with, of which the client said nothing. */
uint64_t ask_output_bound(const struct service_call *q);
/* 0; -EAGAIN: soon; -EINVAL with the answer settled. */
int ask_reserve(struct service_call *q);
/* Joins a fill under way for the key: 0 or -ENOENT. */
int ask_join(struct service_call *q);
/* Starts one: 0; -EALREADY, -ESTALE as fill_start(); -EINVAL with the answer settled; -ENOTSUP: the next candidate may;
 * -ENOMEM. */
int ask_fill(struct service_call *q);

/* gateway_hedge.c */
/* Is another candidate worth asking after this? */
bool ask_has_failed(const struct fill_view *look);
/* A call was started: when is it late? */
void ask_hedge_arm(struct service_call *q);
/* While waiting: asks the next candidate as well when it is late, and puts whoever has content first in q->reader. True: what was asked for
 * was found under the other's key, and is the answer. */
bool ask_hedge(struct service_call *q);
/* The call in q->reader failed and was left. True: there is another under way, now in its place. */
bool ask_hedge_take_over(struct service_call *q);
/* The rival is not needed any more. */
void ask_hedge_end(struct service_call *q);

/* gateway_body.c */
/* The client set no limit for the answer, and there must be one. */
bool ask_must_limit(const struct service_call *q);
/* 0 and the body; -EINVAL with the reason; -ENOMEM. */
int ask_body(struct service_call *q, enum ai_endpoint provider, struct buf *ret, struct text *reason);
/* What the provider's endpoint is for a client's. False: it has none that fits. */
bool ask_endpoint(const struct service_call *q, const struct ai_provider *provider, enum ai_endpoint *ret);

/* gateway_answer.c */
void ask_refuse(struct service_call *q, int status, const char *type, struct view message, const char *code);
void ask_use_object(struct service_call *q);
bool ask_is_stream(const struct object *object);
/* The whole answer in the other form, once it is there. 0; -EAGAIN; -EIO, -ENOMEM. */
int ask_convert(struct service_call *q);
/* As service.read and service.took. */
ssize_t ask_next(struct service_call *q, struct view *ret);
void ask_took(struct service_call *q, size_t len);

/* gateway_head.c */
/* Writes q->fields. False: memory is out. */
bool ask_write_fields(struct service_call *q);
/* What a stored head says its answer used. */
bool ask_stored_usage(const struct object *object, struct ai_usage *ret);
