/* `doorstep ai ledger`: prints the ledger of a running node, page by page. */
#pragma once

/* argv[0] is "ledger". The exit code. */
int command_ledger(int argc, char **argv);
