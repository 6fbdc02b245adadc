/* Delivery: a settled answer (an object, complete or still arriving, or a text of our own) goes to the client. The queue of
 * segments borrows from the arena and the object; it is filled, written whole, then filled again. */
#include "http/conn.h"

#include "cache/conditional.h"
#include "http/peer.h"
#include "proto/date.h"

#include <errno.h>
#include <stdio.h>

#define WRITE_MAX ((uint64_t)1024 * 1024)
#define GONE_MAX 8u /* times a body may be lost between finding and opening it; the second time the origin is asked */
#define RANGE_BOUNDARY VIEW("doorstep-range-7f3c9a51")

void deliver_push(struct delivery *d, struct view v)
{
    if (v.len && d->count < DELIVERY_SEGMENTS)
        d->segments[d->count++] = (struct iovec){ .iov_base = (char *)(uintptr_t)v.ptr, .iov_len = v.len };
}

/* The client takes nothing now. */
static enum flow wait_for_room(struct req *r)
{
    /* A wake for another reason is no progress: the client's time goes on running. */
    if (r->write_stalled)
        r->timer_chosen = true;
    else
        req_set_timer(r, r->config->limits.write_timeout_ms);
    r->write_stalled = true;
    return FLOW_WAIT;
}

static enum flow cut(struct req *r)
{
    r->broken = true;
    r->step = STEP_FINISH;
    return FLOW_DONE;
}

/* Everything queued has left. */
static void flushed(struct req *r)
{
    struct delivery *d = &r->out;

    if (d->queued_body && r->object) {
        if (!r->object->external)
            object_advance(r->object, &d->cursor, d->queued_body);
        d->part_sent += d->queued_body;
        if (r->reader)
            fill_passed(r->reader, d->queued_body);
        d->queued_body = 0;
    }
    d->at = d->count = 0;
}

enum flow deliver_flush(struct req *r)
{
    struct delivery *d = &r->out;
    int sent_file;

    while (d->at < d->count) {
        ssize_t sent = sock_writev(req_sock(r), d->segments + d->at, (int)(d->count - d->at), d->file_left > 0);
        size_t left;

        if (sent == -EAGAIN)
            return wait_for_room(r);
        r->write_stalled = false;
        if (sent < 0)
            return cut(r);
        r->bytes_out += (uint64_t)sent;
        left = (size_t)sent;
        while (d->at < d->count && left >= d->segments[d->at].iov_len)
            left -= d->segments[d->at++].iov_len;
        if (left) {
            d->segments[d->at].iov_base = (char *)d->segments[d->at].iov_base + left;
            d->segments[d->at].iov_len -= left;
        }
    }
    if (d->file_left) {
        uint64_t before = d->file_left;

        sent_file = deliver_disk_send(r);
        r->write_stalled = r->write_stalled && d->file_left == before;
        if (sent_file < 0)
            return sent_file == -EAGAIN ? wait_for_room(r) : cut(r);
    }
    flushed(r);
    return FLOW_CONTINUE;
}

/* ---- what to answer with ---- */

/* Where the body bytes are: false when the length cannot be told yet. */
static bool length_known(const struct object *object)
{
    return atomic_load_explicit(&object->flags, memory_order_acquire) & OBJECT_LENGTH_KNOWN;
}

static struct view after_status_line(struct view head)
{
    return view_skip(head, view_find(head, '\n') + 1);
}

static void put_length(struct text *t, uint64_t len)
{
    text_lit(t, "Content-Length: ");
    text_u64(t, len);
    text_lit(t, "\r\n");
}

