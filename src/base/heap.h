/* All heap memory of the program comes through here: jemalloc in normal builds (its statistics tell the memory tier
 * what the process really holds), the C library under the sanitizers, and a fault switch for the torture run.
 *
 * Every allocator returns NULL when memory is out or the fault switch says so; callers degrade, they do not abort. */
#pragma once

#include "base/compiler.h"

void *heap_alloc(size_t size) __attribute__((malloc)) must_use;
void *heap_zalloc(size_t size) __attribute__((malloc)) must_use;
/* count * size, refusing overflow. */
void *heap_array(size_t count, size_t size) must_use;
/* As realloc(3): on NULL the old memory stays valid. */
void *heap_resize(void *memory, size_t size) must_use;
void heap_free(void *memory);
/* What an allocation of `size` bytes really occupies, for accounting. */
size_t heap_cost(size_t size);
/* Copies `len` bytes and adds a NUL. */
char *heap_strdup(const char *ptr, size_t len) must_use;

/* Bytes the allocator holds resident from the system (pages, including its own slack); 0 when unknown. */
size_t heap_resident(void);
/* Gives free pages back to the system now. */
void heap_trim(void);

/* Fault injection: from now on the `nth` allocation fails, and every `every`th after it (0: only that one).
 * nth == 0 switches off. Set from DOORSTEP_FAULT_ALLOC="nth[:every]" at start. */
void heap_fault(unsigned long nth, unsigned long every);
/* Allocations that will still succeed before the next one fails, plus one; 0 when none will fail any more. */
unsigned long heap_fault_left(void);
