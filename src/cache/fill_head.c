/* What the head of a response means for its fill: store it, pass it on, or freshen what is stored (RFC 9111 §3, §4.3). */
#include "cache/fill_table.h"

#include "base/clock.h"
#include "base/heap.h"
#include "cache/conditional.h"
#include "cache/tags.h"
#include "cache/vary.h"
#include "proto/date.h"
#include "proto/etag.h"
#include "proto/range.h"

/* Room for a Date we add and the status line of a completed object. */
#define HEAD_SLACK ((size_t)256)

struct head_rules {
    bool storing; /* Age is ours to say from now on */
    bool strip_cookies;
    bool strip_tags;
    bool strip_timing;                 /* a parent's: where the time went once says nothing about a hit */
    bool whole;                        /* a 206 kept as part of its 200: no Content-Range, status 200 */
    int64_t date_s;                    /* added when the origin sent none (RFC 9110 §6.6.1) */
    const struct fields *confirmed_by; /* the 304 that confirmed fill->stored, or NULL */
};

static bool head_skips(const struct fields *fields, const struct field *field, const struct head_rules *rules)
{
    switch (field->id) {
    case FIELD_CONTENT_LENGTH:
    case FIELD_X_REQUEST_ID: /* names one request, ours goes on every answer */ return true;
    case FIELD_AGE: return rules->storing;
    case FIELD_SET_COOKIE: return rules->strip_cookies;
    case FIELD_CACHE_TAG:
    case FIELD_SURROGATE_KEY: return rules->strip_tags;
    case FIELD_SERVER_TIMING: return rules->strip_timing;
    case FIELD_CONTENT_RANGE: return rules->whole;
    default: return field_is_hop_by_hop(fields, field);
    }
}

/* Writes the head in the form of object.head; *ret_etag is where the ETag's value stands in it. */
static void head_write(struct text *out, const struct http_response *response, const struct head_rules *rules,
                       struct view *ret_etag)
{
    *ret_etag = VIEW_NONE;
    text_lit(out, "HTTP/1.1 ");
    text_u64(out, rules->whole ? 200 : response->status);
    text_char(out, ' ');
    text_put(out, rules->whole ? VIEW("OK") : response->reason);
    text_lit(out, "\r\n");
    for (size_t i = 0; i < response->fields.count; i++) {
        const struct field *field = &response->fields.list[i];

        if (head_skips(&response->fields, field, rules))
            continue;
        text_put(out, field->name);
        text_lit(out, ": ");
        if (field->id == FIELD_ETAG && !ret_etag->ptr)
            *ret_etag = view_make(out->ptr + out->len, field->value.len);
        text_put(out, field->value);
        text_lit(out, "\r\n");
    }
    if (!fields_has(&response->fields, FIELD_DATE)) {
        text_lit(out, "Date: ");
        date_put(out, rules->date_s);
        text_lit(out, "\r\n");
    }
}

/* Makes the object a response will live in, without its body. `buffer` is scratch for the texts. */
static struct object *object_make(struct fill *fill, const struct http_response *response,
                                  const struct freshness *freshness, const struct head_rules *rules, struct view vary,
                                  struct view values, struct text *buffer)
{
    struct object_parts parts = { .key = fill->key.text, .url = fill->url, .vary_names = vary, .vary_values = values };
    struct view etag;
    struct object *object;
    size_t head_len;

    head_write(buffer, response, rules, &etag);
    head_len = buffer->len;
    if (rules->confirmed_by)
        tags_put_confirmed(buffer, &response->fields, rules->confirmed_by, object_tags(fill->stored));
    else
        tags_put(buffer, &response->fields); /* also of what is passed: a child may want to store it */
    if (buffer->overflow)
        return NULL;
    parts.head = view_make(buffer->ptr, head_len);
    parts.tags = view_make(buffer->ptr + head_len, buffer->len - head_len);
    parts.etag_at = etag.ptr ? (size_t)(etag.ptr - buffer->ptr) : 0;
    parts.etag_len = etag.len;
    if (response->body == BODY_LENGTH)
        parts.body_hint = (size_t)response->content_length;
    object = object_new(&fill->key, &parts);
    if (!object)
        return NULL;
    object->status = rules->whole ? 200 : response->status;
    object->method = (uint16_t)fill->request.method;
    atomic_store(&object->purge_pos, fill->purge_pos);
    object->times = freshness->times;
    object->flags = freshness->object_flags | (rules->storing ? 0 : (unsigned)OBJECT_TRANSIENT);
    if (fields_has(&fill->request.fields, FIELD_AUTHORIZATION))
        object->flags |= OBJECT_AUTHORIZED;
    if (response->has_content_length || response->body == BODY_LENGTH) {
        object->complete_len = response->content_length;
        object->flags |= OBJECT_LENGTH_KNOWN;
    } else if (response->body == BODY_NONE) {
        object->flags |= OBJECT_LENGTH_KNOWN;
    }
    return object;
}

