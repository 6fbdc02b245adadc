/* Judges pairs of answers and prints what came of it. */
#include "main/compare_report.h"

#include "ai/semantic.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/key.h"
#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

#define WORDS_MAX 4096

/* ---- judging ---- */

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (unsigned char)c >= 0x80;
}

/* Hashes of the words of a text, sorted, each once. */
static size_t words_of(struct view text, uint64_t *words)
{
    char lower[64];
    size_t count = 0, len = 0, kept = 0;

    for (size_t i = 0; i <= text.len && count < WORDS_MAX; i++) {
        char c = i < text.len ? ascii_lower(text.ptr[i]) : ' ';

        if (is_word(c)) {
            if (len < sizeof(lower))
                lower[len++] = c;
        } else if (len) {
            words[count++] = hash64(view_make(lower, len));
            len = 0;
        }
    }
    qsort(words, count, sizeof(*words), by_value);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || words[i] != words[kept - 1])
            words[kept++] = words[i];
    return kept;
}

double compare_overlap(struct view a, struct view b)
{
    not_zeroed uint64_t words[2][WORDS_MAX];
    size_t counts[2] = { words_of(a, words[0]), words_of(b, words[1]) }, i = 0, k = 0, common = 0;

    while (i < counts[0] && k < counts[1]) {
        uint64_t x = words[0][i], y = words[1][k];

        common += x == y;
        i += x <= y;
        k += y <= x;
    }
    return counts[0] + counts[1] ? 2.0 * (double)common / (double)(counts[0] + counts[1]) : 1;
}

/* How models put it that they will not. Only the beginning of an answer counts. */
static bool declines(struct view text)
{
    static const struct view ways[] = {
        { "i can't help", 12 },    { "i cannot help", 13 },   { "i can't assist", 14 },   { "i cannot assist", 15 },
        { "i'm sorry, but", 14 },  { "i am sorry, but", 15 }, { "sorry, but i can", 16 }, { "i'm unable to", 13 },
        { "i am unable to", 14 },  { "as an ai", 8 },         { "i can't provide", 15 },  { "i cannot provide", 16 },
        { "i won't be able", 15 }, { "i'm not able to", 15 },
    };

    while (text.len && (text.ptr[0] == ' ' || text.ptr[0] == '\n' || text.ptr[0] == '"'))
        text = view_skip(text, 1);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        if (view_starts_with_icase(text, ways[i]))
            return true;
    return false;
}

static bool is_json(struct view text)
{
    struct json doc = { 0 };
    bool good = json_parse(&doc, text, JSON_LIMITS, &(size_t){ 0 }) == JSON_OK;

    json_free(&doc);
    return good;
}

static bool has_failed(const struct compare_answer *answer)
{
    return answer->status != 200 || answer->error[0];
}

/* What is wrong with an answer by itself. */
static enum compare_fault fault_of(const struct compare_answer *answer, bool wants_json)
{
    struct view text = buf_view(&answer->text);

    if (has_failed(answer))
        return text.len ? COMPARE_CUT : COMPARE_FAILED;
    if (answer->refusal || strcmp(answer->finish, "content_filter") == 0 || declines(text))
        return COMPARE_REFUSED;
    if (!answer->ended || strcmp(answer->finish, "length") == 0)
        return COMPARE_CUT;
    if (text.len == 0 && !answer->tools)
        return COMPARE_EMPTY;
    if (wants_json && !answer->tools && !is_json(text))
        return COMPARE_BAD_JSON;
    return COMPARE_FINE;
}

static void say_detail(const struct compare_answer *answer, enum compare_fault fault, char *to, size_t cap)
{
    switch (fault) {
    case COMPARE_FAILED: snprintf(to, cap, "%s", answer->error[0] ? answer->error : "no answer"); break;
    case COMPARE_REFUSED:
        snprintf(to, cap, "%s", answer->refusal || answer->finish[0] == 'c' ? "by the provider" : "in its own words");
        break;
    case COMPARE_CUT:
        snprintf(to, cap, "%s",
                 answer->error[0] ? answer->error
                 : !answer->ended ? "the stream did not end as it should"
                                  : "at its limit of tokens");
        break;
    default: break;
    }
}

static struct compare_shortfall *add(struct compare_report *report, size_t prompt, unsigned run,
                                     enum compare_fault fault)
{
    struct compare_shortfall *to;

    if (report->shortfall_count == report->shortfall_cap) {
        size_t cap = report->shortfall_cap ? report->shortfall_cap * 2 : 64;

        to = heap_resize(report->shortfalls, cap * sizeof(*to));
        if (!to)
            return NULL;
        report->shortfalls = to;
        report->shortfall_cap = cap;
    }
    to = &report->shortfalls[report->shortfall_count++];
    *to = (struct compare_shortfall){ .prompt = prompt, .run = run, .fault = fault };
    return to;
}

