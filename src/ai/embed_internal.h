/* Shared by the kinds of embedding models. */
#pragma once

#include "ai/embed.h"
#include "ai/wordpiece.h"

/* Every kind begins with this. */
struct embed {
    unsigned dims;
    bool blocks;
    size_t bytes; /* of heap, the vocabulary not counted */
    char id[EMBED_ID_LEN + 1];
    struct wordpiece *words;
    /* As embed_text(); the result need not have length 1. */
    int (*run)(const struct embed *e, struct view text, float *out);
    /* Frees everything but the vocabulary. */
    void (*destroy)(struct embed *e);
};

/* Appends "WHERE: WHY" and returns `error`. */
int embed_refuse(struct text *reason, int error, const char *where, const char *why);

/* Writes "DIR/NAME". 0, -ENAMETOOLONG (with a reason). */
int embed_path(const char *dir, const char *name, char path[static 4096], struct text *reason);
/* Maps a file for reading. 0, -errno (with a reason, but for -ENOENT). An empty file is an empty view. */
int embed_map(const char *path, struct view *ret, struct text *reason);
void embed_unmap(struct view file);

/* The model's vocabulary: tokenizer.json, or vocab.txt where there is none. */
int embed_read_words(const char *dir, struct wordpiece **ret, uint64_t hash[2], struct text *reason);
/* Identity from what the model consists of. */
void embed_set_id(struct embed *e, struct view kind, const uint64_t model[2], const uint64_t words[2]);
