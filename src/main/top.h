/* doorstep top: a running node at a glance, once a second. */
#pragma once

/* argv[0] is "top". Returns the exit code. */
int command_top(int argc, char **argv);