static void sample(struct compare_report *report, struct compare_model *model, const struct compare_answer *answer)
{
    struct compare_sample *to = &model->samples[model->count++];
    struct price price;

    *to = (struct compare_sample){
        .first_us = answer->first_us,
        .total_us = answer->total_us,
        .input = answer->usage.input,
        .output = answer->usage.output,
        .estimated = !answer->usage.known,
        .failed = has_failed(answer),
        .cost = -1,
    };
    if (report->prices &&
        price_find(report->prices, view_str(answer->provider), answer->model[0] ? view_str(answer->model) : model->name,
                   price_day(clock_wall_ms()), &price))
        to->cost = price_cost(&price, &answer->usage);
}

bool compare_judge(struct compare_report *report, size_t prompt, unsigned run, bool wants_json,
                   struct compare_answer answers[static 2])
{
    enum compare_fault faults[2];
    struct compare_shortfall *shortfall;
    bool both;

    for (int i = 0; i < 2; i++) {
        faults[i] = fault_of(&answers[i], wants_json);
        sample(report, &report->models[i], &answers[i]);
    }
    if (faults[0] != COMPARE_FINE) {
        shortfall = add(report, prompt, run, faults[0]);
        if (!shortfall)
            return false;
        shortfall->other = faults[1] == faults[0];
        say_detail(&answers[0], faults[0], shortfall->detail, sizeof(shortfall->detail));
    }
    both = answers[0].text.len && answers[1].text.len && !has_failed(&answers[0]) && !has_failed(&answers[1]);
    if (both) {
        struct view a = buf_view(&answers[0].text), b = buf_view(&answers[1].text);
        double overlap = compare_overlap(a, b);
        bool agrees = semantic_agree(a, b);

        report->compared++;
        report->agreed += agrees;
        report->overlap += overlap;
        if (!agrees && faults[0] == COMPARE_FINE) {
            shortfall = add(report, prompt, run, COMPARE_DISAGREES);
            if (!shortfall)
                return false;
            snprintf(shortfall->detail, sizeof(shortfall->detail), "%.0f %% of the words in common", overlap * 100);
        }
    }
    if (report->slow_us && answers[0].first_us > report->slow_us) {
        shortfall = add(report, prompt, run, COMPARE_SLOW);
        if (!shortfall)
            return false;
        shortfall->other = answers[1].first_us > report->slow_us;
        snprintf(shortfall->detail, sizeof(shortfall->detail), "first token after %.1f s",
                 (double)answers[0].first_us / 1e6);
    }
    return true;
}

/* ---- printing ---- */

struct sums {
    size_t answered;
    uint64_t first[2], total[2]; /* 50 %, 95 %; microseconds */
    uint64_t input, output, making_us;
    int64_t cost; /* -1: not known for some */
    bool estimated;
};

static void percentiles(uint64_t *values, size_t count, uint64_t ret[static 2])
{
    qsort(values, count, sizeof(*values), by_value);
    ret[0] = count ? values[(count - 1) / 2] : 0;
    ret[1] = count ? values[(count * 95 + 99) / 100 - 1] : 0;
}

static void sum_up(const struct compare_model *model, struct sums *ret)
{
    uint64_t *values = heap_array(model->count * 2 + 1, sizeof(*values));

    *ret = (struct sums){ 0 };
    for (size_t i = 0; i < model->count; i++) {
        const struct compare_sample *s = &model->samples[i];

        if (s->failed)
            continue;
        if (values) {
            values[ret->answered] = s->first_us;
            values[model->count + ret->answered] = s->total_us;
        }
        ret->answered++;
        ret->input += s->input;
        ret->output += s->output;
        ret->making_us += s->first_us ? s->total_us - MIN(s->first_us, s->total_us) : 0;
        ret->estimated |= s->estimated;
        ret->cost = s->cost < 0 || ret->cost < 0 ? -1 : ret->cost + s->cost;
    }
    if (ret->answered == 0)
        ret->cost = -1;
    if (values) {
        percentiles(values, ret->answered, ret->first);
        percentiles(values + model->count, ret->answered, ret->total);
    }
    heap_free(values);
}

static double rate_of(const struct sums *sums)
{
    return sums->making_us ? (double)sums->output * 1e6 / (double)sums->making_us : 0;
}

static const char *const fault_names[] = { "fine",  "failed",       "refused",   "cut",
                                           "empty", "invalid-json", "disagrees", "slow" };

