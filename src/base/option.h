/* Descriptions of configuration options. A module describes its options struct once, in a table; conf/ reads files with
 * the tables, and prints the reference page and the JSON Schema from them. Nothing here allocates or reads.
 *
 * The C type of the described member follows from the option's type:
 *
 *   OPTION_BOOL      bool                     OPTION_STRING    struct view
 *   OPTION_INT       uint64_t                 OPTION_STRINGS   struct option_strings
 *   OPTION_SIZE      uint64_t, bytes          OPTION_CIDRS     struct option_cidrs
 *   OPTION_DURATION  uint64_t, milliseconds   OPTION_ADDRESS   struct option_address
 *   OPTION_RATIO     double, 0..1             OPTION_ADDRESSES struct option_addresses
 *   OPTION_ENUM      any enum (int-sized)     OPTION_URL       struct option_url
 *   OPTION_STRUCT    the nested struct        OPTION_URLS      struct option_urls
 *   OPTION_LIST      { T *items; size_t count; }, T described by `table`
 *   OPTION_MAP       the same, and T's first member is `struct view name`
 *
 * Views that a configuration holds are followed by a NUL, so .ptr can be handed to the system as it is. */
#pragma once

#include "base/view.h"

enum option_type {
    OPTION_BOOL,
    OPTION_INT,
    OPTION_RATIO,
    OPTION_SIZE,
    OPTION_DURATION,
    OPTION_STRING,
    OPTION_ENUM,
    OPTION_ADDRESS,
    OPTION_URL,
    OPTION_STRINGS,
    OPTION_CIDRS,
    OPTION_ADDRESSES,
    OPTION_URLS,
    OPTION_STRUCT,
    OPTION_LIST,
    OPTION_MAP,
};

/* Numbers, sizes and durations that nobody set and that have no default. */
#define OPTION_UNSET UINT64_MAX

enum option_flag {
    OPTION_REQUIRED = 1,    /* leaving it out is a mistake */
    OPTION_ENV = 2,         /* ${NAME} is replaced by the environment variable, for secrets */
    OPTION_UNAVAILABLE = 4, /* known, but this version cannot do it: using it is a mistake */
    OPTION_TOKEN = 8,       /* string(s) must be an HTTP token: header, cookie names (RFC 9110 §5.6.2) */
};

struct option_strings {
    struct view *items;
    size_t count;
};

/* An address range. IPv4 is kept mapped into IPv6 (::ffff:a.b.c.d), `bits` counted in the 128. */
struct option_cidr {
    uint8_t address[16];
    unsigned bits;
};

struct option_cidrs {
    struct option_cidr *items;
    size_t count;
};

/* Where to listen: "host:port", "[v6]:port", ":port", "port" (any address), or "unix:/path". */
struct option_address {
    struct view text; /* as written */
    struct view path; /* unix socket; else empty */
    struct view host; /* numeric address without brackets, or "localhost"; empty: any */
    uint16_t port;    /* 0: the system chooses */
};

struct option_addresses {
    struct option_address *items;
    size_t count;
};

/* An http or https URL without user, query and fragment. */
struct option_url {
    struct view text; /* as written */
    struct view host; /* name or numeric address, without brackets */
    struct view path; /* empty, or starts with '/' and is more than "/" */
    uint16_t port;    /* 80 or 443 unless written */
    bool tls;         /* https */
};

struct option_urls {
    struct option_url *items;
    size_t count;
};

struct option {
    const char *name; /* NULL ends a table */
    enum option_type type;
    size_t offset;              /* of the member in the described struct */
    const char *preset;         /* the default as a user would write it, lists with commas; NULL: none (OPTION_UNSET) */
    uint64_t min, max;          /* numbers, sizes, durations; max 0: no upper bound */
    const char *const *names;   /* OPTION_ENUM: spellings in the order of the enum, NULL-terminated */
    const struct option *table; /* OPTION_STRUCT, _LIST, _MAP */
    size_t item_size;           /* OPTION_LIST, _MAP: sizeof(T) */
    unsigned flags;             /* of enum option_flag */
    const char *help;           /* a sentence or two; `code` allowed */
};

/* Cases where an option struct's user needs a comparison rather than text. */

/* Is the address (16 bytes, IPv4 mapped) in one of the ranges? */
bool option_cidrs_match(const struct option_cidrs *ranges, const uint8_t address[16]);
