/* The reference page and the schema made from the site's tables. */
#include "base/text.h"
#include "conf/conf.h"
#include "main/site.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static char *print(void (*printer)(const struct option *, FILE *))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    printer(site_options, out);
    fclose(out);
    return text;
}

/* Proves that every table shows up as a section, with defaults, and that options this version lacks do not. */
static void test_reference(void **state)
{
    char *text = print(conf_print_reference);

    (void)state;
    assert_non_null(strstr(text, "\n## Top level\n"));
    assert_non_null(strstr(text, "\n## routes[].key.query\n"));
    assert_non_null(strstr(text, "\n## upstreams.NAME.keepalive\n"));
    assert_non_null(strstr(text, "| `head` | size, 1K to 1M | `32K` |"));
    assert_non_null(strstr(text, "\n## shared.lease\n"));
    assert_non_null(strstr(text, "\n## ai.budgets[]\n"));
    assert_null(strstr(text, "`sync`"));
    free(text);
}

/* Proves that the schema's brackets balance and that it carries enums, bounds and defaults. */
static void test_schema(void **state)
{
    char *text = print(conf_print_schema);
    int depth = 0;
    bool quoted = false;

    (void)state;
    for (const char *p = text; *p; p++) {
        if (quoted && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && (*p == '{' || *p == '['))
            depth++;
        else if (!quoted && (*p == '}' || *p == ']'))
            assert_true(--depth >= 0);
    }
    assert_int_equal(depth, 0);
    assert_false(quoted);
    assert_non_null(strstr(text, "\"enum\": [\"http\", \"available\", \"bounded\", \"session\", \"origin\"]"));
    assert_non_null(strstr(text, "\"required\": [\"match\"]"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
