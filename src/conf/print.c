/* The reference page and the JSON Schema, from the option tables. Both walk nested tables with an explicit stack; tables
 * nest as deep as the program says (a handful), input plays no part. */
#include "base/check.h"
#include "conf/value.h"

#include <inttypes.h>

#define NESTING_MAX 12u

struct section {
    const struct option *table;
    const struct option *at; /* the next option to print */
    char path[128];
};

static const char *type_name(const struct option *o)
{
    static const char *const names[] = {
        [OPTION_BOOL] = "true or false",
        [OPTION_INT] = "number",
        [OPTION_RATIO] = "ratio",
        [OPTION_SIZE] = "size",
        [OPTION_DURATION] = "duration",
        [OPTION_STRING] = "text",
        [OPTION_ENUM] = "one of",
        [OPTION_ADDRESS] = "address",
        [OPTION_URL] = "URL",
        [OPTION_STRINGS] = "list of texts",
        [OPTION_CIDRS] = "list of address ranges",
        [OPTION_ADDRESSES] = "list of addresses",
        [OPTION_URLS] = "list of URLs",
        [OPTION_STRUCT] = "section",
        [OPTION_LIST] = "list of sections",
        [OPTION_MAP] = "named sections",
    };

    return names[o->type];
}

static bool is_number(const struct option *o)
{
    return o->type == OPTION_INT || o->type == OPTION_SIZE || o->type == OPTION_DURATION;
}

static void print_bounds(const struct option *o, FILE *out)
{
    char buffer[128];
    struct text t = TEXT_ON(buffer);

    if (!is_number(o) || (o->min == 0 && o->max == 0))
        return;
    text_lit(&t, ", ");
    if (o->max && o->min == 0) {
        text_lit(&t, "at most ");
        value_print_number(&t, o->type, o->max);
    } else {
        value_print_number(&t, o->type, o->min);
        text_put(&t, o->max ? VIEW(" to ") : VIEW(" or more"));
        if (o->max)
            value_print_number(&t, o->type, o->max);
    }
    fputs(text_str(&t), out);
}

