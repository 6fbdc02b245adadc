/* What a key, a tenant or a route may ask for. Pure: rules are data, filled from the configuration; time is an
 * argument; any thread.
 *
 * Rules come in levels (key, tenant, route), and a request must pass them all. Zeroed rules allow everything. */
#pragma once

#include "ai/facts.h"

/* Hours of a week in local time. When `until` is not after `from`, it is the next day's; days are those on which it
 * starts. */
struct ai_window {
    uint8_t days;         /* bit 0: Monday */
    uint16_t from, until; /* minutes of a day, up to 1440 */
};

struct ai_forced {
    struct view name; /* a member of the top object */
    struct view json; /* its value: must be valid JSON */
};

struct ai_rules {
    const struct view *allow, *deny; /* globs on model names and aliases; no allow: any. Deny wins, and ignores case */
    size_t allow_count, deny_count;
    uint64_t max_tokens;     /* of output; set in requests that say nothing; 0: no limit */
    uint64_t context_bytes;  /* of the prompt, as written; 0: no limit */
    uint64_t context_tokens; /* the same, estimated at 4 bytes to a token; 0: no limit */
    bool no_tools, no_server_tools, no_images, no_audio, no_files;
    const struct view
        *forbidden; /* members of the top object that must not be there, nor what other interfaces call them */
    size_t forbidden_count;
    const struct ai_forced *forced; /* members set to these values whatever the request says, where text is generated */
    size_t forced_count;
    const struct view *regions; /* where requests may go; none: anywhere */
    size_t region_count;
    const struct ai_window *windows; /* when; none: always */
    size_t window_count;
    int utc_offset; /* of the windows, minutes */
};

/* "Mon-Fri 08:00-18:00", "Sat,Sun 22:00-06:00", "09:00-17:00" (every day). -EINVAL: it is none of them. */
int ai_window_parse(struct view text, struct ai_window *ret);

/* 0: allowed, as far as can be told before a provider is chosen. Else the HTTP status (400: the request can be
 * changed to pass, 403: it cannot), and `reason` holds words for the client, with nothing of the request in them.
 * `now_ms`: wall clock. Of an interface we do not know (facts->never is AI_UNKNOWN) what it asks for cannot be seen:
 * rules about that refuse it. Not for AI_MODELS. */
int ai_rules_check(const struct ai_rules *const *levels, size_t count, const struct json *doc,
                   const struct ai_facts *facts, int64_t now_ms, struct text *reason);

/* May a client ask for this name? */
bool ai_rules_model(const struct ai_rules *const *levels, size_t count, struct view name);
/* May a model by this name (the provider's) in this region be asked? Its name need not be allowed, since an alias
 * that is allowed leads there; but it must not be denied. The region must be allowed by every level that names
 * regions; an unnamed one is not. */
bool ai_rules_candidate(const struct ai_rules *const *levels, size_t count, struct view model, struct view region);
/* May what is asked be kept in, or come from, this region? The second half of the above: for stores and logs. */
bool ai_rules_region(const struct ai_rules *const *levels, size_t count, struct view region);

/* Appends the request as the rules want it: forced members set, the limit of output added where none is said. A parameter that this
 * interface calls otherwise is set under its name there; one that it does not have is not. 1: *out
 * has it, to be parsed and read again, so that keys and prices are of what is really asked; 0: nothing to change,
 * nothing appended; -ENOMEM. Of several levels the first that forces a member decides. */
int ai_rules_apply(const struct ai_rules *const *levels, size_t count, enum ai_endpoint endpoint,
                   const struct json *doc, const struct ai_facts *facts, struct buf *out);
