/* Purging what is stored: brings what somebody outside says (cache/purge_event.h) to the form of a mark, by the routes of this
 * node, and sends it on its way (cache/purger.h). Used by the admin listener, the PURGE method, the bus and database listeners.
 *
 * A URL or prefix is absolute ("http://shop.example/a") and then names one host, or begins with '/' and then counts for every
 * host. Scheme and host are brought to the form that keys have; paths and queries count as they are spelled. The variants of a
 * URL go together, and so do what cookies and headers in the key made of it; a URL's query belongs to it. A prefix covers the
 * path it names and everything below it: it ends where a segment ends. */
#pragma once

#include "cache/purger.h"
#include "http/server.h"

/* On a loop's thread, inside its turn. In effect when it returns. `everywhere`: other nodes are told. `task` and *ret_job as purger_purge() has them. 0; -EINVAL:
 * the target is no URL, or a prefix with a query; -ENOMEM. */
int purge_run(struct server *server, struct loop *loop, const struct purge_event *event, bool everywhere,
              struct task *task, struct purge_job **ret_job);
/* The same for what already has a place in the bus's order (`bus`), or must not go there (0). Nobody waits. */
int purge_apply(struct server *server, struct loop *loop, const struct purge_event *event, uint64_t bus);
/* For struct fill_context: what a write at the origin invalidates. `arg`: the server. */
void purge_by_write(void *arg, struct loop *loop, const struct mark *mark, bool everywhere);

/* Appends the result as one line of JSON. */
void purge_result_put(struct text *out, const struct purge_result *result);
/* The status to answer with: 200, or 503 when it would not survive a restart. */
int purge_result_status(const struct purge_result *result);
