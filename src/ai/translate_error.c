/* Errors of a provider, as bodies and as events for the client. Only three things go on: the status, the kind and the message; and not the
 * message where credentials are concerned, since providers like to show a part of them. */
#include "ai/error.h"
#include "ai/translate_parts.h"

#define MESSAGE_MAX 2000

/* What we say when the provider said nothing usable, or nothing that may be shown. */
static struct view message_for(int status)
{
    switch (status) {
    case 401:
    case 402:
    case 403: return VIEW("The provider refused the credentials of this gateway.");
    case 404: return VIEW("The provider does not know this model or path.");
    case 413: return VIEW("The request is too large for the provider.");
    case 429: return VIEW("The provider's rate limit is reached.");
    case 408:
    case 504: return VIEW("The provider did not answer in time.");
    case 503:
    case 529: return VIEW("The provider is overloaded.");
    default: break;
    }
    return status >= 400 && status < 500 ? VIEW("The provider refused the request.") : VIEW("The provider failed.");
}

/* The provider's message in `memory`, or ours. */
static struct view choose_message(int status, struct view body, struct text *memory)
{
    bool secret = status == 401 || status == 402 || status == 403;

    if (secret || body.len == 0 || !ai_error_message(body, memory))
        return message_for(status);
    return text_view(memory);
}

int translate_error(enum ai_dialect from, enum ai_dialect to, int status, struct view body, struct buf *out)
{
    char memory[MESSAGE_MAX];
    struct text text = TEXT_ON(memory);

    (void)from; /* Servers mix the shapes: what is found is taken. */
    if (status < 400)
        status = 502; /* elsewhere is no answer */
    ai_error_put(out, to, status, NULL, choose_message(status, body, &text), NULL, NULL);
    return out->failed ? -ENOMEM : 0;
}

/* The status an error would have had outside of a stream. */
static int status_of(const struct json *in)
{
    uint32_t error = part_top(in, VIEW("error")), type = part_get(in, error, VIEW("type"));

    if (type && (json_is(in, type, VIEW("authentication_error")) || json_is(in, type, VIEW("permission_error"))))
        return 401;
    switch (ai_error_read_json(200, in)) {
    case WATCH_RATE_LIMIT: return 429;
    case WATCH_QUOTA: return 402;
    case WATCH_OVERLOADED: return 529;
    case WATCH_BAD_REQUEST: return 400;
    case WATCH_SERVER_ERROR:
    case WATCH_NO_ERROR: break;
    }
    return 500;
}

void translate_error_inside(enum ai_endpoint to, const struct json *in, struct buf *out)
{
    char memory[MESSAGE_MAX];
    struct text text = TEXT_ON(memory);
    int status = status_of(in);

    ai_error_event(out, to, status, choose_message(status, in->text, &text));
}
