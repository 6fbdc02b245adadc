/* Finds the command behind `doorstep ai`. */
#include "main/ai.h"

#include "base/compiler.h"
#include "main/compare.h"
#include "main/ledger.h"

#include <stdio.h>
#include <string.h>

static const char help[] = "usage: doorstep ai COMMAND [options]\n"
                           "\n"
                           "  compare    the same prompts on two models: speed, cost, agreement\n"
                           "  ledger     what requests cost: rows or sums, as CSV or JSON\n"
                           "\n"
                           "`doorstep ai COMMAND --help` says more.\n";

int command_ai(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        { "compare", command_compare },
        { "ledger", command_ledger },
    };

    if (argc < 2) {
        fputs(help, stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "doorstep ai: '%s' is not a command; see doorstep ai --help\n", argv[1]);
    return 2;
}
