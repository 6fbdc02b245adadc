/* Finds personal data and secrets in texts by their structure (check digits, length tables, what a token decodes to) rather than by
 * looks alone. Pure: reads views, keeps nothing, and allocates only for a JWT candidate's first part and while redacting.
 *
 * It fails closed: when memory is out, the answer is "found". docs/ai-privacy.md says what each kind means and misses. */
#pragma once

#include "proto/json.h"

enum pii_kind {
    PII_EMAIL = 1 << 0,
    PII_PHONE = 1 << 1, /* E.164; national formats with separators, or behind a word like "phone" */
    PII_CARD = 1 << 2,  /* issuer prefix, length, Luhn */
    PII_IBAN = 1 << 3,  /* country, length, mod 97 */
    PII_IP = 1 << 4,    /* IPv4 and IPv6, without loopback, masks and multicast */
    PII_JWT = 1 << 5,
    PII_PEM = 1 << 6, /* keys and certificates */
    PII_KEY = 1 << 7, /* API keys of well-known shapes */
    PII_ALL = (1 << 8) - 1,
};

struct pii_find {
    enum pii_kind kind;
    size_t at, len; /* in the text */
};

/* Writes the first `max` finds in the order of the text; they do not overlap. Returns how many there are, also beyond `max`. */
size_t pii_scan(struct view text, unsigned kinds, struct pii_find *finds, size_t max);
/* Which of `kinds` are there; stops early once all of them are. */
unsigned pii_kinds(struct view text, unsigned kinds);
/* "email", for options, logs of counts, metrics. `kind` is one bit. */
const char *pii_name(enum pii_kind kind);
/* The kind of that name; 0: there is none. */
unsigned pii_kind_of(struct view name);

/* ---- redaction ---- */

/* Which number a value got, so that the same value has the same placeholder everywhere in one request. Holds hashes of values, never
 * values. */
struct pii_map {
    struct pii_seen *seen; /* hash table */
    uint32_t count, cap;
    uint32_t last[8]; /* the latest number by kind */
};
void pii_map_init(struct pii_map *map);
void pii_map_free(struct pii_map *map);

/* Appends the text with each find replaced by "[EMAIL_1]" and the like. Returns how many were replaced, or -ENOMEM (what `out` then
 * holds must not be used: it may be cut). */
int pii_redact(struct view text, unsigned kinds, struct pii_map *map, struct buf *out);

/* ---- JSON ---- */

/* The kinds found in the strings of the document, values and member names (not in the base64 part of data: URLs), and in whole numbers as
 * long as those of cards. Strings are looked at decoded: an escape hides nothing. All of `kinds` when memory is out. */
unsigned pii_scan_json(const struct json *doc, unsigned kinds);
/* Appends the document with those redacted (a number becomes a string) and all other bytes as they were. Returns how many finds were replaced, or
 * -ENOMEM (`out` must not be used). */
int pii_redact_json(const struct json *doc, unsigned kinds, struct pii_map *map, struct buf *out);
