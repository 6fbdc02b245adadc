/* Tools, the choice among them, and the response format, which messages know as a tool that must be called. */
#include "ai/translate_parts.h"

/* ---- chat -> messages ---- */

static int function_to_tool(struct translation *t, uint32_t tool, unsigned n)
{
    const struct json *in = t->in;
    uint32_t function = part_get(in, tool, VIEW("function"));
    uint32_t name = part_get(in, function, VIEW("name"));
    uint32_t schema = part_get(in, function, VIEW("parameters"));

    if (!part_is(in, tool, VIEW("function")) || !part_is_type(in, function, JSON_OBJECT))
        return REFUSE(t, "tools[%u]: only functions can be translated", n);
    if (!part_has_text(in, name) || (schema && !part_is_type(in, schema, JSON_OBJECT)))
        return REFUSE(t, "tools[%u].function: needs a name, and parameters that are an object", n);
    put_next(t->out);
    buf_char(t->out, '{');
    put_raw(t->out, VIEW("name"), in, name);
    put_copy(t->out, VIEW("description"), in, part_get(in, function, VIEW("description")));
    put_name(t->out, VIEW("input_schema"));
    /* An object without members: what OpenAI means by no parameters. */
    buf_put(t->out, schema && part_get(in, schema, VIEW("type")) ? json_raw(in, schema)
                                                                 : VIEW("{\"type\":\"object\",\"properties\":{}}"));
    buf_char(t->out, '}');
    return 0;
}

/* Appends the response format as a tool. 1: did; 0: text was asked for, which is what there is anyway. */
static int format_to_tool(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t format = part_top(in, VIEW("response_format"));
    uint32_t spec = part_get(in, format, VIEW("json_schema"));
    uint32_t schema = part_get(in, spec, VIEW("schema"));
    bool any = part_is(in, format, VIEW("json_object"));

    if (!format || part_is(in, format, VIEW("text")))
        return 0;
    if (!any && !part_is(in, format, VIEW("json_schema")))
        return REFUSE(t, "response_format: only text, json_object and json_schema can be translated");
    if (!any && !part_is_type(in, schema, JSON_OBJECT))
        return REFUSE(t, "response_format.json_schema.schema: needs to be an object");
    if (!any && !part_is(in, schema, VIEW("object")))
        return REFUSE(t, "response_format.json_schema.schema: its type must be object");
    put_next(t->out);
    buf_lit(t->out, "{\"name\":\"");
    buf_put(t->out, ANSWER_TOOL);
    put_id_bytes(t->out, any ? VIEW("object") : view_first(part_inside(in, part_get(in, spec, VIEW("name"))), 48));
    buf_char(t->out, '"');
    if (part_has_text(in, part_get(in, spec, VIEW("description"))))
        put_raw(t->out, VIEW("description"), in, part_get(in, spec, VIEW("description")));
    else
        put_string(t->out, VIEW("description"), VIEW("Give the final answer with this tool."));
    put_name(t->out, VIEW("input_schema"));
    buf_put(t->out, any ? VIEW("{\"type\":\"object\",\"additionalProperties\":true}") : json_raw(in, schema));
    buf_char(t->out, '}');
    return 1;
}

/* A choice of the caller that leaves no room for an answer in a format: a call is what it wants. */
static bool wants_call(const struct json *in, uint32_t choice)
{
    return part_is_type(in, choice, JSON_OBJECT) || (choice && json_is(in, choice, VIEW("required")));
}

/* "tool_choice", once it is known which tools there are. `answers`: one of them is the response format. */
static int choice_to_messages(struct translation *t, bool tools, bool answers, bool *ret_forced)
{
    const struct json *in = t->in;
    uint32_t choice = part_top(in, VIEW("tool_choice")), parallel = part_top(in, VIEW("parallel_tool_calls"));
    uint32_t function = part_get(in, choice, VIEW("function"));
    uint32_t name = part_get(in, function, VIEW("name"));
    bool none = choice && json_is(in, choice, VIEW("none")), one = part_is_type(in, parallel, JSON_FALSE) || answers;
    struct view type = VIEW("auto");

    if (part_is_type(in, choice, JSON_OBJECT) && (!part_is(in, choice, VIEW("function")) || !part_has_text(in, name)))
        return REFUSE(t, "tool_choice: only a function can be chosen");
    if (choice && !part_is_type(in, choice, JSON_OBJECT) && !none && !json_is(in, choice, VIEW("auto")) &&
        !json_is(in, choice, VIEW("required")))
        return REFUSE(t, "tool_choice: unknown value");
    if (!tools && !answers) {
        if (wants_call(in, choice))
            return REFUSE(t, "tool_choice: there are no tools");
        return 0;
    }
    if (part_is_type(in, choice, JSON_OBJECT))
        type = VIEW("tool");
    else if (answers || wants_call(in, choice))
        type = VIEW("any");
    else if (none)
        type = VIEW("none");
    *ret_forced = type.ptr[0] == 't' || view_eq(type, VIEW("any"));
    if (!choice && !one)
        return 0;
    put_name(t->out, VIEW("tool_choice"));
    buf_char(t->out, '{');
    put_string(t->out, VIEW("type"), type);
    if (type.ptr[0] == 't')
        put_raw(t->out, VIEW("name"), in, name);
    if (one && !view_eq(type, VIEW("none")))
        buf_lit(t->out, ",\"disable_parallel_tool_use\":true");
    buf_char(t->out, '}');
    return 0;
}

