/* HTTP-date (RFC 9110 §5.6.7): the three forms, strictly, and the one we send. */
#pragma once

#include "base/text.h"

#define DATE_LEN 29

/* Parses IMF-fixdate, RFC 850 or asctime form into seconds since 1970. Names are case-sensitive, the zone is "GMT", every
 * digit and space stands where the grammar puts it; the day name must be one, but need not fit the date. `now_s` decides the
 * century of a two-digit year (a date more than 50 years ahead is in the past). False (and *ret_seconds untouched) on
 * anything else. */
bool date_parse(struct view text, int64_t now_s, int64_t *ret_seconds);

/* Writes exactly DATE_LEN bytes, no NUL: "Sun, 06 Nov 1994 08:49:37 GMT". Years are clamped to 0000..9999. */
void date_format(int64_t seconds, char out[DATE_LEN]);
void date_put(struct text *t, int64_t seconds);
