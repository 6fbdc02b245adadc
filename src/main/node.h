/* The running node: loops, tiers and listeners put together, signals obeyed. */
#pragma once

#include "main/site.h"

/* Runs until SIGTERM or SIGINT. Takes the site over. `file`: read again on SIGHUP, NULL: nothing to reload. Returns the exit
 * code: 0, or 1 when the node could not start (said in the log). */
int node_run(struct site *site, const char *file);
