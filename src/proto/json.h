/* JSON (RFC 8259) as a tape: one token for each value and each member name, in the order of the text, pointing into
 * the text it was read from. Nothing is copied or converted, so what is not touched can be passed on byte by byte.
 *
 * Strict: exactly one value, valid UTF-8, no duplicate member names in an object, limited depth, size and number of
 * tokens. */
#pragma once

#include "base/buf.h"

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum json_flag {
    JSON_ESCAPED = 1, /* a string with backslashes: its value is not its bytes */
    JSON_ODD =
        2, /* readers disagree about it: a lone surrogate escape, an escaped NUL, an integer beyond 64 bits signed, a
                         number whose magnitude no double has (at the very edges also one or two that have one) */
};

struct json_token {
    uint32_t at, len; /* in the text; strings with their quotes, containers with their brackets */
    uint32_t next;    /* the token behind this one and all that is in it */
    uint32_t count;   /* elements of an array, members of an object */
    uint8_t type, flags;
};

/* A member of an object is two values in a row: its name (JSON_STRING), then its value. Token 0 is the whole; as an
 * answer 0 means "not there", since nothing contains the whole. */
struct json {
    struct view text; /* borrowed */
    struct json_token *tokens;
    uint32_t count, cap;
    bool odd; /* some token is JSON_ODD */
};

enum json_error {
    JSON_OK,
    JSON_SYNTAX,
    JSON_UTF8,
    JSON_DUPLICATE,
    JSON_DEPTH,
    JSON_TOO_LARGE,
    JSON_NO_MEMORY,
};

struct json_limits {
    uint32_t depth;  /* containers in containers; at most 256 are allowed, whatever is said here */
    uint32_t tokens; /* 24 bytes each */
};
#define JSON_LIMITS ((struct json_limits){ .depth = 64, .tokens = 1u << 20 })

/* Reads `text` (shorter than 4 GiB), which must outlive the tape. *doc may be used again for another text, keeping
 * its memory; start it zeroed, and json_free() it whatever came out. On an error *ret_at is the offset in the text
 * where reading stopped. */
enum json_error json_parse(struct json *doc, struct view text, struct json_limits limits, size_t *ret_at);
/* "not JSON", "nested too deeply": for messages. */
const char *json_error_text(enum json_error error);
void json_free(struct json *doc);

static inline enum json_type json_type(const struct json *doc, uint32_t i)
{
    return (enum json_type)doc->tokens[i].type;
}

/* The bytes of a value as they stand in the text. */
static inline struct view json_raw(const struct json *doc, uint32_t i)
{
    return view_make(doc->text.ptr + doc->tokens[i].at, doc->tokens[i].len);
}

/* The value of the member called `name` of object `i`; 0: there is none, or `i` is no object. Names are compared by
 * value. */
uint32_t json_get(const struct json *doc, uint32_t i, struct view name);
/* The same, but only when it is of this type (JSON_TRUE stands for both booleans). */
uint32_t json_get_typed(const struct json *doc, uint32_t i, struct view name, enum json_type type);

/* for (uint32_t name = json_first(doc, object); name < json_end(doc, object); name = json_after(doc, name + 1))
 * visits members (name, value = name + 1); for arrays: item = json_after(doc, item). */
static inline uint32_t json_first(const struct json *doc, uint32_t i)
{
    (void)doc;
    return i + 1;
}

static inline uint32_t json_end(const struct json *doc, uint32_t i)
{
    return doc->tokens[i].next;
}

static inline uint32_t json_after(const struct json *doc, uint32_t i)
{
    return doc->tokens[i].next;
}

/* Is string `i` equal to `value`? Any other type: no. */
bool json_is(const struct json *doc, uint32_t i, struct view value);
/* The inside of a string without escapes, or VIEW_NONE when it has some, or is no string. */
struct view json_plain(const struct json *doc, uint32_t i);
/* Appends the value of a string (escapes resolved; a lone surrogate becomes U+FFFD). False when `i` is no string. */
bool json_decode(const struct json *doc, uint32_t i, struct buf *out);
/* A non-negative integer ("1e3" and "5.0" are integers). False for anything else, and for what 64 bits do not hold. */
bool json_u64(const struct json *doc, uint32_t i, uint64_t *ret);
/* The nearest double. False when `i` is no number or is out of its range. */
bool json_double(const struct json *doc, uint32_t i, double *ret);
static inline bool json_true(const struct json *doc, uint32_t i)
{
    return i && json_type(doc, i) == JSON_TRUE;
}

/* ---- one form for all that mean the same ---- */

/* Appends value `i` in canonical form: no white space, members sorted by their decoded names (bytes), numbers as
 * exact decimals (digits without leading or trailing zeros, exponent; "1.0", "1" and "10e-1" are one; never through a
 * double), strings in their shortest escaping and otherwise untouched. `skip` (may be NULL) says which member names
 * of the top object are left out. Values with the flag JSON_ODD are written by the same rules, unambiguously: lone
 * surrogates stay escapes, and a number whose exponent is beyond +-10^17 keeps its spelling. What `out` lacks room or
 * memory for shows in out->failed. */
void json_canonical(const struct json *doc, uint32_t i, bool (*skip)(struct view name, void *arg), void *arg,
                    struct buf *out);

struct json_rules {
    bool (*skip)(struct view name, void *arg); /* as above */
    void *arg;
    uint32_t replaced;       /* a value that is not written; 0: none */
    struct view replacement; /* the bytes that stand in for it, as they are */
};
/* The same with a value replaced. */
void json_canonical_by(const struct json *doc, uint32_t i, const struct json_rules *rules, struct buf *out);
