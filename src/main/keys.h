/* `doorstep keys create|list|revoke`: API keys of a running node, through its admin listener. */
#pragma once

/* The exit code. */
int command_keys(int argc, char **argv);
