/* What is shared by all loops of the server: for now, which configuration generation is in force. */
#include "http/server.h"

#include "base/rcu.h"

void server_set_config(struct server *server, struct http_config *config)
{
    struct http_config *old = atomic_exchange(&server->config, config);

    if (!old)
        return;
    /* Turns that began with the old pointer may still read it. */
    rcu_synchronize();
    http_config_unref(old);
}
