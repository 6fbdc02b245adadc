/* The prompt of a request: messages, items and what they are made of, in the shapes of all dialects at once, since
 * their names do not collide. Counts and flags only; nothing is copied. */
#include "ai/facts_internal.h"

#include <errno.h>

/* Where an error is, for its text: "messages[3]". */
struct place {
    const char *list;
    uint32_t index;
};

static bool is_string(const struct facts_reader *r, uint32_t i)
{
    return i && json_type(r->doc, i) == JSON_STRING;
}

/* The member `name` of object `i` equals `value`. */
static bool member_is(const struct facts_reader *r, uint32_t i, struct view name, struct view value)
{
    uint32_t member = i ? json_get(r->doc, i, name) : 0;

    return member && json_is(r->doc, member, value);
}

static bool is_any(const struct facts_reader *r, uint32_t string, const struct view *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (json_is(r->doc, string, names[i]))
            return true;
    return false;
}

#define IS_ANY(r, string, names) is_any((r), (string), (names), ARRAY_LEN(names))

static void note_part(struct facts_reader *r, uint32_t part, uint32_t type)
{
    static const struct view texts[] = { { "text", 4 }, { "input_text", 10 }, { "output_text", 11 } };
    static const struct view images[] = { { "image_url", 9 }, { "input_image", 11 }, { "image", 5 } };
    static const struct view tools[] = { { "tool_use", 8 }, { "tool_result", 11 } };
    static const struct view files[] = {
        { "file", 4 }, { "input_file", 10 }, { "document", 8 }, { "container_upload", 16 }
    };

    r->parts++;
    if (IS_ANY(r, type, texts)) {
        uint32_t text = json_get(r->doc, part, VIEW("text"));

        if (is_string(r, text))
            r->text_at = text;
    } else if (IS_ANY(r, type, images)) {
        r->facts.has_images = true;
    } else if (IS_ANY(r, type, tools)) {
        r->facts.has_tool_turns = true;
    } else if (IS_ANY(r, type, files)) {
        r->facts.has_files = true;
    } else if (json_is(r->doc, type, VIEW("input_audio")) || json_is(r->doc, type, VIEW("audio"))) {
        r->facts.has_audio = true;
    }
}

/* A string, a list of parts, or nothing. A part may hold a list of its own (the result of a tool), which is looked
 * at, too; deeper ones do not exist. */
static int read_content(struct facts_reader *r, struct place place, const char *name, uint32_t content, bool nested)
{
    if (!content || json_type(r->doc, content) == JSON_NULL)
        return 0;
    if (is_string(r, content)) {
        r->parts++;
        r->text_at = content;
        return 0;
    }
    if (json_type(r->doc, content) != JSON_ARRAY)
        return facts_refuse(r, "%s[%u].%s: must be a string or an array of parts", place.list, place.index, name);
    for (uint32_t part = json_first(r->doc, content); part < json_end(r->doc, content);
         part = json_after(r->doc, part)) {
        uint32_t type, inner;

        if (json_type(r->doc, part) != JSON_OBJECT)
            return facts_refuse(r, "%s[%u].%s: a part must be an object", place.list, place.index, name);
        type = json_get(r->doc, part, VIEW("type"));
        if (!is_string(r, type))
            return facts_refuse(r, "%s[%u].%s: a part must have a type", place.list, place.index, name);
        note_part(r, part, type);
        inner = nested ? 0 : json_get_typed(r->doc, part, VIEW("content"), JSON_ARRAY);
        if (inner && read_content(r, place, name, inner, true) < 0)
            return -EINVAL;
    }
    return 0;
}

/* What does not belong to the last user message may still hold images; its text is not what was asked. */
static int read_other(struct facts_reader *r, struct place place, const char *name, uint32_t content)
{
    uint32_t parts = r->parts, text_at = r->text_at;
    int err = read_content(r, place, name, content, false);

    r->parts = parts;
    r->text_at = text_at;
    return err;
}

static int read_message(struct facts_reader *r, struct place place, uint32_t message, uint32_t role)
{
    uint32_t content = json_get(r->doc, message, VIEW("content"));

    if (json_is(r->doc, role, VIEW("user"))) {
        r->facts.turns++;
        r->parts = 0;
        r->text_at = 0;
        return read_content(r, place, "content", content, false);
    }
    if (json_is(r->doc, role, VIEW("system")) || json_is(r->doc, role, VIEW("developer")))
        r->facts.has_system = true;
    else if (json_is(r->doc, role, VIEW("tool")) || json_is(r->doc, role, VIEW("function")) ||
             json_get_typed(r->doc, message, VIEW("tool_calls"), JSON_ARRAY))
        r->facts.has_tool_turns = true;
    return read_other(r, place, "content", content);
}

static void found_last_user(struct facts_reader *r)
{
    r->facts.last_user_at = r->parts == 1 ? r->text_at : 0;
}