/* ---- invalidation (RFC 9111 §4.4) ---- */

/* What a URL's responses are stored under, gone from every rung. */
static void drop_key(struct fill *fill, struct view key_text, struct view url)
{
    const struct fill_context *context = &fill->context;
    struct key key = key_of(key_text);

    fill_table_doom(context->table, &key);
    if (context->ladder)
        ladder_drop(context->ladder, fill->task.loop, &key, url);
    else
        memory_drop(context->memory, &key);
}

static void invalidate(struct fill *fill, struct view path_and_query)
{
    const struct fill_context *context = &fill->context;
    const struct cache_policy *policy = fill->policy;
    struct view authority = fill->request.authority;
    size_t cap = path_and_query.len + authority.len + policy->scope.len + policy->key.host.len + 256;
    char *memory = heap_alloc(2 * cap);
    struct text key = text_make(memory, memory ? cap : 0),
                url = text_make(memory ? memory + cap : NULL, memory ? cap : 0);
    struct view query = path_and_query, path = view_cut(&query, '?');

    if (memory && key_url(&policy->key, fill->scheme, authority, path, query, &url) == 0 &&
        key_build_url(&policy->key, policy->scope, fill->scheme, authority, path, query, &key) == 0) {
        drop_key(fill, text_view(&key), text_view(&url));
        /* Where cookies or headers enter the key, one URL has many keys: a mark reaches them all. */
        if (policy->key.cookie_count || policy->key.header_count)
            context->purge(context->purge_arg, fill->task.loop,
                           &(struct mark){ .kind = MARK_URL, .text = text_view(&url) }, false);
    }
    heap_free(memory);
}

/* RFC 9875 §3: the groups of this origin that a write names are purged, on every node. */
static void invalidate_groups(struct fill *fill, const struct http_response *response)
{
    const struct fill_context *context = &fill->context;
    size_t cap = 2 * fill_head_bytes(fill).len + fill->url.len + 64;
    struct text memory = text_make(heap_alloc(cap), cap);
    struct text names_memory = text_make(memory.ptr, memory.ptr ? cap / 2 : 0);
    struct view names[GROUPS_MAX];
    size_t count = tags_invalidated(&response->fields, &names_memory, names);

    for (size_t i = 0; i < count; i++) {
        struct text mark = text_make(memory.ptr + cap / 2, cap - cap / 2);

        marks_group_mark(&mark, fill->url, names[i]);
        if (!mark.overflow)
            context->purge(context->purge_arg, fill->task.loop,
                           &(struct mark){ .kind = MARK_GROUP, .text = text_view(&mark) }, true);
    }
    heap_free(memory.ptr);
}

static void invalidate_after_write(struct fill *fill, const struct http_response *response)
{
    static const enum field_id named[] = { FIELD_LOCATION, FIELD_CONTENT_LOCATION };
    struct view target = fill->request.path;
    struct view other;

    if (method_is_safe(fill->request.method) || response->status < 200 || response->status >= 400)
        return;
    if (fill->request.query.ptr)
        target.len = (size_t)(fill->request.query.ptr + fill->request.query.len - target.ptr);
    invalidate(fill, target);
    if (fields_find(&response->fields, VIEW("Cache-Group-Invalidation")))
        invalidate_groups(fill, response);
    for (size_t i = 0; i < ARRAY_LEN(named); i++)
        if (fields_has(&response->fields, named[i]) &&
            location_same_origin(fields_value(&response->fields, named[i]), fill->scheme, fill->request.authority,
                                 &other))
            invalidate(fill, other);
}

/* ---- parents ---- */

/* "<identity>/<position>": up to which purge of our bus the parent's answer is good. False: it does not say, or speaks of another
 * bus. */
