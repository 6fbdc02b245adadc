/* Known field names and the parsed fields of one message.
 *
 * Names are found through a small hash table that is filled from FIELD_LIST before main() runs and only read afterwards,
 * so a new name costs one line in the header. `lower` holds every known name in lower case, `letters` has 0x20 where
 * that name has a letter: (received | letters) == lower is then an exact case-insensitive comparison, eight bytes at a
 * time. Both are as wide as the longest comparison may read.
 *
 * Nothing here allocates; names and values borrow from the parsed message. */
#include "proto/field.h"

#include "base/check.h"

#include <errno.h>

enum {
    NAME_MAX_LEN = 32,
    SLOTS = 512, /* at most an eighth full: probes are short */
};

static const struct view names[FIELD_COUNT] = { [FIELD_OTHER] = { "", 0 },
#define X(id, name) [FIELD_##id] = { name, sizeof(name) - 1 },
                                                FIELD_LIST(X)
#undef X
};

#define X(id, name) _Static_assert(sizeof(name) - 1 <= NAME_MAX_LEN, "field name is longer than its table row");
FIELD_LIST(X)
#undef X
_Static_assert(FIELD_COUNT <= SLOTS / 4 && FIELD_COUNT <= 255, "more field names than the table is made for");

static char lower[FIELD_COUNT][NAME_MAX_LEN];
static char letters[FIELD_COUNT][NAME_MAX_LEN];
static uint8_t slots[SLOTS]; /* enum field_id, 0: free */

static size_t slot_of(const char *name, size_t len)
{
    uint32_t mix = (uint32_t)len | (uint32_t)(name[0] | 0x20) << 8 | (uint32_t)(name[len / 2] | 0x20) << 16 |
                   (uint32_t)(name[len - 1] | 0x20) << 24;

    return (mix * 0x9e3779b1u) >> 23; /* the upper 9 bits: SLOTS */
}

__attribute__((constructor)) static void fill_tables(void)
{
    for (size_t id = 1; id < FIELD_COUNT; id++) {
        size_t slot = slot_of(names[id].ptr, names[id].len);

        for (size_t i = 0; i < names[id].len; i++) {
            lower[id][i] = ascii_lower(names[id].ptr[i]);
            letters[id][i] = lower[id][i] >= 'a' && lower[id][i] <= 'z' ? 0x20 : 0;
        }
        while (slots[slot])
            slot = (slot + 1) % SLOTS;
        slots[slot] = (uint8_t)id;
    }
}

static inline uint64_t load64(const char *ptr)
{
    uint64_t word;

    memcpy(&word, ptr, sizeof(word));
    return word;
}

static inline uint32_t load32(const char *ptr)
{
    uint32_t word;

    memcpy(&word, ptr, sizeof(word));
    return word;
}

/* `name` has the length of that known name. The last word overlaps the one before, so nothing past the end is read. */
static inline bool same_name(const char *name, size_t len, size_t id)
{
    const char *low = lower[id], *mask = letters[id];
    size_t last;

    if (len >= 8) {
        last = len - 8;
        for (size_t i = 0; i < last; i += 8)
            if ((load64(name + i) | load64(mask + i)) != load64(low + i))
                return false;
        return (load64(name + last) | load64(mask + last)) == load64(low + last);
    }
    if (len >= 4) {
        last = len - 4;
        return (load32(name) | load32(mask)) == load32(low) &&
               (load32(name + last) | load32(mask + last)) == load32(low + last);
    }
    for (size_t i = 0; i < len; i++)
        if ((name[i] | mask[i]) != low[i])
            return false;
    return true;
}

enum field_id field_lookup(struct view name)
{
    if (name.len == 0 || name.len > NAME_MAX_LEN)
        return FIELD_OTHER;
    for (size_t slot = slot_of(name.ptr, name.len); slots[slot]; slot = (slot + 1) % SLOTS) {
        size_t id = slots[slot];

        if (names[id].len == name.len && same_name(name.ptr, name.len, id))
            return (enum field_id)id;
    }
    return FIELD_OTHER;
}

struct view field_name(enum field_id id)
{
    CHECK(id < FIELD_COUNT);
    return names[id];
}

void fields_init(struct fields *fields, struct field *memory, size_t cap)
{
    fields->list = memory;
    fields->count = 0;
    fields->cap = (uint16_t)MIN(cap, (size_t)UINT16_MAX);
    memset(fields->first, 0, sizeof(fields->first));
}

