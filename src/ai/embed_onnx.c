/* Transformers through ONNX Runtime, which is not linked but opened when a model asks for it. The session is shared by all threads that run
 * the model (the runtime allows that); everything else of a run is the run's own.
 *
 * A sentence's vector is the model's own when it has an output called sentence_embedding, else the mean of its tokens' last states, or the
 * first token's when 1_Pooling/config.json says so. */
#include "ai/embed_internal.h"
#include "ai/embed_ort.h"
#include "base/heap.h"
#include "base/key.h"
#include "proto/json.h"

#include <dlfcn.h>
#include <errno.h>

enum input { INPUT_IDS, INPUT_MASK, INPUT_TYPES, INPUT_COUNT };

static const char *const input_names[INPUT_COUNT] = { "input_ids", "attention_mask", "token_type_ids" };

struct onnx_model {
    struct embed base;
    const struct ort_api *api;
    struct ort_env *env;
    struct ort_session *session;
    struct ort_memory *memory;
    bool wants[INPUT_COUNT];
    bool first_token; /* pooling: the state of [CLS] */
    char output[64];
    uint32_t start, end; /* [CLS], [SEP] */
};

/* True: all is well. Else the runtime's words go to *reason (NULL: nowhere). */
static bool well(const struct onnx_model *model, struct ort_status *status, struct text *reason)
{
    if (!status)
        return true;
    if (reason)
        text_printf(reason, "onnxruntime: %.200s", model->api->message(status));
    model->api->release_status(status);
    return false;
}

/* ---- a run ---- */

/* One tensor of a run, [1][count]. */
static bool make_input(const struct onnx_model *model, int64_t *data, int64_t count, struct ort_value **ret)
{
    const int64_t shape[2] = { 1, count };

    return well(model,
                model->api->create_tensor(model->memory, data, (size_t)count * sizeof(*data), shape, 2, ORT_INT64, ret),
                NULL);
}

/* The shape of a float tensor with two or three dimensions, the first of them 1. */
static bool read_shape(const struct onnx_model *model, struct ort_value *value, int64_t shape[3], size_t *ret_len)
{
    const struct ort_api *api = model->api;
    struct ort_shape *info = NULL;
    int type = 0;
    bool ok = well(model, api->tensor_shape(value, &info), NULL) && well(model, api->element_type(info, &type), NULL) &&
              type == ORT_FLOAT && well(model, api->dimension_count(info, ret_len), NULL) && *ret_len >= 2 &&
              *ret_len <= 3 && well(model, api->dimensions(info, shape, *ret_len), NULL) && shape[0] == 1;

    if (info)
        api->release_shape(info);
    return ok;
}

/* One vector out of the output; its length. 0: it is not what we expect. */
static unsigned pool(const struct onnx_model *model, struct ort_value *value, float *out)
{
    int64_t shape[3] = { 0 }, tokens, dims;
    size_t len = 0;
    void *data = NULL;
    const float *states;

    if (!read_shape(model, value, shape, &len) || !well(model, model->api->tensor_data(value, &data), NULL))
        return 0;
    tokens = len == 3 ? shape[1] : 1;
    dims = shape[len - 1];
    if (tokens < 1 || dims < 8 || dims > EMBED_DIMS_MAX || !data)
        return 0;
    states = data;
    memcpy(out, states, (size_t)dims * sizeof(*out));
    for (int64_t t = 1; t < tokens && !model->first_token; t++)
        for (int64_t d = 0; d < dims; d++)
            out[d] += states[t * dims + d];
    return (unsigned)dims;
}

/* Runs the model over `count` tokens. Number of dimensions, or -errno. */
static int infer(const struct onnx_model *model, const uint32_t *ids, unsigned count, float *out, struct text *reason)
{
    int64_t not_zeroed data[INPUT_COUNT][EMBED_TOKENS_MAX];
    struct ort_value *inputs[INPUT_COUNT] = { NULL }, *output = NULL;
    const char *names[INPUT_COUNT], *const output_name = model->output;
    size_t given = 0;
    bool ok = true;
    int dims = 0;

    for (unsigned i = 0; i < count; i++) {
        data[INPUT_IDS][i] = ids[i];
        data[INPUT_MASK][i] = 1;
        data[INPUT_TYPES][i] = 0;
    }
    for (unsigned i = 0; i < INPUT_COUNT && ok; i++) {
        if (!model->wants[i])
            continue;
        ok = make_input(model, data[i], count, &inputs[given]);
        names[given++] = input_names[i];
    }
    ok = ok && well(model,
                    model->api->run(model->session, NULL, names, (const struct ort_value *const *)inputs, given,
                                    &output_name, 1, &output),
                    reason);
    if (ok)
        dims = (int)pool(model, output, out);
    for (unsigned i = 0; i < INPUT_COUNT; i++)
        if (inputs[i])
            model->api->release_value(inputs[i]);
    if (output)
        model->api->release_value(output);
    return dims > 0 ? dims : -EIO;
}

