/* The tracer, out of what the configuration says about tracing. */
#pragma once

#include "main/site.h"
#include "upstream/tracer.h"

/* 0; -errno, the reason logged. Without a collector there is a tracer too, which records nothing. */
int tracing_open(const struct site *site, unsigned loop_count, struct tracer **ret);
/* From the main thread, while the loops turn: what waits is sent, or a second is over. */
void tracing_flush(struct tracer *tracer);
