/* Vary (RFC 9111 §4.1): normalised names of a response, and a request's normalised values for them. */
#pragma once

#include "base/text.h"
#include "proto/field.h"

#define VARY_NAMES_MAX 16

enum vary {
    VARY_NONE, /* no Vary, or an empty one */
    VARY_NAMES,
    VARY_STAR,  /* a `*` anywhere: never reuse */
    VARY_LIMIT, /* over VARY_NAMES_MAX names, a name that is none, or no room: do not store */
};

/* Appends the names: lower case, sorted, unique, joined by ",". */
enum vary vary_names(const struct fields *response, struct text *names);

/* Appends one line ("\n" ended) per name with the request's normalised value; an absent field is "-", a present one "=value".
 *   accept-encoding   the acceptable codings that matter, by name, with "identity;q=0" when refused
 *   accept-language   lower case, by quality then name ("de,en>fr>!it"): order within one quality means nothing; refused last
 *   cookie, authorization, proxy-authorization   a 128-bit hash, never the value
 *   others            lines joined by ",", white space around commas cut, runs of white space one space
 * False when `out` overflowed: treat as no match, do not store. */
bool vary_values(struct view names, const struct fields *request, struct text *out);

/* Where the only difference is Accept-Language: true when `content_language` (of the stored response, one tag) satisfies the
 * best-ranked language range of the request (RFC 4647 basic filtering). */
bool vary_language_match(struct view content_language, const struct fields *request);
/* True when two vary_values texts for `names` differ at most in accept-language. */
bool vary_same_but_language(struct view names, struct view a, struct view b);
