/* What a correct configuration means for those who run it: what is stored or sent in clear, files it names that cannot be read. */
#pragma once

#include "main/site.h"

#include <stdio.h>

/* Prints a line for each. Returns how many files cannot be read: mistakes, unlike the rest. */
unsigned advice_print(const struct site *site, FILE *out);
