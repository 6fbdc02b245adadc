/* The decision (architecture §3): one pure function for a request, one for an origin that failed it. The tables are in
 * docs/freshness.md; every branch here is a row there. */
#include "cache/decide.h"

#include "cache/freshness.h"
#include "cache/storable.h"

void decide_policy_init(struct decide_policy *policy)
{
    *policy = (struct decide_policy){ .guarantee = GUARANTEE_HTTP, .max_stale_on_error_ms = (int64_t)86400 * 1000 };
}

static struct decision decision_make(const struct decide_input *input, enum verdict verdict, enum why why)
{
    struct decision d = { .verdict = verdict, .why = why };

    d.may_collapse = verdict == VERDICT_MISS || verdict == VERDICT_REVALIDATE;
    if (input->stored) {
        d.age_ms = object_age_ms(&input->stored->times, input->now_ms);
        d.ttl_ms = object_ttl_ms(&input->stored->times, input->now_ms);
    }
    return d;
}

static unsigned flags_of(const struct object *object)
{
    return atomic_load_explicit(&object->flags, memory_order_acquire);
}

static bool is_soft_purged(const struct object *object)
{
    return atomic_load_explicit(&object->soft_purged, memory_order_acquire) != 0;
}

/* How long it has been stale; 0 for what a soft purge made stale before its time. */
static int64_t stale_for_ms(const struct decide_input *input)
{
    return MAX(-object_ttl_ms(&input->stored->times, input->now_ms), 0);
}

/* Nothing staler than the route's bound, whatever else allows it. */
static bool within_bound(const struct decide_input *input)
{
    return input->policy->guarantee != GUARANTEE_BOUNDED || stale_for_ms(input) <= input->policy->max_stale_ms;
}

/* What the client asks of a fresh response: WHY_NONE, or the wish it does not meet. */
static enum why wish_unmet(const struct decide_input *input, const struct cache_control *wishes)
{
    const struct object_times *times = &input->stored->times;
    int64_t age_ms = object_age_ms(times, input->now_ms), ttl_ms = object_ttl_ms(times, input->now_ms);

    if (wishes->flags & CC_NO_CACHE)
        return WHY_REQUEST_NO_CACHE;
    /* max-age=0 is what a reload sends; a fresh immutable response needs no second look (RFC 8246 §2). */
    if (wishes->max_age >= 0 && age_ms > wishes->max_age * 1000 &&
        !(wishes->max_age == 0 && ttl_ms > 0 && (flags_of(input->stored) & OBJECT_IMMUTABLE)))
        return WHY_REQUEST_MAX_AGE;
    if (wishes->min_fresh >= 0 && ttl_ms < wishes->min_fresh * 1000)
        return WHY_REQUEST_MIN_FRESH;
    return WHY_NONE;
}

/* A stale response without the origin's word: by the client's max-stale, or inside stale-while-revalidate. */
static struct decision decide_stale(const struct decide_input *input, const struct cache_control *wishes)
{
    const struct object *stored = input->stored;
    int64_t stale_ms = stale_for_ms(input);
    bool purged = is_soft_purged(stored);
    struct decision d;

    if (!within_bound(input))
        return decision_make(input, VERDICT_REVALIDATE, WHY_STALE_BOUND);
    if (!purged && !(flags_of(stored) & OBJECT_MUST_REVALIDATE) &&
        ((wishes->flags & CC_MAX_STALE_ANY) || (wishes->max_stale >= 0 && stale_ms <= wishes->max_stale * 1000)))
        return decision_make(input, VERDICT_STALE_SERVE, WHY_STALE_CLIENT);
    /* A client that names an age or a freshness does not want a stale answer (RFC 9111 §5.2.1.1). */
    if (stored->times.swr_ms > 0 && stale_ms < stored->times.swr_ms && wishes->max_age < 0 && wishes->min_fresh < 0) {
        d = decision_make(input, VERDICT_STALE_SERVE, WHY_STALE_REVALIDATE);
        d.background = true;
        return d;
    }
    return decision_make(input, VERDICT_REVALIDATE, purged ? WHY_SOFT_PURGED : WHY_EXPIRED);
}

static struct decision decide_stored(const struct decide_input *input, const struct cache_control *wishes)
{
    enum why unmet;

    if (input->policy->guarantee == GUARANTEE_ORIGIN)
        return decision_make(input, VERDICT_REVALIDATE, WHY_GUARANTEE_ORIGIN);
    if (input->policy->guarantee == GUARANTEE_SESSION && input->session_behind)
        return decision_make(input, VERDICT_REVALIDATE, WHY_GUARANTEE_SESSION);
    if (input->doubt)
        return decision_make(input, VERDICT_REVALIDATE, WHY_DOUBT);
    if (flags_of(input->stored) & OBJECT_NO_CACHE)
        return decision_make(input, VERDICT_REVALIDATE, WHY_NO_CACHE);
    unmet = wish_unmet(input, wishes);
    if (unmet == WHY_REQUEST_NO_CACHE || unmet == WHY_REQUEST_MAX_AGE)
        return decision_make(input, VERDICT_REVALIDATE, unmet);
    if (object_ttl_ms(&input->stored->times, input->now_ms) <= 0 || is_soft_purged(input->stored))
        return decide_stale(input, wishes);
    if (unmet != WHY_NONE)
        return decision_make(input, VERDICT_REVALIDATE, unmet);
    return decision_make(input, VERDICT_FRESH, WHY_FRESH);
}

