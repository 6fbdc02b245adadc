/* Following the stream over a connection of its own. It goes round:
 *
 *   ask    the stream's identity, where it stands, and the server's clock     -> bus_position.c judges
 *   read   what comes behind our position; blocks up to BLOCK_MS
 *   apply  each entry; then the position is queued to the state, behind the marks that apply() queued
 *
 * Asking after every read costs a round trip, and finds at once what only the server knows: that entries were trimmed before we
 * read them, that the stream is another one. Whatever makes no sense ends the connection, and the next one waits a growing
 * pause before it asks. */
#include "cache/bus_position.h"

#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <sys/random.h>

#define BLOCK_MS 1000u
#define ANSWER_MS 2000u
#define READ_COUNT "500"
#define PAUSE_FIRST_MS 100u
#define PAUSE_MAX_MS 5000u
#define BAD_LOG_MS 10000u
#define QUESTIONS 4u

void bus_bad_event(struct bus *bus, const char *from)
{
    uint64_t now = loop_now_ms(bus->loop);

    atomic_fetch_add_explicit(&bus->counters.bad, 1, memory_order_relaxed);
    if (bus->follow.bad_logged_ms && now - bus->follow.bad_logged_ms < BAD_LOG_MS)
        return;
    bus->follow.bad_logged_ms = now;
    log_warn("bus: what came over %s is no purge; left out (%llu so far)", from,
             (unsigned long long)atomic_load_explicit(&bus->counters.bad, memory_order_relaxed));
}

uint64_t follow_server_ms(const struct bus *bus)
{
    const struct follow *follow = &bus->follow;

    return follow->server_ms ? follow->server_ms + (loop_now_ms(bus->loop) - follow->server_at_ms) : 0;
}

/* ---- connected or not ---- */

static void away(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    if (follow->connected)
        log_warn("bus: cut off; this node goes on with what it has");
    follow->connected = follow->caught_up = follow->target_known = false;
    position_tell(bus);
    position_doubt(bus);
}

static void lost(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    away(bus);
    follow->step = FOLLOW_AWAY;
    timer_clear(&follow->timer);
}

/* Stops asking for a while. */
static void pause_follow(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    away(bus);
    follow->pause_ms = follow->pause_ms ? MIN(follow->pause_ms * 2, PAUSE_MAX_MS) : PAUSE_FIRST_MS;
    follow->step = FOLLOW_PAUSED;
    timer_set(&follow->timer, follow->pause_ms);
}

/* It talks, but not as it should: a new connection, later. */
static void nonsense(struct bus *bus, const char *what)
{
    log_debug("bus: %s; connecting anew", what);
    redis_channel_reset(bus->follow.channel);
    pause_follow(bus);
}

/* ---- asking ---- */

