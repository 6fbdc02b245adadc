/* Errors in each dialect's own shape: written for clients, and read from providers. Pure; any thread. */
#pragma once

#include "ai/endpoint.h"
#include "ai/watch.h"
#include "base/buf.h"
#include "base/text.h"

/* The name a dialect's SDKs know an error of this HTTP status by: "rate_limit_error". */
const char *ai_error_type(enum ai_dialect dialect, int status);

/* Appends the body of an error answer. `type` NULL: the one of the status. `code` and `param` (NULL: null) are said by OpenAI's
 * shape only. */
void ai_error_put(struct buf *out, enum ai_dialect dialect, int status, const char *type, struct view message,
                  const char *code, const char *param);

/* Appends the event that tells a client of `endpoint` that its stream has failed. Nothing may follow it: no [DONE], which would pass a
 * cut answer for a whole one. */
void ai_error_event(struct buf *out, enum ai_endpoint endpoint, int status, struct view message);

/* What a provider means by an error: its HTTP status (200: said within an answer) and its body or event data, which may be anything.
 * WATCH_NO_ERROR only when the status is below 400 and the body names no error. */
enum watch_error ai_error_read(int status, struct view body);
/* The same for a body that is parsed already. */
enum watch_error ai_error_read_json(int status, const struct json *doc);
/* Is this body an error as the SDKs of that dialect read it, so that it can go on as it is? */
bool ai_error_is_shaped(enum ai_dialect dialect, struct view body);
/* The prompt does not fit into this model; a larger one may take it. */
bool ai_error_is_too_long(struct view body);
/* A 403 for what was asked, not for who asks: a model that the account has no access to, a prompt that was flagged. */
bool ai_error_is_about_request(struct view body);
/* Appends the provider's message, cut at a character when there is no more room; false when it has none. It may quote the prompt:
 * for the client that sent it, never for logs. */
bool ai_error_message(struct view body, struct text *out);
