/* The end of the line for a broken promise of our own: say which, then abort so that a core shows how. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *condition, const char *file, int line, const char *function)
{
    fprintf(stderr, "doorstep: assertion failed: %s (%s:%d, %s)\n", condition, file, line, function);
    abort();
}