static int run(const struct embed *e, struct view text, float *out)
{
    const struct onnx_model *model = (const void *)e; /* base is first */
    uint32_t not_zeroed ids[EMBED_TOKENS_MAX];
    unsigned count = wordpiece_encode(e->words, text, false, ids + 1, EMBED_TOKENS_MAX - 2);
    int dims;

    if (count == 0)
        return -ENODATA;
    ids[0] = model->start;
    ids[count + 1] = model->end;
    dims = infer(model, ids, count + 2, out, NULL);
    return dims == (int)e->dims ? 0 : -EIO;
}

/* ---- opening ---- */

static void destroy(struct embed *e)
{
    struct onnx_model *model = CONTAINER_OF(e, struct onnx_model, base);

    if (model->session)
        model->api->release_session(model->session);
    if (model->memory)
        model->api->release_memory(model->memory);
    if (model->env)
        model->api->release_env(model->env);
    heap_free(model);
}

/* The library is never closed: its threads may outlive the last model. */
static int open_library(struct onnx_model *model, const char *library, struct text *reason)
{
    static const char *const names[] = { "libonnxruntime.so.1", "libonnxruntime.so" };
    const struct ort_base *(*get_base)(void) = NULL;
    const struct ort_base *base;
    void *handle = library ? dlopen(library, RTLD_NOW | RTLD_LOCAL) : NULL, *symbol;

    for (unsigned i = 0; i < ARRAY_LEN(names) && !library && !handle; i++)
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return embed_refuse(reason, -ENOTSUP, library ? library : names[0], "ONNX Runtime cannot be opened");
    symbol = dlsym(handle, "OrtGetApiBase");
    memcpy(&get_base, &symbol, sizeof(symbol)); /* ISO C has no conversion between the two kinds of pointers */
    base = get_base ? get_base() : NULL;
    model->api = base ? base->get(ORT_VERSION) : NULL;
    if (model->api)
        return 0;
    embed_refuse(reason, -ENOTSUP, library ? library : names[0], "it is no ONNX Runtime");
    return -ENOTSUP;
}

static bool open_session(struct onnx_model *model, const char *path, unsigned threads, struct text *reason)
{
    const struct ort_api *api = model->api;
    struct ort_options *options = NULL;
    int count = threads ? (int)MIN(threads, 64u) : 1;
    bool ok = well(model, api->create_env(ORT_LOG_FATAL, "doorstep", &model->env), reason) &&
              well(model, api->create_cpu_memory(ORT_ARENA, ORT_MEMORY_DEFAULT, &model->memory), reason) &&
              well(model, api->create_options(&options), reason) &&
              well(model, api->set_intra_threads(options, count), reason) &&
              well(model, api->set_inter_threads(options, 1), reason) &&
              well(model, api->create_session(model->env, path, options, &model->session), reason);

    if (options)
        api->release_options(options);
    return ok;
}

static int read_inputs(struct onnx_model *model, struct ort_allocator *allocator, struct text *reason)
{
    const struct ort_api *api = model->api;
    size_t count = 0;

    if (!well(model, api->input_count(model->session, &count), reason))
        return -EIO;
    for (size_t i = 0; i < count; i++) {
        char *name = NULL;
        bool known = false;

        if (!well(model, api->input_name(model->session, i, allocator, &name), reason))
            return -EIO;
        for (unsigned k = 0; k < INPUT_COUNT; k++) {
            if (strcmp(name, input_names[k]) == 0)
                known = model->wants[k] = true;
        }
        if (!known)
            text_printf(reason, "the model wants an input \"%.64s\" that we do not have", name);
        well(model, api->free_with(allocator, name), NULL);
        if (!known)
            return -ENOTSUP;
    }
    if (model->wants[INPUT_IDS])
        return 0;
    text_lit(reason, "the model has no input \"input_ids\"");
    return -ENOTSUP;
}

