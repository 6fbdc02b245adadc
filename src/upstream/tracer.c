/* The queue of spans and the one who sends them.
 *
 * Whoever ends a trace puts its spans, encoded already, into a chunk at the end of the queue, under a lock that is held for a few
 * stores. On the sending loop a task wakes by timer (or when much has come), takes chunks up to the size of a batch and posts them with
 * one exchange. A batch that was not taken is tried again a few times, ever later; meanwhile the queue fills up to its bound. */
#include "upstream/tracer.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "upstream/exchange.h"

#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

#define QUEUE_BYTES ((size_t)4 * 1024 * 1024)
#define INTERVAL_MS 1000u
#define BATCH_BYTES ((size_t)512 * 1024)
#define TRIES_MAX 5u
#define BACKOFF_MS 1000u

struct chunk {
    struct node link;
    unsigned count;
    size_t len;
    char bytes[];
};

struct tracer {
    struct upstream *upstream; /* NULL: nothing is recorded */
    char *texts;               /* path, fields, names */
    struct view path, fields;
    struct otlp_service service;
    uint64_t threshold; /* ids below are sampled */
    bool follow;
    size_t queue_bytes;
    uint32_t interval_ms;

    pthread_mutex_t lock;
    struct node queue;
    size_t queued;
    bool told; /* the sending loop knows that there is much */
    struct tracer_stats stats;
    struct loop *loop; /* NULL: not started, or over */
    struct message message;
    bool hurry, busy;

    /* the sending loop's own */
    struct task task;
    struct timer timer;
    struct exchange *x;
    struct buf batch, request;
    unsigned batch_count, tries;
};

/* ---- ids ---- */

uint64_t tracer_id(void)
{
    static _Thread_local uint64_t state;
    uint64_t x = state;

    if (x == 0 && (getrandom(&x, sizeof(x), 0) != (ssize_t)sizeof(x) || x == 0))
        x = clock_mono_us() | 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return state = x;
}

bool tracer_begin(const struct tracer *tracer, struct view received, struct trace_context *ret)
{
    bool known = trace_parse(received, ret) == 0, recorded;

    if (!known)
        *ret = (struct trace_context){ .trace_id = { tracer_id(), tracer_id() }, .parent_id = tracer_id() };
    if (!tracer || !tracer->upstream)
        return false;
    if (known && tracer->follow)
        recorded = ret->flags & TRACE_SAMPLED;
    else
        recorded = tracer->threshold == UINT64_MAX || ret->trace_id[1] < tracer->threshold;
    if (!recorded)
        return false;
    ret->flags |= TRACE_SAMPLED;
    if (!known)
        ret->parent_id = 0;
    return true;
}

/* ---- the queue ---- */

static void handle(struct loop *loop, struct message *message)
{
    struct tracer *tracer = CONTAINER_OF(message, struct tracer, message);
    bool started;

    (void)loop;
    pthread_mutex_lock(&tracer->lock);
    tracer->told = false;
    started = tracer->loop != NULL;
    pthread_mutex_unlock(&tracer->lock);
    if (!started || tracer->tries > 0)
        return;
    timer_clear(&tracer->timer);
    task_wake(&tracer->task);
}

/* Under the lock. */
static void tell(struct tracer *tracer)
{
    if (tracer->told || !tracer->loop)
        return;
    tracer->told = true;
    loop_post(tracer->loop, &tracer->message);
}

void tracer_put(struct tracer *tracer, struct view spans, unsigned count)
{
    struct chunk *chunk = heap_alloc(sizeof(*chunk) + spans.len);

    if (chunk) {
        chunk->count = count;
        chunk->len = spans.len;
        memcpy(chunk->bytes, spans.ptr, spans.len);
        list_init(&chunk->link);
    }
    pthread_mutex_lock(&tracer->lock);
    tracer->stats.spans += count;
    if (!chunk || tracer->queued + spans.len > tracer->queue_bytes || spans.len > BATCH_BYTES) {
        tracer->stats.dropped += count;
    } else {
        list_push(&tracer->queue, &chunk->link);
        tracer->queued += spans.len;
        if (tracer->queued > BATCH_BYTES / 2)
            tell(tracer);
        chunk = NULL;
    }
    pthread_mutex_unlock(&tracer->lock);
    heap_free(chunk);
}

/* Chunks for one batch, out of the queue. */
static void take_chunks(struct tracer *tracer, struct node *ret)
{
    size_t sum = 0;

    list_init(ret);
    pthread_mutex_lock(&tracer->lock);
    while (!list_empty(&tracer->queue)) {
        struct chunk *chunk = CONTAINER_OF(tracer->queue.next, struct chunk, link);

        if (sum && sum + chunk->len > BATCH_BYTES)
            break;
        list_remove(&chunk->link);
        list_push(ret, &chunk->link);
        sum += chunk->len;
        tracer->queued -= chunk->len;
    }
    tracer->busy = sum > 0;
    pthread_mutex_unlock(&tracer->lock);
}

