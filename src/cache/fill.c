/* A fill's life on its own loop: start, follow the exchange, pump the body, end. What other loops may touch is in
 * fill_table.c; what the response head means is in fill_head.c. */
#include "cache/fill_table.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>

/* Bytes one fill may move before the loop's other tasks get their turn. */
#define PUMP_BUDGET ((size_t)1024 * 1024)
#define READ_MAX ((size_t)256 * 1024)
/* A fill nobody reads goes on when this little is left of it. */
/* What a source may add to a stored head. */
#define SOURCE_FIELDS_MAX ((size_t)4096)
#define NEARLY_COMPLETE ((uint64_t)256 * 1024)

/* ---- construction ---- */

static struct view put(char **at, struct view v)
{
    char *start = *at;

    if (v.len)
        memcpy(start, v.ptr, v.len);
    *at += v.len;
    return view_make(start, v.len);
}

static void rebase(struct view *v, struct view from, const char *to)
{
    if (v->ptr && from.ptr && v->ptr >= from.ptr && v->ptr <= from.ptr + from.len)
        v->ptr = to + (v->ptr - from.ptr);
}

/* The client's request outlives the client here: its views are moved to our copy of the bytes. */
static void copy_request(struct fill *fill, const struct fill_request *from, struct field *list, char **at)
{
    const struct http_request *source = from->request;
    struct http_request *copy = &fill->request;
    struct view *moved[] = { &copy->method_name, &copy->target, &copy->scheme,
                             &copy->authority,   &copy->path,   &copy->query };
    struct view bytes = put(at, from->request_bytes);

    *copy = *source;
    for (size_t i = 0; i < ARRAY_LEN(moved); i++)
        rebase(moved[i], from->request_bytes, bytes.ptr);
    copy->fields.list = list;
    for (size_t i = 0; i < source->fields.count; i++) {
        list[i] = source->fields.list[i];
        rebase(&list[i].name, from->request_bytes, bytes.ptr);
        rebase(&list[i].value, from->request_bytes, bytes.ptr);
    }
}

static void fill_run(struct task *task);

static struct fill *fill_new(const struct fill_request *from, struct loop *loop, struct view *ret_head)
{
    size_t fields = from->request->fields.count * sizeof(struct field);
    size_t texts = from->request_bytes.len + from->key.text.len + from->url.len + from->head.len;
    struct fill *fill = heap_alloc(sizeof(*fill) + 16 + fields + texts);
    char *at;

    if (!fill)
        return NULL;
    memset(fill, 0, sizeof(*fill));
    task_init(&fill->task, loop, fill_run);
    list_init(&fill->link);
    list_init(&fill->live);
    list_init(&fill->readers);
    pthread_mutex_init(&fill->lock, NULL);
    fill->field_list = (struct field *)(void *)(((uintptr_t)fill->bytes + 15) & ~(uintptr_t)15);
    at = (char *)(fill->field_list + from->request->fields.count);
    copy_request(fill, from, fill->field_list, &at);
    fill->context = *from->context;
    fill->policy = from->policy;
    fill->upstream = from->upstream;
    fill->scheme = from->scheme;
    fill->key = from->key;
    fill->key.text = put(&at, from->key.text);
    fill->url = put(&at, from->url);
    *ret_head = put(&at, from->head);
    fill->completing = from->completing;
    fill->background = from->background;
    fill->parent = from->parent;
    fill->insists = from->insists;
    fill->shared = from->shared;
    fill->purge_pos = marks_position(from->context->marks);
    fill->leased = from->leased;
    fill->request_ms = clock_wall_ms();
    fill->started_us = clock_mono_us();
    fill->refs = 1; /* the owner's, until the exchange is closed */
    fill->keep = from->keep;
    fill->keep->retain(fill->keep);
    if (from->stored)
        fill->stored = object_ref(from->stored);
    return fill;
}

static void fill_free(struct fill *fill)
{
    CHECK(!fill->x && !fill->source && list_empty(&fill->readers));
    for (unsigned i = 0; i < fill->interim_count; i++)
        heap_free((char *)(uintptr_t)fill->interims[i].ptr);
    heap_free((char *)(uintptr_t)fill->trailers.ptr);
    heap_free((char *)(uintptr_t)fill->trailers_out.ptr);
    heap_free(fill->own_key);
    object_unref(fill->object);
    object_unref(fill->stored);
    fill->keep->release(fill->keep);
    pthread_mutex_destroy(&fill->lock);
    heap_free(fill);
}

