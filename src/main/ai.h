/* `doorstep ai`: what has to do with the AI gateway of a running node. */
#pragma once

/* argv[0] is "ai", argv[1] what is wanted. The exit code. */
int command_ai(int argc, char **argv);
