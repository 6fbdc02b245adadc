/* A table of paths, and what only looks like another path than those. */
#include "ai/endpoint.h"

#include "base/text.h"
#include "proto/uri.h"

static const struct {
    struct view path, name;
    enum ai_dialect dialect;
} endpoints[AI_ENDPOINT_COUNT] = {
    [AI_CHAT] = { { "/v1/chat/completions", 20 }, { "chat", 4 }, AI_OPENAI },
    [AI_RESPONSES] = { { "/v1/responses", 13 }, { "responses", 9 }, AI_OPENAI },
    [AI_COMPLETIONS] = { { "/v1/completions", 15 }, { "completions", 11 }, AI_OPENAI },
    [AI_EMBEDDINGS] = { { "/v1/embeddings", 14 }, { "embeddings", 10 }, AI_OPENAI },
    [AI_MODELS] = { { "/v1/models", 10 }, { "models", 6 }, AI_OPENAI },
    [AI_MESSAGES] = { { "/v1/messages", 12 }, { "messages", 8 }, AI_ANTHROPIC },
    [AI_COUNT_TOKENS] = { { "/v1/messages/count_tokens", 25 }, { "count_tokens", 12 }, AI_ANTHROPIC },
    [AI_OTHER] = { { NULL, 0 }, { "other", 5 }, AI_OPENAI },
};

struct view ai_path(struct view path)
{
    for (struct view rest = path; rest.len; rest = view_skip(rest, 1 + view_find(view_skip(rest, 1), '/')))
        if (view_starts_with(rest, VIEW("/v1/")))
            return rest;
    return VIEW_NONE;
}

enum ai_endpoint ai_endpoint_of(struct view path)
{
    for (unsigned i = 0; i < AI_OTHER; i++)
        if (view_eq(path, endpoints[i].path))
            return (enum ai_endpoint)i;
    return view_starts_with(path, VIEW("/v1/models/")) ? AI_MODELS : AI_OTHER;
}

/* The next byte as a server sees it that undoes escapes; -1: nobody can tell. */
static int next_byte(struct view *rest)
{
    int c = (unsigned char)rest->ptr[0];

    if (c == '%') {
        c = uri_escaped(*rest, 0);
        *rest = view_skip(*rest, 2);
        if (c < 0 || c == '%') /* undone twice it is something else again */
            return -1;
    }
    *rest = view_skip(*rest, 1);
    return c <= ' ' || c == 0x7f || c == '\\' ? -1 : c;
}

static bool is_other_spelling(struct view folded, struct view path)
{
    if (view_ends_with(folded, VIEW("/")))
        folded.len--;
    for (unsigned i = 0; i < AI_OTHER; i++)
        if (i != AI_MODELS && view_eq(folded, view_skip(endpoints[i].path, 1)))
            return !view_eq(path, view_skip(endpoints[i].path, 1));
    return false;
}

bool ai_path_is_odd(struct view path)
{
    char memory[64]; /* what is longer is no endpoint */
    struct text folded = TEXT_ON(memory);
    size_t name = 0, dots = 0; /* of the segment; its name ends where parameters begin */
    bool parameters = false;

    for (struct view rest = view_skip(path, 1); rest.len > 0;) {
        int c = next_byte(&rest);

        if (c < 0)
            return true;
        if (c == '/') {
            if (name == 0 || (name <= 2 && dots == name))
                return true;
            name = dots = 0;
            parameters = false;
        }
        parameters = parameters || c == ';';
        if (parameters)
            continue;
        name += c != '/';
        dots += c == '.';
        text_char(&folded, ascii_lower((char)c));
    }
    if (name > 0 && name <= 2 && dots == name)
        return true;
    return !folded.overflow && is_other_spelling(text_view(&folded), view_skip(path, 1));
}

struct view ai_endpoint_path(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].path;
}

struct view ai_endpoint_name(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].name;
}

enum ai_dialect ai_endpoint_dialect(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].dialect;
}