static bool prepare_ranges(struct req *r, struct range list[], size_t count, struct text *tail)
{
    struct delivery *d = &r->out;
    uint64_t complete = r->object->complete_len;
    struct view type = head_value(object_head(r->object), FIELD_CONTENT_TYPE);
    struct text prefix;

    d->part_count = (unsigned)count;
    if (count == 1) {
        d->parts = &d->one;
        d->one = (struct part){ .first = list[0].first, .len = list[0].last - list[0].first + 1 };
        text_lit(tail, "Content-Range: ");
        content_range_put(tail, list[0], complete);
        text_lit(tail, "\r\n");
        put_length(tail, d->one.len);
        return true;
    }
    d->parts = arena_alloc(&r->arena, count * sizeof(*d->parts));
    prefix = text_make(arena_alloc(&r->arena, count * (type.len + 200) + 64), count * (type.len + 200) + 64);
    if (!d->parts || !prefix.ptr)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t from = prefix.len;

        range_part_head(&prefix, RANGE_BOUNDARY, type, list[i], complete, i == 0);
        d->parts[i] = (struct part){ .prefix = view_make(prefix.ptr + from, prefix.len - from),
                                     .first = list[i].first,
                                     .len = list[i].last - list[i].first + 1 };
    }
    d->suffix = view_make(prefix.ptr + prefix.len, 0);
    range_part_end(&prefix, RANGE_BOUNDARY);
    d->suffix.len = (size_t)(prefix.ptr + prefix.len - d->suffix.ptr);
    text_lit(tail, "Content-Type: multipart/byteranges; boundary=");
    text_put(tail, RANGE_BOUNDARY);
    text_lit(tail, "\r\n");
    put_length(tail, range_multipart_len(list, count, RANGE_BOUNDARY, type, complete));
    return true;
}

/* A stored head without its Content-Type, for multipart answers. VIEW_NONE when memory is out. */
static struct view without_type(struct req *r, struct view head)
{
    struct text t = text_make(arena_alloc(&r->arena, head.len), head.len);
    struct view rest = head, name, value;

    if (!t.ptr)
        return VIEW_NONE;
    while (head_next(&rest, &name, &value)) {
        if (view_eq_icase(name, VIEW("content-type")))
            continue;
        text_put(&t, name);
        text_lit(&t, ": ");
        text_put(&t, value);
        text_lit(&t, "\r\n");
    }
    return text_view(&t);
}

/* Ranges of a GET for a 200 whose length is known. An arriving body is waited for where the range begins. */
static enum range_result wanted_ranges(struct req *r, struct range list[RANGE_MAX], size_t *ret_count)
{
    const struct object *object = r->object;
    struct view range = fields_value(&r->request.fields, FIELD_RANGE);

    if (!range.ptr || r->request.method != METHOD_GET || object->status != 200 || !length_known(object) ||
        object->flags & OBJECT_TRANSIENT ||
        !range_if_range(fields_value(&r->request.fields, FIELD_IF_RANGE), object_etag(object),
                        object->times.last_modified_s, object->times.date_s))
        return RANGE_IGNORE;
    return range_parse(range, object->complete_len, list, RANGE_MAX, ret_count);
}

static bool status_has_body(const struct req *r, unsigned status)
{
    return r->request.method != METHOD_HEAD && status != 204 && status != 304;
}

/* The whole body, as it is or as it arrives. */
/* Trailers need chunks, also when the whole answer, and with it its length, was there before we began. */
static bool has_trailers(struct req *r)
{
    struct fill_view look;

    if (!r->reader || r->request.minor == 0)
        return false;
    fill_look(r->reader, &look);
    return look.phase == FILL_DONE && fill_trailers(r->reader).len > 0;
}

