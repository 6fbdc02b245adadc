/* CRC-32C (Castagnoli), as in RFC 3720 §B.4: finds torn and rotten bytes, proves nothing about intent. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The checksum of `len` more bytes; `crc` is 0 at first, the last result afterwards. Any thread. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);
