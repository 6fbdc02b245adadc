/* Where each entry lies: 20 bytes an entry in open addressing, in shards with a lock each that is held for a probe, never
 * for I/O. Tables grow by half when they are 13/16 full, so that an entry takes 25 to 36 bytes. Any thread. */
#pragma once

#include "store/disk_record.h"

struct disk_index;

#define INDEX_SHARDS 64u

struct disk_index *disk_index_new(void) must_use;
void disk_index_free(struct disk_index *index);

/* `use` marks the entry as used since it was written. */
bool disk_index_find(struct disk_index *index, uint64_t tag, bool use, struct disk_slot *ret);
/* Replaces what the tag had. 0 or -ENOMEM: the tag has nothing now. */
int disk_index_put(struct disk_index *index, const struct disk_slot *slot);
/* True when there was something. */
bool disk_index_remove(struct disk_index *index, uint64_t tag);
/* Only if it is this very record. */
bool disk_index_remove_slot(struct disk_index *index, const struct disk_slot *slot);
/* Moves an entry, when it still is where `old` says. */
bool disk_index_move(struct disk_index *index, const struct disk_slot *old, const struct disk_slot *to);
/* Room for so many, where there is memory. */
void disk_index_expect(struct disk_index *index, uint64_t objects);
void disk_index_clear(struct disk_index *index);

/* Copies one shard's slots for the checkpoint: their number, into *ret (heap, the caller's). -ENOMEM. */
int disk_index_copy(struct disk_index *index, unsigned number, struct disk_slot **ret);
/* Objects, bytes of their records, and bytes of memory. */
void disk_index_count(struct disk_index *index, uint64_t *ret_objects, uint64_t *ret_live, uint64_t *ret_memory);
