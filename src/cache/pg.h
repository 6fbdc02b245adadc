/* One connection to PostgreSQL, for a thread of its own: each call blocks until its answer, its deadline, or until there is
 * something to read on `stop_fd` (-ECANCELED, at once). Never on a loop.
 *
 * Reasons are for the log: one line, from libpq or the server, without the password. */
#pragma once

#include "base/text.h"

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* libpq's PGresult */

struct pg {
    struct pg_conn *conn;
    int stop_fd; /* borrowed */
};

/* Is this a URL (or key=value list) that libpq can use? 0; -EINVAL with a reason that repeats nothing of it. `url` ends in NUL. */
int pg_check_url(const char *url, struct text *reason);
/* 0, -ECANCELED, -ETIMEDOUT, -EIO; nothing is open then. Looking up a host name may take as long as the resolver takes. */
int pg_open(struct pg *pg, const char *url, int stop_fd, unsigned timeout_ms, struct text *reason);
void pg_close(struct pg *pg);
/* Values are text, NULL is NULL. 0 and *ret (PQclear() it), -ECANCELED, -ETIMEDOUT (of no use any more: close), -EIO with the
 * server's SQLSTATE in ret_state (5 letters and NUL; "" when it was the connection). */
int pg_query(struct pg *pg, const char *sql, int count, const char *const *values, unsigned timeout_ms,
             struct pg_result **ret, char ret_state[6], struct text *reason);
/* 1: there was a notification (all that came are taken); 0: the time is over; -ECANCELED; -EIO: the connection is gone. */
int pg_wait(struct pg *pg, unsigned timeout_ms, struct text *reason);
