/* Keeps the semantic index in step with the answers that it leads to, and on disk, from a thread of its own. */
#pragma once

#include "ai/semantic.h"
#include "cache/marks.h"
#include "store/disk.h"
#include "store/memory.h"

struct semantic_keeper;

struct semantic_keeper_options { /* all borrowed */
    struct semantic *semantic;
    const char *path, *model; /* as semantic_save(); path NULL: it is not kept */
    struct memory *memory;
    struct disk *disk; /* NULL: none */
    bool shared;       /* answers may also be where nobody looks from here */
    struct marks *marks;
    uint32_t pause_ms; /* between two rounds; 0: a second */
};

/* Starts the thread. 0 or -errno. */
int semantic_keeper_new(const struct semantic_keeper_options *options, struct semantic_keeper **ret);
/* Ends the thread, and writes the index a last time. While memory, disk and marks are still there. NULL is fine. */
void semantic_keeper_free(struct semantic_keeper *keeper);
