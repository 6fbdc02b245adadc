/* What nodes say to each other (docs/parents.md): who is a child of ours, how much time is left, where a request has been, and
 * up to which purge an answer is good. Internal to src/http. */
#pragma once

#include "http/req.h"

/* Reads what only a child may say, and hides it from everything that comes after: no key, variant or upstream sees it. Sets
 * r->child and shortens r->deadline_ms. False: no time is left. */
bool peer_receive(struct req *r);

/* Has this request been here before, by its CDN-Loop (RFC 8586)? */
bool peer_loops(struct req *r);

/* Bytes that peer_put_request() needs besides those of the request itself. */
size_t peer_request_room(const struct req *r, const struct hop *hop);
/* CDN-Loop; for a parent its token and the time that is left. */
void peer_put_request(struct text *t, const struct req *r, const struct hop *hop);

/* For a child: the tags of r->object, which strangers do not see, and its purge position. Nothing for anybody else. */
size_t peer_answer_room(const struct req *r);
void peer_put_answer(struct text *t, const struct req *r);
