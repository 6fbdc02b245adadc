/* The few compiler extensions this code base uses, wrapped once (gcc 12 and clang 14, gnu17). */
#pragma once

#include <stddef.h>

/* Large scratch arrays on hot paths: written before they are read, so the compiler's automatic zeroing is waste. */
#define not_zeroed __attribute__((uninitialized))
#define must_use __attribute__((warn_unused_result))
#define printf_like(format_index, args_index) __attribute__((format(printf, format_index, args_index)))
#define cleanup(destructor) __attribute__((cleanup(destructor)))
#define cold __attribute__((cold))
#define no_return __attribute__((noreturn))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