void fill_put_locked(struct fill *fill)
{
    bool last = --fill->refs == 0;

    pthread_mutex_unlock(&fill->lock);
    if (last)
        fill_free(fill);
}

/* Between the caller's lookup and now, another loop may have started or even finished the same fetch. The finisher stores
 * before it leaves the table, and we look at both under the table's lock: one of them shows. */
static int enlist(struct fill *fill, const struct fill_request *from)
{
    struct fill_shard *shard = fill_table_shard(from->context->table, &from->key);
    const struct memory_entry *entry;
    struct memory_variants variants;
    int r = 0;

    pthread_mutex_lock(&shard->lock);
    LIST_EACH (link, &shard->fills) {
        struct fill *other = CONTAINER_OF(link, struct fill, link);

        if (from->shared && other->shared && key_eq(&other->key, &from->key) && fill_is_current(other) &&
            fill_fits(other, from->request))
            r = -EALREADY;
    }
    if (r == 0 && from->shared && (entry = memory_find(from->context->memory, &from->key))) {
        variants = memory_variants(entry);
        if (variants.count && memory_variant(variants, 0) != from->newest_seen)
            r = -ESTALE;
    }
    if (r == 0) {
        fill->shard = shard;
        list_push(&shard->fills, &fill->link);
    }
    pthread_mutex_unlock(&shard->lock);
    return r;
}

static void abandon(struct fill *fill)
{
    pthread_mutex_lock(&fill->lock);
    fill_put_locked(fill);
}

int fill_start(const struct fill_request *from, struct task *task, struct fill_reader **ret_reader)
{
    struct view head;
    struct fill *fill = fill_new(from, task->loop, &head);
    struct fill_reader *reader = NULL;
    struct exchange_request request;
    int r = 0;

    if (!fill)
        return -ENOMEM;
    if (from->shared || fill->request.method == METHOD_GET)
        r = enlist(fill, from);
    if (r < 0) {
        abandon(fill);
        return r;
    }
    request = (struct exchange_request){
        .method = fill->request.method,
        .head = head,
        .body = fill->request.body,
        .content_length = fill->request.content_length,
        .replayable = method_is_safe(fill->request.method) || fill->request.method == METHOD_PUT ||
                      fill->request.method == METHOD_DELETE,
        .upgrade = from->upgrade,
        .want_interim = from->want_interim,
        .deadline_ms = from->shared ? 0 : from->deadline_ms, /* others may wait longer */
        .key_hash = fill->key.hash[0],
    };
    pthread_mutex_lock(&fill->lock);
    if (!from->background && !(reader = fill_add_starter(fill, task)))
        r = -ENOMEM;
    pthread_mutex_unlock(&fill->lock);
    if (r == 0)
        r = from->open ? from->open(from->open_arg, &fill->task, &fill->source)
                       : exchange_start(&fill->x, fill->upstream, &fill->task, &request);
    if (r < 0) {
        fill_unlist(fill);
        pthread_mutex_lock(&fill->lock);
        fill->phase = FILL_FAILED;
        fill->outcome = FILL_ERROR;
        fill->error = EXCHANGE_INTERNAL;
        fill_wake_readers(fill); /* somebody on another loop may have joined already */
        pthread_mutex_unlock(&fill->lock);
        fill_leave(reader);
        abandon(fill);
        return r;
    }
    list_push(&fill->context.table->live[loop_index(task->loop)], &fill->live);
    fill->context.table->background[loop_index(task->loop)] += fill->background;
    task_wake(&fill->task);
    *ret_reader = reader;
    return 0;
}

/* ---- the end ---- */

/* A copy of raw trailer lines without fields that say something about the message to this node or the next: framing, routing,
 * who asks, what may be stored (RFC 9110 §6.5.1). Whatever this node knows by name is of that kind. VIEW_NONE when none is left
 * or memory is out. */
static struct view trailers_copy(struct view raw)
{
    struct text out = text_make(raw.len ? heap_alloc(raw.len) : NULL, raw.len);
    size_t end;

    while (out.ptr && (end = view_find(raw, '\n')) < raw.len) {
        struct view line = view_first(raw, end + 1);

        if (field_lookup(view_first(line, view_find(line, ':'))) == FIELD_OTHER)
            text_put(&out, line);
        raw = view_skip(raw, end + 1);
    }
    if (out.len)
        return text_view(&out);
    heap_free(out.ptr);
    return VIEW_NONE;
}

