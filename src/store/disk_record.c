/* Headers, footers and lists of the disk tier as bytes. Each closes with a CRC-32C; each parse checks it first, then every
 * number against the room it was given, so that what a caller gets lies inside its bytes. */
#include "store/disk_record.h"

#include "base/crc32c.h"

#include <errno.h>

#define MAGIC_RECORD 0x31525344u     /* "DSR1" */
#define MAGIC_SEGMENT 0x31475344u    /* "DSG1" */
#define MAGIC_TRAILER 0x31465344u    /* "DSF1" */
#define MAGIC_CHECKPOINT 0x31435344u /* "DSC1" */
#define FORMAT_VERSION 1u

/* A floating-point number with 3 bits of mantissa, in units of RECORD_ALIGN. */
unsigned length_class(uint64_t len)
{
    uint64_t units = (len + RECORD_ALIGN - 1) / RECORD_ALIGN;
    unsigned exponent = 0;

    if (units < 8)
        return (unsigned)units;
    while (units >> exponent >= 16)
        exponent++;
    if (units & (((uint64_t)1 << exponent) - 1)) {
        units += (uint64_t)1 << exponent;
        if (units >> exponent >= 16)
            exponent++;
    }
    if (exponent >= 31)
        return 255;
    return (exponent + 1) << 3 | (unsigned)(units >> exponent & 7);
}

uint64_t class_length(unsigned class)
{
    unsigned exponent = class >> 3;

    if (exponent == 0)
        return (uint64_t) class * RECORD_ALIGN;
    return ((uint64_t)(8 + (class & 7)) << (exponent - 1)) * RECORD_ALIGN;
}

uint32_t extent_table(uint32_t blocks, bool encrypted)
{
    return align_record(blocks * (encrypted ? RECORD_TAG : 4u));
}

uint32_t record_payload_at(const struct record *record)
{
    if (record->type == RECORD_EXTENT)
        return RECORD_HEAD + EXTENT_HEAD +
               extent_table(extent_blocks(record->payload_len), record->flags & RECORD_ENCRYPTED);
    return RECORD_HEAD + (record->flags & RECORD_ENCRYPTED ? RECORD_TAG : 0);
}

uint32_t record_size(const struct record *record)
{
    return align_record(record_payload_at(record) + record->payload_len);
}

void record_put(const struct record *record, char *out)
{
    put_le(out, MAGIC_RECORD, 4);
    put_le(out + 4, record->type, 1);
    put_le(out + 5, record->flags, 1);
    put_le(out + 6, 0, 2);
    put_le(out + 8, record->payload_len, 4);
    put_le(out + 12, record->payload_crc, 4);
    put_le(out + 16, record->key[0], 8);
    put_le(out + 24, record->key[1], 8);
    put_le(out + 32, record->stamp, 8);
    put_le(out + 40, record->version, 4);
    put_le(out + 44, crc32c(0, out, 44), 4);
}

int record_parse(struct view bytes, uint64_t stamp, uint32_t room, struct record *ret)
{
    const char *at = bytes.ptr;
    struct record record;

    if (bytes.len < RECORD_HEAD || get_le32(at) != MAGIC_RECORD || get_le(at + 32, 8) != stamp ||
        get_le32(at + 44) != crc32c(0, at, 44))
        return -EBADMSG;
    if ((unsigned char)at[4] > RECORD_EXTENT)
        return -EBADMSG;
    record = (struct record){
        .type = (enum record_type)at[4],
        .flags = (uint8_t)at[5],
        .payload_len = get_le32(at + 8),
        .payload_crc = get_le32(at + 12),
        .key = { get_le(at + 16, 8), get_le(at + 24, 8) },
        .stamp = stamp,
        .version = get_le32(at + 40),
    };
    if (record.payload_len > SEGMENT_SIZE_MAX || record_size(&record) > room)
        return -EBADMSG;
    if (record.type == RECORD_EXTENT &&
        (record.payload_len == 0 || extent_blocks(record.payload_len) > EXTENT_BLOCKS_MAX))
        return -EBADMSG;
    *ret = record;
    return 0;
}

struct disk_slot record_slot(const struct record *record, uint32_t seq, uint32_t offset)
{
    return (struct disk_slot){
        .tag = { (uint32_t)record->key[0], (uint32_t)(record->key[0] >> 32) },
        .seq = seq,
        .where = offset / RECORD_ALIGN | length_class(record_size(record) + record->elsewhere) << 20 |
                 (record->flags & RECORD_EXTERNAL ? SLOT_EXTERNAL : 0) | (uint32_t)record->type << 30,
        .version = record->version,
    };
}

