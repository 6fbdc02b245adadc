/* Structured fields (RFC 8941): an iterator over borrowed bytes, no allocation. All views point into the input.
 *
 * Any error makes the whole field invalid (§4.2): a caller that acts on members as they come must be ready to forget them,
 * or run the iterator to its end first. Several lines of one field are joined by the caller or fed one after the other: each
 * line must then be whole by itself. A dictionary key given twice is returned twice; the last one counts. */
#pragma once

#include "base/text.h"

enum sf_type {
    SF_INTEGER,    /* number */
    SF_DECIMAL,    /* number, in thousandths */
    SF_STRING,     /* text: between the quotes, escapes still in (sf_string_put) */
    SF_TOKEN,      /* text */
    SF_BYTES,      /* text: between the colons, base64 (sf_bytes_put) */
    SF_BOOLEAN,    /* number: 0 or 1 */
    SF_INNER_LIST, /* text: between the parentheses, for sf_inner() */
};

struct sf_item {
    enum sf_type type;
    int64_t number;
    struct view text;
    struct view params; /* ";a=1;b", for sf_params(); empty when none */
};

struct sf_cursor {
    struct view rest;
    bool started;
};

/* Start of a list, a dictionary, or nothing yet: surrounding spaces are cut. */
struct sf_cursor sf_cursor(struct view input);

/* All of these: 1 and a member; 0 at the end; -EBADMSG for bad input (and again on every further call). */
int sf_list_next(struct sf_cursor *cursor, struct sf_item *ret_item);
/* A member without "=" is the boolean true. */
int sf_dict_next(struct sf_cursor *cursor, struct view *ret_key, struct sf_item *ret_item);

/* One bare item with parameters, and nothing behind it: 0 or -EBADMSG. */
int sf_parse_item(struct view input, struct sf_item *ret_item);

/* The parameters of an item and the members of an inner list: already validated, so the next functions only return 1 or 0. */
struct sf_cursor sf_params(const struct sf_item *item);
int sf_param_next(struct sf_cursor *cursor, struct view *ret_key, struct sf_item *ret_value);
struct sf_cursor sf_inner(const struct sf_item *list);
int sf_inner_next(struct sf_cursor *cursor, struct sf_item *ret_item);

/* Appends the value of an SF_STRING, escapes resolved. */
void sf_string_put(struct text *t, const struct sf_item *item);
/* Appends the decoded value of SF_BYTES. */
void sf_bytes_put(struct text *t, const struct sf_item *item);

/* Serialises `value` as a string with quotes; bytes outside printable ASCII become '?'. */
void sf_put_string(struct text *t, struct view value);
/* True when `value` may stand as a token / as a key. */
bool sf_is_token(struct view value);
bool sf_is_key(struct view value);
