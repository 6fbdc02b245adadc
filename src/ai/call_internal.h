/* A call as its own files see it: call.c (life, attempts, what the fill sees), call_answer.c (what the provider's bytes become),
 * call_message.c (heads, both ways), call_blame.c (whose fault it was). */
#pragma once

#include "ai/call.h"
#include "ai/provider.h"
#include "ai/translate.h"
#include "ai/watch.h"

#define CALL_FIELDS_MAX 48u
#define CALL_HEAD_MAX ((size_t)16384)
#define CALL_ANSWER_MAX ((size_t)32 * 1024 * 1024) /* of an answer that is not a stream */
#define CALL_EVENT_MAX ((size_t)4 * 1024 * 1024)
#define CALL_ERROR_MAX ((size_t)64 * 1024)
#define CALL_HELD_MAX ((size_t)256 * 1024) /* before the first content; also how far we read ahead of the fill */
#define CALL_HELD_EVENTS 64u
#define CALL_TAIL_BYTES 1024u /* about what follows the finish reason */
#define CALL_LINGER_MS 1000u  /* from the terminal event to the end of the body */

enum call_mode {
    CALL_WAITING, /* for the provider's head */
    CALL_ERROR,   /* reading the body of an error */
    CALL_PLAIN,   /* reading a whole answer */
    CALL_STREAM,
    CALL_RAW,
    CALL_OVER, /* nothing more will come; what is in `out` is the fill's */
};

struct call {
    struct source source;
    struct task task;
    struct timer timer; /* of content */
    struct timer total;
    struct task *owner;
    struct ai_call_request request;
    struct ai_provider *provider;
    struct exchange *x;
    struct buf message; /* to the provider */
    size_t body_at;     /* in it */
    enum call_mode mode;
    uint32_t tried; /* credentials */
    int credential;
    unsigned repeats; /* of the same provider */
    struct buf in;    /* an answer or an error, until it is whole */
    struct sse sse;
    struct watch watch;
    struct translate_stream *translate;
    struct buf out; /* for the fill, from out_at on */
    size_t out_at;
    bool paused; /* nothing is read until the fill has taken `out` */
    unsigned held_events;
    bool published; /* the fill may see the head */
    bool sound, billed;
    bool too_long; /* the provider says that its model cannot take so long a prompt */
    enum exchange_state state;
    enum exchange_error error;
    char detail[96];
    struct exchange_timing timing;
    struct ai_call_report report;
    uint64_t started_us;
    uint64_t retry_after_s;
    struct buf head_bytes;
    struct field fields[CALL_FIELDS_MAX];
    struct http_response head;
};

/* call_message.c */
/* The HTTP message for the provider, with its credential. */
bool call_write_request(struct call *call);
/* The head that the fill sees. `from`: the provider's, for its rate limits and id; NULL: none. */
bool call_write_head(struct call *call, int status, struct view content_type, const struct http_response *from);
/* All of the answer is in `out` when its head is published with this status. */
bool call_is_whole(const struct call *call, int status);
/* The field with what the answer used, for its stored head. */
void call_put_usage(const struct call *call, struct buf *b);

/* call_answer.c */
/* What has come of a stream: events are watched, translated and put into `out`. */
void call_take_stream(struct call *call, struct view bytes);
/* The provider's body has ended. */
void call_end_stream(struct call *call);
void call_end_plain(struct call *call);
void call_end_error(struct call *call, int status);

/* call_blame.c */
/* The request was refused for what it asks. */
bool call_is_refusal(const struct call *call, int status, struct view body);
/* What a failure teaches about the credential. True: another one may do better. */
bool call_blame_credential(struct call *call, int status, enum watch_error error);
const char *call_error_class(int status, enum watch_error error); /* static */
/* It is the request that is wrong: nobody else will like it better, and nobody is to blame. */
bool call_is_of_request(int status);
int call_status_for_client(int status);
enum ai_dialect call_client_dialect(const struct call *call);
/* Takes our credentials out of `out`, from `from` on. */
void call_hide_keys(struct call *call, size_t from);
/* Puts the body that the client gets into `out`. */
void call_put_error(struct call *call, int status, struct view body);

/* call.c */
/* The attempt failed with what a provider's status or an error inside of a 200 says: another attempt, or the answer to the fill. `body`:
 * the provider's error body, empty when there is none. */
void call_failed(struct call *call, int status, enum watch_error error, struct view body);
/* The head is there and may be seen. */
void call_publish(struct call *call, int status, struct view content_type);
/* No more bytes: `sound` says whether they may be kept. */
void call_over(struct call *call, bool sound);
