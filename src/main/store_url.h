/* URLs of Redis-protocol servers: redis://[user[:password]@]host[:port][/database], rediss:// for TLS, unix:/path. */
#pragma once

#include "base/arena.h"
#include "main/site.h"

/* Parts are percent-decoded copies in `memory`, each with a NUL behind it. 0; -EINVAL with the reason in *ret_why (literal);
 * -ENOMEM. */
int store_url_parse(struct view url, struct arena *memory, struct site_store *ret, const char **ret_why);
