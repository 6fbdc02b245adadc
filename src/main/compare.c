/* `doorstep ai compare`: reads prompts, asks both models each of them in turn (who is first changes from prompt to prompt, so that neither
 * always meets the warmer provider), and leaves the judging to compare_report.c. */
#include "main/compare.h"

#include "base/heap.h"
#include "main/client.h"
#include "main/compare_report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PROMPTS_MAX ((size_t)64 << 20) /* bytes of the file */
#define NODE_DEFAULT "http://127.0.0.1:8080"

static const char help[] =
    "usage: doorstep ai compare --prompts FILE --models FIRST,SECOND [options]\n"
    "\n"
    "Asks two models the same prompts through a running node, as streams and past its cache, and prints how long they took,\n"
    "what they cost, how far they agree, and where the first (say, the local one) falls short.\n"
    "\n"
    "  --prompts FILE      one prompt a line; a line that begins with { is the JSON body of a chat request (its model and\n"
    "                      stream are replaced)\n"
    "  --models A,B        models, or aliases of the node; ALIAS@device, @edge, @cloud asks that rung of it\n"
    "  --url URL           of the node (default: " NODE_DEFAULT ")\n"
    "  --key-file FILE     file with a key of the node (default: DOORSTEP_AI_KEY)\n"
    "  --repeat N          ask everything N times (default: 1)\n"
    "  --prices FILE       prices, as the node has them (docs/ai-money.md); without them no cost is shown\n"
    "  --slow SECONDS      a first token later than this is listed (default: 2; 0: never)\n"
    "  --timeout SECONDS   of silence, after which a request has failed (default: 120)\n"
    "  --json              print the result as JSON\n"
    "\n"
    "Exit status: 0 when every request was answered, 1 when some failed, 2 when the command was wrong.\n";

struct wish {
    const char *prompts, *models, *url, *key_file, *repeat, *prices, *slow, *timeout;
    struct compare_target target;
    char address[300], key[1024];
};

static int wrong(const char *what, const char *about)
{
    fprintf(stderr, "doorstep ai compare: %s%s; see doorstep ai compare --help\n", what, about);
    return -1;
}

/* 0, 1 after --help, -1 when wrong (said). */
static int read_options(struct client *client, struct wish *wish, int argc, char **argv)
{
    const struct {
        const char *flag;
        const char **to;
    } flags[] = { { "--prompts", &wish->prompts },   { "--models", &wish->models },  { "--url", &wish->url },
                  { "--key-file", &wish->key_file }, { "--repeat", &wish->repeat },  { "--prices", &wish->prices },
                  { "--slow", &wish->slow },         { "--timeout", &wish->timeout } };

    for (int i = 1; i < argc; i++) {
        const char *value = NULL;

        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 1;
        }
        if (strcmp(argv[i], "--json") == 0) {
            client->json = true;
            continue;
        }
        for (size_t k = 0; !value && k < ARRAY_LEN(flags); k++) {
            value = client_value(client, flags[k].flag, argc, argv, &i);
            if (value)
                *flags[k].to = value;
        }
        if (!value)
            return wrong("unknown option ", argv[i]);
        if (i >= argc)
            return -1;
    }
    if (!wish->prompts || !wish->models)
        return wrong("--prompts FILE and --models A,B are needed", "");
    return 0;
}

/* ---- what was said on the command line ---- */

static int read_number(const char *text, const char *name, uint64_t max, uint64_t *ret)
{
    if (text && (!view_parse_u64(view_str(text), ret) || *ret > max))
        return wrong("not a sensible number: ", name);
    return 0;
}

/* "2", "0.5" */
static int read_seconds(const char *text, uint64_t *ret_us)
{
    char *end;
    double seconds = text ? strtod(text, &end) : 2;

    if (text && (end == text || *end || !(seconds >= 0 && seconds <= 3600)))
        return wrong("not a number of seconds: --slow ", text);
    *ret_us = (uint64_t)(seconds * 1e6);
    return 0;
}

/* "http://host:port/prefix" */
static int read_url(struct wish *wish)
{
    const char *text = wish->url ? wish->url : NODE_DEFAULT;
    struct view rest = view_str(text);
    size_t end;

    if (!view_starts_with_icase(rest, VIEW("http://")))
        return wrong("--url is to be http://host:port, not ", text);
    rest = view_skip(rest, 7);
    end = view_find(rest, '/');
    wish->target.host = view_first(rest, end);
    wish->target.prefix = view_skip(rest, end);
    while (view_ends_with(wish->target.prefix, VIEW("/")))
        wish->target.prefix.len--;
    if (view_ends_with(wish->target.prefix, VIEW("/v1")))
        wish->target.prefix.len -= 3;
    for (const char *c = text; *c; c++)
        if (*c <= ' ' || *c > '~')
            return wrong("--url has a character that no URL has: ", text);
    if (end == 0 || end >= sizeof(wish->address))
        return wrong("no host in --url ", text);
    memcpy(wish->address, rest.ptr, end);
    wish->address[end] = '\0';
    wish->target.address = wish->address;
    return 0;
}