static void count(struct tracer *tracer, uint64_t *counter, uint64_t n)
{
    pthread_mutex_lock(&tracer->lock);
    *counter += n;
    pthread_mutex_unlock(&tracer->lock);
}

/* ---- sending ---- */

static bool make_batch(struct tracer *tracer)
{
    struct node chunks, *node;

    take_chunks(tracer, &chunks);
    if (list_empty(&chunks))
        return false;
    tracer->batch.len = 0;
    tracer->batch.failed = false;
    tracer->batch_count = tracer->tries = 0;
    otlp_open(&tracer->batch, &tracer->service);
    while ((node = list_pop(&chunks))) {
        struct chunk *chunk = CONTAINER_OF(node, struct chunk, link);

        if (tracer->batch_count)
            buf_char(&tracer->batch, ',');
        buf_put(&tracer->batch, view_make(chunk->bytes, chunk->len));
        tracer->batch_count += chunk->count;
        heap_free(chunk);
    }
    otlp_close(&tracer->batch);
    return true;
}

/* The batch is over: taken, or given up. */
static void end_batch(struct tracer *tracer, uint64_t *counter)
{
    count(tracer, counter, tracer->batch_count);
    buf_free(&tracer->batch);
    buf_free(&tracer->request);
    tracer->batch_count = tracer->tries = 0;
    pthread_mutex_lock(&tracer->lock);
    tracer->busy = false;
    pthread_mutex_unlock(&tracer->lock);
}

static void send_batch(struct tracer *tracer)
{
    struct exchange_request request = { .method = METHOD_POST, .replayable = true };
    struct buf *b = &tracer->request;

    b->len = 0;
    b->failed = false;
    buf_lit(b, "POST ");
    buf_put(b, tracer->path);
    buf_lit(b, " HTTP/1.1\r\nHost: ");
    buf_put(b, upstream_authority(tracer->upstream));
    buf_lit(b, "\r\nContent-Type: application/json\r\nUser-Agent: doorstep\r\n");
    buf_put(b, tracer->fields);
    buf_lit(b, "Content-Length: ");
    buf_u64(b, tracer->batch.len);
    buf_lit(b, "\r\n\r\n");
    buf_put(b, buf_view(&tracer->batch));
    request.head = buf_view(b);
    tracer->tries++;
    count(tracer, tracer->tries > 1 ? &tracer->stats.retries : &tracer->stats.batches, 1);
    if (b->failed || tracer->batch.failed ||
        exchange_start(&tracer->x, tracer->upstream, &tracer->task, &request) < 0) {
        end_batch(tracer, &tracer->stats.failed);
        timer_set(&tracer->timer, tracer->interval_ms);
    }
}

/* `status` 0: nobody answered. What may be sent again, and when, is said by the OTLP specification. */
static void sent(struct tracer *tracer, int status)
{
    bool again = status == 0 || status == 429 || status == 502 || status == 503 || status == 504;

    exchange_close(tracer->x);
    tracer->x = NULL;
    if (again && tracer->tries < TRIES_MAX && !tracer->hurry) {
        timer_set(&tracer->timer, (uint64_t)BACKOFF_MS << (tracer->tries - 1));
        return;
    }
    end_batch(tracer, status >= 200 && status < 300 ? &tracer->stats.exported : &tracer->stats.failed);
    timer_set(&tracer->timer, tracer->interval_ms);
    if (tracer->hurry)
        task_wake(&tracer->task);
}

/* The answer's body says nothing that we need. */
static void read_answer(struct tracer *tracer)
{
    not_zeroed char memory[4096];
    const struct http_response *head;
    ssize_t got = -EAGAIN;

    switch (exchange_state(tracer->x)) {
    case EXCHANGE_BODY:
    case EXCHANGE_DONE: break;
    case EXCHANGE_FAILED: sent(tracer, 0); return;
    default: return;
    }
    head = exchange_head(tracer->x);
    while ((got = exchange_read(tracer->x, memory, sizeof(memory))) > 0)
        ;
    if (got != -EAGAIN)
        sent(tracer, head->status);
}

static void run(struct task *task)
{
    struct tracer *tracer = CONTAINER_OF(task, struct tracer, task);

    if (tracer->x)
        read_answer(tracer);
    if (tracer->x || (tracer->timer.expires_ms && !tracer->timer.fired && !tracer->hurry))
        return;
    timer_clear(&tracer->timer);
    if (tracer->batch_count || make_batch(tracer)) {
        send_batch(tracer);
        return;
    }
    timer_set(&tracer->timer, tracer->interval_ms);
}

/* ---- life ---- */

static struct view keep(char **at, struct view text)
{
    char *start = *at;

    if (text.len)
        memcpy(start, text.ptr, text.len);
    *at += text.len;
    return view_make(start, text.len);
}

