/* Our position in the stream.
 *
 * It is an id, and how many entries the stream had been given up to it. Redis counts what was ever added, trimming or not: when we
 * stand at the stream's last id and have counted as many as it says, nothing was trimmed before we had read it, and nothing was
 * taken back (a server that lost its last writes, a replica that never had them). When the counts differ there is a gap, and
 * everything older becomes stale.
 *
 * A stream that lies behind us is lifted above our position by an entry with an id of its own: bus positions must never go back,
 * here or anywhere, or marks and shared copies could not be compared. Where the stream is still the same one the entry also
 * makes everything stale on the other nodes, which may have missed what the server forgot. */
#include "cache/bus_position.h"

#include "base/heap.h"
#include "base/log.h"

#include <errno.h>

/* What fits into a bus position. */
#define RAISE_MAX_MS (UINT64_MAX >> 20)

/* ---- durable values ---- */

static int load_value(struct bus *bus, struct view name, char *memory, size_t room, size_t *ret_len)
{
    char *value;
    size_t len;
    int r = state_get(bus->state, name, &value, &len);

    if (r < 0)
        return r;
    if (len <= room) {
        memcpy(memory, value, len);
        *ret_len = len;
    }
    heap_free(value);
    return len <= room ? 0 : -EBADMSG;
}

/* Parents and children compare positions of the same stream only. */
static void tell_identity(struct bus *bus)
{
    const struct follow *follow = &bus->follow;

    marks_set_bus_identity(bus->marks, follow->identity_len
                                           ? MAX(hash64(view_make(follow->identity, follow->identity_len)), (uint64_t)1)
                                           : 0);
}

static void load_position(struct follow *follow, struct view value)
{
    struct view id = view_cut(&value, ' '), ordinal = view_cut(&value, ' ');

    if (!stream_id_parse(id, &follow->at.id) || !view_parse_u64(ordinal, &follow->at.ordinal)) {
        follow->at = (struct follow_position){ { 0, 0 }, 0 };
        follow->distrust = true;
    }
    /* "torn", or something that is not ours */
    follow->distrust |= value.len > 0;
    follow->has_position = follow->has_durable = true;
    follow->durable = follow->at;
}

int follow_load(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    char memory[128];
    struct state_stats stats;
    size_t len = 0;
    uint64_t floor;
    int r = load_value(bus, VIEW("bus.position"), memory, sizeof(memory), &len);

    if (r == 0 || r == -EBADMSG)
        load_position(follow, view_make(memory, len));
    else if (r != -ENOENT)
        return r;
    r = load_value(bus, VIEW("bus.floor"), memory, sizeof(memory), &len);
    if (r == 0 && view_parse_u64(view_make(memory, len), &floor))
        marks_set_bus_floor(bus->marks, floor);
    else if (r < 0 && r != -ENOENT && r != -EBADMSG)
        return r;
    r = load_value(bus, VIEW("bus.identity"), follow->identity, sizeof(follow->identity), &follow->identity_len);
    if (r == -ENOMEM || r == -EIO)
        return r;
    tell_identity(bus);
    state_stats(bus->state, &stats);
    follow->state_errors = stats.errors;
    follow->highest = marks_bus_at(bus->marks, UINT64_MAX);
    position_tell(bus);
    return 0;
}

static void position_written(struct bus *bus, int result)
{
    struct follow *follow = &bus->follow;
    struct state_stats stats;

    follow->writing = false;
    state_stats(bus->state, &stats);
    if (stats.errors != follow->state_errors && !follow->torn) {
        /* A mark may be among what was lost: a restart must not rely on this position. */
        follow->torn = follow->write_again = true;
        log_warn("bus: the state lost a write; after a restart everything older counts as stale");
    }
    follow->state_errors = stats.errors;
    if (result == 0) {
        if (!follow->identity_due) { /* else it is of the stream before */
            follow->durable = follow->written;
            follow->has_durable = true;
            nodes_say(bus);
        }
        if (follow->write_again)
            follow_write_position(bus);
    } else {
        follow->write_again = true; /* with the next tick */
    }
    if (follow->step == FOLLOW_WRITING)
        task_wake(&follow->task);
}

