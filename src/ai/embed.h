/* An embedding model: a text becomes a unit vector. Two kinds on this node (a third, ai/embed_remote.h, asks a provider):
 * - static (Model2Vec, potion): the mean of the vectors of its tokens; microseconds, so it is done in place with embed_text();
 * - onnx: a transformer run by ONNX Runtime, which is opened with dlopen when it is there; milliseconds, so it is a job on a worker thread.
 * embed_start() takes either kind, a caller that can wait needs nothing else. Models are read-only: any thread may use them at once.
 * docs/ai-embedding.md says which files a model folder has. */
#pragma once

#include "base/text.h"
#include "loop/work.h"

struct embed;
struct embed_job;

#define EMBED_DIMS_MAX 4096
#define EMBED_ID_LEN 32
/* Text behind this many bytes, and tokens behind this many, are not looked at. */
#define EMBED_TEXT_MAX 65536
#define EMBED_TOKENS_MAX 512

/* Both block (files are read): at start or on a worker. 0, or -errno with a sentence for people in *reason: -ENOENT, -EACCES, ... a file;
 * -EINVAL a file that is not what it should be; -ENOTSUP a form we do not read, or no ONNX Runtime on this machine; -ENOMEM. */

/* `dir`: model.safetensors, tokenizer.json or vocab.txt. */
int embed_static_open(const char *dir, struct embed **ret, struct text *reason);
/* `dir`: model.onnx (or onnx/model.onnx), tokenizer.json or vocab.txt. `library`: path of the runtime, NULL: look for
 * libonnxruntime.so where the loader looks. `threads` of the runtime for one run (0: one). */
int embed_onnx_open(const char *dir, const char *library, unsigned threads, struct embed **ret, struct text *reason);
/* No job may be under way. */
void embed_free(struct embed *e);

unsigned embed_dims(const struct embed *e);
/* 32 hexadecimal digits that change when the model does: part of every partition key. */
const char *embed_id(const struct embed *e);
/* Does embed_text() take so long that a loop must not call it? */
bool embed_blocks(const struct embed *e);
/* Heap bytes held (mapped files are not counted). */
size_t embed_bytes(const struct embed *e);

/* Writes embed_dims() floats of length 1. 0; -ENODATA: no token of the text is known to the model (empty text, a script it does not have);
 * -ENOMEM; -EIO: the runtime failed. Any thread but a loop's when embed_blocks(). */
int embed_text(const struct embed *e, struct view text, float *out);

/* ---- without blocking ---- */

/* Copies `text` and embeds it: in place when the model does not block, else on a worker. `task` is woken when it is done (never from inside
 * of this call). NULL when memory is out. On `loop`'s thread, as all calls about the job. `e` must outlive the job. */
struct embed_job *embed_start(const struct embed *e, struct workers *workers, struct loop *loop, struct task *task,
                              struct view text);
/* -EAGAIN: not yet. Else as embed_text(), *out written on 0; may be asked again. */
int embed_done(const struct embed_job *job, float *out);
/* Gives the job up, done or not: a worker that is at it finishes, its result is dropped and `task` is not woken any more. NULL is fine. */
void embed_drop(struct embed_job *job);
