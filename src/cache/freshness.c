/* Freshness lifetime and age (RFC 9111 §4.2). Pure: reads the fields of one response and a route's wishes, writes one struct.
 *
 * Invariants of the result: every time is >= 0, windows are -1 (not given), 0 (none, or forbidden) or the length allowed. */
#include "cache/freshness.h"

#include "proto/date.h"

#define DAY_MS ((int64_t)86400 * 1000)

void freshness_policy_init(struct freshness_policy *policy)
{
    *policy = (struct freshness_policy){
        .ttl_ms = -1,
        .ttl_min_ms = -1,
        .ttl_max_ms = -1,
        .heuristic_permille = 100,
        .heuristic_max_ms = DAY_MS,
        .swr_ms = -1,
        .sie_ms = -1,
    };
}

bool status_is_heuristic(uint16_t status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 206:
    case 300:
    case 301:
    case 308:
    case 404:
    case 405:
    case 410:
    case 414:
    case 501: return true;
    default: return false;
    }
}

static bool field_date(const struct fields *fields, enum field_id id, int64_t now_s, int64_t *ret)
{
    const struct field *field = fields_get(fields, id);

    return field && date_parse(field->value, now_s, ret);
}

/* The first member of the first line, digits only (§5.1); -1 otherwise. */
static int64_t age_field(const struct fields *fields)
{
    struct view line = fields_value(fields, FIELD_AGE);
    uint64_t seconds;

    if (!line.len || !view_parse_u64(view_trim(view_cut(&line, ',')), &seconds))
        return -1;
    return seconds > (uint64_t)CC_SECONDS_MAX ? CC_SECONDS_MAX : (int64_t)seconds;
}

/* corrected_initial_age (§4.2.3). Date counts whole seconds, so apparent age does too; and a response dated no earlier than
 * the second its request left in was made during the exchange: the delay covers its age. */
static int64_t initial_age(int64_t date_s, int64_t age_s, int64_t request_ms, int64_t response_ms)
{
    int64_t delay_ms = MAX(response_ms - request_ms, 0);
    int64_t apparent_s = date_s >= request_ms / 1000 ? 0 : MAX(response_ms / 1000 - date_s, 0);

    return MAX(apparent_s * 1000, (age_s > 0 ? age_s * 1000 : 0) + delay_ms);
}

static void choose_directives(const struct fields *response, struct freshness *ret)
{
    if (cache_control_parse_targeted(response, FIELD_DOORSTEP_CACHE_CONTROL, &ret->cc)) {
        ret->field = FRESHNESS_DOORSTEP_CC;
    } else if (cache_control_parse_targeted(response, FIELD_CDN_CACHE_CONTROL, &ret->cc)) {
        ret->field = FRESHNESS_CDN_CC;
    } else {
        cache_control_parse(response, FIELD_CACHE_CONTROL, &ret->cc);
        ret->field = FRESHNESS_CC;
    }
}

/* Expires minus Date. Several lines, or one that is no date ("0"), mean already expired (§5.3). */
static int64_t expires_lifetime(const struct fields *response, int64_t date_s, int64_t now_s)
{
    const struct field *field = fields_get(response, FIELD_EXPIRES);
    int64_t expires_s;

    if (fields_next(response, field) || !date_parse(field->value, now_s, &expires_s))
        return 0;
    return MAX(expires_s - date_s, 0) * 1000;
}

static int64_t heuristic_lifetime(const struct freshness *fresh, const struct freshness_policy *policy)
{
    int64_t unchanged_s = fresh->times.date_s - fresh->times.last_modified_s;

    if (fresh->times.last_modified_s < 0 || unchanged_s <= 0)
        return -1;
    /* seconds times permille are milliseconds: nothing to divide */
    return MIN(unchanged_s * (int64_t)policy->heuristic_permille, policy->heuristic_max_ms);
}

static int64_t lifetime(const struct fields *response, uint16_t status, const struct freshness_policy *policy,
                        struct freshness *fresh)
{
    bool may_guess = status_is_heuristic(status) || (fresh->cc.flags & CC_PUBLIC);
    int64_t guess;

    if (fresh->cc.s_maxage >= 0) {
        fresh->source = FRESHNESS_S_MAXAGE;
        return fresh->cc.s_maxage * 1000;
    }
    if (fresh->cc.max_age >= 0) {
        fresh->source = FRESHNESS_MAX_AGE;
        return fresh->cc.max_age * 1000;
    }
    if (fresh->field == FRESHNESS_CC && fields_has(response, FIELD_EXPIRES)) {
        fresh->source = FRESHNESS_EXPIRES;
        return expires_lifetime(response, fresh->times.date_s, fresh->times.response_ms / 1000);
    }
    if (may_guess && policy->ttl_ms >= 0) {
        fresh->source = FRESHNESS_ROUTE_TTL;
        return policy->ttl_ms;
    }
    guess = may_guess && policy->heuristic_permille ? heuristic_lifetime(fresh, policy) : -1;
    fresh->source = guess >= 0 ? FRESHNESS_HEURISTIC : FRESHNESS_NONE;
    return MAX(guess, 0);
}

