/* The semantic cache for /metrics and /top: hits by level, and how often a sample of them was wrong. */
#include "admin/answer.h"
#include "ai/semantic.h"

static const char *const levels[SEMANTIC_LEVELS] = { "canonical", "embedding" };

static uint64_t number_of(const struct semantic_report *report, unsigned level, unsigned which)
{
    const uint64_t numbers[] = { report->level[level].lookups, report->level[level].hits,
                                 report->level[level].shadow_hits, report->level[level].verified,
                                 report->level[level].wrong };

    return numbers[which];
}

static void write_levels(struct text *out, const struct semantic_report *report)
{
    static const char *const series[][2] = {
        { "lookups", "Prompts looked for in other words." },
        { "hits", "Of these, answered with the answer to other words." },
        { "shadow_hits", "Of these, only noted: shadow mode." },
        { "verified", "Hits whose answer was compared with the provider's." },
        { "wrong", "Of these, judged wrong." },
    };

    for (unsigned i = 0; i < ARRAY_LEN(series); i++) {
        char memory[64];
        struct text name = TEXT_ON(memory);

        text_printf(&name, "doorstep_ai_semantic_%s_total", series[i][0]);
        admin_family(out, text_str(&name), "counter", series[i][1]);
        for (unsigned k = 0; k < SEMANTIC_LEVELS; k++)
            text_printf(out, "%s{level=\"%s\"} %llu\n", text_str(&name), levels[k],
                        (unsigned long long)number_of(report, k, i));
    }
    admin_family(out, "doorstep_ai_semantic_false_hit_rate", "gauge",
                 "Estimated share of wrong answers among hits, with its 95 % interval.");
    for (unsigned k = 0; k < SEMANTIC_LEVELS; k++)
        text_printf(out,
                    "doorstep_ai_semantic_false_hit_rate{level=\"%s\",bound=\"estimate\"} %.6f\n"
                    "doorstep_ai_semantic_false_hit_rate{level=\"%s\",bound=\"low\"} %.6f\n"
                    "doorstep_ai_semantic_false_hit_rate{level=\"%s\",bound=\"high\"} %.6f\n",
                    levels[k], report->level[k].false_hit_rate, levels[k], report->level[k].low, levels[k],
                    report->level[k].high);
}

static void single(struct text *out, const char *name, const char *type, const char *help, uint64_t value)
{
    admin_family(out, name, type, help);
    text_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

void admin_write_semantic(struct text *out, const struct admin *admin)
{
    struct semantic_report report;

    if (!admin->semantic)
        return;
    semantic_report(admin->semantic, &report);
    write_levels(out, &report);
    admin_family(out, "doorstep_ai_semantic_refused_total", "counter",
                 "Neighbours near enough for the configured threshold that were not served.");
    text_printf(out, "doorstep_ai_semantic_refused_total{by=\"guards\"} %llu\n",
                (unsigned long long)report.refused_by_guards);
    text_printf(out, "doorstep_ai_semantic_refused_total{by=\"threshold\"} %llu\n",
                (unsigned long long)report.refused_by_threshold);
    single(out, "doorstep_ai_semantic_entries", "gauge", "Prompts in the index.", report.entries);
    single(out, "doorstep_ai_semantic_bytes", "gauge", "Memory that it takes.", report.bytes);
    single(out, "doorstep_ai_semantic_evicted_total", "counter", "Prompts pushed out by others.", report.evicted);
}

void admin_put_semantic(struct text *out, const struct admin *admin, uint64_t requests)
{
    struct semantic_report report;

    if (!admin->semantic)
        return;
    semantic_report(admin->semantic, &report);
    member_name(out, "semantic");
    text_char(out, '{');
    for (unsigned i = 0; i < SEMANTIC_LEVELS; i++) {
        member_name(out, levels[i]);
        text_char(out, '{');
        member_u64(out, "lookups", report.level[i].lookups);
        member_u64(out, "hits", report.level[i].hits);
        text_printf(out, ",\"ratio\":%.5f", requests ? (double)report.level[i].hits / (double)requests : 0);
        member_u64(out, "shadow_hits", report.level[i].shadow_hits);
        member_u64(out, "verified", report.level[i].verified);
        member_u64(out, "wrong", report.level[i].wrong);
        text_printf(out, ",\"false_hit_rate\":%.6f,\"low\":%.6f,\"high\":%.6f}", report.level[i].false_hit_rate,
                    report.level[i].low, report.level[i].high);
    }
    member_u64(out, "refused_by_guards", report.refused_by_guards);
    member_u64(out, "refused_by_threshold", report.refused_by_threshold);
    member_u64(out, "entries", report.entries);
    member_u64(out, "bytes", report.bytes);
    text_char(out, '}');
}
