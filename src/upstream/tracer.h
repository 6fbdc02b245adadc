/* Traces: who is traced, and spans on their way to a collector (OTLP over HTTP, JSON). Anybody may hand over finished spans; one loop
 * sends them in batches. Nothing waits for the collector: what does not fit into the bounded queue, and what a collector does not take
 * after a few tries, is dropped and counted. */
#pragma once

#include "proto/otlp.h"
#include "proto/trace.h"
#include "upstream/upstream.h"

struct tracer;

struct tracer_options {
    const char *server; /* "http://host:port", without path; NULL: nothing is recorded */
    struct tls_options tls;
    const char *tls_name; /* NULL: the host */
    struct view path;     /* "/v1/traces"; copied, as all below */
    struct view fields;   /* further request lines, each with CRLF: credentials of the collector */
    struct otlp_service service;
    double sample;        /* share of the traces begun here */
    bool follow;          /* a caller's decision, where there is one, is ours */
    unsigned loops;       /* loop_index() < loops */
    size_t queue_bytes;   /* 0: 4 MiB */
    uint32_t interval_ms; /* between batches; 0: 1000 */
};

/* 0; -EINVAL with the reason; -ENOMEM. */
int tracer_new(const struct tracer_options *options, struct tracer **ret, struct text *reason);
/* Is there a collector? Any thread. */
bool tracer_is_on(const struct tracer *tracer);
/* On the loop that is to send. */
void tracer_start(struct tracer *tracer, struct loop *loop);
/* Any thread: sends what there is, without a second try. */
void tracer_flush(struct tracer *tracer);
/* Any thread: nothing is queued or on its way. */
bool tracer_is_idle(struct tracer *tracer);
/* On the sending loop. What is left is dropped. Nothing happens when it was never started. */
void tracer_stop(struct tracer *tracer, struct loop *loop);
/* After the loops. NULL is fine. */
void tracer_free(struct tracer *tracer);

/* The trace of a request. True: record it; then *ret has the ids of the trace, flags that say so, and in parent_id the caller's
 * span or 0. False: *ret is what to tell those asked next, as it is: the caller's context, or a new one that nobody records.
 * `received`: the traceparent field, or empty. `tracer` NULL: nothing is recorded. Any thread. */
bool tracer_begin(const struct tracer *tracer, struct view received, struct trace_context *ret);
/* For spans; never 0. */
uint64_t tracer_id(void);
/* Any thread. `spans`: as otlp_make() leaves them; copied. */
void tracer_put(struct tracer *tracer, struct view spans, unsigned count);

struct tracer_stats {
    uint64_t spans;    /* handed over */
    uint64_t exported; /* taken by the collector */
    uint64_t dropped;  /* the queue was full, or memory was out */
    uint64_t failed;   /* the collector did not take them */
    uint64_t batches, retries;
    uint64_t queued_bytes; /* now */
};
void tracer_stats(struct tracer *tracer, struct tracer_stats *ret);