static bool parent_position(const struct fill *fill, const struct http_response *response, uint64_t *ret)
{
    uint64_t ours = marks_bus_identity(fill->context.marks);
    struct view position = fields_value(&response->fields, FIELD_DOORSTEP_POSITION);
    struct view identity = view_cut(&position, '/');
    char memory[24];
    struct text expected = TEXT_ON(memory);

    text_hex(&expected, ours, 16);
    return fill->parent && ours && view_eq(identity, text_view(&expected)) && view_parse_u64(position, ret);
}

/* We know of purges that the parent had not heard of when it got this response: does one of them concern it? The response keeps the
 * older position, so that what is stored is never taken for newer than its original. */
static bool is_behind(struct fill *fill, const struct http_response *response, struct object *object)
{
    struct marks *marks = fill->context.marks;
    uint64_t theirs;

    if (!parent_position(fill, response, &theirs) || theirs >= marks_bus_at(marks, fill->purge_pos))
        return false;
    atomic_store(&object->purge_pos, theirs);
    if (marks_check_foreign(marks, object) == MARKS_CLEAR)
        return false;
    atomic_store(&object->purge_pos, 0);
    return true;
}

/* May the request be sent again, elsewhere or with more emphasis? Else its answer is all there is. */
static bool may_ask_again(const struct fill *fill)
{
    return !fill->insists && method_is_safe(fill->request.method) && fill->request.body == BODY_NONE;
}

static void note_behind(struct fill *fill)
{
    pthread_mutex_lock(&fill->lock);
    fill->behind = true;
    pthread_mutex_unlock(&fill->lock);
}

/* ---- outcomes ---- */

static void decided(struct fill *fill, enum fill_outcome outcome, struct object *object, enum why why)
{
    if (outcome != FILL_STORING)
        fill_unlist(fill);
    pthread_mutex_lock(&fill->lock);
    fill->storing = outcome == FILL_STORING;
    fill->outcome = outcome;
    fill->object = object;
    fill->why = why;
    fill->phase = FILL_BODY;
    fill_wake_readers(fill);
    pthread_mutex_unlock(&fill->lock);
}

/* Of no use: the owner ends the fill, which tells the readers together with the error. */
static void undecidable(struct fill *fill, enum exchange_error error)
{
    pthread_mutex_lock(&fill->lock);
    fill->why = WHY_ORIGIN_ERROR;
    fill->error = error;
    pthread_mutex_unlock(&fill->lock);
}

/* The stored response was confirmed: its fresh form is the old body under the merged head. */
static bool freshen(struct fill *fill, const struct http_response *not_modified, struct text *buffer)
{
    const struct object *stored = fill->stored;
    struct head_rules rules = {
        .storing = true,
        .strip_tags = fill->policy->strip_tags,
        .strip_timing = fill->parent,
        .date_s = fill->request_ms / 1000,
        .confirmed_by = &not_modified->fields,
    };
    struct field list[256];
    struct http_response merged;
    struct http1_limits limits = { .head_max = SIZE_MAX, .target_max = SIZE_MAX };
    enum http1_error error;
    struct freshness freshness;
    struct object *object;
    size_t scanned = 0, used;
    bool behind;

    head_merge_304(object_head(stored), &not_modified->fields, buffer);
    text_lit(buffer, "\r\n");
    fields_init(&merged.fields, list, ARRAY_LEN(list));
    if (buffer->overflow || http1_parse_response(text_view(buffer), &limits, &scanned, METHOD_GET, &merged, &error) < 0)
        return false;
    merged.body = BODY_EOF;
    merged.has_content_length = false;
    used = buffer->len;
    freshness_compute(&merged.fields, merged.status, &fill->policy->freshness, fill->request_ms, clock_wall_ms(),
                      &freshness);
    object = object_make(fill, &merged, &freshness, &rules, object_vary_names(stored), object_vary_values(stored),
                         &(struct text){ .ptr = buffer->ptr + used, .cap = buffer->cap - used });
    if (!object)
        return false;
    object_share_body(object, fill->stored);
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN | (stored->flags & OBJECT_PARTIAL));
    behind = is_behind(fill, not_modified, object);
    if (behind && may_ask_again(fill)) {
        object_unref(object);
        note_behind(fill);
        return false;
    }
    if (behind)
        atomic_store(&fill->doomed, true);
    if (!atomic_load(&fill->doomed) && !(freshness.cc.flags & (CC_NO_STORE | CC_PRIVATE))) {
        fill_keep_object(fill, object, true);
    } else {
        memory_drop_object(fill->context.memory, fill->stored);
    }
    decided(fill, FILL_FRESHENED, object, WHY_NONE);
    return true;
}

