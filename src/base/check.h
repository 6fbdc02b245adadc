/* Assertions that stay on in release builds. They state what our own code guarantees; bytes from a peer, a disk or a
 * configuration file are never asserted, they are checked and refused. */
#pragma once

#include "base/compiler.h"

#define CHECK(condition) (likely(condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__, __func__))

/* Prints the condition and where it stood to stderr, then aborts. */
void check_failed(const char *condition, const char *file, int line, const char *function) no_return cold;
