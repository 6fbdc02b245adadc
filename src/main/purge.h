/* doorstep purge --url U | --prefix P | --all [--soft]: drops what a running node has stored. */
#pragma once

/* argv[0] is "purge". Returns the exit code. */
int command_purge(int argc, char **argv);