int fields_add(struct fields *fields, enum field_id id, struct view name, struct view value)
{
    if (unlikely(fields->count == fields->cap))
        return -ENOBUFS;
    fields->list[fields->count] = (struct field){ .name = name, .value = value, .id = (uint16_t)id };
    fields->count++;
    if (fields->first[id] == 0)
        fields->first[id] = (uint8_t)MIN(fields->count, (uint16_t)255);
    return 0;
}

const struct field *fields_get(const struct fields *fields, enum field_id id)
{
    size_t at = fields->first[id];

    if (at == 0)
        return NULL;
    if (at < 255)
        return &fields->list[at - 1];
    for (at = 254; at < fields->count; at++)
        if (fields->list[at].id == id)
            return &fields->list[at];
    return NULL;
}

const struct field *fields_next(const struct fields *fields, const struct field *after)
{
    const struct field *end = fields->list + fields->count;

    for (const struct field *field = after + 1; field < end; field++)
        if (field->id == after->id && (field->id != FIELD_OTHER || view_eq_icase(field->name, after->name)))
            return field;
    return NULL;
}

struct view fields_value(const struct fields *fields, enum field_id id)
{
    const struct field *field = fields_get(fields, id);

    return field ? field->value : VIEW_NONE;
}

const struct field *fields_find(const struct fields *fields, struct view name)
{
    enum field_id id = field_lookup(name);

    if (id != FIELD_OTHER)
        return fields_get(fields, id);
    for (size_t i = 0; i < fields->count; i++)
        if (fields->list[i].id == FIELD_OTHER && view_eq_icase(fields->list[i].name, name))
            return &fields->list[i];
    return NULL;
}

struct field_list field_list(const struct fields *fields, enum field_id id)
{
    const struct field *line = fields_get(fields, id);

    return (struct field_list){ .fields = fields, .line = line, .rest = line ? line->value : VIEW_NONE };
}

/* Length of the first member: up to a comma outside a quoted string. An unclosed quote reaches to the end of its line, so
 * that what follows cannot pass for members of its own. */
static size_t member_length(struct view v)
{
    bool quoted = false;

    for (size_t i = 0; i < v.len; i++) {
        if (quoted && v.ptr[i] == '\\')
            i++;
        else if (v.ptr[i] == '"')
            quoted = !quoted;
        else if (!quoted && v.ptr[i] == ',')
            return i;
    }
    return v.len;
}

bool field_list_next(struct field_list *it, struct view *ret_member)
{
    while (it->line) {
        size_t len = member_length(it->rest);
        struct view member = view_trim(view_first(it->rest, len));

        if (len < it->rest.len) {
            it->rest = view_skip(it->rest, len + 1);
        } else {
            it->line = fields_next(it->fields, it->line);
            it->rest = it->line ? it->line->value : VIEW_NONE;
        }
        if (member.len) {
            *ret_member = member;
            return true;
        }
    }
    return false;
}

bool fields_list_has(const struct fields *fields, enum field_id id, struct view token)
{
    struct field_list it = field_list(fields, id);
    struct view member;

    while (field_list_next(&it, &member))
        if (view_eq_icase(member, token))
            return true;
    return false;
}

/* Nearly every Connection is one of these two, which name no field. */
static bool connection_names_fields(const struct fields *fields)
{
    const struct field *line = fields_get(fields, FIELD_CONNECTION);

    if (!line)
        return false;
    return !(view_eq(line->value, VIEW("keep-alive")) || view_eq(line->value, VIEW("close"))) ||
           fields_next(fields, line);
}

bool field_is_hop_by_hop(const struct fields *fields, const struct field *field)
{
    switch ((enum field_id)field->id) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_PROXY_AUTHENTICATE:
    case FIELD_PROXY_AUTHORIZATION:
    case FIELD_PROXY_AUTHENTICATION_INFO:
    case FIELD_TE:
    case FIELD_TRAILER:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
    case FIELD_HTTP2_SETTINGS:
    case FIELD_DOORSTEP_AUTHORIZATION:
    case FIELD_DOORSTEP_DEADLINE:
    case FIELD_DOORSTEP_POSITION:
    case FIELD_DOORSTEP_REGION: return true;
    /* These are for every recipient and must not be named by Connection (RFC 9110 §7.6.1): a peer that does so anyway
     * must not be able to take away framing, routing or what forbids storing. */
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_CACHE_CONTROL: return false;
    default: return connection_names_fields(fields) && fields_list_has(fields, FIELD_CONNECTION, field->name);
    }
}
