/* What a configuration says about embedding models and the semantic index: `ai.semantic`. */
#include "main/site_table.h"

#include "ai/endpoint.h"
#include "conf/conf.h"

static const char *const embedding_kinds[] = { "static", "onnx", "endpoint", NULL };

const struct option site_ai_semantic_table[] = {
    { .name = "model",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_semantic, model),
      .help =
          "Folder of an embedding model on this machine (docs/ai-embedding.md), or a provider's name for its own; needed "
          "for `semantic: embedding`." },
    { .name = "kind",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_semantic, kind),
      .preset = "static",
      .names = embedding_kinds,
      .help = "`static`: Model2Vec, potion. `onnx`: through ONNX Runtime, which must be installed. `endpoint`: the "
              "`/v1/embeddings` of a provider." },
    { .name = "library",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_semantic, library),
      .help = "Path of ONNX Runtime; default: where the loader looks." },
    { .name = "provider",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_semantic, provider),
      .flags = OPTION_TOKEN,
      .help = "Of an `endpoint`: which of `ai.providers` is asked for vectors." },
    { .name = "dimensions",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_semantic, dimensions),
      .preset = "0",
      .max = 4096,
      .help = "Of an `endpoint`: the size of its vectors, from 8. Others are refused." },
    { .name = "timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_semantic, timeout),
      .preset = "500ms",
      .min = 10,
      .max = 60000,
      .help = "Of an `endpoint`: how long a prompt waits for its vector before it goes on without." },
    { .name = "threshold",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_ai_semantic, threshold),
      .preset = "0.95",
      .help =
          "Similarity below which nothing is a hit, from 0.8. Requests may raise it with `Doorstep-AI-Threshold`." },
    { .name = "false_hits",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_ai_semantic, false_hits),
      .preset = "0.01",
      .help = "Share of wrong hits that thresholds are raised to hold, as far as `verify` and `shadow` see them." },
    { .name = "entries",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_semantic, entries),
      .preset = "10000",
      .min = 1,
      .max = 1000000,
      .help = "Prompts remembered for each tenant." },
    { .name = NULL },
};

void site_ai_semantic_check(struct site_ai *ai, struct conf_report *report)
{
    struct site_ai_semantic *semantic = &ai->semantic;
    size_t i = 0;

    if (semantic->kind != EMBEDDING_ENDPOINT)
        return;
    while (i < ai->providers.count && !view_eq(ai->providers.items[i].name, semantic->provider))
        i++;
    semantic->provider_index = i;
    if (i == ai->providers.count)
        conf_complain(report, "ai.semantic.provider", "it names no provider of ai.providers");
    else if (ai->providers.items[i].dialect != AI_OPENAI)
        conf_complain(report, "ai.semantic.provider", "only providers of the dialect openai have /v1/embeddings");
    if (semantic->model.len == 0)
        conf_complain(report, "ai.semantic.model", "an endpoint needs the name of its model");
    if (semantic->dimensions < 8)
        conf_complain(report, "ai.semantic.dimensions", "an endpoint needs the size of its vectors, 8 to 4096");
}
