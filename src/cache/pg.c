/* libpq in its non-blocking form, so that every wait is a poll() on the socket and the stop descriptor with a deadline. */
#include "cache/pg.h"

#include "base/clock.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>

/* The first line of a message of libpq's, without what a log line must not have. */
static void put_message(struct text *to, const char *message)
{
    struct view line = view_str(message), rest = line;

    line = view_trim(view_cut(&rest, '\n'));
    for (size_t i = 0; i < line.len && i < 200; i++)
        text_char(to, (unsigned char)line.ptr[i] < 0x20 || line.ptr[i] == 0x7f ? '?' : line.ptr[i]);
}

/* Waits for `events` on the connection. 0, -ECANCELED, -ETIMEDOUT. */
static int wait_for(struct pg *pg, short events, uint64_t deadline_ms)
{
    struct pollfd fds[] = { { .fd = PQsocket(pg->conn), .events = events }, { .fd = pg->stop_fd, .events = POLLIN } };

    for (;;) {
        uint64_t now = clock_mono_ms();
        int r = poll(fds, ARRAY_LEN(fds), now < deadline_ms ? (int)MIN(deadline_ms - now, (uint64_t)60000) : 0);

        if (r < 0 && errno != EINTR)
            return -errno;
        if (r > 0 && fds[1].revents)
            return -ECANCELED;
        if (r > 0)
            return 0;
        if (clock_mono_ms() >= deadline_ms)
            return -ETIMEDOUT;
    }
}

static void drop_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result; /* by default libpq writes them to stderr */
}

int pg_check_url(const char *url, struct text *reason)
{
    PQconninfoOption *list = PQconninfoParse(url, NULL);
    bool good = list != NULL;

    /* A password with a raw '/' or '@' in it turns up as the port or host; libpq's message would then show a part of it. */
    for (PQconninfoOption *it = list; it && it->keyword && good; it++)
        if (strcmp(it->keyword, "port") == 0 && it->val)
            good = strspn(it->val, "0123456789,") == strlen(it->val);
    PQconninfoFree(list);
    if (!good)
        text_lit(reason, "not a PostgreSQL URL (write special characters of the password as %XX)");
    return good ? 0 : -EINVAL;
}

static int finish_connect(struct pg *pg, uint64_t deadline_ms, struct text *reason)
{
    PostgresPollingStatusType next = PGRES_POLLING_WRITING;

    while (next != PGRES_POLLING_OK) {
        int r;

        if (next == PGRES_POLLING_FAILED || PQstatus(pg->conn) == CONNECTION_BAD) {
            put_message(reason, PQerrorMessage(pg->conn));
            return -EIO;
        }
        r = wait_for(pg, next == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_ms);
        if (r == -ETIMEDOUT)
            text_lit(reason, "the server does not answer");
        if (r < 0)
            return r;
        next = PQconnectPoll(pg->conn);
    }
    return 0;
}

int pg_open(struct pg *pg, const char *url, int stop_fd, unsigned timeout_ms, struct text *reason)
{
    /* What stands before dbname can be overridden by the URL. The keepalives find a peer that is gone while all is quiet, the
     * user timeout one that is gone while something is under way (also while connecting: then the next host is tried). */
    const char *const names[] = { "keepalives_idle",  "keepalives_interval", "keepalives_count", "tcp_user_timeout",
                                  "application_name", "client_encoding",     "dbname",           NULL };
    const char *const values[] = { "10", "5", "3", "10000", "doorstep", "UTF8", url, NULL };
    int r;

    *pg = (struct pg){ .conn = PQconnectStartParams(names, values, 1), .stop_fd = stop_fd };
    if (!pg->conn) {
        text_lit(reason, "out of memory");
        return -EIO;
    }
    PQsetNoticeReceiver(pg->conn, drop_notice, NULL);
    r = finish_connect(pg, clock_mono_ms() + timeout_ms, reason);
    if (r == 0)
        r = PQsetnonblocking(pg->conn, 1) == 0 ? 0 : -EIO;
    if (r < 0)
        pg_close(pg);
    return r;
}

void pg_close(struct pg *pg)
{
    PQfinish(pg->conn);
    pg->conn = NULL;
}

/* Sends what is queued and reads until a whole answer is here. */
static int exchange(struct pg *pg, uint64_t deadline_ms)
{
    for (;;) {
        int unsent = PQflush(pg->conn), r;

        if (unsent < 0)
            return -EIO;
        if (!unsent && !PQisBusy(pg->conn))
            return 0;
        r = wait_for(pg, unsent ? POLLIN | POLLOUT : POLLIN, deadline_ms);
        if (r < 0)
            return r;
        if (!PQconsumeInput(pg->conn))
            return -EIO;
    }
}

/* The last result of the command; those before it are dropped. */
static int take_result(struct pg *pg, uint64_t deadline_ms, PGresult **ret)
{
    PGresult *last = NULL, *next;
    int r;

    while ((r = exchange(pg, deadline_ms)) == 0 && (next = PQgetResult(pg->conn)) != NULL) {
        PQclear(last);
        last = next;
    }
    if (r == 0 && last) {
        *ret = last;
        return 0;
    }
    PQclear(last);
    return r < 0 ? r : -EIO;
}

int pg_query(struct pg *pg, const char *sql, int count, const char *const *values, unsigned timeout_ms, PGresult **ret,
             char ret_state[6], struct text *reason)
{
    PGresult *result;
    ExecStatusType status;
    const char *state;
    int r = -EIO;

    memset(ret_state, 0, 6);
    if (PQsendQueryParams(pg->conn, sql, count, NULL, values, NULL, NULL, 0))
        r = take_result(pg, clock_mono_ms() + timeout_ms, &result);
    if (r == -ETIMEDOUT)
        text_lit(reason, "the server does not answer");
    else if (r < 0)
        put_message(reason, PQerrorMessage(pg->conn));
    if (r < 0)
        return r;
    status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        *ret = result;
        return 0;
    }
    state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state)
        memcpy(ret_state, state, MIN(strlen(state), (size_t)5));
    put_message(reason, PQresultErrorMessage(result));
    PQclear(result);
    return -EIO;
}

static bool take_notifications(struct pg *pg)
{
    PGnotify *one;
    bool any = false;

    while ((one = PQnotifies(pg->conn)) != NULL) {
        PQfreemem(one);
        any = true;
    }
    return any;
}

int pg_wait(struct pg *pg, unsigned timeout_ms, struct text *reason)
{
    uint64_t deadline_ms = clock_mono_ms() + timeout_ms;

    while (!take_notifications(pg)) {
        int r = wait_for(pg, POLLIN, deadline_ms);

        if (r == -ETIMEDOUT)
            return 0;
        if (r < 0)
            return r;
        if (!PQconsumeInput(pg->conn)) {
            put_message(reason, PQerrorMessage(pg->conn));
            return -EIO;
        }
    }
    return 1;
}
