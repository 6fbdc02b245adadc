/* The access log: one line per request, JSON or combined, to a file, standard output or syslog.
 *
 * What a line never holds: bodies, cookies, Authorization, header values other than User-Agent and Referer (the latter
 * cut before its query and without a user name). By default query values are left out ("/search?*") and the client's address is cut to its
 * network (/24, /48). Everything foreign is escaped, long values are cut, a line never exceeds ACCESS_LINE_MAX bytes.
 *
 * Each loop collects lines in a buffer of its own and writes them with one O_APPEND write at the end of its turn. Nothing
 * here waits: when the target does not take the bytes (disk full, pipe not read) lines are dropped whole and counted. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"

#include <stdint.h>

struct access_log;

#define ACCESS_LINE_MAX 4096u /* PIPE_BUF: a line to a pipe is written whole or not at all */

enum access_target { ACCESS_OFF, ACCESS_FILE, ACCESS_STDOUT, ACCESS_SYSLOG };
enum access_format { ACCESS_JSON, ACCESS_COMBINED };
enum access_addresses { ACCESS_ADDRESSES_TRUNCATED, ACCESS_ADDRESSES_FULL, ACCESS_ADDRESSES_NONE };

struct access_log_options {
    enum access_target target;
    enum access_format format;
    const char *path;  /* the file, or the syslog socket (NULL: /dev/log) */
    bool query_values; /* print queries as they came */
    bool cookie_names; /* print the names of the cookies sent; values never (JSON only) */
    enum access_addresses addresses;
};

/* All views may be empty (left out, or "-" in the combined format) and are only read during access_log_write(). */
struct access_record {
    int64_t time_ms; /* wall clock when the request head was complete */
    struct view method;
    struct view host;
    struct view path;
    struct view query;    /* without '?'; ptr == NULL when there is none */
    struct view protocol; /* "HTTP/1.1" */
    struct view client;   /* numeric address without port; empty on a Unix socket */
    struct view user_agent;
    struct view referer; /* as received; printed without its query */
    struct view cookie;  /* the Cookie field; only names are ever printed, and only when asked for */
    struct view request_id;
    struct view route;    /* the route's name or pattern */
    struct view outcome;  /* "hit", "stale", "miss", "bypass", ... as counted in the metrics */
    struct view why;      /* the reason: "expired", "no-store", ... */
    struct view tier;     /* "memory", "disk", ... empty when not a hit */
    struct view upstream; /* upstream's name; empty when none was asked */
    uint16_t status;      /* 0: closed before an answer */
    uint64_t bytes_in;    /* request, with its head */
    uint64_t bytes_out;   /* response, with its head */
    uint64_t duration_us; /* head complete to last byte accepted by the kernel */
    uint64_t upstream_us; /* waited for the upstream's head; 0: was not asked */
};

/* Opens the target. `loops`: how many loops will write. 0, -ENOMEM, or -errno of opening (the caller names the path). */
int access_log_open(struct access_log **ret, const struct access_log_options *options, unsigned loops);
/* On the loop's own thread or before it runs: makes its turns end with a flush. */
void access_log_attach(struct access_log *log, struct loop *loop);
/* Accepts a NULL log (does nothing). Only on the loop's thread. */
void access_log_write(struct access_log *log, struct loop *loop, const struct access_record *record);
/* What the hook does; also for a loop that ends. */
void access_log_flush(struct access_log *log, struct loop *loop);
/* After the file was moved away (SIGUSR1): any thread, while loops write. On failure the old file stays in use.
 * 0 or -errno; nothing to do for stdout; reconnects syslog. Accepts NULL. */
int access_log_reopen(struct access_log *log);
/* Lines that could not be written so far. Any thread. */
uint64_t access_log_dropped(const struct access_log *log);
/* After all loops have ended. Flushes what is left. Accepts NULL. */
void access_log_close(struct access_log *log);

/* ---- pieces, pure, for tests and for other printers of addresses ---- */

/* One line with its '\n'. False (and nothing appended) when `out` has less than ACCESS_LINE_MAX bytes of room. */
bool access_log_format(struct text *out, const struct access_log_options *options, const struct access_record *record);
/* 203.0.113.9 -> 203.0.113.0, 2001:db8:1:2::3 -> 2001:db8:1::; what is not an address gives "-". */
void access_log_mask(struct text *out, struct view address);