/* Does this 206 continue the stored part exactly where it ends (RFC 9111 §3.4)? */
static bool continues(const struct object *stored, const struct http_response *response,
                      const struct content_range *range)
{
    struct etag ours, theirs;

    return range->complete_known && range->complete == stored->complete_len && stored->body_first == 0 &&
           range->first == atomic_load(&stored->body_len) && range->last + 1 == range->complete &&
           etag_parse(object_etag(stored), &ours) && etag_parse(fields_value(&response->fields, FIELD_ETAG), &theirs) &&
           etag_strong_eq(ours, theirs);
}

/* Sets the partial's place, and for the rest of a stored part: everything that is already here. False: not usable. */
static bool place_partial(struct fill *fill, struct object *object, const struct http_response *response)
{
    struct content_range range;

    if (!content_range_parse(fields_value(&response->fields, FIELD_CONTENT_RANGE), &range) || range.unsatisfied)
        return false;
    if (fill->completing) {
        if (!continues(fill->stored, response, &range) || object_copy_body(object, fill->stored) < 0)
            return false;
        object->complete_len = range.complete;
    } else {
        if (!range.complete_known)
            return false;
        object->body_first = range.first;
        object->complete_len = range.complete;
        atomic_fetch_or(&object->flags, OBJECT_PARTIAL);
    }
    atomic_fetch_or(&object->flags, OBJECT_LENGTH_KNOWN);
    return true;
}

static void mark_pass(struct fill *fill, enum why why)
{
    /* Reasons that lie in this one request say nothing about the next one; a failing origin is not a property of the key. */
    if (why == WHY_REQUEST_NO_STORE || why == WHY_AUTHORIZATION || why == WHY_COOKIE_HEURISTIC || why == WHY_METHOD ||
        why == WHY_PURGED || fill->status >= 500 || !fill->shared || fill->source)
        return;
    memory_mark_pass(fill->context.memory, &fill->key, (uint64_t)(clock_wall_ms() + fill->policy->pass_marker_ms));
}

/* Variants go to disk under keys that must be read first: only what memory holds whole can wait for that. */
static uint64_t storage_max(const struct fill *fill, struct view vary)
{
    uint64_t memory = MIN(fill->policy->memory_max, memory_object_max(fill->context.memory));
    bool disk = fill->context.disk && fill->policy->ladder.disk != LADDER_DISK_OFF && vary.len == 0;

    return MIN(fill->policy->max_object, disk ? UINT64_MAX : memory);
}

static enum why judge(struct fill *fill, const struct http_response *response, const struct freshness *freshness,
                      struct text *vary, struct text *values)
{
    struct storable_input input = {
        .request = &fill->request,
        .scheme = fill->scheme,
        .status = response->status,
        .response = &response->fields,
        .freshness = freshness,
        .policy = &fill->policy->storable,
        .now_ms = clock_wall_ms(),
    };
    enum why why = storable(&input);

    if (why != WHY_NONE)
        return why;
    if (fill->request.method == METHOD_HEAD)
        return WHY_METHOD;
    switch (vary_names(&response->fields, vary)) {
    case VARY_STAR: return WHY_VARY_STAR;
    case VARY_LIMIT: return WHY_VARY_LIMIT;
    case VARY_NONE:
    case VARY_NAMES: break;
    }
    if (!vary_values(text_view(vary), &fill->request.fields, values))
        return WHY_VARY_LIMIT;
    if (response->body == BODY_LENGTH && response->content_length > storage_max(fill, text_view(vary)))
        return WHY_TOO_LARGE;
    if (atomic_load(&fill->doomed))
        return WHY_PURGED;
    return WHY_NONE;
}