int translate_tools_to_messages(struct translation *t, bool *ret_forced)
{
    const struct json *in = t->in;
    uint32_t tools = part_top(in, VIEW("tools")), choice = part_top(in, VIEW("tool_choice"));
    size_t start = t->out->len;
    unsigned n = 0;
    int r, answers = 0;

    *ret_forced = false;
    if (tools && !part_is_type(in, tools, JSON_ARRAY))
        return REFUSE(t, "tools: must be an array");
    put_name(t->out, VIEW("tools"));
    buf_char(t->out, '[');
    /* With "none" and a format only the format is left to be called. */
    if (tools && !(choice && json_is(in, choice, VIEW("none")) && part_top(in, VIEW("response_format"))))
        for (uint32_t i = json_first(in, tools); i < json_end(in, tools); i = json_after(in, i)) {
            r = function_to_tool(t, i, n++);
            if (r < 0)
                return r;
        }
    if (!wants_call(in, choice))
        answers = format_to_tool(t);
    if (answers < 0)
        return answers;
    buf_char(t->out, ']');
    if (n == 0 && answers == 0 && !t->out->failed)
        t->out->len = start;
    return choice_to_messages(t, n > 0, answers > 0, ret_forced);
}

/* ---- messages -> chat ---- */

static int tool_to_function(struct translation *t, uint32_t tool, unsigned n)
{
    const struct json *in = t->in;
    uint32_t name = part_get(in, tool, VIEW("name")), schema = part_get(in, tool, VIEW("input_schema"));

    if (part_get(in, tool, VIEW("type")) && !part_is(in, tool, VIEW("custom")))
        return REFUSE(t, "tools[%u]: the provider of this model has no such server tool", n);
    if (!part_has_text(in, name) || !part_is_type(in, schema, JSON_OBJECT))
        return REFUSE(t, "tools[%u]: needs a name and an input_schema", n);
    put_next(t->out);
    buf_lit(t->out, "{\"type\":\"function\",\"function\":{");
    put_raw(t->out, VIEW("name"), in, name);
    put_copy(t->out, VIEW("description"), in, part_get(in, tool, VIEW("description")));
    put_raw(t->out, VIEW("parameters"), in, schema);
    put_copy(t->out, VIEW("strict"), in, part_get(in, tool, VIEW("strict")));
    buf_lit(t->out, "}}");
    return 0;
}

static int choice_to_chat(struct translation *t, uint32_t choice)
{
    const struct json *in = t->in;

    if (part_is(in, choice, VIEW("auto")))
        put_string(t->out, VIEW("tool_choice"), VIEW("auto"));
    else if (part_is(in, choice, VIEW("none")))
        put_string(t->out, VIEW("tool_choice"), VIEW("none"));
    else if (part_is(in, choice, VIEW("any")))
        put_string(t->out, VIEW("tool_choice"), VIEW("required"));
    else if (part_is(in, choice, VIEW("tool")) && part_has_text(in, part_get(in, choice, VIEW("name")))) {
        put_name(t->out, VIEW("tool_choice"));
        buf_lit(t->out, "{\"type\":\"function\",\"function\":{");
        put_raw(t->out, VIEW("name"), in, part_get(in, choice, VIEW("name")));
        buf_lit(t->out, "}}");
    } else
        return REFUSE(t, "tool_choice: unknown type");
    if (json_true(in, part_get(in, choice, VIEW("disable_parallel_tool_use"))))
        buf_lit(t->out, ",\"parallel_tool_calls\":false");
    return 0;
}

int translate_tools_to_chat(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t tools = part_top(in, VIEW("tools")), choice = part_top(in, VIEW("tool_choice"));
    unsigned n = 0;

    if (tools && !part_is_type(in, tools, JSON_ARRAY))
        return REFUSE(t, "tools: must be an array");
    if (!tools || in->tokens[tools].count == 0)
        return 0;
    put_name(t->out, VIEW("tools"));
    buf_char(t->out, '[');
    for (uint32_t i = json_first(in, tools); i < json_end(in, tools); i = json_after(in, i)) {
        int r = tool_to_function(t, i, n++);

        if (r < 0)
            return r;
    }
    buf_char(t->out, ']');
    return choice ? choice_to_chat(t, choice) : 0;
}
