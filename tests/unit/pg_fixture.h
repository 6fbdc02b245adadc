/* For unit tests: a PostgreSQL server of their own, without TCP, in a folder under /tmp. It ends with the test program. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"

#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    char bin[64];    /* "" when PostgreSQL is not installed */
    char folder[64]; /* data in folder/data, socket in folder */
    char url[160];
    pid_t pid;
} pg;

/* As the child: PostgreSQL does not run as root. The server dies with its parent. */
static void pg_become(void)
{
    struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
    pid_t parent = getppid();
    int log = open("/dev/null", O_RDWR);

    if (user && (initgroups("postgres", user->pw_gid) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0))
        _exit(1);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (getppid() != parent)
        _exit(1);
    dup2(log, 0);
    dup2(log, 1);
    dup2(log, 2);
    unsetenv("LC_ALL");
    setenv("LC_MESSAGES", "C", 1);
}

static void pg_run(const char *shell_command)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        pg_become();
        execl("/bin/sh", "sh", "-c", shell_command, (char *)NULL);
        _exit(1);
    }
    waitpid(child, &status, 0);
    if (status != 0)
        fail_msg("%s", shell_command);
}

static void pg_start(void)
{
    pg.pid = fork();
    if (pg.pid == 0) {
        char program[96], data[96], sockets[128];

        pg_become();
        snprintf(program, sizeof(program), "%s/postgres", pg.bin);
        snprintf(data, sizeof(data), "%s/data", pg.folder);
        snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", pg.folder);
        execl(program, "postgres", "-D", data, "-c", sockets, "-c", "listen_addresses=", "-c", "shared_buffers=16MB",
              "-c", "max_connections=20", "-c", "dynamic_shared_memory_type=mmap", (char *)NULL);
        _exit(1);
    }
    for (int i = 0; PQping(pg.url) != PQPING_OK; i++) {
        if (i == 1000 || waitpid(pg.pid, NULL, WNOHANG) != 0)
            fail_msg("PostgreSQL does not start");
        usleep(10000);
    }
}

/* SIGINT: a clean stop; SIGQUIT: as if it had crashed. */
static void pg_stop(int signal)
{
    if (pg.pid <= 0)
        return;
    kill(pg.pid, signal);
    waitpid(pg.pid, NULL, 0);
    pg.pid = 0;
}

/* Where PostgreSQL is, and a new server; 0. Without PostgreSQL pg.bin is empty. */
static int pg_set_up(void **state)
{
    struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
    char command[256];
    glob_t found;

    (void)state;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0)
        return 0;
    snprintf(pg.bin, sizeof(pg.bin), "%.*s", (int)(strlen(found.gl_pathv[found.gl_pathc - 1]) - strlen("/initdb")),
             found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    snprintf(pg.folder, sizeof(pg.folder), "/tmp/doorstep-pg-XXXXXX");
    if (!mkdtemp(pg.folder) || (user && chown(pg.folder, user->pw_uid, user->pw_gid) < 0))
        return -1;
    snprintf(pg.url, sizeof(pg.url), "host=%s dbname=postgres user=postgres", pg.folder);
    snprintf(command, sizeof(command), "%s/initdb -D %s/data -U postgres -A trust --no-sync --no-locale -E UTF8",
             pg.bin, pg.folder);
    pg_run(command);
    snprintf(command, sizeof(command),
             "printf 'local all all trust\nlocal replication all trust\n' > %s/data/pg_hba.conf", pg.folder);
    pg_run(command);
    pg_start();
    return 0;
}

static int pg_tear_down(void **state)
{
    char command[128];

    (void)state;
    if (!pg.bin[0])
        return 0;
    pg_stop(SIGQUIT);
    snprintf(command, sizeof(command), "rm -rf %s", pg.folder);
    return system(command);
}

static PGconn *pg_session(void)
{
    PGconn *conn = PQconnectdb(pg.url);

    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    return conn;
}

static void pg_exec(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);

    PQclear(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
}

/* In a session of its own. */
static void pg_sql(const char *sql)
{
    PGconn *conn = pg_session();

    pg_exec(conn, sql);
    PQfinish(conn);
}

static void drop_pg_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static void pg_sql_file(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    PGconn *conn = pg_session();

    if (got <= 0)
        fail_msg("%s cannot be read", path);
    close(fd);
    text[got] = '\0';
    PQsetNoticeProcessor(conn, drop_pg_notice, NULL);
    pg_exec(conn, text);
    PQfinish(conn);
}
