/* What BERT's normaliser needs to know of a Unicode character. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A mark that does not take space (category Mn). */
bool fold_is_mark(uint32_t c);
/* Any category P, and the ASCII symbols. */
bool fold_is_punctuation(uint32_t c);
/* Categories Cc, Cf and Co, and U+FFFD; not tab and line ends. */
bool fold_is_control(uint32_t c);
bool fold_is_space(uint32_t c);
/* A Han character, which is a word of its own. */
bool fold_is_ideograph(uint32_t c);
/* The letter without its accents (the first of its canonical decomposition, when the rest is marks). */
uint32_t fold_strip(uint32_t c);
uint32_t fold_lower(uint32_t c);