static void prepare_whole(struct req *r, struct text *tail)
{
    struct delivery *d = &r->out;
    const struct object *object = r->object;

    d->parts = &d->one;
    d->part_count = 1;
    d->one = (struct part){ .len = UINT64_MAX };
    if (object->status == 204 || (object->status >= 100 && object->status < 200)) {
        d->part_count = 0;
    } else if (length_known(object) && !has_trailers(r)) {
        d->one.len = object->complete_len - object->body_first;
        /* A length is said for HEAD and 304 only where the origin said it. */
        if (status_has_body(r, object->status) || object->complete_len)
            put_length(tail, object->complete_len);
        d->framing = BODY_LENGTH;
    } else if (r->request.minor >= 1) {
        if (status_has_body(r, object->status)) {
            text_lit(tail, "Transfer-Encoding: chunked\r\n");
            d->framing = BODY_CHUNKED;
        }
    } else {
        d->framing = BODY_EOF;
        r->close = true;
    }
    if (!status_has_body(r, object->status))
        d->part_count = 0;
}

/* The end of the head. */
static void put_fields(struct req *r, struct text *tail)
{
    head_fields(r, tail);
    peer_put_answer(tail, r);
    text_lit(tail, "\r\n");
}

static void small_answer(struct req *r, struct view status_line, struct text *tail, unsigned status)
{
    struct delivery *d = &r->out;

    r->status = (uint16_t)status;
    deliver_push(d, status_line);
    if (status != 304) { /* a 304 has the stored one */
        text_lit(tail, "Date: ");
        date_put(tail, r->now_ms / 1000);
        text_lit(tail, "\r\n");
    }
    put_fields(r, tail);
    deliver_push(d, text_view(tail));
    d->part_count = 0;
}

static bool conditional_answer(struct req *r, struct text *tail)
{
    const struct fields *fields = &r->request.fields;
    struct object *object = r->object;
    struct text head;

    if (!fields_has(fields, FIELD_IF_NONE_MATCH) && !fields_has(fields, FIELD_IF_MODIFIED_SINCE) &&
        !fields_has(fields, FIELD_IF_MATCH) && !fields_has(fields, FIELD_IF_UNMODIFIED_SINCE))
        return false;
    /* What the origin judged itself (a passed request) is not judged again. */
    if (object->flags & OBJECT_TRANSIENT && !r->from_cache && r->private_fetch)
        return false;
    switch (conditional_evaluate(&r->request.fields, r->request.method, object->status, object_etag(object),
                                 &object->times)) {
    case COND_NONE: return false;
    case COND_NOT_MODIFIED:
        head = text_make(arena_alloc(&r->arena, object_head(object).len + 64), object_head(object).len + 64);
        if (!head.ptr)
            return false;
        conditional_304_head(object_head(object), &head);
        small_answer(r, text_view(&head), tail, 304);
        return true;
    case COND_FAILED:
        text_lit(tail, "Content-Length: 0\r\n");
        small_answer(r, VIEW("HTTP/1.1 412 Precondition Failed\r\n"), tail, 412);
        return true;
    }
    return false;
}

static bool range_answer(struct req *r, struct text *tail)
{
    not_zeroed struct range list[RANGE_MAX];
    struct delivery *d = &r->out;
    struct view head = object_head(r->object);
    size_t count = 0;

    if (!fields_has(&r->request.fields, FIELD_RANGE))
        return false;
    switch (wanted_ranges(r, list, &count)) {
    case RANGE_IGNORE: return false;
    case RANGE_UNSATISFIABLE:
        text_lit(tail, "Content-Range: ");
        content_range_put_unsatisfied(tail, r->object->complete_len);
        text_lit(tail, "\r\nContent-Length: 0\r\n");
        small_answer(r, VIEW("HTTP/1.1 416 Range Not Satisfiable\r\n"), tail, 416);
        return true;
    case RANGE_OK: break;
    }
    if (r->object->flags & OBJECT_PARTIAL && (count > 1 || list[0].first < r->object->body_first)) {
        r->broken = true; /* the origin sent another part than the one asked for */
        r->step = STEP_FINISH;
        return true;
    }
    /* A fill that ran out of storage waits for its readers and forgets what they have passed: one order for all of them. */
    if (r->reader && count > 1 && !(r->object->flags & OBJECT_COMPLETE))
        return false;
    head = count == 1 ? after_status_line(head) : without_type(r, head);
    if (!head.ptr || !prepare_ranges(r, list, count, tail))
        return false; /* no memory: the whole is as good an answer */
    r->status = 206;
    d->framing = BODY_LENGTH;
    deliver_push(d, VIEW("HTTP/1.1 206 Partial Content\r\n"));
    deliver_push(d, head);
    put_fields(r, tail);
    deliver_push(d, text_view(tail));
    return true;
}