static void note_end(struct fill *fill, enum fill_phase phase)
{
    struct source *source = fill->source;
    struct view trailers = source ? VIEW_NONE : exchange_trailers(fill->x);
    enum exchange_error error = source ? source->functions->error(source) : exchange_error(fill->x);
    const char *detail = source ? source->functions->detail(source) : exchange_error_detail(fill->x);

    if (fill->outcome == FILL_UNDECIDED)
        fill->timing = *fill_exchange_timing(fill);
    if (error != EXCHANGE_OK)
        fill->error = error;
    if (*detail)
        snprintf(fill->detail, sizeof(fill->detail), "%s", detail);
    if (phase == FILL_DONE && trailers.len)
        fill->trailers = trailers_copy(trailers);
}

/* The owner's part is over: readers may go on reading what is there. */
static void finish(struct fill *fill, enum fill_phase phase)
{
    fill_spill_end(fill, phase == FILL_DONE); /* first: until it is kept, a write must find it */
    fill_unlist(fill);
    if (fill->leased)
        ladder_release(fill->context.ladder, fill->task.loop, &fill->key);
    pthread_mutex_lock(&fill->lock);
    note_end(fill, phase);
    fill->phase = phase;
    if (fill->outcome == FILL_UNDECIDED)
        fill->outcome = FILL_ERROR;
    fill_wake_readers(fill);
    pthread_mutex_unlock(&fill->lock);
    if (fill->source)
        fill->source->functions->close(fill->source);
    exchange_close(fill->x);
    fill->source = NULL;
    fill->x = NULL;
    list_remove(&fill->live);
    fill->context.table->background[loop_index(fill->task.loop)] -= fill->background;
    task_cancel(&fill->task);
    abandon(fill);
}

void fill_table_close_loop(struct fill_table *table, struct loop *loop)
{
    struct node *live = &table->live[loop_index(loop)];

    while (!list_empty(live))
        finish(CONTAINER_OF(live->next, struct fill, live), FILL_FAILED);
}

unsigned fill_table_background(const struct fill_table *table, const struct loop *loop)
{
    return table->background[loop_index(loop)];
}

static void set_why(struct fill *fill, enum why why)
{
    pthread_mutex_lock(&fill->lock);
    fill->why = why;
    pthread_mutex_unlock(&fill->lock);
}

/* A write or a purge sets `doomed` before it drops: whoever looks after storing drops what came too late for that. */
void fill_keep_object(struct fill *fill, struct object *object, bool confirmed)
{
    const struct fill_context *context = &fill->context;
    struct loop *loop = fill->task.loop;
    enum memory_refusal refusal;

    if (memory_put(context->memory, object, &refusal) < 0)
        set_why(fill, refusal == MEMORY_TOO_LARGE ? WHY_TOO_LARGE : WHY_NOT_ADMITTED);
    if (context->ladder && !atomic_load(&fill->doomed)) {
        ladder_put(context->ladder, loop, object, &fill->policy->ladder, confirmed, fill->leased);
        fill->leased = false;
    }
    if (!atomic_load(&fill->doomed))
        return;
    memory_drop_object(context->memory, object);
    if (context->ladder)
        ladder_drop(context->ladder, loop, &fill->key, fill->url);
}

static void store(struct fill *fill)
{
    struct object *object = fill->object, *compact;
    uint64_t position = atomic_load(&object->purge_pos);
    struct buf fields = buf_make(SOURCE_FIELDS_MAX);
    enum mark_verdict verdict;

    if (!fill->storing)
        return;
    if (fill->source && !fill->source->functions->sound(fill->source, &fields)) {
        buf_free(&fields);
        set_why(fill, WHY_UNSOUND);
        return;
    }
    verdict = marks_check(fill->context.marks, object);
    if (atomic_load(&fill->doomed) || verdict == MARKS_HARD) {
        buf_free(&fields);
        set_why(fill, WHY_PURGED);
        return;
    }
    /* Its position goes along to where the flag does not: whoever looks there must find the soft mark again. */
    if (verdict == MARKS_SOFT)
        atomic_store(&object->purge_pos, position);
    object->cost_ms = (uint32_t)MIN((clock_mono_us() - fill->started_us) / 1000, UINT32_MAX);
    compact = object_compact(object, buf_view(&fields));
    buf_free(&fields);
    fill_keep_object(fill, compact ? compact : object, false); /* readers go on with the original */
    object_unref(compact);
}

