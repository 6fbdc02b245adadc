/* Names with * (any run of bytes, also none) and ? (one byte). Case counts. */
#pragma once

#include "base/view.h"

/* Time grows with the product of the lengths at worst; no recursion. */
bool ai_glob(struct view pattern, struct view name);
