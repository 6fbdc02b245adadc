/* GET /v1/models: the aliases of this node, in the client's dialect. Without any, the question goes to the provider. */
#include "ai/gateway_internal.h"

#define MODELS_BYTES_MAX ((size_t)1024 * 1024)

static void put_model(struct service_call *q, const struct ai_model *model)
{
    buf_put(&q->out, q->dialect == AI_ANTHROPIC ? VIEW("{\"type\":\"model\",\"id\":") : VIEW("{\"id\":"));
    buf_json(&q->out, model->name);
    if (q->dialect == AI_ANTHROPIC) {
        buf_lit(&q->out, ",\"display_name\":");
        buf_json(&q->out, model->name);
        buf_lit(&q->out, ",\"created_at\":\"1970-01-01T00:00:00Z\"}");
    } else {
        buf_lit(&q->out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"doorstep\"}");
    }
}

static void put_id(struct buf *out, struct view name)
{
    if (name.ptr)
        buf_json(out, name);
    else
        buf_lit(out, "null");
}

/* What the client may ask for. */
static void put_list(struct service_call *q)
{
    const struct ai_config *config = q->config;
    struct view first = VIEW_NONE, last = VIEW_NONE;

    buf_put(&q->out, q->dialect == AI_ANTHROPIC ? VIEW("{\"data\":[") : VIEW("{\"object\":\"list\",\"data\":["));
    for (unsigned i = 0; i < config->model_count; i++) {
        if (!ai_rules_model(q->levels, q->level_count, config->models[i].name))
            continue;
        if (last.ptr)
            buf_char(&q->out, ',');
        else
            first = config->models[i].name;
        last = config->models[i].name;
        put_model(q, &config->models[i]);
    }
    buf_char(&q->out, ']');
    if (q->dialect == AI_ANTHROPIC) {
        buf_lit(&q->out, ",\"has_more\":false,\"first_id\":");
        put_id(&q->out, first);
        buf_lit(&q->out, ",\"last_id\":");
        put_id(&q->out, last);
    }
    buf_char(&q->out, '}');
}

bool ask_models(struct service_call *q)
{
    struct view id = view_skip(q->path, sizeof("/v1/models/") - 1);
    const struct ai_model *model = NULL;

    if (q->endpoint != AI_MODELS || q->config->model_count == 0)
        return false;
    for (unsigned i = 0; i < q->config->model_count; i++)
        if (view_eq(q->config->models[i].name, id) && ai_rules_model(q->levels, q->level_count, id))
            model = &q->config->models[i];
    if (id.len && !model) {
        ask_refuse(q, 404, NULL, VIEW("no such model here"), "model_not_found");
        return true;
    }
    q->step = ASK_ANSWER;
    q->form = ASK_TEXT;
    q->status = 200;
    q->local = true;
    q->out = buf_make(MODELS_BYTES_MAX);
    if (model)
        put_model(q, model);
    else
        put_list(q);
    return true;
}