/* A pipe would end the table's cell. */
static void print_cell(const char *text, FILE *out)
{
    for (; text && *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_row(const struct option *o, FILE *out)
{
    fprintf(out, "| `%s` | %s", o->name, type_name(o));
    for (unsigned i = 0; o->type == OPTION_ENUM && o->names[i]; i++)
        fprintf(out, "%s `%s`", i ? "," : "", o->names[i]);
    print_bounds(o, out);
    fputs(" | ", out);
    if (o->flags & OPTION_REQUIRED)
        fputs("required", out);
    else if (o->preset)
        fprintf(out, "`%s`", o->preset);
    fputs(" | ", out);
    print_cell(o->help, out);
    fputs(" |\n", out);
}

static void print_section(const struct section *s, FILE *out)
{
    fprintf(out, "\n## %s\n\n| option | value | default | meaning |\n|---|---|---|---|\n",
            s->path[0] ? s->path : "Top level");
    for (const struct option *o = s->table; o->name; o++)
        if (!(o->flags & OPTION_UNAVAILABLE))
            print_row(o, out);
}

static void name_section(struct section *s, const char *parent, const struct option *o)
{
    struct text t = TEXT_ON(s->path);

    text_put(&t, view_str(parent));
    text_put(&t, *parent ? VIEW(".") : VIEW_NONE);
    text_put(&t, view_str(o->name));
    text_put(&t, o->type == OPTION_LIST ? VIEW("[]") : o->type == OPTION_MAP ? VIEW(".NAME") : VIEW_NONE);
    text_str(&t);
}

void conf_print_reference(const struct option *table, FILE *out)
{
    struct section stack[NESTING_MAX] = { { .table = table, .at = table } };
    unsigned depth = 1;

    fputs("# Configuration reference\n\n"
          "Made from the option tables of the program (`doorstep print-reference`); do not edit.\n\n"
          "One YAML file. `doorstep check -c FILE` lists every mistake of a file with its place.\n"
          "A single value may stand where a list is expected. Empty values and `null` mean the default.\n\n"
          "* **size**: a number with `K`, `M`, `G` or `T` (powers of 1024; `KiB`, `KB` and so on mean the same).\n"
          "* **duration**: numbers with `ms`, `s`, `m`, `h`, `d` or `w`: `250ms`, `1h30m`. Only `0` needs no unit.\n"
          "* **ratio**: `0.1` or `10%`.\n"
          "* **address**: `127.0.0.1:8080`, `[::1]:8080`, `:8080`, or `unix:/path`. Port 0: the system chooses.\n"
          "* **address range**: `10.0.0.0/8`, `fd00::/8`, or one address.\n",
          out);
    print_section(&stack[0], out);
    while (depth) {
        struct section *s = &stack[depth - 1];
        const struct option *o = s->at;

        if (!o->name) {
            depth--;
            continue;
        }
        s->at++;
        if (!o->table || o->flags & OPTION_UNAVAILABLE)
            continue;
        CHECK(depth < NESTING_MAX);
        stack[depth].table = stack[depth].at = o->table;
        name_section(&stack[depth], s->path, o);
        print_section(&stack[depth], out);
        depth++;
    }
}

static void indent(FILE *out, unsigned depth)
{
    fprintf(out, "%*s", (int)(depth * 2), "");
}

static void print_json(const char *text, FILE *out)
{
    char buffer[1024];
    struct text t = TEXT_ON(buffer);

    text_json(&t, view_str(text));
    CHECK(!t.overflow);
    fwrite(t.ptr, 1, t.len, out);
}

/* The schema's members for one value. Sizes and durations are texts, and editors should not refuse plain numbers. */
static void print_value_schema(const struct option *o, FILE *out)
{
    static const char size[] = "\"type\": [\"string\", \"integer\"], \"pattern\": "
                               "\"^[0-9]+(\\\\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])?$\"";
    static const char duration[] = "\"type\": [\"string\", \"integer\"], \"maximum\": 0, \"pattern\": "
                                   "\"^(0|([0-9]+(\\\\.[0-9]+)? ?(ms|s|sec|m|min|h|d|w))+)$\"";

    switch (o->type) {
    case OPTION_BOOL: fputs("\"type\": \"boolean\"", out); break;
    case OPTION_INT:
        fprintf(out, "\"type\": \"integer\", \"minimum\": %" PRIu64, o->min);
        if (o->max)
            fprintf(out, ", \"maximum\": %" PRIu64, o->max);
        break;
    case OPTION_RATIO: fputs("\"type\": [\"number\", \"string\"], \"minimum\": 0, \"maximum\": 1", out); break;
    case OPTION_SIZE: fputs(size, out); break;
    case OPTION_DURATION: fputs(duration, out); break;
    case OPTION_ENUM:
        fputs("\"enum\": [", out);
        for (unsigned i = 0; o->names[i]; i++)
            fprintf(out, "%s\"%s\"", i ? ", " : "", o->names[i]);
        fputc(']', out);
        break;
    case OPTION_URL: fputs("\"type\": \"string\", \"pattern\": \"^https?://\"", out); break;
    case OPTION_URLS:
        fputs("\"type\": [\"string\", \"array\"], \"pattern\": \"^https?://\", "
              "\"items\": { \"type\": \"string\", \"pattern\": \"^https?://\" }",
              out);
        break;
    case OPTION_STRINGS:
    case OPTION_CIDRS: fputs("\"type\": [\"string\", \"array\"], \"items\": { \"type\": \"string\" }", out); break;
    case OPTION_ADDRESSES:
        fputs("\"type\": [\"string\", \"integer\", \"array\"], \"items\": { \"type\": [\"string\", \"integer\"] }",
              out);
        break;
    case OPTION_ADDRESS: fputs("\"type\": [\"string\", \"integer\"]", out); break;
    default: fputs("\"type\": \"string\"", out);
    }
}

static void open_object(const struct option *table, FILE *out, unsigned depth)
{
    bool any = false;

    fputs("\"type\": \"object\", \"additionalProperties\": false,", out);
    for (const struct option *o = table; o->name; o++) {
        if (!(o->flags & OPTION_REQUIRED))
            continue;
        fprintf(out, "%s\"%s\"", any ? ", " : " \"required\": [", o->name);
        any = true;
    }
    fputs(any ? "],\n" : "\n", out);
    indent(out, depth);
    fputs("\"properties\": {", out);
}

static void open_property(const struct option *o, FILE *out, bool first, unsigned depth)
{
    fputs(first ? "\n" : ",\n", out);
    indent(out, depth);
    fprintf(out, "\"%s\": { \"description\": ", o->name);
    print_json(o->help, out);
    if (o->preset) {
        fputs(", \"default\": ", out);
        if (o->type == OPTION_BOOL || o->type == OPTION_INT || o->type == OPTION_RATIO)
            fputs(o->preset, out);
        else
            print_json(o->preset, out);
    }
    fputs(", ", out);
    if (o->type == OPTION_LIST)
        fputs("\"type\": \"array\", \"items\": { ", out);
    else if (o->type == OPTION_MAP)
        fputs("\"type\": \"object\", \"additionalProperties\": { ", out);
}

void conf_print_schema(const struct option *table, FILE *out)
{
    struct {
        const struct option *at;
        const char *close; /* ends the property that holds this table */
        bool first;
    } stack[NESTING_MAX] = { { .at = table, .close = "\n}\n", .first = true } };
    unsigned depth = 1;

    fputs("{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\", \"title\": \"Doorstep configuration\",\n  ",
          out);
    open_object(table, out, 1);
    while (depth) {
        const struct option *o = stack[depth - 1].at;

        if (!o->name) {
            fputs("\n", out);
            indent(out, depth);
            fputs("}", out);
            fputs(stack[--depth].close, out);
            continue;
        }
        stack[depth - 1].at++;
        if (o->flags & OPTION_UNAVAILABLE)
            continue;
        open_property(o, out, stack[depth - 1].first, depth + 1);
        stack[depth - 1].first = false;
        if (!o->table) {
            print_value_schema(o, out);
            fputs(" }", out);
            continue;
        }
        CHECK(depth < NESTING_MAX);
        open_object(o->table, out, depth + 1);
        stack[depth].at = o->table;
        stack[depth].close = o->type == OPTION_STRUCT ? " }" : " } }";
        stack[depth++].first = true;
    }
}