/* A response to POST is stored for later GETs of its target (RFC 9110 §9.3.3): under their key. */
static bool take_get_key(struct fill *fill)
{
    size_t cap = fill->key.text.len + fill->request.target.len + fill->request.authority.len + 256;
    struct text text = text_make(heap_alloc(cap), cap);

    if (!text.ptr)
        return false;
    fill->own_key = text.ptr;
    if (key_build_url(&fill->policy->key, fill->policy->scope, fill->scheme, fill->request.authority,
                      fill->request.path, fill->request.query, &text) < 0)
        return false;
    fill->key = key_of(text_view(&text));
    return true;
}

static void open_object(struct fill *fill, const struct http_response *response, struct text *buffer)
{
    not_zeroed char vary_memory[1024], values_memory[2048];
    struct text vary = TEXT_ON(vary_memory), values = TEXT_ON(values_memory);
    struct freshness freshness;
    struct head_rules rules = { .strip_tags = fill->policy->strip_tags, .date_s = clock_wall_ms() / 1000 };
    struct object *object;
    enum why why;

    freshness_compute(&response->fields, response->status, &fill->policy->freshness, fill->request_ms, clock_wall_ms(),
                      &freshness);
    why = judge(fill, response, &freshness, &vary, &values);
    if (why == WHY_NONE && !method_is_cacheable(fill->request.method) && !take_get_key(fill))
        why = WHY_NO_MEMORY;
    rules.storing = why == WHY_NONE;
    rules.strip_timing = rules.storing && fill->parent;
    rules.strip_cookies = rules.storing && fill->policy->storable.set_cookie == SET_COOKIE_STRIP;
    rules.whole = response->status == 206 && (rules.storing || fill->completing);
    object = object_make(fill, response, &freshness, &rules, text_view(&vary), text_view(&values), buffer);
    if (object && rules.whole && !place_partial(fill, object, response)) {
        object_unref(object);
        if (fill->completing) {
            undecidable(fill, EXCHANGE_PROTOCOL_ERROR);
            return;
        }
        rules.whole = rules.storing = false;
        why = WHY_BAD_PARTIAL;
        buffer->len = 0;
        object = object_make(fill, response, &freshness, &rules, VIEW_NONE, VIEW_NONE, buffer);
    }
    if (!object) {
        undecidable(fill, EXCHANGE_INTERNAL);
        return;
    }
    if (is_behind(fill, response, object)) {
        if (may_ask_again(fill)) {
            object_unref(object);
            note_behind(fill);
            undecidable(fill, EXCHANGE_INTERNAL);
            return;
        }
        /* The origin's word, by way of a parent that still has to hear of the purge, or the answer to a write: for those who
         * asked, not to be kept. */
        atomic_store(&fill->doomed, true);
    }
    if (why != WHY_NONE)
        mark_pass(fill, why);
    decided(fill, why == WHY_NONE ? FILL_STORING : FILL_PASSING, object, why);
}

void fill_decide(struct fill *fill)
{
    const struct http_response *response = fill_head(fill);
    size_t cap = 2 * fill_head_bytes(fill).len + HEAD_SLACK; /* the head, and tags out of it */
    struct text buffer;

    if (fill->stored)
        /* merged, then as the new object's */
        cap = 2 * (cap + object_head(fill->stored).len) + object_tags(fill->stored).len + HEAD_SLACK;
    buffer = text_make(heap_alloc(cap), cap);
    pthread_mutex_lock(&fill->lock);
    fill->status = response->status;
    fill->timing = *fill_exchange_timing(fill);
    pthread_mutex_unlock(&fill->lock);
    invalidate_after_write(fill, response);
    if (!buffer.ptr)
        undecidable(fill, EXCHANGE_INTERNAL);
    else if (fill_state(fill) == EXCHANGE_TUNNEL) {
        /* The 101 head goes to the client as it is, in the row of interim heads. */
        if (fill_add_interim(fill, fill_head_bytes(fill)))
            decided(fill, FILL_TUNNEL, NULL, WHY_UPGRADE);
        else
            undecidable(fill, EXCHANGE_INTERNAL);
    } else if (fill->stored && !fill->completing && response->status == 304) {
        if (!validator_selects(&response->fields, object_etag(fill->stored), fill->stored->times.last_modified_s,
                               clock_wall_ms() / 1000) ||
            !freshen(fill, response, &buffer))
            undecidable(fill, EXCHANGE_PROTOCOL_ERROR);
    } else {
        open_object(fill, response, &buffer);
    }
    heap_free(buffer.ptr);
}
