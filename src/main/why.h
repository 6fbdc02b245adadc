/* doorstep why URL: how a running node treats this URL now, and why. */
#pragma once

/* argv[0] is "why". Returns the exit code. */
int command_why(int argc, char **argv);