/* The head was found, but the body under it has been recycled meanwhile: that is a miss. */
static enum flow deliver_gone(struct req *r)
{
    if (++r->restarts > GONE_MAX)
        return reply_error(r, 503, "the stored body was lost again and again while it was looked for");
    memory_drop_object(r->hl->server->memory, r->object);
    if (r->object_held)
        object_unref(r->object);
    object_unref(r->raised.object);
    object_unref(r->stored);
    fill_leave(r->reader);
    r->object_held = r->from_cache = false;
    r->object = r->raised.object = r->stored = NULL;
    r->reader = NULL;
    r->no_collapse = r->climbed; /* it may have moved: then the disk knows where to */
    r->step = STEP_LOOKUP;
    return FLOW_CONTINUE;
}

enum flow deliver_object(struct req *r)
{
    size_t cap = 2048 + r->config->region_line.len + peer_answer_room(r);
    struct text tail = text_make(arena_alloc(&r->arena, cap), cap);

    if (r->object->external && !r->disk_stream && deliver_disk_open(r) < 0)
        return deliver_gone(r);
    r->step = STEP_DELIVER;
    r->close = r->close || (r->request.body != BODY_NONE && !r->body_done);
    if (!tail.ptr)
        return reply_error(r, 500, "out of memory");
    if (conditional_answer(r, &tail) || range_answer(r, &tail))
        return FLOW_CONTINUE;
    r->status = r->object->status;
    prepare_whole(r, &tail);
    put_fields(r, &tail);
    deliver_push(&r->out, object_head(r->object));
    deliver_push(&r->out, text_view(&tail));
    return FLOW_CONTINUE;
}

/* ---- queueing the body ---- */

enum more { MORE_QUEUED, MORE_LATER, MORE_END, MORE_BROKEN };

static void queue_last_chunk(struct req *r)
{
    struct delivery *d = &r->out;

    deliver_push(d, VIEW("0\r\n"));
    if (r->reader)
        deliver_push(d, fill_trailers(r->reader));
    deliver_push(d, VIEW("\r\n"));
    d->framing = BODY_NONE;
}

/* Nothing is readable at the cursor: is this the end, a pause, or a break? */
static enum more source_state(struct req *r, const struct fill_view *look)
{
    if (!r->reader)
        return MORE_END;
    if (look->phase == FILL_DONE)
        return MORE_END;
    return look->phase == FILL_FAILED ? MORE_BROKEN : MORE_LATER;
}

/* What lies before the range is passed over as it arrives: a fill that goes at its readers' pace waits for us, too. */
static void skip_to(struct req *r, uint64_t offset)
{
    struct object_cursor *cursor = &r->out.cursor;
    struct view run;

    while (cursor->offset < offset && (run = object_peek(r->object, cursor)).len) {
        uint64_t len = MIN((uint64_t)run.len, offset - cursor->offset);

        object_advance(r->object, cursor, len);
        fill_passed(r->reader, len);
    }
}

static enum more queue_runs(struct req *r, struct part *part)
{
    struct delivery *d = &r->out;
    struct fill_view look = { 0 };
    struct iovec runs[DELIVERY_SEGMENTS - 6];
    struct text frame = TEXT_ON(d->frame);
    struct view run;
    uint64_t left = part->len == UINT64_MAX ? UINT64_MAX : part->len - d->part_sent, bytes = 0;
    uint64_t offset = part->first + d->part_sent - r->object->body_first;
    int count;

