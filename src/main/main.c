/* The command line: finds the command, reads its options, calls what does the work. */
#include "base/heap.h"
#include "base/log.h"
#include "conf/conf.h"
#include "main/advice.h"
#include "main/ai.h"
#include "main/keys.h"
#include "main/node.h"
#include "main/purge.h"
#include "main/top.h"
#include "main/upstreams.h"
#include "main/why.h"

#include <errno.h>
#include <stdlib.h>

#ifndef DOORSTEP_VERSION
#define DOORSTEP_VERSION "0"
#endif

static const char usage_text[] =
    "usage: doorstep COMMAND [options]\n"
    "\n"
    "  serve [--listen ADDR] [--threads N] [--memory SIZE] [--admin ADDR] [--access-log FILE] URL\n"
    "                                                             cache what HTTP allows in front of URL\n"
    "  run -c FILE                                                run a configuration file\n"
    "  check -c FILE                                              report every mistake of a configuration file\n"
    "  why URL                                                    how this URL is treated now, and why\n"
    "  purge --url U | --prefix P | --all [--soft]                drop what is stored\n"
    "  top                                                        live view of a running node\n"
    "  upstreams [--open | --close | --auto NAME[/SERVER]]        see and switch breakers\n"
    "  keys create | list | revoke                                API keys for the AI gateway\n"
    "  ai ledger | compare                                        what AI requests cost; one model beside another\n"
    "  reference | schema                                         print the option reference, the JSON Schema\n"
    "  version                                                    print the version\n"
    "\n"
    "`doorstep COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.\n";

static int usage(FILE *out, int code)
{
    fputs(usage_text, out);
    return code;
}

/* After site_load() and its like failed with `r`. */
static int complain(struct conf_report *report, int r)
{
    conf_report_print(report, stderr);
    if (r == -ENOMEM)
        fprintf(stderr, "%s: out of memory\n", report->file);
    conf_report_free(report);
    return r == -ENOMEM ? 1 : 2;
}

static int command_serve(int argc, char **argv)
{
    static const struct {
        const char *flag, *path;
    } flags[] = { { "listen", "listen" },
                  { "threads", "threads" },
                  { "memory", "memory.size" },
                  { "admin", "admin.listen" },
                  { "access-log", "access_log.path" } };
    const char *url = NULL, *values[ARRAY_LEN(flags)] = { 0 };
    struct conf_report report;
    struct site site;
    int r;

    for (int i = 1; i < argc; i++) {
        size_t k = 0;

        if (strncmp(argv[i], "--", 2) != 0) {
            if (url) {
                fprintf(stderr, "doorstep serve: one URL, please; '%s' is a second one\n", argv[i]);
                return 2;
            }
            url = argv[i];
            continue;
        }
        while (k < ARRAY_LEN(flags) && strcmp(argv[i] + 2, flags[k].flag) != 0)
            k++;
        if (k == ARRAY_LEN(flags) || i + 1 == argc) {
            fprintf(
                stderr,
                "doorstep serve: %s '%s'; known: --listen --threads --memory --admin --access-log, each with a value\n",
                k == ARRAY_LEN(flags) ? "unknown option" : "no value for", argv[i]);
            return 2;
        }
        values[k] = argv[++i];
    }
    if (!url) {
        fprintf(stderr, "doorstep serve: which origin? For example: doorstep serve http://127.0.0.1:3000\n");
        return 2;
    }
    conf_report_init(&report);
    report.file = "doorstep serve";
    r = site_default(url, &site, &report);
    if (r < 0)
        return complain(&report, r);
    for (size_t k = 0; r == 0 && k < ARRAY_LEN(flags); k++)
        if (values[k])
            r = site_set(&site, flags[k].path, values[k], &report);
    if (r < 0) {
        site_free(&site);
        return complain(&report, r);
    }
    conf_report_free(&report);
    return node_run(&site, NULL);
}

/* Reads the file named by -c FILE or --config FILE. 0; else the exit code, after saying what is wrong. */
static int load_file(int argc, char **argv, struct site *ret)
{
    struct conf_report report;
    int r;

    if (argc != 3 || (strcmp(argv[1], "-c") != 0 && strcmp(argv[1], "--config") != 0)) {
        fprintf(stderr, "usage: doorstep %s -c FILE\n", argv[0]);
        return 2;
    }
    conf_report_init(&report);
    r = site_load(argv[2], ret, &report);
    if (r < 0)
        return complain(&report, r);
    conf_report_free(&report);
    return 0;
}

static int command_run(int argc, char **argv)
{
    struct site site;
    int r = load_file(argc, argv, &site);

    return r ? r : node_run(&site, argv[2]);
}

static int command_check(int argc, char **argv)
{
    struct site site;
    int r = load_file(argc, argv, &site);

    if (r)
        return r;
    printf("%s: good: %zu routes, %zu upstreams\n", argv[2], site.routes.count, site.upstreams.count);
    r = advice_print(&site, stdout) ? 1 : 0;
    site_free(&site);
    return r;
}

static int command_reference(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    conf_print_reference(site_options, stdout);
    return 0;
}

static int command_schema(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    conf_print_schema(site_options, stdout);
    return 0;
}

static int command_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("doorstep " DOORSTEP_VERSION);
    return 0;
}

/* Tells the torture run whether its allocation was reached: it stops where a run has none left to fail. */
static void report_fault_switch(void)
{
    fprintf(stderr, "doorstep: fault switch: %lu left\n", heap_fault_left());
}

static void read_fault_switch(void)
{
    const char *text = getenv("DOORSTEP_FAULT_ALLOC");
    char *end;
    unsigned long nth;

    if (!text)
        return;
    nth = strtoul(text, &end, 10);
    heap_fault(nth, *end == ':' ? strtoul(end + 1, NULL, 10) : 0);
    atexit(report_fault_switch);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
        bool own_help; /* the others are all said on the main page */
    } commands[] = {
        { "serve", command_serve, false },   { "run", command_run, false },
        { "check", command_check, false },   { "reference", command_reference, false },
        { "schema", command_schema, false }, { "version", command_version, false },
        { "why", command_why, true },        { "purge", command_purge, true },
        { "top", command_top, true },        { "upstreams", command_upstreams, true },
        { "keys", command_keys, true },      { "ai", command_ai, true },
    };

    if (getenv("DOORSTEP_DEBUG"))
        log_set_level(LOG_LEVEL_DEBUG);
    read_fault_switch();
    if (argc < 2)
        return usage(stderr, 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
        return usage(stdout, 0);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return !commands[i].own_help && argc == 3 && strcmp(argv[2], "--help") == 0
                       ? usage(stdout, 0)
                       : commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "doorstep: '%s' is not a command; see doorstep --help\n", argv[1]);
    return 2;
}
