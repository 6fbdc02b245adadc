/* The fields between a node and its parents and children. All of them are about one hop: they are read here and end here
 * (field_is_hop_by_hop()), and what is stored never holds them. */
#include "http/peer.h"

#include "cache/tags.h"
#include "http/conn.h"

#define BEARER VIEW("Bearer ")

/* ---- requests ---- */

/* Present, but for nobody's eyes. */
static void hide(struct fields *fields, enum field_id id)
{
    fields->first[id] = 0;
}

static bool shows_token(const struct req *r)
{
    struct view value = fields_value(&r->request.fields, FIELD_DOORSTEP_AUTHORIZATION);

    return view_starts_with_icase(value, BEARER) &&
           view_eq_secret(view_trim(view_skip(value, BEARER.len)), r->config->child_token);
}

bool peer_receive(struct req *r)
{
    struct fields *fields = &r->request.fields;
    struct view deadline = fields_value(fields, FIELD_DOORSTEP_DEADLINE);
    uint64_t left, until;

    if (fields_has(fields, FIELD_DOORSTEP_AUTHORIZATION)) {
        r->child = shows_token(r);
        hide(fields, FIELD_DOORSTEP_AUTHORIZATION);
    }
    if (!fields_has(fields, FIELD_DOORSTEP_DEADLINE))
        return true;
    hide(fields, FIELD_DOORSTEP_DEADLINE);
    if (!r->child || !view_parse_u64(deadline, &left))
        return true;
    until = loop_now_ms(r->hl->loop) + MIN(left, UINT32_MAX);
    r->deadline_ms = r->deadline_ms ? MIN(r->deadline_ms, until) : until;
    return left > 0;
}

bool peer_loops(struct req *r)
{
    struct field_list it = field_list(&r->request.fields, FIELD_CDN_LOOP);
    struct view member;

    while (field_list_next(&it, &member))
        if (view_eq_icase(view_trim(view_first(member, view_find(member, ';'))), r->config->node_name))
            return true;
    return false;
}

size_t peer_request_room(const struct req *r, const struct hop *hop)
{
    return r->config->node_name.len + hop->token.len + 256;
}

/* Milliseconds until nobody waits for the answer any more; UINT64_MAX: no limit. */
static uint64_t time_left(const struct req *r, const struct hop *hop)
{
    uint64_t now = loop_now_ms(r->hl->loop), left = hop->total_ms ? hop->total_ms : UINT64_MAX;

    return r->deadline_ms ? MIN(left, r->deadline_ms - MIN(now, r->deadline_ms)) : left;
}

/* RFC 8586 §2: what came before us stays, in its order, on one line. */
static void put_loop(struct text *t, const struct req *r)
{
    struct field_list it = field_list(&r->request.fields, FIELD_CDN_LOOP);
    struct view member;

    text_lit(t, "CDN-Loop: ");
    while (field_list_next(&it, &member)) {
        text_put(t, member);
        text_lit(t, ", ");
    }
    text_put(t, r->config->node_name);
    text_lit(t, "\r\n");
}

void peer_put_request(struct text *t, const struct req *r, const struct hop *hop)
{
    uint64_t left = hop->parent ? time_left(r, hop) : UINT64_MAX;

    put_loop(t, r);
    if (r->insists && hop->parent)
        text_lit(t, "Cache-Control: no-cache\r\n");
    if (r->fresher_s && hop->parent) {
        text_lit(t, "Cache-Control: min-fresh=");
        text_u64(t, r->fresher_s);
        text_lit(t, "\r\n");
    }
    if (hop->token.len) {
        text_lit(t, "Doorstep-Authorization: Bearer ");
        text_put(t, hop->token);
        text_lit(t, "\r\n");
    }
    if (left != UINT64_MAX) {
        text_lit(t, "Doorstep-Deadline: ");
        text_u64(t, left);
        text_lit(t, "\r\n");
    }
}

/* ---- answers ---- */

size_t peer_answer_room(const struct req *r)
{
    return r->child && r->object ? 2 * object_tags(r->object).len + 128 : 0;
}

static void put_tags(struct text *t, struct view tags)
{
    bool first = true;
    struct view tag;

    while (tags_next(&tags, &tag)) {
        text_put(t, first ? VIEW("Cache-Tag: ") : VIEW(", "));
        text_put(t, tag);
        first = false;
    }
    if (!first)
        text_lit(t, "\r\n");
}

void peer_put_answer(struct text *t, const struct req *r)
{
    struct marks *marks = r->hl->server->marks;
    uint64_t identity;

    if (!r->child || !r->object)
        return;
    if (r->route->cache.strip_tags)
        put_tags(t, object_tags(r->object));
    identity = marks_bus_identity(marks);
    if (identity) {
        text_lit(t, "Doorstep-Position: ");
        text_hex(t, identity, 16);
        text_char(t, '/');
        text_u64(t, marks_bus_at(marks, atomic_load_explicit(&r->object->purge_pos, memory_order_relaxed)));
        text_lit(t, "\r\n");
    }
}
