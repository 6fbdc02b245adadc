/* AES-256-GCM by OpenSSL's EVP, and SipHash-2-4 with 128 bits (Aumasson, Bernstein 2012) over one entry key. Contexts are
 * made for each call: they are cheap beside the work, and calls come from every thread. */
#include "store/disk_crypt.h"

#include "base/heap.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

struct disk_crypt {
    uint8_t key[32];
    uint64_t mask[2];
    EVP_CIPHER *cipher;
};

static int derive(const uint8_t key[32], struct view label, const uint8_t *salt, uint8_t ret[32])
{
    uint8_t input[64];
    unsigned len = 0;
    size_t at = MIN(label.len, sizeof(input) - 16);

    memcpy(input, label.ptr, at);
    if (salt) {
        memcpy(input + at, salt, 16);
        at += 16;
    }
    return HMAC(EVP_sha256(), key, 32, input, at, ret, &len) && len == 32 ? 0 : -EIO;
}

struct disk_crypt *disk_crypt_new(const uint8_t *key)
{
    struct disk_crypt *crypt = heap_zalloc(sizeof(*crypt));
    uint8_t mask[32];

    if (!crypt)
        return NULL;
    memcpy(crypt->key, key, sizeof(crypt->key));
    crypt->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (!crypt->cipher || derive(key, VIEW("doorstep disk index"), NULL, mask) < 0) {
        disk_crypt_free(crypt);
        return NULL;
    }
    memcpy(crypt->mask, mask, sizeof(crypt->mask));
    return crypt;
}

void disk_crypt_free(struct disk_crypt *crypt)
{
    if (!crypt)
        return;
    EVP_CIPHER_free(crypt->cipher);
    OPENSSL_cleanse(crypt, sizeof(*crypt));
    heap_free(crypt);
}

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds--) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

void disk_crypt_mask(const struct disk_crypt *crypt, uint64_t key[2])
{
    const uint64_t *k = crypt->mask;
    uint64_t v[4] = { k[0] ^ 0x736f6d6570736575u, k[1] ^ 0x646f72616e646f6du ^ 0xee, k[0] ^ 0x6c7967656e657261u,
                      k[1] ^ 0x7465646279746573u };
    const uint64_t words[3] = { key[0], key[1], (uint64_t)16 << 56 };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        v[3] ^= words[i];
        sip_rounds(v, 2);
        v[0] ^= words[i];
    }
    v[2] ^= 0xee;
    sip_rounds(v, 4);
    key[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    sip_rounds(v, 4);
    key[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

int disk_crypt_segment(const struct disk_crypt *crypt, const uint8_t salt[16], uint8_t ret_key[32],
                       uint8_t ret_check[16])
{
    uint8_t check[32];

    if (derive(crypt->key, VIEW("doorstep disk segment"), salt, ret_key) < 0 ||
        derive(crypt->key, VIEW("doorstep disk check"), salt, check) < 0)
        return -EIO;
    memcpy(ret_check, check, 16);
    return 0;
}

static void make_nonce(const struct crypt_place *place, uint8_t nonce[12])
{
    const uint32_t words[3] = { place->offset, place->block, (uint32_t)place->what };

    for (size_t i = 0; i < 12; i++)
        nonce[i] = (uint8_t)(words[i / 4] >> 8 * (i % 4));
}

int disk_crypt_seal(const struct disk_crypt *crypt, const struct crypt_place *place, char *bytes, size_t len, char *tag)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *data = (unsigned char *)bytes;
    uint8_t nonce[12];
    int n, ok;

    make_nonce(place, nonce);
    ok = ctx && EVP_EncryptInit_ex2(ctx, crypt->cipher, place->key, nonce, NULL) &&
         EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)place->bound.ptr, (int)place->bound.len) &&
         EVP_EncryptUpdate(ctx, data, &n, data, (int)len) && EVP_EncryptFinal_ex(ctx, data + n, &n) &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EIO;
}

int disk_crypt_open(const struct disk_crypt *crypt, const struct crypt_place *place, char *bytes, size_t len,
                    const char *tag)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    unsigned char *data = (unsigned char *)bytes;
    uint8_t nonce[12];
    char expected[16];
    int n, ok;

    make_nonce(place, nonce);
    memcpy(expected, tag, sizeof(expected));
    ok = ctx && EVP_DecryptInit_ex2(ctx, crypt->cipher, place->key, nonce, NULL) &&
         EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)place->bound.ptr, (int)place->bound.len) &&
         EVP_DecryptUpdate(ctx, data, &n, data, (int)len) &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, expected) && EVP_DecryptFinal_ex(ctx, data + n, &n) > 0;
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EBADMSG;
}
