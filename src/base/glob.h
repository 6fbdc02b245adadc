/* Patterns in which * stands for any bytes, also none. */
#pragma once

#include "base/view.h"

bool glob_match(struct view pattern, struct view text);
