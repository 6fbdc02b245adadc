/* What it costs to know a request: prints, for prompts of several sizes, the time to read its JSON, its facts and to
 * make its key, each alone, as one line of JSON per size.
 *
 *     build/bench/ai_key [MILLISECONDS]      how long each number is measured, 200 */
#include "ai/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct bench {
    struct view body;
    struct json doc;
    struct ai_facts facts;
    struct fingerprint_context context;
};

static volatile unsigned sink;

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void parse(struct bench *b)
{
    if (json_parse(&b->doc, b->body, JSON_LIMITS, NULL) != JSON_OK)
        exit(1);
}

static void read_facts(struct bench *b)
{
    ai_facts_free(&b->facts);
    if (ai_facts_read(&b->facts, AI_CHAT, &b->doc, NULL) < 0)
        exit(1);
}

static void fingerprint(struct bench *b)
{
    char memory[200];
    struct text key = TEXT_ON(memory);

    if (ai_fingerprint(&b->context, &b->doc, &b->facts, &key) < 0)
        exit(1);
    sink += (unsigned)memory[20];
}

/* ns of one call, the best of several rounds. */
static double measure(struct bench *b, void (*run)(struct bench *b), double budget_ns)
{
    double best = 1e18, start, each;
    unsigned count = 1;

    for (double until = now_ns() + budget_ns; now_ns() < until;) {
        start = now_ns();
        for (unsigned i = 0; i < count; i++)
            run(b);
        each = (now_ns() - start) / count;
        if (each < best)
            best = each;
        if (each * count < 1e6)
            count *= 2;
    }
    return best;
}

static void make_body(struct buf *body, size_t len, const char *words)
{
    buf_lit(
        body,
        "{\"model\":\"gpt-4o-mini\",\"temperature\":0.2,\"max_tokens\":256,\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},{\"role\":\"user\",\"content\":\"");
    while (body->len < len)
        buf_put(body, view_str(words));
    buf_lit(body, "\"}],\"user\":\"u-17\"}");
}

static void report(const char *name, size_t len, const char *words, double budget_ns)
{
    struct buf body = buf_make(1 << 24);
    struct bench b = { .context = { .endpoint = AI_CHAT,
                                    .scope = VIEW("acme"),
                                    .epoch = 1,
                                    .region = VIEW("eu"),
                                    .provider = VIEW("openai"),
                                    .model = VIEW("gpt-4o-mini") } };
    double parse_ns, facts_ns, key_ns;

    make_body(&body, len, words);
    b.body = buf_view(&body);
    parse(&b);
    parse_ns = measure(&b, parse, budget_ns);
    facts_ns = measure(&b, read_facts, budget_ns);
    key_ns = measure(&b, fingerprint, budget_ns);
    printf(
        "{\"text\":\"%s\",\"bytes\":%zu,\"parse_ns\":%.0f,\"facts_ns\":%.0f,\"key_ns\":%.0f,\"all_ns\":%.0f,\"parse_mb_s\":%.0f}\n",
        name, body.len, parse_ns, facts_ns, key_ns, parse_ns + facts_ns + key_ns, (double)body.len * 1e3 / parse_ns);
    ai_facts_free(&b.facts);
    json_free(&b.doc);
    buf_free(&body);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = { 1024, 16384, 1 << 20 };
    double budget_ns = (argc > 1 ? strtod(argv[1], NULL) : 200) * 1e6;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        report("english", sizes[i], "the quick brown fox jumps over the lazy dog, and then it rests. ", budget_ns);
        report("lines", sizes[i], "if (x == 0) {\\n\\treturn \\\"zero\\\";\\n}\\n", budget_ns);
        report("chinese", sizes[i],
               "\xe6\x95\x8f\xe6\x8d\xb7\xe7\x9a\x84\xe6\xa3\x95\xe8\x89\xb2\xe7\x8b\x90\xe7\x8b\xb8\xe3\x80\x82",
               budget_ns);
    }
    return 0;
}
