/* Content negotiation fields (RFC 9110 §12.5): quality values and what the node itself needs of them. */
#pragma once

#include "proto/field.h"

/* The codings that matter; everything else in Accept-Encoding changes nothing for us. */
enum coding { CODING_IDENTITY, CODING_GZIP, CODING_BR, CODING_ZSTD, CODING_DEFLATE, CODING_COUNT };

/* "gzip", "br", ... */
struct view coding_name(enum coding coding);
/* CODING_COUNT for unknown names. "x-gzip" is gzip. Case-insensitive. */
enum coding coding_lookup(struct view name);

/* Splits "value;param;q=0.5" into the value and its quality in thousandths (1000 when absent, 0 when malformed). */
struct view accept_member(struct view member, unsigned *ret_quality);

/* Quality per coding, 0..1000, `*` applied. Without the field: identity 1000, all others 0 (we never code unasked). */
void accept_encoding(const struct fields *fields, uint16_t ret_quality[CODING_COUNT]);

/* True when Accept ranks application/json over text/html (used for error bodies). Without Accept: false. */
bool accept_prefers_json(const struct fields *fields);
/* True when Accept admits text/html explicitly (browsers do, the any-type range of curl does not). */
bool accept_names_html(const struct fields *fields);