static int read_key(struct wish *wish)
{
    const char *given = getenv("DOORSTEP_AI_KEY");
    FILE *file;

    if (wish->key_file) {
        file = fopen(wish->key_file, "re");
        if (!file || !fgets(wish->key, sizeof(wish->key), file)) {
            fprintf(stderr, "doorstep ai compare: cannot read the key file %s\n", wish->key_file);
            if (file)
                fclose(file);
            return -1;
        }
        fclose(file);
    } else if (given) {
        snprintf(wish->key, sizeof(wish->key), "%s", given);
    }
    wish->key[strcspn(wish->key, "\r\n")] = '\0';
    wish->target.key = view_str(wish->key);
    return 0;
}

/* "fast@device": only what is a rung is cut off, names may hold an @. */
static void read_model(const char *text, size_t len, struct compare_model *model)
{
    static const struct view rungs[] = { { "@device", 7 }, { "@edge", 5 }, { "@cloud", 6 } };

    model->name = view_make(text, len);
    for (size_t i = 0; i < ARRAY_LEN(rungs); i++)
        if (view_ends_with(model->name, rungs[i]) && model->name.len > rungs[i].len) {
            model->name.len -= rungs[i].len;
            model->tier = view_skip(rungs[i], 1);
            return;
        }
}

static int read_models(char *text, struct compare_report *report)
{
    char *comma = strchr(text, ',');

    if (!comma || comma == text || !comma[1] || strchr(comma + 1, ','))
        return wrong("--models takes two names with a comma between them, not ", text);
    *comma = '\0';
    report->models[0].text = text;
    report->models[1].text = comma + 1;
    for (int i = 0; i < 2; i++)
        read_model(report->models[i].text, strlen(report->models[i].text), &report->models[i]);
    return 0;
}

/* ---- prompts ---- */

static int read_file(const char *path, struct buf *ret)
{
    FILE *file = fopen(path, "re");
    char *room;
    size_t got = 0;

    if (!file) {
        fprintf(stderr, "doorstep ai compare: cannot read %s: %s\n", path, strerror(errno));
        return -1;
    }
    while ((room = buf_room(ret, 65536)) && (got = fread(room, 1, 65536, file)) > 0)
        buf_took(ret, got);
    fclose(file);
    if (!room)
        fprintf(stderr, "doorstep ai compare: %s is too large\n", path);
    return room ? 0 : -1;
}

