/* Any bytes as what a segment or a checkpoint may hold. The closing CRCs are put right first, so that the numbers behind them
 * are reached; what is accepted lies inside the input and means the same when it is written again. */
#include "base/check.h"
#include "base/crc32c.h"
#include "store/disk_record.h"

#include <errno.h>

enum { STAMP = 7, ROOM = 1 << 20 };

static volatile unsigned sink;

static void fix_crc(char *bytes, size_t len)
{
    put_le(bytes + len - 4, crc32c(0, bytes, len - 4), 4);
}

static void as_record(const char *input, size_t len)
{
    char bytes[RECORD_HEAD], again[RECORD_HEAD];
    struct record record;
    struct disk_slot slot;

    if (len < RECORD_HEAD)
        return;
    memcpy(bytes, input, sizeof(bytes));
    put_le(bytes, 0x31525344, 4);
    put_le(bytes + 32, STAMP, 8);
    fix_crc(bytes, sizeof(bytes));
    if (record_parse(view_make(bytes, sizeof(bytes)), STAMP, ROOM, &record) < 0)
        return;
    CHECK(record_size(&record) <= ROOM && record_payload_at(&record) >= RECORD_HEAD);
    CHECK(record_payload_at(&record) + record.payload_len <= record_size(&record));
    record_put(&record, again);
    put_le(bytes + 6, 0, 2);
    fix_crc(bytes, sizeof(bytes));
    CHECK(memcmp(bytes, again, sizeof(again)) == 0);
    slot = record_slot(&record, 3, 4096);
    CHECK(slot_offset(&slot) == 4096 && slot_type(&slot) == record.type && slot_length(&slot) >= record_size(&record));
}

static void as_extent_list(const char *input, size_t len)
{
    struct extent_list list;
    uint64_t blocks = 0;

    if (extent_list_parse(view_make(input, len), &list) < 0)
        return;
    CHECK(extent_list_size(list.count) <= len);
    for (uint32_t i = 0; i < list.count; i++)
        blocks += extent_list_at(&list, i).blocks;
    CHECK((blocks - 1) * BLOCK_SIZE < list.body_len && list.body_len <= blocks * BLOCK_SIZE);
}

static void as_segment(const char *input, size_t len)
{
    char bytes[SEGMENT_HEAD];
    struct segment_head head;
    struct segment_trailer trailer;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, input, MIN(len, sizeof(bytes)));
    put_le(bytes, 0x31475344, 4);
    fix_crc(bytes, SEGMENT_HEAD);
    if (segment_head_parse(view_make(bytes, sizeof(bytes)), &head) == 0)
        CHECK(head.seq > 0 && head.segment_size <= SEGMENT_SIZE_MAX);
    put_le(bytes, 0x31465344, 4);
    put_le(bytes + 16, STAMP, 8);
    fix_crc(bytes, SEGMENT_TRAILER);
    if (segment_trailer_parse(view_make(bytes, SEGMENT_TRAILER), STAMP, ROOM, &trailer) == 0)
        CHECK(trailer.footer_at >= SEGMENT_HEAD &&
              trailer.footer_at + (uint64_t)trailer.count * SLOT_SIZE + SEGMENT_TRAILER <= ROOM);
}

static void as_checkpoint(const char *input, size_t len)
{
    char bytes[CHECKPOINT_HEAD];
    struct checkpoint_head head;

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, input, MIN(len, sizeof(bytes)));
    put_le(bytes, 0x31435344, 4);
    fix_crc(bytes, sizeof(bytes));
    if (checkpoint_head_parse(view_make(bytes, sizeof(bytes)), &head) == 0)
        sink += head.seq;
}

static void as_slot(const char *input, size_t len)
{
    struct disk_slot slot;
    char again[SLOT_SIZE];

    if (len < SLOT_SIZE)
        return;
    slot = slot_get(input);
    slot_put(&slot, again);
    CHECK(memcmp(input, again, SLOT_SIZE) == 0);
    CHECK(slot_offset(&slot) < SEGMENT_SIZE_MAX);
    sink += (unsigned)slot_length(&slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *input = (const char *)data;
    struct record record;
    struct extent_list list;

    /* As they are, too: mostly refused. */
    (void)record_parse(view_make(input, size), STAMP, (uint32_t)MIN(size, (size_t)ROOM), &record);
    (void)extent_list_parse(view_make(input, size), &list);
    as_record(input, size);
    as_extent_list(input, size);
    as_segment(input, size);
    as_checkpoint(input, size);
    as_slot(input, size);
    return 0;
}
