/* Purging what is stored: by URL, by the beginning of URLs, or all of it. Used by the admin listener and the PURGE method.
 *
 * A URL or prefix is absolute ("http://shop.example/a") and then names one host, or begins with '/' and then counts for every
 * host. Scheme and host are brought to the form that keys have; paths and queries count as they are spelled. The variants of a URL go together, and so do what cookies and
 * headers in the key made of it; a URL's query belongs to it.
 *
 * Fetches in flight for what is purged are doomed first: their clients get their answer, but it is not stored. */
#pragma once

#include "http/server.h"

enum purge_kind { PURGE_URL, PURGE_PREFIX, PURGE_ALL };

struct purge {
    enum purge_kind kind;
    bool soft;          /* mark stale instead of dropping: stale answers stay possible while the origin is asked */
    struct view target; /* URL or prefix; unused for PURGE_ALL */
};

/* On a loop's thread, inside its turn. *ret_objects is how many stored responses were dropped or marked. Walks over the whole
 * tier (one shard's lock at a time), but for an absolute URL whose key has no cookies or headers in it. 0; -EINVAL: target is no
 * URL; -ENOMEM. */
int purge_run(struct server *server, const struct purge *purge, uint64_t *ret_objects);