static void clamp_lifetime(const struct freshness_policy *policy, struct freshness *fresh)
{
    int64_t before = fresh->times.lifetime_ms;

    if (fresh->source == FRESHNESS_NONE)
        return;
    if (policy->ttl_min_ms >= 0)
        fresh->times.lifetime_ms = MAX(fresh->times.lifetime_ms, policy->ttl_min_ms);
    if (policy->ttl_max_ms >= 0)
        fresh->times.lifetime_ms = MIN(fresh->times.lifetime_ms, policy->ttl_max_ms);
    fresh->clamped = fresh->times.lifetime_ms != before;
}

/* A response that says must-revalidate, proxy-revalidate or no-cache has no windows. s-maxage implies proxy-revalidate
 * (§5.2.2.10), but an origin that writes `s-maxage=10, stale-while-revalidate=60` speaks to shared caches both times: its own
 * windows count, the route's defaults do not. */
static int64_t window(int64_t given_s, int64_t default_ms, const struct freshness *fresh)
{
    if (fresh->cc.flags & (CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_NO_CACHE))
        return 0;
    if (given_s >= 0)
        return given_s * 1000;
    return fresh->cc.s_maxage >= 0 ? 0 : default_ms;
}

static uint32_t object_flags_of(const struct freshness *fresh)
{
    uint32_t flags = 0;

    if (fresh->cc.flags & CC_NO_CACHE)
        flags |= OBJECT_NO_CACHE;
    if ((fresh->cc.flags & (CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE)) || fresh->cc.s_maxage >= 0)
        flags |= OBJECT_MUST_REVALIDATE;
    if (fresh->cc.flags & CC_IMMUTABLE)
        flags |= OBJECT_IMMUTABLE;
    if (fresh->source == FRESHNESS_HEURISTIC)
        flags |= OBJECT_HEURISTIC;
    return flags;
}

void freshness_compute(const struct fields *response, uint16_t status, const struct freshness_policy *policy,
                       int64_t request_ms, int64_t response_ms, struct freshness *ret)
{
    struct freshness fresh = { .times = { .response_ms = response_ms, .last_modified_s = -1 } };
    int64_t now_s = response_ms / 1000;

    choose_directives(response, &fresh);
    if (!field_date(response, FIELD_DATE, now_s, &fresh.times.date_s))
        fresh.times.date_s = now_s;
    if (field_date(response, FIELD_LAST_MODIFIED, now_s, &fresh.times.last_modified_s))
        fresh.times.last_modified_s = MAX(fresh.times.last_modified_s, 0);
    fresh.age_field_s = age_field(response);
    fresh.times.initial_age_ms = initial_age(fresh.times.date_s, fresh.age_field_s, request_ms, response_ms);
    fresh.times.lifetime_ms = lifetime(response, status, policy, &fresh);
    fresh.is_explicit =
        fresh.source == FRESHNESS_S_MAXAGE || fresh.source == FRESHNESS_MAX_AGE || fresh.source == FRESHNESS_EXPIRES;
    clamp_lifetime(policy, &fresh);
    fresh.times.swr_ms = window(fresh.cc.swr, policy->swr_ms, &fresh);
    fresh.times.sie_ms = window(fresh.cc.sie, policy->sie_ms, &fresh);
    fresh.object_flags = object_flags_of(&fresh);
    *ret = fresh;
}

int64_t object_age_ms(const struct object_times *times, int64_t now_ms)
{
    return times->initial_age_ms + MAX(now_ms - times->response_ms, 0);
}

int64_t object_ttl_ms(const struct object_times *times, int64_t now_ms)
{
    return times->lifetime_ms - object_age_ms(times, now_ms);
}

struct view freshness_source_name(enum freshness_source source)
{
    static const struct view names[FRESHNESS_SOURCE_COUNT] = {
        [FRESHNESS_NONE] = { "none", 4 },           [FRESHNESS_S_MAXAGE] = { "s-maxage", 8 },
        [FRESHNESS_MAX_AGE] = { "max-age", 7 },     [FRESHNESS_EXPIRES] = { "Expires", 7 },
        [FRESHNESS_ROUTE_TTL] = { "route ttl", 9 }, [FRESHNESS_HEURISTIC] = { "heuristic", 9 },
    };

    return source < FRESHNESS_SOURCE_COUNT ? names[source] : VIEW_NONE;
}

struct view freshness_field_name(enum freshness_field field)
{
    return field == FRESHNESS_DOORSTEP_CC ? VIEW("Doorstep-Cache-Control")
           : field == FRESHNESS_CDN_CC    ? VIEW("CDN-Cache-Control")
                                          : VIEW("Cache-Control");
}
