/* Encryption at rest: AES-256-GCM under a key of its own for each segment, made from the tier's key and the segment's random
 * salt. So a nonce need only be unique within one segment, and it is: it names the offset of the record, which is written
 * once, the block and whether it is the body's last.
 *
 * Keys of entries are hashes of URLs; a keyed hash (SipHash-2-4, 128 bits) hides them on the disk. */
#pragma once

#include "base/view.h"

struct disk_crypt;

/* From 32 bytes. NULL when memory is out. */
struct disk_crypt *disk_crypt_new(const uint8_t *key) must_use;
void disk_crypt_free(struct disk_crypt *crypt);

/* The entry key as it may stand on the disk. Any thread. */
void disk_crypt_mask(const struct disk_crypt *crypt, uint64_t key[2]);
/* The segment's key and the mark by which a wrong tier key is told. 0 or -EIO. */
int disk_crypt_segment(const struct disk_crypt *crypt, const uint8_t salt[16], uint8_t ret_key[32],
                       uint8_t ret_check[16]);

enum crypt_what { CRYPT_ENTRY = 1, CRYPT_BLOCK = 2, CRYPT_LAST_BLOCK = 3 };

struct crypt_place {
    const uint8_t *key;     /* the segment's */
    uint32_t offset, block; /* of the record; of the body */
    enum crypt_what what;
    struct view bound; /* also authenticated */
};

/* In place; writes the 16 bytes of the tag. 0 or -EIO. Any thread. */
int disk_crypt_seal(const struct disk_crypt *crypt, const struct crypt_place *place, char *bytes, size_t len,
                    char *tag);
/* In place. 0; -EBADMSG: not what was sealed there. */
int disk_crypt_open(const struct disk_crypt *crypt, const struct crypt_place *place, char *bytes, size_t len,
                    const char *tag);