static int send_questions(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    uint8_t bytes[16];
    char memory[2 * sizeof(bytes)];
    struct text random = TEXT_ON(memory);
    struct view set[] = { VIEW("SET"), bus->identity_key, VIEW_NONE, VIEW("NX") };
    struct view get[] = { VIEW("GET"), bus->identity_key };
    struct view info[] = { VIEW("XINFO"), VIEW("STREAM"), bus->stream_key };
    struct view time[] = { VIEW("TIME") };
    int r;

    /* A new one each time: a server that was emptied must not get the old one back. */
    CHECK(getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        text_hex(&random, bytes[i], 2);
    set[2] = text_view(&random);
    r = redis_channel_send(follow->channel, set, 4);
    if (r == 0)
        r = redis_channel_send(follow->channel, get, 2);
    if (r == 0)
        r = redis_channel_send(follow->channel, info, 3);
    return r < 0 ? r : redis_channel_send(follow->channel, time, 1);
}

static void ask(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    follow->facts = (struct stream_facts){ 0 };
    follow->epoch = redis_channel_epoch(follow->channel);
    follow->answers = 0;
    follow->step = FOLLOW_ASKED;
    timer_set(&follow->timer, ANSWER_MS);
    if (send_questions(bus) < 0)
        nonsense(bus, "no room for questions");
}

static uint64_t get_count(const struct resp_value *map, struct view name, bool *ret_known)
{
    const struct resp_value *value = resp_get(map, name);
    bool known = value && value->type == RESP_INTEGER && value->integer >= 0;

    *ret_known = known;
    return known ? (uint64_t)value->integer : 0;
}

static int learn_identity(struct stream_facts *facts, const struct resp_value *value)
{
    if (value->type == RESP_NULL)
        return -EAGAIN; /* a replica that is empty, a server without memory */
    if (value->type != RESP_STRING || value->text.len == 0 || value->text.len > sizeof(facts->identity))
        return -EBADMSG;
    facts->identity_len = value->text.len;
    memcpy(facts->identity, value->text.ptr, value->text.len);
    return 0;
}

static bool get_entry_id(const struct resp_value *map, struct view name, struct stream_id *ret)
{
    const struct resp_value *entry = resp_get(map, name);

    return entry && entry->type == RESP_ARRAY && entry->count >= 1 && entry->items[0].type == RESP_STRING &&
           stream_id_parse(entry->items[0].text, ret);
}

static int learn_stream(struct stream_facts *facts, const struct resp_value *value)
{
    const struct resp_value *last = resp_get(value, VIEW("last-generated-id"));
    bool known;

    if (resp_is_error(value)) {
        facts->counts = true;
        return view_eq(value->text, VIEW("ERR no such key")) ? 0 : -EAGAIN;
    }
    if (!last || last->type != RESP_STRING || !stream_id_parse(last->text, &facts->last))
        return -EBADMSG;
    facts->length = get_count(value, VIEW("length"), &known);
    if (!known)
        return -EBADMSG;
    if (facts->length && (!get_entry_id(value, VIEW("first-entry"), &facts->first) ||
                          !get_entry_id(value, VIEW("last-entry"), &facts->end)))
        return -EBADMSG;
    facts->added = get_count(value, VIEW("entries-added"), &facts->counts);
    return facts->added >= facts->length || !facts->counts ? 0 : -EBADMSG;
}

static int learn_time(struct stream_facts *facts, const struct resp_value *value)
{
    uint64_t seconds, micros;

    if (value->type != RESP_ARRAY || value->count != 2 || !view_parse_u64(value->items[0].text, &seconds) ||
        !view_parse_u64(value->items[1].text, &micros) || seconds > UINT32_MAX || micros >= 1000000)
        return -EBADMSG;
    facts->server_ms = seconds * 1000 + micros / 1000;
    return 0;
}

static void read_on(struct bus *bus);

/* All answers are there. */
static void settle(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    bool was_connected = follow->connected;

    follow->connected = true;
    follow->pause_ms = 0;
    follow->server_ms = follow->facts.server_ms;
    follow->server_at_ms = loop_now_ms(bus->loop);
    position_judge(bus);
    if (!was_connected) {
        nodes_say(bus);
        unsent_drain(bus);
    }
    read_on(bus);
}

static void answered(struct bus *bus, const struct resp_value *value)
{
    struct follow *follow = &bus->follow;
    int r = 0;

    switch (follow->answers++) {
    case 0: break; /* whether the identity was ours to set says the next answer */
    case 1: r = learn_identity(&follow->facts, value); break;
    case 2: r = learn_stream(&follow->facts, value); break;
    default: r = learn_time(&follow->facts, value);
    }
    if (resp_is_error(value) && r == -EBADMSG)
        r = -EAGAIN; /* loading, no permission, a stream that is no stream: it may pass */
    if (r == -EAGAIN)
        follow->facts.identity_len = 0;
    if (r == -EBADMSG)
        nonsense(bus, "answers that make no sense");
    else if (follow->answers == QUESTIONS && follow->facts.identity_len && follow->facts.server_ms)
        settle(bus);
    else if (follow->answers == QUESTIONS)
        pause_follow(bus);
}

/* ---- reading ---- */

/* Also called when a position was committed. */
static void read_on(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    char memory[STREAM_ID_MAX], block_memory[16];
    struct text id = TEXT_ON(memory), block = TEXT_ON(block_memory);
    struct view args[] = { VIEW("XREAD"), VIEW("COUNT"),   VIEW(READ_COUNT), VIEW("BLOCK"),
                           VIEW_NONE,     VIEW("STREAMS"), bus->stream_key,  VIEW_NONE };

    timer_clear(&follow->timer);
    /* Catching up is as fast as the disk: what the state has to write stays bounded. */
    if (!follow->caught_up && follow->writing) {
        follow->step = FOLLOW_WRITING;
        return;
    }
    text_u64(&block, BLOCK_MS);
    stream_id_put(&id, follow->at.id);
    args[4] = text_view(&block);
    args[7] = text_view(&id);
    follow->step = FOLLOW_READING;
    timer_set(&follow->timer, BLOCK_MS + ANSWER_MS);
    if (redis_channel_send(follow->channel, args, 8) < 0)
        nonsense(bus, "no room for a question");
}

static void take_entry(struct bus *bus, struct stream_id id, const struct resp_value *fields)
{
    const struct resp_value *line = resp_get(fields, VIEW("event"));
    struct follow *follow = &bus->follow;
    uint64_t position = stream_id_position(id);
    struct purge_event event;

    if (line && line->type == RESP_STRING && purge_event_parse(line->text, &event) == 0)
        bus->apply(bus->arg, bus->loop, &event, position > follow->highest ? position : 0);
    else if (line || !resp_get(fields, VIEW("node")))
        bus_bad_event(bus, "the stream");
    else
        marks_bus_heard(bus->marks, position);
    follow->highest = MAX(follow->highest, position);
    follow->at = (struct follow_position){ id, follow->at.ordinal + 1 };
    atomic_fetch_add_explicit(&bus->counters.received, 1, memory_order_relaxed);
}

/* An entry is [id, [name, value, ...]]. False: the list is no list of entries that come behind ours. */
static bool take_entries(struct bus *bus, const struct resp_value *entries)
{
    if (entries->type != RESP_ARRAY)
        return false;
    for (size_t i = 0; i < entries->count; i++) {
        const struct resp_value *entry = &entries->items[i];
        struct stream_id id;

        if (entry->type != RESP_ARRAY || entry->count != 2 || entry->items[0].type != RESP_STRING ||
            !stream_id_parse(entry->items[0].text, &id) || stream_id_compare(id, bus->follow.at.id) <= 0)
            return false;
        take_entry(bus, id, &entry->items[1]);
    }
    return true;
}

/* RESP3: {stream: entries}. RESP2: [[stream, entries]]. Nothing came in time: null. */
static void took(struct bus *bus, const struct resp_value *value)
{
    const struct resp_value *entries = NULL;
    struct stream_id before = bus->follow.at.id;
    bool good;

    if (value->type == RESP_NULL) {
        ask(bus);
        return;
    }
    if (resp_is_error(value)) {
        pause_follow(bus);
        return;
    }
    if (value->type == RESP_MAP && value->count == 2)
        entries = &value->items[1];
    else if (value->type == RESP_ARRAY && value->count == 1 && value->items[0].type == RESP_ARRAY &&
             value->items[0].count == 2)
        entries = &value->items[0].items[1];
    good = entries && take_entries(bus, entries);
    if (stream_id_compare(before, bus->follow.at.id) != 0)
        follow_write_position(bus);
    position_tell(bus);
    if (good)
        ask(bus);
    else
        nonsense(bus, "entries that make no sense");
}

/* ---- the task ---- */

static void time_passed(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    timer_clear(&follow->timer);
    if (follow->step == FOLLOW_PAUSED && redis_channel_ready(follow->channel))
        ask(bus);
    else if (follow->step == FOLLOW_PAUSED)
        follow->step = FOLLOW_AWAY;
    else if (follow->step != FOLLOW_AWAY)
        nonsense(bus, "no answer");
}

static void hear(struct bus *bus)
{
    struct follow *follow = &bus->follow;
    struct resp_value *value;

    while (follow->step == FOLLOW_ASKED || follow->step == FOLLOW_READING || follow->step == FOLLOW_WRITING) {
        int r = redis_channel_next(follow->channel, &value);

        if (r == -EAGAIN)
            return;
        if (r < 0)
            lost(bus);
        else if (value->type == RESP_PUSH)
            continue;
        else if (follow->step == FOLLOW_ASKED)
            answered(bus, value);
        else if (follow->step == FOLLOW_READING)
            took(bus, value);
        else
            nonsense(bus, "an answer to nothing");
    }
}

static void follow_run(struct task *task)
{
    struct bus *bus = CONTAINER_OF(task, struct bus, follow.task);
    struct follow *follow = &bus->follow;
    bool ready = redis_channel_ready(follow->channel);
    unsigned epoch = redis_channel_epoch(follow->channel);

    if (follow->doubt_timer.fired) {
        timer_clear(&follow->doubt_timer);
        follow->waited = true;
        position_doubt(bus);
    }
    position_raised(bus);
    if (follow->timer.fired)
        time_passed(bus);
    if (follow->step != FOLLOW_PAUSED && follow->step != FOLLOW_AWAY && (!ready || epoch != follow->epoch))
        lost(bus);
    if (follow->step == FOLLOW_WRITING && !follow->writing)
        read_on(bus);
    if (follow->step == FOLLOW_AWAY && redis_channel_ready(follow->channel))
        ask(bus);
    hear(bus);
}

void follow_start(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    task_init(&follow->task, bus->loop, follow_run);
    timer_init(&follow->timer, &follow->task);
    timer_init(&follow->doubt_timer, &follow->task);
    timer_set(&follow->doubt_timer, bus->doubt_ms);
    position_doubt(bus);
    if (redis_channel_open(bus->redis, &follow->task, &follow->channel) < 0)
        log_error("bus: out of memory; this node hears of no purges");
}

void follow_stop(struct bus *bus)
{
    struct follow *follow = &bus->follow;

    redis_channel_close(follow->channel);
    follow->channel = NULL;
    timer_clear(&follow->timer);
    timer_clear(&follow->doubt_timer);
    redis_call_end(&follow->raise_call);
    task_cancel(&follow->task);
    follow->connected = follow->caught_up = false;
    position_tell(bus);
}