/* The body of a request for this line. False (said): it is none. */
static bool write_body(struct buf *out, struct json *doc, struct view line, struct view model, bool *ret_json)
{
    uint32_t format;

    out->len = 0;
    buf_lit(out, "{\"model\":");
    buf_json(out, model);
    buf_lit(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    *ret_json = false;
    if (line.ptr[0] != '{') {
        buf_lit(out, ",\"messages\":[{\"role\":\"user\",\"content\":");
        buf_json(out, line);
        buf_lit(out, "}]}");
        return !out->failed;
    }
    if (json_parse(doc, line, JSON_LIMITS, &(size_t){ 0 }) != JSON_OK ||
        !json_get_typed(doc, 0, VIEW("messages"), JSON_ARRAY))
        return false;
    for (uint32_t name = json_first(doc, 0); name < json_end(doc, 0); name = json_after(doc, name + 1)) {
        if (json_is(doc, name, VIEW("model")) || json_is(doc, name, VIEW("stream")) ||
            json_is(doc, name, VIEW("stream_options")))
            continue;
        buf_char(out, ',');
        buf_put(out, json_raw(doc, name));
        buf_char(out, ':');
        buf_put(out, json_raw(doc, name + 1));
    }
    buf_char(out, '}');
    format = json_get_typed(doc, 0, VIEW("response_format"), JSON_OBJECT);
    format = format ? json_get(doc, format, VIEW("type")) : 0;
    *ret_json = format && view_starts_with(json_plain(doc, format), VIEW("json"));
    return !out->failed;
}

/* Lines with something in them. */
static struct view next_line(struct view *rest, size_t *number)
{
    while (rest->len) {
        struct view line = view_cut(rest, '\n');

        ++*number;
        if (view_ends_with(line, VIEW("\r")))
            line.len--;
        line = view_trim(line);
        if (line.len)
            return line;
    }
    return VIEW_NONE;
}

/* Every line is one before the first is asked: half a comparison is money for nothing. */
static int check_prompts(const char *path, struct view file, size_t *ret_count)
{
    struct buf body = buf_make(PROMPTS_MAX * 2);
    struct json doc = { 0 };
    struct view line;
    size_t number = 0, count = 0;
    bool unused, good = true;

    while (good && (line = next_line(&file, &number)).len) {
        good = write_body(&body, &doc, line, VIEW("m"), &unused);
        count += good;
    }
    json_free(&doc);
    buf_free(&body);
    if (!good)
        fprintf(stderr, "doorstep ai compare: %s:%zu: not a JSON object with a list of messages\n", path, number);
    else if (count == 0)
        fprintf(stderr, "doorstep ai compare: %s has no prompts\n", path);
    *ret_count = count;
    return good && count ? 0 : -1;
}

/* ---- running ---- */

static int run_line(const struct wish *wish, struct compare_report *report, struct view line, size_t number,
                    unsigned run)
{
    struct compare_answer answers[2] = { 0 };
    struct buf body = buf_make(PROMPTS_MAX * 2);
    struct json doc = { 0 };
    bool wants_json = false, good = true;

    for (unsigned i = 0; i < 2 && good; i++) {
        unsigned which = (i + run + (unsigned)number) % 2;
        const struct compare_model *model = &report->models[which];

        good = write_body(&body, &doc, line, model->name, &wants_json);
        if (good)
            compare_ask(&wish->target, model->tier, buf_view(&body), &answers[which]);
    }
    good = good && compare_judge(report, number, run, wants_json, answers);
    for (int i = 0; i < 2; i++)
        compare_answer_free(&answers[i]);
    json_free(&doc);
    buf_free(&body);
    return good ? 0 : -ENOMEM;
}

static int run_all(const struct wish *wish, struct compare_report *report, struct view file)
{
    for (int i = 0; i < 2; i++) {
        report->models[i].samples = heap_array(report->prompts * report->repeat, sizeof(struct compare_sample));
        if (!report->models[i].samples)
            return -ENOMEM;
    }
    for (unsigned run = 1; run <= report->repeat; run++) {
        struct view rest = file, line;
        size_t number = 0;

        while ((line = next_line(&rest, &number)).len) {
            int r = run_line(wish, report, line, number, run);

            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int prepare(struct wish *wish, struct compare_report *report, char *models, struct buf *file)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    uint64_t repeat = 1, timeout = 120;

    if (read_models(models, report) < 0 || read_number(wish->repeat, "--repeat", 1000, &repeat) < 0 ||
        read_number(wish->timeout, "--timeout", 3600, &timeout) < 0 || read_seconds(wish->slow, &report->slow_us) < 0 ||
        read_url(wish) < 0 || read_key(wish) < 0 || read_file(wish->prompts, file) < 0 ||
        check_prompts(wish->prompts, buf_view(file), &report->prompts) < 0)
        return -1;
    if (wish->prices && prices_load(wish->prices, &report->prices, &reason) < 0) {
        fprintf(stderr, "doorstep ai compare: %s\n", text_str(&reason));
        return -1;
    }
    report->repeat = (unsigned)MAX(repeat, (uint64_t)1);
    wish->target.timeout_s = (unsigned)MAX(timeout, (uint64_t)1);
    return 0;
}

static bool any_failed(const struct compare_report *report)
{
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < report->models[i].count; k++)
            if (report->models[i].samples[k].failed)
                return true;
    return false;
}

int command_compare(int argc, char **argv)
{
    struct compare_report report = { 0 };
    struct buf file = buf_make(PROMPTS_MAX);
    struct client client;
    struct wish wish = { 0 };
    char *models = NULL;
    int r, code = 2;

    client_init(&client, "ai compare");
    r = read_options(&client, &wish, argc, argv);
    if (r)
        return r > 0 ? 0 : 2;
    models = heap_strdup(wish.models, strlen(wish.models));
    if (models && prepare(&wish, &report, models, &file) == 0) {
        code = 1;
        if (run_all(&wish, &report, buf_view(&file)) < 0) {
            fprintf(stderr, "doorstep ai compare: out of memory\n");
        } else {
            (client.json ? compare_print_json : compare_print)(&report);
            code = any_failed(&report) || fflush(stdout) != 0 || ferror(stdout);
        }
    }
    compare_report_free(&report);
    heap_free(models);
    buf_free(&file);
    return code;
}
