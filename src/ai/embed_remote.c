/* A model behind /v1/embeddings.
 *
 * A question is one ai/call.h source, read by the task that asked; its request points to the ask's own memory, so closing the source comes
 * first. Failures in a row are counted in the model, by all loops: three of them give it a rest, so that a provider that is too slow
 * costs a prompt its timeout now and then, not always. */
#include "ai/embed_remote.h"

#include "ai/embed_internal.h"
#include "base/heap.h"
#include "base/key.h"
#include "proto/json.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>

#define ANSWER_MAX ((size_t)512 * 1024)
#define FAILURES_MAX 3u
#define REST_MS 5000u
#define READ_SIZE ((size_t)8192)

struct remote_model {
    struct embed base;
    struct embed_remote_options options; /* owned views */
    _Atomic unsigned failures;           /* in a row */
    _Atomic uint64_t rest_until_ms;
};

struct embed_ask {
    struct remote_model *model;
    struct source *source;
    struct task *task;
    struct timer timer;
    struct buf answer;
    struct view fields;
    int result; /* -EAGAIN: under way */
    float *out; /* behind the struct; `fields` behind that */
};

/* ---- the model ---- */

static struct remote_model *model_of(const struct embed *e)
{
    return CONTAINER_OF((struct embed *)(uintptr_t)e, struct remote_model, base);
}

static int run(const struct embed *e, struct view text, float *out)
{
    (void)e;
    (void)text;
    (void)out;
    return -EIO;
}

static void destroy(struct embed *e)
{
    struct remote_model *model = model_of(e);

    heap_free((void *)(uintptr_t)model->options.provider.ptr);
    heap_free((void *)(uintptr_t)model->options.server.ptr);
    heap_free((void *)(uintptr_t)model->options.model.ptr);
    heap_free(model);
}

static bool own(struct view *text)
{
    const char *copy = heap_strdup(text->ptr, text->len);

    *text = copy ? view_make(copy, text->len) : VIEW_NONE;
    return copy != NULL;
}

static void set_id(struct remote_model *model)
{
    const struct embed_remote_options *o = &model->options;
    uint64_t server[2], name[2];

    memcpy(server, key_of(o->server).hash, sizeof(server));
    memcpy(name, key_of(o->model).hash, sizeof(name));
    name[0] ^= o->dims;
    embed_set_id(&model->base, VIEW("remote 1 "), server, name);
}

int embed_remote_new(const struct embed_remote_options *options, struct embed **ret)
{
    struct remote_model *model;
    bool owned;

    if (options->dims < 8 || options->dims > EMBED_DIMS_MAX)
        return -EINVAL;
    model = heap_zalloc(sizeof(*model));
    if (!model)
        return -ENOMEM;
    model->options = *options;
    owned = own(&model->options.provider);
    owned = own(&model->options.server) && owned;
    owned = own(&model->options.model) && owned;
    model->base.run = run;
    model->base.destroy = destroy;
    model->base.dims = options->dims;
    model->base.blocks = true;
    model->base.bytes = heap_cost(sizeof(*model));
    if (!owned) {
        embed_free(&model->base);
        return -ENOMEM;
    }
    set_id(model);
    *ret = &model->base;
    return 0;
}

const struct embed_remote_options *embed_remote(const struct embed *e)
{
    return e->destroy == destroy ? &model_of(e)->options : NULL;
}

bool embed_remote_is_up(const struct embed *e, uint64_t now_ms)
{
    return now_ms >= atomic_load_explicit(&model_of(e)->rest_until_ms, memory_order_relaxed);
}

static void note(struct remote_model *model, bool good, uint64_t now_ms)
{
    if (good)
        atomic_store_explicit(&model->failures, 0, memory_order_relaxed);
    else if (atomic_fetch_add_explicit(&model->failures, 1, memory_order_relaxed) + 1 >= FAILURES_MAX)
        atomic_store_explicit(&model->rest_until_ms, now_ms + REST_MS, memory_order_relaxed);
}

/* ---- a question ---- */

/* Cuts between characters. */
static struct view first_text(struct view text, size_t max)
{
    size_t len = MIN(text.len, max);

    while (len < text.len && len > 0 && ((unsigned char)text.ptr[len] & 0xc0) == 0x80)
        len--;
    return view_first(text, len);
}

static struct buf make_body(const struct remote_model *model, struct view text)
{
    struct buf body = buf_make(8 * EMBED_TEXT_MAX);

    buf_put(&body, VIEW("{\"model\":"));
    buf_json(&body, model->options.model);
    buf_put(&body, VIEW(",\"input\":"));
    buf_json(&body, first_text(text, EMBED_TEXT_MAX));
    buf_put(&body, VIEW(",\"encoding_format\":\"float\"}"));
    return body;
}