static void complete(struct fill *fill)
{
    struct object *object = fill->object;

    if (!(object->flags & OBJECT_LENGTH_KNOWN))
        object->complete_len = atomic_load(&object->body_len) + object->body_first;
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN);
    store(fill);
    finish(fill, FILL_DONE);
}

/* ---- the body ---- */

static uint64_t slowest_reader(struct fill *fill)
{
    uint64_t least = UINT64_MAX;

    LIST_EACH (link, &fill->readers) {
        struct fill_reader *reader = CONTAINER_OF(link, struct fill_reader, link);

        least = MIN(least, atomic_load(&reader->passed));
    }
    return least;
}

/* The object outgrew memory: it goes on to disk, where there is one. Those who read it get the rest, at the pace of the slowest;
 * nobody new joins. */
static void stop_storing(struct fill *fill, enum why why)
{
    bool small = atomic_load(&fill->object->body_len) <= fill->policy->max_object;

    fill_unshare(fill);
    fill->storing = false;
    if (small && fill_spill_begin(fill))
        why = WHY_NONE; /* it is kept all the same: a write must find it */
    else
        fill_unlist(fill);
    set_why(fill, why);
    atomic_fetch_or(&fill->object->flags, OBJECT_TRANSIENT);
}

/* Decides whether the body may grow now. A body that is stored runs at its storage's pace; one that is not runs at most
 * `window` ahead of its slowest reader. */
static bool may_grow(struct fill *fill)
{
    uint64_t have = atomic_load_explicit(&fill->object->body_len, memory_order_relaxed), least;

    if (fill->storing && have > MIN(fill->policy->memory_max, fill->policy->max_object))
        stop_storing(fill, WHY_TOO_LARGE);
    if (fill->spill && have > fill->policy->max_object)
        fill_spill_end(fill, false);
    if (!fill_spill_feed(fill))
        return false;
    if (fill->storing)
        return true;
    pthread_mutex_lock(&fill->lock);
    /* Set before looking: a reader that moves on in between sees it and nudges. */
    atomic_store(&fill->stalled, true);
    least = slowest_reader(fill);
    if (least == UINT64_MAX || have - MIN(have, least) < fill->context.window)
        atomic_store(&fill->stalled, false);
    least = MIN(least, fill_spill_passed(fill));
    if (least != UINT64_MAX)
        object_trim(fill->object, &fill->trimmed, least);
    pthread_mutex_unlock(&fill->lock);
    return !atomic_load(&fill->stalled);
}

static char *room(struct fill *fill, size_t *ret_cap)
{
    struct object *object = fill->object;
    size_t want = (size_t)MIN(READ_MAX, fill_body_left(fill));
    bool full = !object->last || object->last->len == object->last->cap;
    char *memory;

    want = MAX(want, 1);
    if (!full || !fill->storing)
        return object_reserve(object, want, ret_cap);
    if (memory_reserve(fill->context.memory, want) < 0) {
        stop_storing(fill, WHY_NO_MEMORY);
        return object_reserve(object, want, ret_cap);
    }
    memory = object_reserve(object, want, ret_cap);
    memory_unreserve(fill->context.memory, want);
    return memory;
}

static void pump(struct fill *fill)
{
    size_t budget = PUMP_BUDGET, cap = 1;
    bool moved = false;
    ssize_t got = -EAGAIN;
    char end; /* only to hear that the body has ended: no room is made for what cannot come */

    while (budget > 0 && may_grow(fill)) {
        char *memory = fill_body_left(fill) == 0 ? &end : room(fill, &cap);

        if (!memory) {
            got = -ENOMEM;
            break;
        }
        got = fill_read(fill, memory, memory == &end ? 1 : MIN(cap, budget));
        if (got <= 0)
            break;
        CHECK(memory != &end);
        object_commit(fill->object, (size_t)got);
        budget -= (size_t)got;
        moved = true;
    }
    if (got == 0 && fill_spill_feed(fill)) {
        complete(fill);
        return;
    }
    if (got < 0 && got != -EAGAIN) {
        finish(fill, FILL_FAILED);
        return;
    }
    if (budget == 0)
        task_wake(&fill->task);
    /* The starter may have waited for room to write its request body. */
    if (moved || fill->request.body != BODY_NONE) {
        pthread_mutex_lock(&fill->lock);
        fill_wake_readers(fill);
        pthread_mutex_unlock(&fill->lock);
    }
}