static int open_upstream(struct tracer *tracer, const struct tracer_options *from, struct text *reason)
{
    struct upstream_options options;

    upstream_options_init(&options);
    options.name = "tracing";
    options.servers = &from->server;
    options.server_count = 1;
    options.loops = from->loops;
    options.tls = from->tls;
    options.tls_name = from->tls_name;
    options.max_connections = options.max_idle = 1;
    options.timeouts.first_byte_ms = options.timeouts.idle_ms = 10000;
    options.timeouts.total_ms = 20000;
    options.retries = 0;
    options.breaker.enabled = false;
    return upstream_new(&tracer->upstream, &options, reason);
}

int tracer_new(const struct tracer_options *options, struct tracer **ret, struct text *reason)
{
    const struct otlp_service *service = &options->service;
    size_t room = options->path.len + options->fields.len + service->name.len + service->version.len +
                  service->instance.len + service->region.len + 1;
    struct tracer *tracer = heap_zalloc(sizeof(*tracer));
    char *at;
    int r = 0;

    if (!tracer)
        return -ENOMEM;
    pthread_mutex_init(&tracer->lock, NULL);
    list_init(&tracer->queue);
    tracer->texts = at = heap_alloc(room);
    if (!at) {
        tracer_free(tracer);
        return -ENOMEM;
    }
    tracer->path = keep(&at, options->path);
    tracer->fields = keep(&at, options->fields);
    tracer->service = (struct otlp_service){ keep(&at, service->name), keep(&at, service->version),
                                             keep(&at, service->instance), keep(&at, service->region) };
    tracer->threshold = options->sample >= 1 ? UINT64_MAX : (uint64_t)(options->sample * 18446744073709549568.0);
    tracer->follow = options->follow;
    tracer->queue_bytes = options->queue_bytes ? options->queue_bytes : QUEUE_BYTES;
    tracer->interval_ms = options->interval_ms ? options->interval_ms : INTERVAL_MS;
    tracer->message.handle = handle;
    tracer->batch = buf_make(BATCH_BYTES + 65536);
    tracer->request = buf_make(BATCH_BYTES + 131072);
    if (options->server)
        r = open_upstream(tracer, options, reason);
    if (r < 0) {
        tracer_free(tracer);
        return r;
    }
    *ret = tracer;
    return 0;
}

bool tracer_is_on(const struct tracer *tracer)
{
    return tracer->upstream != NULL;
}

void tracer_start(struct tracer *tracer, struct loop *loop)
{
    if (!tracer->upstream)
        return;
    task_init(&tracer->task, loop, run);
    timer_init(&tracer->timer, &tracer->task);
    timer_set(&tracer->timer, tracer->interval_ms);
    pthread_mutex_lock(&tracer->lock);
    tracer->loop = loop;
    pthread_mutex_unlock(&tracer->lock);
}

/* `hurry` is set by the message, so that only the sending loop writes it. */
static void handle_flush(struct loop *loop, struct message *message)
{
    struct tracer *tracer = CONTAINER_OF(message, struct tracer, message);

    (void)loop;
    pthread_mutex_lock(&tracer->lock);
    tracer->told = false;
    pthread_mutex_unlock(&tracer->lock);
    if (!tracer->loop)
        return;
    tracer->hurry = true;
    task_wake(&tracer->task);
}

void tracer_flush(struct tracer *tracer)
{
    pthread_mutex_lock(&tracer->lock);
    if (!tracer->told && tracer->loop) {
        tracer->message.handle = handle_flush;
        tell(tracer);
    }
    pthread_mutex_unlock(&tracer->lock);
}

bool tracer_is_idle(struct tracer *tracer)
{
    bool idle;

    pthread_mutex_lock(&tracer->lock);
    idle = !tracer->loop || (list_empty(&tracer->queue) && !tracer->busy);
    pthread_mutex_unlock(&tracer->lock);
    return idle;
}

void tracer_stop(struct tracer *tracer, struct loop *loop)
{
    if (tracer->loop != loop)
        return;
    exchange_close(tracer->x);
    tracer->x = NULL;
    if (tracer->batch_count)
        end_batch(tracer, &tracer->stats.failed);
    timer_clear(&tracer->timer);
    task_cancel(&tracer->task);
    upstream_loop_close(tracer->upstream, loop);
    pthread_mutex_lock(&tracer->lock);
    tracer->loop = NULL;
    pthread_mutex_unlock(&tracer->lock);
}

void tracer_free(struct tracer *tracer)
{
    struct node *node;

    if (!tracer)
        return;
    while ((node = list_pop(&tracer->queue)))
        heap_free(CONTAINER_OF(node, struct chunk, link));
    buf_free(&tracer->batch);
    buf_free(&tracer->request);
    upstream_free(tracer->upstream);
    pthread_mutex_destroy(&tracer->lock);
    heap_free(tracer->texts);
    heap_free(tracer);
}

void tracer_stats(struct tracer *tracer, struct tracer_stats *ret)
{
    pthread_mutex_lock(&tracer->lock);
    *ret = tracer->stats;
    ret->queued_bytes = tracer->queued;
    pthread_mutex_unlock(&tracer->lock);
}