struct embed_ask *embed_ask_start(const struct embed_ask_options *options, struct task *task)
{
    struct remote_model *model = model_of(options->embed);
    size_t floats = model->base.dims * sizeof(float);
    struct embed_ask *ask = heap_alloc(sizeof(*ask) + floats + options->fields.len);
    struct ai_call_request request = {
        .candidate = options->candidate,
        .client = AI_EMBEDDINGS,
        .provider = AI_EMBEDDINGS,
        .method = VIEW("POST"),
        .path = ai_endpoint_path(AI_EMBEDDINGS),
        .content_type = VIEW("application/json"),
        .model = model->options.model,
        .prompt_bytes = options->text.len,
        .done = options->done,
        .arg = options->arg,
    };

    if (!ask)
        return NULL;
    *ask = (struct embed_ask){ .model = model,
                               .task = task,
                               .answer = buf_make(ANSWER_MAX),
                               .result = -EAGAIN,
                               .out = (float *)(void *)(ask + 1) };
    if (options->fields.len)
        memcpy((char *)(ask + 1) + floats, options->fields.ptr, options->fields.len);
    ask->fields = view_make((char *)(ask + 1) + floats, options->fields.len);
    timer_init(&ask->timer, task);
    request.fields = ask->fields;
    request.body = make_body(model, options->text);
    if (request.body.failed || ai_call_open(&request, task, &ask->source) < 0) {
        buf_free(&request.body);
        heap_free(ask);
        return NULL;
    }
    timer_set(&ask->timer, model->options.timeout_ms);
    return ask;
}

/* Numbers of `data[0].embedding`, made a unit vector. */
static int read_vector(const struct json *doc, float *out, unsigned dims)
{
    uint32_t data = json_get_typed(doc, 0, VIEW("data"), JSON_ARRAY), list;
    unsigned count = 0;
    double square = 0;

    if (!data || doc->tokens[data].count != 1)
        return -EBADMSG;
    list = json_get_typed(doc, json_first(doc, data), VIEW("embedding"), JSON_ARRAY);
    if (!list || doc->tokens[list].count != dims)
        return -EBADMSG;
    for (uint32_t i = json_first(doc, list); i < json_end(doc, list); i = json_after(doc, i)) {
        double value;

        if (!json_double(doc, i, &value) || !(fabs(value) < 1e6))
            return -EBADMSG;
        out[count++] = (float)value;
        square += value * value;
    }
    if (!(square > 1e-24))
        return -EBADMSG;
    for (unsigned i = 0; i < dims; i++)
        out[i] = (float)((double)out[i] / sqrt(square));
    return 0;
}

static int read_answer(struct embed_ask *ask)
{
    struct json doc = { 0 };
    size_t at;
    int r = json_parse(&doc, buf_view(&ask->answer), JSON_LIMITS, &at) == JSON_OK
                ? read_vector(&doc, ask->out, ask->model->base.dims)
                : -EBADMSG;

    json_free(&doc);
    return r;
}

static int look(struct embed_ask *ask)
{
    const struct source_functions *source = ask->source->functions;
    not_zeroed char memory[READ_SIZE];
    ssize_t got;

    if (ask->timer.fired)
        return -ETIMEDOUT;
    switch (source->state(ask->source)) {
    case EXCHANGE_BODY:
    case EXCHANGE_DONE: break;
    case EXCHANGE_FAILED: return -EIO;
    default: return -EAGAIN;
    }
    if (source->head(ask->source)->status != 200)
        return -EIO;
    while ((got = source->read(ask->source, memory, sizeof(memory))) > 0)
        buf_put(&ask->answer, view_make(memory, (size_t)got));
    if (ask->answer.failed)
        return -EBADMSG;
    if (got < 0)
        return (int)got;
    return read_answer(ask);
}

int embed_ask_done(struct embed_ask *ask, float *out)
{
    if (ask->result == -EAGAIN) {
        ask->result = look(ask);
        if (ask->result != -EAGAIN) {
            timer_clear(&ask->timer);
            note(ask->model, ask->result == 0, loop_now_ms(ask->task->loop));
        }
    }
    if (ask->result == 0)
        memcpy(out, ask->out, ask->model->base.dims * sizeof(*out));
    return ask->result;
}

void embed_ask_drop(struct embed_ask *ask)
{
    if (!ask)
        return;
    timer_clear(&ask->timer);
    ask->source->functions->close(ask->source);
    buf_free(&ask->answer);
    heap_free(ask);
}