/* ---- bodies in extents ---- */

void extent_list_put(uint64_t body_id, uint64_t body_len, const struct disk_extent *extents, uint32_t count, char *out)
{
    put_le(out, body_id, 8);
    put_le(out + 8, body_len, 8);
    put_le(out + 16, count, 4);
    put_le(out + 20, 0, 4);
    out += EXTENT_LIST_HEAD;
    for (uint32_t i = 0; i < count; i++, out += EXTENT_LIST_ITEM) {
        put_le(out, extents[i].seq, 4);
        put_le(out + 4, extents[i].offset, 4);
        put_le(out + 8, extents[i].blocks, 4);
    }
}

struct disk_extent extent_list_at(const struct extent_list *list, uint32_t i)
{
    const char *at = list->items + (size_t)i * EXTENT_LIST_ITEM;

    return (struct disk_extent){ .seq = get_le32(at), .offset = get_le32(at + 4), .blocks = get_le32(at + 8) };
}

int extent_list_parse(struct view bytes, struct extent_list *ret)
{
    struct extent_list list;
    uint64_t blocks = 0;

    if (bytes.len < EXTENT_LIST_HEAD)
        return -EBADMSG;
    list = (struct extent_list){ .body_id = get_le(bytes.ptr, 8),
                                 .body_len = get_le(bytes.ptr + 8, 8),
                                 .count = get_le32(bytes.ptr + 16),
                                 .items = bytes.ptr + EXTENT_LIST_HEAD };
    if (list.count == 0 || (bytes.len - EXTENT_LIST_HEAD) / EXTENT_LIST_ITEM < list.count)
        return -EBADMSG;
    for (uint32_t i = 0; i < list.count; i++) {
        struct disk_extent extent = extent_list_at(&list, i);

        if (extent.seq == 0 || extent.blocks == 0 || extent.blocks > EXTENT_BLOCKS_MAX ||
            extent.offset % RECORD_ALIGN || extent.offset >= SEGMENT_SIZE_MAX)
            return -EBADMSG;
        blocks += extent.blocks;
    }
    if (list.body_len == 0 || blocks != (list.body_len - 1) / BLOCK_SIZE + 1)
        return -EBADMSG;
    *ret = list;
    return 0;
}

void extent_head_put(uint64_t body_id, uint32_t block, uint32_t blocks, char *out)
{
    put_le(out, body_id, 8);
    put_le(out + 8, block, 4);
    put_le(out + 12, blocks, 4);
}

void extent_head_parse(const char *bytes, uint64_t *ret_body_id, uint32_t *ret_block, uint32_t *ret_blocks)
{
    *ret_body_id = get_le(bytes, 8);
    *ret_block = get_le32(bytes + 8);
    *ret_blocks = get_le32(bytes + 12);
}

/* ---- segments ---- */

void segment_head_put(const struct segment_head *head, char *out)
{
    memset(out, 0, SEGMENT_HEAD);
    put_le(out, MAGIC_SEGMENT, 4);
    put_le(out + 4, FORMAT_VERSION, 4);
    put_le(out + 8, head->segment_size, 4);
    put_le(out + 12, head->seq, 4);
    put_le(out + 16, head->stamp, 8);
    put_le(out + 24, head->encrypted, 4);
    memcpy(out + 32, head->identity, 16);
    memcpy(out + 48, head->salt, 16);
    memcpy(out + 64, head->check, 16);
    put_le(out + 80, (uint64_t)head->created_ms, 8);
    put_le(out + SEGMENT_HEAD - 4, crc32c(0, out, SEGMENT_HEAD - 4), 4);
}

int segment_head_parse(struct view bytes, struct segment_head *ret)
{
    const char *at = bytes.ptr;

    if (bytes.len < SEGMENT_HEAD || get_le32(at) != MAGIC_SEGMENT ||
        get_le32(at + SEGMENT_HEAD - 4) != crc32c(0, at, SEGMENT_HEAD - 4))
        return -EBADMSG;
    if (get_le32(at + 4) != FORMAT_VERSION)
        return -EPROTONOSUPPORT;
    *ret = (struct segment_head){ .segment_size = get_le32(at + 8),
                                  .seq = get_le32(at + 12),
                                  .stamp = get_le(at + 16, 8),
                                  .encrypted = get_le32(at + 24) != 0,
                                  .created_ms = (int64_t)get_le(at + 80, 8) };
    memcpy(ret->identity, at + 32, 16);
    memcpy(ret->salt, at + 48, 16);
    memcpy(ret->check, at + 64, 16);
    return ret->seq && ret->segment_size <= SEGMENT_SIZE_MAX ? 0 : -EBADMSG;
}

