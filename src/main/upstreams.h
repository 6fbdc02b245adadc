/* `doorstep upstreams`: the servers' state, and breakers by hand. */
#pragma once

/* Returns the exit code. */
int command_upstreams(int argc, char **argv);
