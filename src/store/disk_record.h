/* What lies in a segment and in a checkpoint, byte by byte; pure functions over memory, no I/O. docs/disk.md has the tables.
 *
 * A record is a header of 48 bytes and a payload, padded to 16. Its place (segment, offset) never changes and is never
 * written twice. All numbers are little-endian. Everything here may be read from a foreign or rotten disk: nothing is
 * asserted, what does not hold is -EBADMSG. */
#pragma once

#include "base/view.h"

#include <endian.h>
#include <stdint.h>

#define RECORD_ALIGN 16u
#define RECORD_HEAD 48u
#define RECORD_TAG 16u /* GCM tag before an encrypted payload */
#define EXTENT_HEAD 16u
#define EXTENT_BLOCKS_MAX 16u
#define BLOCK_SIZE ((size_t)64 * 1024)
#define SEGMENT_HEAD 128u
#define SEGMENT_TRAILER 64u
#define SEGMENT_SIZE_MAX ((uint32_t)16 << 20)
#define CHECKPOINT_HEAD 64u
#define SLOT_SIZE 20u
#define SAVED_SEGMENT (4 + SEGMENT_HEAD) /* in a checkpoint: size of the file, its header */

enum record_type { RECORD_ENTRY = 0, RECORD_TOMBSTONE = 1, RECORD_EXTENT = 2 };
enum record_flag { RECORD_ENCRYPTED = 1, RECORD_EXTERNAL = 2, RECORD_VARY = 4 };

/* One record as the index, the footers and the checkpoint know it. */
struct disk_slot {
    uint32_t tag[2];  /* first half of the entry's key */
    uint32_t seq;     /* segment; 0: empty */
    uint32_t where;   /* see below */
    uint32_t version; /* fingerprint of what was stored, so that the same is not written twice */
};

/* where: offset / 16 in 20 bits, class of the length in 8, used, external, type in 2. */
#define SLOT_USED ((uint32_t)1 << 28)
#define SLOT_EXTERNAL ((uint32_t)1 << 29)

static inline uint32_t slot_offset(const struct disk_slot *slot)
{
    return (slot->where & 0xfffff) * RECORD_ALIGN;
}

static inline enum record_type slot_type(const struct disk_slot *slot)
{
    return (enum record_type)(slot->where >> 30);
}

static inline uint64_t slot_tag(const struct disk_slot *slot)
{
    return (uint64_t)slot->tag[1] << 32 | slot->tag[0];
}

/* The same record, used or not. */
static inline bool slot_same(const struct disk_slot *a, const struct disk_slot *b)
{
    return a->seq == b->seq && ((a->where ^ b->where) & 0xfffff) == 0;
}

/* A length in 8 bits, rounded up by at most an eighth; and back. */
unsigned length_class(uint64_t len);
uint64_t class_length(unsigned class);
/* Upper bound of the record's bytes, its body in extents included. */
static inline uint64_t slot_length(const struct disk_slot *slot)
{
    return class_length(slot->where >> 20 & 0xff);
}

struct record {
    enum record_type type;
    uint8_t flags;
    uint32_t payload_len; /* of an extent: bytes of its blocks */
    uint32_t payload_crc; /* in clear: of the payload; of an extent: of its own head and table of blocks */
    uint64_t key[2];      /* as masked by the tier */
    uint64_t stamp;       /* the segment's: a record of another file, or made up by a body, is none */
    uint32_t version;
    uint64_t elsewhere; /* not in the header: bytes of the body in extents, for the length in slots */
};

/* Bytes from the header to the payload, and of the whole record with padding. */
uint32_t record_payload_at(const struct record *record);
uint32_t record_size(const struct record *record);
/* Bytes of an extent's table of blocks. */
uint32_t extent_table(uint32_t blocks, bool encrypted);
static inline uint32_t extent_blocks(uint32_t payload_len)
{
    return (uint32_t)((payload_len + BLOCK_SIZE - 1) / BLOCK_SIZE);
}

void record_put(const struct record *record, char *out);
/* A header with this stamp of a record that fits into `room` bytes. 0 or -EBADMSG. */
int record_parse(struct view bytes, uint64_t stamp, uint32_t room, struct record *ret);
/* As footers list it. */
struct disk_slot record_slot(const struct record *record, uint32_t seq, uint32_t offset);

/* ---- bodies in extents ---- */

struct disk_extent {
    uint32_t seq, offset;   /* of the extent's record */
    uint32_t block, blocks; /* first block of the body in it, count; only `blocks` is stored */
};

#define EXTENT_LIST_HEAD 24u
#define EXTENT_LIST_ITEM 12u

struct extent_list {
    uint64_t body_id, body_len;
    uint32_t count;
    const char *items;
};

static inline size_t extent_list_size(uint32_t count)
{
    return EXTENT_LIST_HEAD + (size_t)count * EXTENT_LIST_ITEM;
}

void extent_list_put(uint64_t body_id, uint64_t body_len, const struct disk_extent *extents, uint32_t count, char *out);
/* Checks that the blocks make up the body. 0 or -EBADMSG. */
int extent_list_parse(struct view bytes, struct extent_list *ret);
/* Item `i` without its `block`. */
struct disk_extent extent_list_at(const struct extent_list *list, uint32_t i);

void extent_head_put(uint64_t body_id, uint32_t block, uint32_t blocks, char *out);
void extent_head_parse(const char *bytes, uint64_t *ret_body_id, uint32_t *ret_block, uint32_t *ret_blocks);

/* ---- segments ---- */

struct segment_head {
    uint32_t segment_size, seq;
    uint64_t stamp;
    bool encrypted;
    uint8_t identity[16], salt[16], check[16];
    int64_t created_ms;
};

void segment_head_put(const struct segment_head *head, char *out);
/* 0, -EPROTONOSUPPORT: another version's, -EBADMSG. */
int segment_head_parse(struct view bytes, struct segment_head *ret);

/* The number in a header. */
uint32_t segment_head_seq(const char *bytes);

struct segment_trailer {
    uint32_t count;     /* slots of the footer */
    uint32_t footer_at; /* where they begin: the end of the records */
    uint32_t footer_crc;
};

void segment_trailer_put(const struct segment_trailer *trailer, uint64_t stamp, char *out);
int segment_trailer_parse(struct view bytes, uint64_t stamp, uint32_t file_size, struct segment_trailer *ret);

void slot_put(const struct disk_slot *slot, char *out);
struct disk_slot slot_get(const char *bytes);

/* ---- checkpoint ---- */

struct checkpoint_head {
    uint8_t identity[16];
    uint32_t seq, offset; /* everything before is in the checkpoint */
    uint32_t next_seq;
    uint32_t segments; /* whose headers follow, so that a start need not open them */
    uint64_t objects;
};

void checkpoint_head_put(const struct checkpoint_head *head, char *out);
int checkpoint_head_parse(struct view bytes, struct checkpoint_head *ret);

/* ---- numbers ---- */

static inline void put_le(char *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (char)(value >> 8 * i & 0xff);
}

static inline uint64_t get_le(const char *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)(unsigned char)at[i] << 8 * i;
    return value;
}

static inline uint32_t get_le32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static inline uint32_t align_record(uint32_t len)
{
    return (len + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1);
}
