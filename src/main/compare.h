#pragma once

/* `doorstep ai compare`: the same prompts on two models. Returns the exit status. */
int command_compare(int argc, char **argv);