static void put_model(const struct compare_model *model, int width)
{
    struct sums sums;
    char cost[48] = "-", rate[32] = "-";

    sum_up(model, &sums);
    if (sums.cost >= 0)
        snprintf(cost, sizeof(cost), "%lld.%06lld", (long long)(sums.cost / 1000000), (long long)(sums.cost % 1000000));
    if (sums.making_us)
        snprintf(rate, sizeof(rate), "%s%.1f", sums.estimated ? "~" : "", rate_of(&sums));
    if (sums.answered == 0)
        printf("%-*s  %8s %8s  %8s %8s  %9s  %12s  %zu of %zu\n", width, model->text, "-", "-", "-", "-", "-", "-",
               model->count, model->count);
    else
        printf("%-*s  %8.1f %8.1f  %8.1f %8.1f  %9s  %12s  %zu of %zu\n", width, model->text,
               (double)sums.first[0] / 1e3, (double)sums.first[1] / 1e3, (double)sums.total[0] / 1e3,
               (double)sums.total[1] / 1e3, rate, cost, model->count - sums.answered, model->count);
}

void compare_print(const struct compare_report *report)
{
    const char *first = report->models[0].text, *second = report->models[1].text;
    int width = (int)MAX(MAX(strlen(first), strlen(second)), (size_t)5);

    printf("%zu prompts, each asked %u %s of both\n\n", report->prompts, report->repeat,
           report->repeat == 1 ? "time" : "times");
    printf("%-*s  %17s  %17s  %9s  %12s  %s\n", width, "", "first token, ms", "total, ms", "", "", "");
    printf("%-*s  %8s %8s  %8s %8s  %9s  %12s  %s\n", width, "MODEL", "p50", "p95", "p50", "p95", "tokens/s", "cost",
           "failed");
    for (int i = 0; i < 2; i++)
        put_model(&report->models[i], width);
    if (report->compared)
        printf("\nagreement: %zu of %zu answers, %.0f %% of the words in common\n", report->agreed, report->compared,
               report->overlap * 100 / (double)report->compared);
    else
        printf("\nagreement: no prompt was answered by both\n");
    if (report->shortfall_count == 0)
        printf("%s falls short nowhere\n", first);
    else
        printf("\nwhere %s falls short:\n", first);
    for (size_t i = 0; i < report->shortfall_count; i++) {
        const struct compare_shortfall *s = &report->shortfalls[i];

        printf("  prompt %zu", s->prompt);
        if (report->repeat > 1)
            printf(", run %u", s->run);
        printf(": %s%s%s%s%s%s\n", fault_names[s->fault], s->detail[0] ? ": " : "", s->detail, s->other ? " (" : "",
               s->other ? second : "", s->other ? " too)" : "");
    }
}

static void json_model(struct buf *out, const struct compare_model *model)
{
    struct sums sums;

    sum_up(model, &sums);
    buf_lit(out, "{\"name\":");
    buf_json(out, view_str(model->text));
    buf_printf(out, ",\"requests\":%zu,\"failed\":%zu", model->count, model->count - sums.answered);
    buf_printf(out, ",\"first_token_us\":{\"p50\":%llu,\"p95\":%llu}", (unsigned long long)sums.first[0],
               (unsigned long long)sums.first[1]);
    buf_printf(out, ",\"total_us\":{\"p50\":%llu,\"p95\":%llu}", (unsigned long long)sums.total[0],
               (unsigned long long)sums.total[1]);
    buf_printf(out, ",\"tokens_per_second\":%.1f,\"input_tokens\":%llu,\"output_tokens\":%llu,\"estimated\":%s",
               rate_of(&sums), (unsigned long long)sums.input, (unsigned long long)sums.output,
               sums.estimated ? "true" : "false");
    if (sums.cost >= 0)
        buf_printf(out, ",\"cost_micro\":%lld}", (long long)sums.cost);
    else
        buf_lit(out, ",\"cost_micro\":null}");
}

void compare_print_json(const struct compare_report *report)
{
    struct buf out = buf_make(SIZE_MAX);

    buf_printf(&out, "{\"prompts\":%zu,\"repeat\":%u,\"models\":[", report->prompts, report->repeat);
    json_model(&out, &report->models[0]);
    buf_char(&out, ',');
    json_model(&out, &report->models[1]);
    buf_printf(&out, "],\"agreement\":{\"compared\":%zu,\"agreed\":%zu,\"overlap\":%.3f},\"shortfalls\":[",
               report->compared, report->agreed, report->compared ? report->overlap / (double)report->compared : 0.0);
    for (size_t i = 0; i < report->shortfall_count; i++) {
        const struct compare_shortfall *s = &report->shortfalls[i];

        buf_printf(&out, "%s{\"prompt\":%zu,\"run\":%u,\"what\":\"%s\",\"detail\":", i ? "," : "", s->prompt, s->run,
                   fault_names[s->fault]);
        buf_json(&out, view_str(s->detail));
        buf_printf(&out, ",\"other_too\":%s}", s->other ? "true" : "false");
    }
    buf_lit(&out, "]}\n");
    if (!out.failed)
        fwrite(out.ptr, 1, out.len, stdout);
    buf_free(&out);
}

void compare_report_free(struct compare_report *report)
{
    for (int i = 0; i < 2; i++)
        heap_free(report->models[i].samples);
    heap_free(report->shortfalls);
    prices_free(report->prices);
}
