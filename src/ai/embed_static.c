/* Static embeddings (Model2Vec): a text is the mean of its tokens' rows. Newer models store fewer rows than tokens, a `mapping` from token
 * to row, and a `weights` factor for each token. The rows stay in the mapped file; what is not used is never read from disk. */
#include "ai/embed_internal.h"
#include "ai/safetensors.h"
#include "base/heap.h"
#include "base/key.h"

#include <errno.h>
#include <math.h>

struct static_model {
    struct embed base;
    struct view file;
    struct safetensors_tensor rows;
    uint32_t *mapping; /* by token; NULL: row = token */
    float *weights;    /* by token; NULL: all 1 */
};

static int run(const struct embed *e, struct view text, float *out)
{
    const struct static_model *model = (const void *)e; /* base is first */
    uint32_t not_zeroed ids[EMBED_TOKENS_MAX];
    unsigned count = wordpiece_encode(e->words, text, true, ids, EMBED_TOKENS_MAX);

    memset(out, 0, e->dims * sizeof(*out));
    for (unsigned i = 0; i < count; i++) {
        uint32_t row = model->mapping ? model->mapping[ids[i]] : ids[i];

        safetensors_add_row(&model->rows, row, model->weights ? model->weights[ids[i]] : 1, out);
    }
    return count ? 0 : -ENODATA;
}

static void destroy(struct embed *e)
{
    struct static_model *model = CONTAINER_OF(e, struct static_model, base);

    embed_unmap(model->file);
    heap_free(model->mapping);
    heap_free(model->weights);
    heap_free(model);
}

/* Finds a tensor that need not be there: 1, 0 (none), -errno. */
static int find_optional(struct static_model *model, struct view name, struct safetensors_tensor *ret,
                         struct text *reason)
{
    int r = safetensors_find(model->file, name, ret, reason);

    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (ret->cols != 1 || ret->rows < wordpiece_count(model->base.words)) {
        text_printf(reason, "%.*s has not one number for each token", VIEW_ARG(name));
        return -EINVAL;
    }
    return 1;
}

static int read_mapping(struct static_model *model, struct text *reason)
{
    uint32_t count = wordpiece_count(model->base.words);
    struct safetensors_tensor tensor;
    int r = find_optional(model, VIEW("mapping"), &tensor, reason);

    if (r <= 0)
        return r;
    model->mapping = heap_array(count, sizeof(*model->mapping));
    if (!model->mapping)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        double row = safetensors_number(&tensor, i, 0);

        if (!(row >= 0 && row < (double)model->rows.rows)) {
            text_lit(reason, "mapping names a row that is not there");
            return -EINVAL;
        }
        model->mapping[i] = (uint32_t)row;
    }
    model->base.bytes += heap_cost(count * sizeof(*model->mapping));
    return 0;
}

static int read_weights(struct static_model *model, struct text *reason)
{
    uint32_t count = wordpiece_count(model->base.words);
    struct safetensors_tensor tensor;
    int r = find_optional(model, VIEW("weights"), &tensor, reason);

    if (r <= 0)
        return r;
    model->weights = heap_array(count, sizeof(*model->weights));
    if (!model->weights)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        model->weights[i] = (float)safetensors_number(&tensor, i, 0);
    model->base.bytes += heap_cost(count * sizeof(*model->weights));
    return 0;
}

static int read_tensors(struct static_model *model, struct text *reason)
{
    int r = safetensors_find(model->file, VIEW("embeddings"), &model->rows, reason);

    /* What sentence-transformers calls them. */
    if (r == -ENOENT)
        r = safetensors_find(model->file, VIEW("embedding.weight"), &model->rows, reason);
    if (r == -ENOENT)
        text_lit(reason, "it has no tensor \"embeddings\": is it a static model?");
    if (r < 0)
        return r == -ENOENT ? -ENOTSUP : r;
    if (model->rows.cols < 8 || model->rows.cols > EMBED_DIMS_MAX || model->rows.rows > UINT32_MAX) {
        text_lit(reason, "its vectors have fewer than 8 or more than 4,096 dimensions");
        return -ENOTSUP;
    }
    r = read_mapping(model, reason);
    if (r == 0 && !model->mapping && model->rows.rows < wordpiece_count(model->base.words)) {
        text_lit(reason, "it has fewer vectors than the vocabulary has tokens");
        r = -EINVAL;
    }
    return r < 0 ? r : read_weights(model, reason);
}

static int open_model(struct static_model *model, const char *dir, struct text *reason)
{
    char path[4096], why[256];
    struct text inner = TEXT_ON(why);
    uint64_t words[2];
    int r = embed_path(dir, "model.safetensors", path, reason);

    if (r == 0)
        r = embed_map(path, &model->file, reason);
    if (r == -ENOENT)
        return embed_refuse(reason, r, path, "no such file");
    if (r == 0)
        r = embed_read_words(dir, &model->base.words, words, reason);
    if (r < 0)
        return r;
    r = read_tensors(model, &inner);
    if (r < 0)
        return r == -ENOMEM ? r : embed_refuse(reason, r, path, text_str(&inner));
    model->base.dims = (unsigned)model->rows.cols;
    embed_set_id(&model->base, VIEW("static 1 "), key_of(model->file).hash, words);
    return 0;
}

int embed_static_open(const char *dir, struct embed **ret, struct text *reason)
{
    struct static_model *model = heap_zalloc(sizeof(*model));
    int r;

    if (!model)
        return -ENOMEM;
    model->base.run = run;
    model->base.destroy = destroy;
    model->base.bytes = heap_cost(sizeof(*model));
    r = open_model(model, dir, reason);
    if (r < 0) {
        embed_free(&model->base);
        return r;
    }
    *ret = &model->base;
    return 0;
}
