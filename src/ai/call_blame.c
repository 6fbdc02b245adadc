/* Whose fault a failed attempt is: the credential's, the request's, the provider's; and what the client is told of it. */
#include "ai/call_internal.h"

#include "ai/error.h"

#define EDGE_BUDGET_S 60u

/* What a 403 says about the request and not about the credential: a model that the account has no access to, a prompt that was flagged; and
 * of another node, its rules. Any client could take our credentials away otherwise, one after the other. */
bool call_is_refusal(const struct call *call, int status, struct view body)
{
    return status == 403 && (call->provider->rung == AI_EDGE || ai_error_is_about_request(body));
}

static const char *why_refused(int status, enum watch_error error)
{
    if (error == WATCH_QUOTA)
        return "its quota is used up";
    switch (status) {
    case 401: return "refused with 401";
    case 402: return "refused with 402, payment required";
    default: return "refused with 403";
    }
}

/* What it teaches about the credential. True: another one may do better. */
bool call_blame_credential(struct call *call, int status, enum watch_error error)
{
    unsigned index = (unsigned)call->credential;
    uint64_t now = loop_now_ms(call->task.loop);
    bool empty = error == WATCH_QUOTA || status == 402, refused = empty || status == 401 || status == 403;

    /* What a path of its own asks for may be more than the key is for: that says nothing about prompts. */
    if (refused && call->request.raw)
        return false;
    /* A budget at another node is of a day, a tenant, a model. */
    if (empty && call->provider->rung == AI_EDGE)
        ai_credential_rest(call->provider, index, now, call->retry_after_s ? call->retry_after_s : EDGE_BUDGET_S);
    else if (refused)
        ai_credential_kill(call->provider, index, why_refused(status, error));
    else if (status == 429)
        ai_credential_rest(call->provider, index, now, call->retry_after_s);
    else
        return false;
    call->tried |= index < 32 ? 1u << index : 1u; /* a provider without any: it was asked once */
    return ai_credential_is_left(call->provider, call->tried, now);
}

const char *call_error_class(int status, enum watch_error error)
{
    if (error == WATCH_QUOTA)
        return "quota";
    switch (status) {
    case 401:
    case 402:
    case 403: return "credential";
    case 429: return "rate_limit";
    case 529: return "overloaded";
    default: return status >= 500 ? "server_error" : "bad_request";
    }
}

/* It is the request that is wrong: nobody else will like it better, and nobody is to blame. */
bool call_is_of_request(int status)
{
    switch (status) {
    case 401:
    case 402:
    case 403:
    case 407:
    case 408:
    case 425:
    case 429: return false;
    default: return status >= 400 && status < 500;
    }
}

/* What the client is told. Our credentials are our business: their refusal is a bad gateway, not the client's fault. */
int call_status_for_client(int status)
{
    if (call_is_of_request(status))
        return status;
    switch (status) {
    case 429: return status;
    case 529:
    case 503: return 503;
    case 504: return 504;
    default: return 502;
    }
}

/* Nobody is to see our credentials, whatever a provider says about them. */
void call_hide_keys(struct call *call, size_t from)
{
    const struct ai_provider *provider = call->provider;

    for (unsigned i = 0; i < provider->credential_count; i++) {
        struct view key = provider->credentials[i].value;
        char *at = call->out.ptr + from, *end = call->out.ptr + call->out.len;

        while (key.len && at < end && (at = memmem(at, (size_t)(end - at), key.ptr, key.len)) != NULL) {
            memset(at, '*', key.len);
            at += key.len;
        }
    }
}

/* What is passed through unread is so between two of one dialect. */
enum ai_dialect call_client_dialect(const struct call *call)
{
    return call->request.raw ? call->provider->dialect : ai_endpoint_dialect(call->request.client);
}

/* The body of an error is the provider's own where the client can read it and it cannot speak of our keys. */
void call_put_error(struct call *call, int status, struct view body)
{
    enum ai_dialect client = call_client_dialect(call), provider = call->provider->dialect;

    call->out.len = 0;
    call->out.failed = false;
    if (call_is_of_request(status) && client == provider && ai_error_is_shaped(client, body))
        buf_put(&call->out, body);
    else if (translate_error(provider, client, status, body, &call->out) < 0)
        call->out.len = 0;
    call_hide_keys(call, 0);
}
