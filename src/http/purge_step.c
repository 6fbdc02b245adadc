/* PURGE: in effect at once; the answer waits until it is durable and the other nodes have heard. */
#include "http/conn.h"

#include "base/heap.h"
#include "http/purge.h"

#include <errno.h>

#define ANSWER_MAX 512

enum flow purge_begin(struct req *r, const struct purge_event *event)
{
    int status = purge_run(r->hl->server, r->hl->loop, event, true, r->task, &r->purge);

    if (status == -EINVAL)
        return reply_error(r, 400,
                           "not a target for this: give an absolute http(s) URL, or a path beginning with / for every "
                           "host; a prefix ends at a path segment and has no query");
    if (status < 0)
        return reply_error(r, 503, "out of memory");
    r->step = STEP_PURGE;
    return FLOW_CONTINUE;
}

enum flow step_purge(struct req *r)
{
    struct purge_result result;
    struct text answer;

    if (!purge_job_done(r->purge, &result))
        return FLOW_WAIT;
    answer = text_make(arena_alloc(&r->arena, ANSWER_MAX), ANSWER_MAX);
    if (!answer.ptr)
        return reply_error(r, 503, "out of memory");
    purge_result_put(&answer, &result);
    return reply_text(r, purge_result_status(&result), "application/json", text_view(&answer));
}