static const struct cache_control *wishes_of(const struct decide_input *input, struct cache_control *none)
{
    cache_control_init(none);
    return input->request && !input->policy->ignore_client_cache_control ? input->request : none;
}

struct decision decide(const struct decide_input *input)
{
    struct cache_control none;
    const struct cache_control *wishes = wishes_of(input, &none);
    struct decision d;

    if (!method_is_cacheable(input->method))
        d = decision_make(input, VERDICT_MISS, WHY_METHOD);
    else if (input->policy->bypass)
        d = decision_make(input, VERDICT_MISS, WHY_BYPASS_ROUTE);
    else if (input->stored)
        d = decide_stored(input, wishes);
    else if (input->passing)
        d = decision_make(input, VERDICT_MISS, WHY_PASS_MARKER);
    else
        d = decision_make(input, VERDICT_MISS, input->other_variants ? WHY_MISS_VARY : WHY_MISS_URI);
    if (d.why == WHY_METHOD || d.why == WHY_BYPASS_ROUTE || d.why == WHY_PASS_MARKER)
        d.may_collapse = false;
    if (d.why != WHY_METHOD && (wishes->flags & CC_ONLY_IF_CACHED) &&
        (d.verdict == VERDICT_MISS || d.verdict == VERDICT_REVALIDATE)) {
        d.verdict = VERDICT_REFUSE;
        d.why = WHY_ONLY_IF_CACHED;
        d.may_collapse = false;
    }
    return d;
}

static bool is_replaceable(uint16_t status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

/* WHY_NONE when the stored response may stand in for at most `window_ms` past its time, else why not. */
static enum why stale_refused(const struct decide_input *input, int64_t window_ms)
{
    if (flags_of(input->stored) & OBJECT_NO_CACHE)
        return WHY_STALE_FORBIDDEN;
    if (!within_bound(input))
        return WHY_STALE_BOUND;
    return window_ms > 0 && stale_for_ms(input) <= window_ms ? WHY_NONE : WHY_STALE_TOO_OLD;
}

/* must-revalidate, proxy-revalidate and s-maxage speak about stale responses only. */
static bool must_not_be_stale(const struct decide_input *input)
{
    return (flags_of(input->stored) & OBJECT_MUST_REVALIDATE) &&
           object_ttl_ms(&input->stored->times, input->now_ms) <= 0;
}

/* True when no stored response may take the place of this outcome. */
static bool is_final(const struct decide_input *input, uint16_t status)
{
    const struct decide_policy *policy = input->policy;

    if (!input->stored || input->stored->status >= 500 || !method_is_cacheable(input->method) || policy->bypass)
        return true;
    if (policy->guarantee == GUARANTEE_ORIGIN || (policy->guarantee == GUARANTEE_SESSION && input->session_behind))
        return true;
    return status != 0 && !is_replaceable(status);
}

struct decision decide_on_error(const struct decide_input *input, uint16_t status)
{
    struct cache_control none;
    const struct cache_control *wishes = wishes_of(input, &none);
    int64_t sie_ms;
    enum why why;

    if (is_final(input, status))
        return decision_make(input, VERDICT_REFUSE, status ? WHY_ORIGIN_STATUS : WHY_ORIGIN_ERROR);
    if (input->policy->guarantee == GUARANTEE_AVAILABLE)
        return decision_make(input, VERDICT_STALE_SERVE, WHY_STALE_AVAILABLE);
    sie_ms = input->stored->times.sie_ms;
    if (wishes->sie >= 0 && !(flags_of(input->stored) & OBJECT_MUST_REVALIDATE))
        sie_ms = MAX(sie_ms, wishes->sie * 1000);
    /* A window the response gives for errors counts for an unreachable origin too, also under s-maxage. */
    why = stale_refused(input, sie_ms);
    if (why == WHY_NONE)
        return decision_make(input, VERDICT_STALE_SERVE, WHY_STALE_IF_ERROR);
    if (must_not_be_stale(input))
        return decision_make(input, VERDICT_REFUSE, WHY_STALE_FORBIDDEN);
    if (status == 0)
        why = stale_refused(input, input->policy->max_stale_on_error_ms);
    if (why == WHY_NONE)
        return decision_make(input, VERDICT_STALE_SERVE, WHY_STALE_DISCONNECTED);
    return decision_make(input, VERDICT_REFUSE, why);
}

struct view verdict_name(enum verdict verdict)
{
    static const struct view names[] = {
        [VERDICT_FRESH] = { "fresh", 5 },
        [VERDICT_STALE_SERVE] = { "stale", 5 },
        [VERDICT_REVALIDATE] = { "revalidate", 10 },
        [VERDICT_MISS] = { "miss", 4 },
        [VERDICT_REFUSE] = { "refuse", 6 },
    };

    return verdict < ARRAY_LEN(names) ? names[verdict] : VIEW_NONE;
}