void follow_write_position(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    char memory[128];
    struct text value = TEXT_ON(memory);

    follow->write_again = true;
    if (follow->writing)
        return;
    stream_id_put(&value, follow->at.id);
    text_char(&value, ' ');
    text_u64(&value, follow->at.ordinal);
    if (follow->torn)
        text_lit(&value, " torn");
    follow->written = follow->at;
    if (bus_write(bus, VIEW("bus.position"), text_view(&value), position_written) < 0)
        return;
    follow->writing = true;
    follow->write_again = false;
    if (follow->identity_due &&
        bus_write(bus, VIEW("bus.identity"), view_make(follow->identity, follow->identity_len), NULL) == 0)
        follow->identity_due = false;
}

/* We are in the stream that was asked about; the position has been set. The identity is written behind it: lost on the way, it is
 * a gap at the next start. */
static void enter_stream(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    memcpy(follow->identity, follow->facts.identity, follow->facts.identity_len);
    follow->identity_len = follow->facts.identity_len;
    follow->has_position = follow->identity_due = true;
    follow->has_durable = follow->distrust = false;
    tell_identity(bus);
    follow_write_position(bus);
}

/* ---- gaps ---- */

static void raise_stream(struct bus *bus, struct stream_id above, bool same_stream)
{
    struct follow *follow = &bus->follow;

    follow->raise = true;
    follow->raise_purges = same_stream;
    follow->raising = above;
    position_raised(bus);
}

void position_raised(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    char memory[STREAM_ID_MAX];
    struct text id = TEXT_ON(memory);

    if (follow->raise_call.state == REDIS_DONE) {
        const struct resp_value *reply = follow->raise_call.reply;

        /* Somebody else may have been first. */
        if (follow->raise_call.error == 0 &&
            (!resp_is_error(reply) || view_starts_with(reply->text, VIEW("ERR The ID specified"))))
            follow->raise = false;
        redis_call_end(&follow->raise_call);
        return; /* another try comes with the next look at the stream, at the earliest */
    }
    if (!follow->raise || !follow->connected || follow->raise_call.state != REDIS_IDLE)
        return;
    stream_id_put(&id, (struct stream_id){ follow->raising.ms, follow->raising.seq + 1 });
    (void)publish_send(bus, &follow->task, &follow->raise_call, text_view(&id),
                       follow->raise_purges ? VIEW("soft all") : VIEW_NONE);
}

/* At the front of the stream. */
static struct follow_position front_of(const struct stream_facts *facts)
{
    if (facts->length == 0)
        return (struct follow_position){ facts->last, facts->added };
    return (struct follow_position){ { 0, 0 }, facts->counts ? facts->added - facts->length : 0 };
}

/* A node that knows nothing reads all there is. What was trimmed before that it will never know. */
static void begin(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    const struct stream_facts *facts = &follow->facts;
    struct stream_id first = facts->length ? facts->first : facts->last;
    uint64_t floor = 0;
    char memory[24];
    struct text text = TEXT_ON(memory);

    if (facts->added > facts->length || !facts->counts)
        floor = stream_id_position(first);
    if (floor && facts->length)
        floor--;
    marks_set_bus_floor(bus->marks, floor);
    text_u64(&text, floor);
    if (bus_write(bus, VIEW("bus.floor"), text_view(&text), NULL) < 0)
        follow->torn = true;
    follow->at = front_of(facts);
    enter_stream(bus);
}

/* There is nothing behind our position. The last id may be greater: of an entry that was removed. */
static bool has_read_all(const struct follow *follow)
{
    const struct stream_facts *facts = &follow->facts;

    return facts->length == 0 || stream_id_compare(follow->at.id, facts->end) >= 0;
}

static bool same_stream(const struct follow *follow)
{
    return view_eq(view_make(follow->identity, follow->identity_len),
                   view_make(follow->facts.identity, follow->facts.identity_len));
}