int facts_messages(struct facts_reader *r, uint32_t value)
{
    struct place place = { "messages", 0 };

    if (json_type(r->doc, value) != JSON_ARRAY)
        return facts_refuse(r, "messages: must be an array");
    r->facts.messages = r->doc->tokens[value].count;
    if (r->facts.messages == 0)
        return facts_refuse(r, "messages: must have at least one message");
    for (uint32_t i = json_first(r->doc, value); i < json_end(r->doc, value);
         i = json_after(r->doc, i), place.index++) {
        uint32_t role;

        if (json_type(r->doc, i) != JSON_OBJECT)
            return facts_refuse(r, "messages[%u]: must be an object", place.index);
        role = json_get(r->doc, i, VIEW("role"));
        if (!is_string(r, role))
            return facts_refuse(r, "messages[%u].role: must be a string", place.index);
        if (read_message(r, place, i, role) < 0)
            return -EINVAL;
    }
    found_last_user(r);
    return 0;
}

/* One item of a Responses input: a message, or a piece of history. */
static int read_item(struct facts_reader *r, struct place place, uint32_t item)
{
    uint32_t role = json_get(r->doc, item, VIEW("role")), type = json_get(r->doc, item, VIEW("type"));

    if (!type || json_is(r->doc, type, VIEW("message"))) {
        if (!is_string(r, role))
            return facts_refuse(r, "input[%u].role: must be a string", place.index);
        return read_message(r, place, item, role);
    }
    if (!is_string(r, type))
        return facts_refuse(r, "input[%u].type: must be a string", place.index);
    if (json_is(r->doc, type, VIEW("item_reference"))) {
        r->facts.never = AI_STATEFUL; /* it lies with the provider */
        return 0;
    }
    if (json_is(r->doc, type, VIEW("reasoning")))
        return 0;
    r->facts.has_tool_turns = true; /* function_call, function_call_output, and those of the provider's own tools */
    if (json_get_typed(r->doc, item, VIEW("output"), JSON_ARRAY))
        return read_other(r, place, "output", json_get(r->doc, item, VIEW("output")));
    if (member_is(r, json_get(r->doc, item, VIEW("output")), VIEW("type"), VIEW("computer_screenshot")))
        r->facts.has_images = true;
    return 0;
}

static void one_text(struct facts_reader *r, uint32_t value)
{
    r->facts.messages = r->facts.turns = 1;
    r->facts.last_user_at = value;
}

int facts_input(struct facts_reader *r, uint32_t value)
{
    struct place place = { "input", 0 };

    if (is_string(r, value)) {
        one_text(r, value);
        return 0;
    }
    if (json_type(r->doc, value) != JSON_ARRAY)
        return facts_refuse(r, "input: must be a string or an array of items");
    r->facts.messages = r->doc->tokens[value].count;
    for (uint32_t i = json_first(r->doc, value); i < json_end(r->doc, value);
         i = json_after(r->doc, i), place.index++) {
        if (json_type(r->doc, i) != JSON_OBJECT)
            return facts_refuse(r, "input[%u]: must be an object", place.index);
        if (read_item(r, place, i) < 0)
            return -EINVAL;
    }
    found_last_user(r);
    return 0;
}

/* A text, several, or token numbers: completions and embeddings. */
int facts_prompt(struct facts_reader *r, uint32_t value)
{
    const char *name = r->endpoint == AI_EMBEDDINGS ? "input" : "prompt";

    if (is_string(r, value)) {
        one_text(r, value);
        return 0;
    }
    if (json_type(r->doc, value) != JSON_ARRAY)
        return facts_refuse(r, "%s: must be a string or an array", name);
    for (uint32_t i = json_first(r->doc, value); i < json_end(r->doc, value); i = json_after(r->doc, i)) {
        enum json_type type = json_type(r->doc, i);

        if (type != JSON_STRING && type != JSON_NUMBER && type != JSON_ARRAY)
            return facts_refuse(r, "%s: must have only strings or token numbers", name);
        r->facts.has_numbers |= type != JSON_STRING;
    }
    if (r->doc->tokens[value].count == 1 && is_string(r, value + 1)) {
        one_text(r, value + 1);
        return 0;
    }
    r->facts.messages = r->facts.turns = json_type(r->doc, value + 1) == JSON_NUMBER
                                             ? 1
                                             : r->doc->tokens[value].count; /* a list of numbers is one text */
    return 0;
}

/* system or instructions. */
int facts_system(struct facts_reader *r, uint32_t value)
{
    const char *name = r->endpoint == AI_RESPONSES ? "instructions" : "system";
    struct place place = { name, 0 };
    enum json_type type = json_type(r->doc, value);

    r->facts.system_at = value;
    if (type == JSON_NULL)
        return 0;
    if (type != JSON_STRING && type != JSON_ARRAY)
        return facts_refuse(r, "%s: must be a string or an array of parts", name);
    r->facts.has_system = type == JSON_STRING || r->doc->tokens[value].count > 0;
    return r->endpoint == AI_RESPONSES ? 0 : read_other(r, place, "content", value);
}