/* ---- the task ---- */

bool fill_add_interim(struct fill *fill, struct view head)
{
    char *copy = fill->interim_count < FILL_INTERIMS_MAX ? heap_strdup(head.ptr, head.len) : NULL;

    pthread_mutex_lock(&fill->lock);
    if (copy)
        fill->interims[fill->interim_count++] = view_make(copy, head.len);
    fill_wake_readers(fill);
    pthread_mutex_unlock(&fill->lock);
    return copy != NULL;
}

static void take_interims(struct fill *fill)
{
    while (fill_state(fill) == EXCHANGE_INTERIM) {
        fill_add_interim(fill, fill_head_bytes(fill));
        exchange_interim_next(fill->x);
    }
}

/* Nobody reads any more: worth finishing only for the cache, and only when little is missing. */
static bool unwanted(struct fill *fill)
{
    bool alone;

    /* Fetched for the cache: done with when it turns out that the cache cannot have it. */
    if (fill->background && (fill->phase == FILL_WAITING || fill->storing || fill->spill))
        return false;
    if (fill->shard)
        pthread_mutex_lock(&fill->shard->lock);
    pthread_mutex_lock(&fill->lock);
    alone = fill->reader_count == 0;
    if (alone && fill->phase == FILL_BODY && (fill->storing || fill->spill) && fill_body_left(fill) <= NEARLY_COMPLETE)
        alone = false;
    if (alone && fill->shard)
        list_remove(&fill->link); /* under its lock: nobody can have joined in between */
    pthread_mutex_unlock(&fill->lock);
    if (fill->shard)
        pthread_mutex_unlock(&fill->shard->lock);
    return alone;
}

static void fill_run(struct task *task)
{
    struct fill *fill = CONTAINER_OF(task, struct fill, task);

    if (unwanted(fill)) {
        finish(fill, FILL_FAILED);
        return;
    }
    if (fill->phase == FILL_WAITING) {
        take_interims(fill);
        switch (fill_state(fill)) {
        case EXCHANGE_FAILED: finish(fill, FILL_FAILED); return;
        case EXCHANGE_BODY:
        case EXCHANGE_TUNNEL:
        case EXCHANGE_DONE:
            fill_decide(fill);
            if (fill->outcome == FILL_UNDECIDED) {
                finish(fill, FILL_FAILED);
                return;
            }
            break;
        default:
            /* Still under way. The starter of a private fill may have a request body to write. */
            pthread_mutex_lock(&fill->lock);
            if (!fill->shared)
                fill_wake_readers(fill);
            pthread_mutex_unlock(&fill->lock);
            return;
        }
    }
    if (fill->outcome == FILL_TUNNEL)
        return; /* the starter takes the connection, and its leaving ends us */
    if (fill->outcome == FILL_FRESHENED)
        finish(fill, FILL_DONE);
    else if (fill->outcome == FILL_PASSING && unwanted(fill))
        finish(fill, FILL_FAILED);
    else
        pump(fill);
}

/* ---- the starter of a private fill ---- */

ssize_t fill_write(struct fill_reader *reader, const struct iovec *iov, int count)
{
    return reader->fill->x ? exchange_write(reader->fill->x, iov, count) : -EPIPE;
}

int fill_write_end(struct fill_reader *reader, struct view trailers)
{
    struct fill *fill = reader->fill;

    if (!fill->x)
        return -EPIPE;
    if (!fill->trailers_out.ptr)
        fill->trailers_out = trailers_copy(trailers);
    return exchange_write_end(fill->x, fill->trailers_out);
}

int fill_take_sock(struct fill_reader *reader, struct task *task, struct sock *ret)
{
    return reader->fill->x ? exchange_take_sock(reader->fill->x, task, ret) : -EPIPE;
}

struct view fill_trailers(struct fill_reader *reader)
{
    return reader->fill->trailers;
}

struct upstream *fill_upstream(const struct fill_reader *reader)
{
    return reader->fill->upstream;
}

enum exchange_error fill_error(struct fill_reader *reader)
{
    return reader->fill->error;
}

const char *fill_error_detail(struct fill_reader *reader)
{
    return reader->fill->detail;
}

const struct exchange_timing *fill_timing(struct fill_reader *reader)
{
    pthread_mutex_lock(&reader->fill->lock);
    reader->timing = reader->fill->timing;
    pthread_mutex_unlock(&reader->fill->lock);
    return &reader->timing;
}