    /* The phase first: what is readable after it was seen DONE is all there will be. */
    if (r->reader)
        fill_look(r->reader, &look);
    if (left == 0)
        return MORE_END;
    if (r->reader && !r->object->external) {
        skip_to(r, offset);
        if (d->cursor.offset < offset)
            return source_state(r, &look);
    }
    if (r->object->external) {
        ssize_t got = left == UINT64_MAX && offset >= r->object->complete_len
                          ? 0
                          : deliver_disk_read(r, offset, MIN(left, WRITE_MAX), &run);

        if (got <= 0)
            return got == -EAGAIN ? MORE_LATER : got < 0 ? MORE_BROKEN : MORE_END;
        d->queued_body = (uint64_t)got;
        if (run.len == 0)
            return MORE_QUEUED;
        runs[0] = (struct iovec){ .iov_base = (char *)(uintptr_t)run.ptr, .iov_len = run.len };
        count = 1;
    } else {
        object_seek(r->object, &d->cursor, offset);
        count = object_peekv(r->object, &d->cursor, runs, (int)ARRAY_LEN(runs), MIN(left, WRITE_MAX));
        if (count == 0)
            return source_state(r, &look);
    }
    for (int i = 0; i < count; i++)
        bytes += runs[i].iov_len;
    if (d->framing == BODY_CHUNKED) {
        text_printf(&frame, "%llx\r\n", (unsigned long long)bytes);
        deliver_push(d, text_view(&frame));
    }
    for (int i = 0; i < count; i++)
        deliver_push(d, view_make(runs[i].iov_base, runs[i].iov_len));
    if (d->framing == BODY_CHUNKED)
        deliver_push(d, VIEW("\r\n"));
    d->queued_body = bytes;
    return MORE_QUEUED;
}

static enum more queue_more(struct req *r)
{
    struct delivery *d = &r->out;
    enum more more;

    while (d->part < d->part_count) {
        struct part *part = &d->parts[d->part];

        if (part->prefix.len && !d->prefix_queued) {
            deliver_push(d, part->prefix);
            d->prefix_queued = true;
        }
        more = queue_runs(r, part);
        if (more == MORE_END && part->len != UINT64_MAX && d->part_sent < part->len)
            return MORE_BROKEN; /* a stored body shorter than its length: never pretend */
        if (more != MORE_END)
            return more == MORE_LATER && d->count ? MORE_QUEUED : more;
        d->part++;
        d->part_sent = 0;
        d->prefix_queued = false;
    }
    if (d->suffix.len && !d->suffix_queued) {
        deliver_push(d, d->suffix);
        d->suffix_queued = true;
    }
    if (d->framing == BODY_CHUNKED)
        queue_last_chunk(r);
    return d->count ? MORE_QUEUED : MORE_END;
}

/* An origin may answer while it still reads (an echo, a transcoder): without the rest of the request it would never end. */
static enum flow wait_uploading(struct req *r)
{
    bool uploads = r->reader && r->reader->starter && r->request.body != BODY_NONE && !r->body_end_written;

    return uploads && upload_some(r) == FLOW_DONE ? FLOW_CONTINUE : FLOW_WAIT;
}

enum flow step_deliver(struct req *r)
{
    enum flow flow;

    for (;;) {
        /* Head and first body bytes leave in one write. */
        enum more more = r->out.queued_body ? MORE_QUEUED : r->object ? queue_more(r) : MORE_END;

        if (r->out.count == 0 && r->out.file_left == 0) {
            if (more == MORE_LATER)
                return wait_uploading(r);
            r->broken = r->broken || more == MORE_BROKEN;
            r->step = STEP_FINISH;
            return FLOW_CONTINUE;
        }
        flow = deliver_flush(r);
        if (flow == FLOW_DONE)
            return FLOW_CONTINUE; /* broken: finish */
        if (flow == FLOW_WAIT)
            return wait_uploading(r);
    }
}
