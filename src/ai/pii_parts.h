/* Internal to src/ai/pii*.c: what the matchers share. A matcher is asked at a byte that may be part of a find and answers with the whole
 * of it. It looks at most a constant distance back, and forward not much further than what it then takes, so that a scan is linear. */
#pragma once

#include "ai/pii.h"

struct pii_text {
    const char *ptr;
    size_t len;
    size_t floor;      /* the end of the latest find: a new one starts here or later */
    size_t pem_end;    /* where the next "-----END" was seen last; len: there is none. Saves searching again */
    size_t regular_to; /* a key that starts before this was seen to be too regular, from an earlier start */
};

/* Bytes by class; index with unsigned char. */
enum pii_class {
    PII_DIGIT = 1,
    PII_ALPHA = 2,
    PII_WORD = 4, /* letter, digit, underscore, any byte beyond ASCII */
    PII_HEX = 8,
    PII_LOCAL = 16,  /* may stand in the local part of an address */
    PII_BASE64 = 32, /* base64url and '-' '_' */
    PII_START = 64,  /* a matcher has to look here */
    PII_UPPER = 128,
};
extern const uint8_t pii_classes[256];

static inline bool pii_is(const struct pii_text *t, size_t at, unsigned class)
{
    return at < t->len && (pii_classes[(unsigned char)t->ptr[at]] & class) != 0;
}

static inline char pii_at(const struct pii_text *t, size_t at)
{
    return at < t->len ? t->ptr[at] : '\0';
}

/* Does `word` stand directly before `at`? */
static inline bool pii_before(const struct pii_text *t, size_t at, struct view word)
{
    return at >= t->floor + word.len && memcmp(t->ptr + at - word.len, word.ptr, word.len) == 0;
}

/* Can something start at `at`: is what is before no part of the same word? The n of "\n" in JSON inside of a string is none. */
bool pii_starts_word(const struct pii_text *t, size_t at);
/* Length of a space or hyphen as people put them between groups of digits (also the no-break ones); 0: there is none. *ret is ' ' or
 * '-'. */
size_t pii_gap(const struct pii_text *t, size_t at, char *ret);
/* How many bytes from `at` are of the class, at most `max`. */
size_t pii_run(const struct pii_text *t, size_t at, unsigned class, size_t max);

enum pii_label { PII_LABEL_NONE, PII_LABEL_PHONE, PII_LABEL_OTHER, PII_LABEL_VERSION };
/* What the last words before `at` call what follows. */
enum pii_label pii_label_before(const struct pii_text *t, size_t at);

/* Each is asked at its trigger and writes *ret when it returns true. */
bool pii_match_email(const struct pii_text *t, size_t at, struct pii_find *ret); /* at '@', "%40", "\u0040" */
bool pii_match_phone(const struct pii_text *t, size_t at,
                     struct pii_find *ret); /* at a digit behind none, as the next four */
bool pii_match_card(const struct pii_text *t, size_t at, struct pii_find *ret);
bool pii_match_iban(const struct pii_text *t, size_t at, struct pii_find *ret);
bool pii_match_ipv4(const struct pii_text *t, size_t at, struct pii_find *ret);
bool pii_match_ipv6(const struct pii_text *t, size_t at, struct pii_find *ret); /* at ':' */
bool pii_match_jwt(const struct pii_text *t, size_t at, struct pii_find *ret);  /* at the J of "eyJ" */
bool pii_match_pem(struct pii_text *t, size_t at, struct pii_find *ret);        /* at the first '-' of five */
bool pii_match_key(struct pii_text *t, size_t at, struct pii_find *ret); /* at '-', '_', and letters within prefixes */
