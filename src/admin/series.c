/* Prometheus text for numbers that stand in statistics structs. */
#include "admin/answer.h"

void admin_family(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void admin_single(struct text *out, const char *name, const char *type, const char *help, uint64_t value)
{
    admin_family(out, name, type, help);
    text_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

void admin_series(struct text *out, const struct series *series, size_t count, const void *stats)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;

        memcpy(&value, (const char *)stats + series[i].offset, sizeof(value));
        admin_single(out, series[i].name, series[i].type, series[i].help, value);
    }
}