/* The output called sentence_embedding, or the first. */
static int read_output(struct onnx_model *model, struct ort_allocator *allocator, struct text *reason)
{
    const struct ort_api *api = model->api;
    size_t count = 0;

    if (!well(model, api->output_count(model->session, &count), reason))
        return -EIO;
    for (size_t i = 0; i < count; i++) {
        struct text output = TEXT_ON(model->output);
        char *name = NULL;

        if (!well(model, api->output_name(model->session, i, allocator, &name), reason))
            return -EIO;
        if ((i == 0 || strcmp(name, "sentence_embedding") == 0) && strlen(name) < sizeof(model->output)) {
            text_put(&output, view_str(name));
            text_str(&output);
        }
        well(model, api->free_with(allocator, name), NULL);
    }
    if (model->output[0])
        return 0;
    text_lit(reason, "the model has no output");
    return -ENOTSUP;
}

/* What sentence-transformers write about pooling; without the file it is the mean. */
static int read_pooling(struct onnx_model *model, const char *dir, struct text *reason)
{
    struct json doc = { 0 };
    struct view file = VIEW_NONE;
    char path[4096];
    size_t at;
    int r = embed_path(dir, "1_Pooling/config.json", path, reason);

    if (r == 0)
        r = embed_map(path, &file, reason);
    if (r == 0 && json_parse(&doc, file, JSON_LIMITS, &at) == JSON_OK)
        model->first_token = json_true(&doc, json_get(&doc, 0, VIEW("pooling_mode_cls_token")));
    json_free(&doc);
    embed_unmap(file);
    return r == -ENOENT ? 0 : r;
}

/* Finds out the dimensions, and that it works at all, by running it once. */
static int probe(struct onnx_model *model, struct text *reason)
{
    float not_zeroed out[EMBED_DIMS_MAX];
    uint32_t ids[3];
    int dims;

    model->start = wordpiece_find(model->base.words, VIEW("[CLS]"));
    model->end = wordpiece_find(model->base.words, VIEW("[SEP]"));
    if (model->start == WORDPIECE_NONE || model->end == WORDPIECE_NONE) {
        text_lit(reason, "the vocabulary has no [CLS] and [SEP]");
        return -ENOTSUP;
    }
    ids[0] = ids[1] = model->start;
    ids[2] = model->end;
    dims = infer(model, ids, 3, out, reason);
    if (dims < 0 && reason->len == 0)
        text_lit(reason, "the model's output is not [1, tokens, dimensions] of floats");
    model->base.dims = dims > 0 ? (unsigned)dims : 0;
    return dims > 0 ? 0 : -ENOTSUP;
}

static int open_model(struct onnx_model *model, const char *path, unsigned threads, struct text *reason)
{
    struct ort_allocator *allocator = NULL;
    int r;

    if (!open_session(model, path, threads, reason) || !well(model, model->api->default_allocator(&allocator), reason))
        return -EINVAL;
    r = read_inputs(model, allocator, reason);
    if (r == 0)
        r = read_output(model, allocator, reason);
    return r < 0 ? r : probe(model, reason);
}

/* Everything about the files; *path is where the model is. */
static int read_files(struct onnx_model *model, const char *dir, char path[static 4096], struct text *reason)
{
    struct view file = VIEW_NONE;
    uint64_t words[2];
    int r = embed_path(dir, "model.onnx", path, reason);

    if (r == 0)
        r = embed_map(path, &file, reason);
    if (r == -ENOENT) {
        r = embed_path(dir, "onnx/model.onnx", path, reason);
        if (r == 0)
            r = embed_map(path, &file, reason);
    }
    if (r == -ENOENT)
        return embed_refuse(reason, r, dir, "there is no model.onnx and no onnx/model.onnx");
    if (r == 0)
        r = embed_read_words(dir, &model->base.words, words, reason);
    if (r == 0)
        r = read_pooling(model, dir, reason);
    if (r == 0)
        embed_set_id(&model->base, model->first_token ? VIEW("onnx 1 first ") : VIEW("onnx 1 mean "), key_of(file).hash,
                     words);
    embed_unmap(file);
    return r;
}

int embed_onnx_open(const char *dir, const char *library, unsigned threads, struct embed **ret, struct text *reason)
{
    struct onnx_model *model = heap_zalloc(sizeof(*model));
    char path[4096], why[512];
    struct text inner = TEXT_ON(why);
    int r;

    if (!model)
        return -ENOMEM;
    model->base.run = run;
    model->base.destroy = destroy;
    model->base.blocks = true;
    model->base.bytes = heap_cost(sizeof(*model));
    r = read_files(model, dir, path, reason);
    if (r == 0)
        r = open_library(model, library, reason);
    if (r == 0) {
        r = open_model(model, path, threads, &inner);
        if (r < 0)
            embed_refuse(reason, r, path, text_str(&inner));
    }
    if (r < 0) {
        embed_free(&model->base);
        return r;
    }
    *ret = &model->base;
    return 0;
}
