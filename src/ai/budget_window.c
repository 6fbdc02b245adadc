/* Days and months by UTC. */
#include "ai/budget_internal.h"

#include <time.h>

#define DAY_MS ((int64_t)86400000)

static int64_t clamped(int64_t ms)
{
    return MIN(MAX(ms, 0), (int64_t)1 << 45);
}

int64_t budget_window_of(enum budget_window window, int64_t ms)
{
    time_t seconds = (time_t)(clamped(ms) / 1000);
    struct tm tm = { 0 };

    switch (window) {
    case BUDGET_DAY: return clamped(ms) / DAY_MS;
    case BUDGET_MONTH: gmtime_r(&seconds, &tm); return ((int64_t)tm.tm_year + 1900) * 12 + tm.tm_mon;
    case BUDGET_TOTAL: break;
    }
    return 0;
}

static int64_t month_begins_ms(int64_t month)
{
    struct tm tm = { .tm_year = (int)(month / 12 - 1900), .tm_mon = (int)(month % 12), .tm_mday = 1 };

    return (int64_t)timegm(&tm) * 1000;
}

int64_t budget_window_end_ms(enum budget_window window, int64_t id)
{
    switch (window) {
    case BUDGET_DAY: return (id + 1) * DAY_MS;
    case BUDGET_MONTH: return month_begins_ms(id + 1);
    case BUDGET_TOTAL: break;
    }
    return 0;
}

int32_t budget_first_day(enum budget_window window, int64_t ms)
{
    switch (window) {
    case BUDGET_DAY: return (int32_t)(clamped(ms) / DAY_MS);
    case BUDGET_MONTH: return (int32_t)(month_begins_ms(budget_window_of(window, ms)) / DAY_MS);
    case BUDGET_TOTAL: break;
    }
    return INT32_MIN;
}

int64_t budget_resets_ms(enum budget_window window, int64_t now_ms)
{
    return budget_window_end_ms(window, budget_window_of(window, now_ms));
}

struct view budget_window_name(enum budget_window window)
{
    static const struct view names[] = { { "day", 3 }, { "month", 5 }, { "total", 5 } };

    return names[window];
}

struct view budget_unit_name(enum budget_unit unit)
{
    return unit == BUDGET_MONEY ? VIEW("money") : VIEW("tokens");
}
