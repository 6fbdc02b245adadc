/* A small pool of threads for what can block: cold disk reads, fsync, getaddrinfo, compression. A job runs on a worker and
 * comes back as a message on the loop that sent it. */
#pragma once

#include "loop/loop.h"

struct workers;

struct work {
    struct message done;            /* done.handle runs on `loop` afterwards; owns the struct */
    void (*run)(struct work *work); /* on a worker thread; touches nothing a loop may touch */
    struct loop *loop;
    struct node link;
};

int workers_new(struct workers **ret, unsigned threads);
/* Finishes queued jobs, joins the threads. */
void workers_free(struct workers *workers);
void workers_submit(struct workers *workers, struct work *work);