uint32_t segment_head_seq(const char *bytes)
{
    return get_le32(bytes + 12);
}

void segment_trailer_put(const struct segment_trailer *trailer, uint64_t stamp, char *out)
{
    memset(out, 0, SEGMENT_TRAILER);
    put_le(out, MAGIC_TRAILER, 4);
    put_le(out + 4, trailer->count, 4);
    put_le(out + 8, trailer->footer_at, 4);
    put_le(out + 12, trailer->footer_crc, 4);
    put_le(out + 16, stamp, 8);
    put_le(out + SEGMENT_TRAILER - 4, crc32c(0, out, SEGMENT_TRAILER - 4), 4);
}

int segment_trailer_parse(struct view bytes, uint64_t stamp, uint32_t file_size, struct segment_trailer *ret)
{
    const char *at = bytes.ptr;
    struct segment_trailer trailer;

    if (bytes.len < SEGMENT_TRAILER || get_le32(at) != MAGIC_TRAILER || get_le(at + 16, 8) != stamp ||
        get_le32(at + SEGMENT_TRAILER - 4) != crc32c(0, at, SEGMENT_TRAILER - 4))
        return -EBADMSG;
    trailer = (struct segment_trailer){ .count = get_le32(at + 4),
                                        .footer_at = get_le32(at + 8),
                                        .footer_crc = get_le32(at + 12) };
    if (file_size < SEGMENT_HEAD + SEGMENT_TRAILER || trailer.footer_at < SEGMENT_HEAD ||
        trailer.footer_at > file_size - SEGMENT_TRAILER ||
        (file_size - SEGMENT_TRAILER - trailer.footer_at) / SLOT_SIZE < trailer.count)
        return -EBADMSG;
    *ret = trailer;
    return 0;
}

void slot_put(const struct disk_slot *slot, char *out)
{
    put_le(out, slot->tag[0], 4);
    put_le(out + 4, slot->tag[1], 4);
    put_le(out + 8, slot->seq, 4);
    put_le(out + 12, slot->where, 4);
    put_le(out + 16, slot->version, 4);
}

struct disk_slot slot_get(const char *bytes)
{
    return (struct disk_slot){ .tag = { get_le32(bytes), get_le32(bytes + 4) },
                               .seq = get_le32(bytes + 8),
                               .where = get_le32(bytes + 12),
                               .version = get_le32(bytes + 16) };
}

/* ---- checkpoint ---- */

void checkpoint_head_put(const struct checkpoint_head *head, char *out)
{
    memset(out, 0, CHECKPOINT_HEAD);
    put_le(out, MAGIC_CHECKPOINT, 4);
    put_le(out + 4, FORMAT_VERSION, 4);
    memcpy(out + 8, head->identity, 16);
    put_le(out + 24, head->seq, 4);
    put_le(out + 28, head->offset, 4);
    put_le(out + 32, head->next_seq, 4);
    put_le(out + 36, head->segments, 4);
    put_le(out + 40, head->objects, 8);
    put_le(out + CHECKPOINT_HEAD - 4, crc32c(0, out, CHECKPOINT_HEAD - 4), 4);
}

int checkpoint_head_parse(struct view bytes, struct checkpoint_head *ret)
{
    const char *at = bytes.ptr;

    if (bytes.len < CHECKPOINT_HEAD || get_le32(at) != MAGIC_CHECKPOINT || get_le32(at + 4) != FORMAT_VERSION ||
        get_le32(at + CHECKPOINT_HEAD - 4) != crc32c(0, at, CHECKPOINT_HEAD - 4))
        return -EBADMSG;
    *ret = (struct checkpoint_head){ .seq = get_le32(at + 24),
                                     .offset = get_le32(at + 28),
                                     .next_seq = get_le32(at + 32),
                                     .segments = get_le32(at + 36),
                                     .objects = get_le(at + 40, 8) };
    memcpy(ret->identity, at + 8, 16);
    return 0;
}
