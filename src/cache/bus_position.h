/* Where this node stands in the stream, and whether that can be trusted. Internal to the purge bus. */
#pragma once

#include "cache/bus_internal.h"

/* After the stream was asked (follow.facts): begins at its front, finds a gap, or says that we have caught up. */
void position_judge(struct bus *bus);
/* Does the node trust what it holds? */
void position_doubt(struct bus *bus);
/* The counters that others read. */
void position_tell(struct bus *bus);
/* Looks after the entry that lifts the stream above a position of ours. */
void position_raised(struct bus *bus);
