/* Log lines: formatted on the stack, written with one call so that lines of several threads never mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void log_line(enum log_level level, const char *format, ...)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    char line[1024];
    struct timespec now;
    struct tm utc;
    va_list args;
    size_t len;
    int wrote;

    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    wrote = snprintf(line + len, sizeof(line) - len, ".%03ldZ %s: ", now.tv_nsec / 1000000, names[level]);
    len += wrote > 0 ? (size_t)wrote : 0;
    va_start(args, format);
    wrote = vsnprintf(line + len, sizeof(line) - len - 1, format, args);
    va_end(args);
    if (wrote > 0)
        len = MIN(len + (size_t)wrote, sizeof(line) - 2);
    line[len++] = '\n';
    /* One write per line keeps lines of several threads apart. There is nobody to tell if stderr is gone. */
    if (write(STDERR_FILENO, line, len) < 0)
        return;
}