/* What is wrong with our position, or NULL; and where to go on. */
static const char *find_gap(const struct follow *follow, struct follow_position *ret)
{
    const struct stream_facts *facts = &follow->facts;
    int order = stream_id_compare(facts->last, follow->at.id);

    *ret = front_of(facts);
    if (!same_stream(follow))
        return "the stream of purges is another one";
    if (order < 0)
        return "the stream of purges lies behind what was read here";
    if (follow->distrust) {
        if (follow->at.id.ms)
            *ret = follow->at;
        return "purges were lost from the durable state before the restart";
    }
    /* Without counts (before Redis 7) it cannot be told: better stale than wrong. */
    if (order > 0 && !facts->counts && !follow->caught_up && facts->length && follow->at.id.ms &&
        stream_id_compare(facts->first, follow->at.id) > 0)
        return "the stream of purges does not reach back to what was read here";
    if (has_read_all(follow) && (facts->counts ? follow->at.ordinal != facts->added : order > 0)) {
        *ret = (struct follow_position){ facts->last, facts->added };
        return "purges were removed from the stream before they were read here";
    }
    return NULL;
}

/* Everything older is stale. What is in the stream and may be new here is still read: a hard purge is more than stale. */
static void gap(struct bus *bus, const char *why, struct follow_position next)
{
    struct follow *follow = &bus->follow;
    const struct purge_event everything = { .kind = MARK_ALL, .soft = true };

    log_warn("bus: %s; everything older counts as stale", why);
    atomic_fetch_add_explicit(&bus->counters.gaps, 1, memory_order_relaxed);
    /* Without a position: whatever position a copy has, it says nothing of what was missed here. */
    bus->apply(bus->arg, bus->loop, &everything, 0);
    /* Not on the word of a position that we do not trust ourselves: ids cannot be lowered again. */
    if (stream_id_compare(follow->facts.last, follow->at.id) < 0 && !follow->distrust &&
        follow->at.id.ms < RAISE_MAX_MS)
        raise_stream(bus, follow->at.id, same_stream(follow));
    follow->at = next;
    follow->caught_up = follow->target_known = false;
    enter_stream(bus);
}

static bool has_caught_up(struct follow *follow)
{
    const struct stream_facts *facts = &follow->facts;

    if (!follow->target_known) {
        follow->target_known = true;
        follow->target = facts->last;
        follow->target_ordinal = follow->at.ordinal;
    }
    if (has_read_all(follow))
        return true;
    /* Others write faster than we ask: past what was there when we came, with nothing of it trimmed, is enough. */
    return stream_id_compare(follow->at.id, follow->target) >= 0 &&
           (!facts->counts || facts->added - facts->length <= follow->target_ordinal);
}

void position_judge(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    struct follow_position next;
    const char *why;

    if (!follow->has_position)
        begin(bus);
    why = find_gap(follow, &next);
    if (why)
        gap(bus, why, next);
    if (!follow->caught_up && has_caught_up(follow)) {
        follow->caught_up = follow->ever_caught_up = true;
        log_info("bus: caught up");
    }
    position_tell(bus);
    position_doubt(bus);
}

/* ---- what others see ---- */

void position_tell(struct bus *bus)
{
    const struct follow *follow = &bus->follow;

    atomic_store_explicit(&bus->counters.connected, follow->connected, memory_order_relaxed);
    atomic_store_explicit(&bus->counters.caught_up, follow->caught_up, memory_order_relaxed);
    atomic_store_explicit(&bus->counters.position, stream_id_position(follow->at.id), memory_order_relaxed);
}

void position_doubt(struct bus *bus)
{
    const struct follow *follow = &bus->follow;
    bool doubt;

    if (follow->connected)
        doubt = !follow->caught_up;
    else
        doubt = !follow->ever_caught_up && !follow->waited; /* cut off: it serves what it has */
    marks_set_doubt(bus->marks, doubt);
}
