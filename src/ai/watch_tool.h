/* The arguments of tool calls that a watch gathers. Private to watch.c. */
#pragma once

#include "ai/watch.h"

/* A call of an answer: its choice, and its place there. */
#define WATCH_TOOL_ID(choice, index) ((uint32_t)(choice) << 16 | (uint32_t)(index))
#define WATCH_TOOL_OLD 0xffffu /* the place of a function_call, from before there were tools */

/* The string at `text` of watch->doc (0: none) is the next piece of call `id`. */
void watch_tool_add(struct watch *watch, uint32_t id, uint32_t text);
/* The calls gathered are whole: bad_tool unless each is one JSON object or empty. Forgets them; uses watch->doc. */
void watch_tool_check(struct watch *watch);
