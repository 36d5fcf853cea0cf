/* A growable run of bytes: what every column under construction is made of.
 *
 * Appending is two steps, so that loops stay tight: pr_bytes_reserve makes room (and is the only
 * call that can fail), then the caller stores through the pointer and moves `size` on.
 */
#ifndef PYRAY_BYTES_H
#define PYRAY_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t size, capacity;
} PrBytes;

/* Room for `more` bytes after size. 0, or -1 when memory runs out (nothing changed). */
int pr_bytes_grow(PrBytes *b, size_t more);
void pr_bytes_free(PrBytes *b);

static inline int pr_bytes_reserve(PrBytes *b, size_t more) {
    return b->capacity - b->size >= more ? 0 : pr_bytes_grow(b, more);
}

static inline int pr_bytes_push8(PrBytes *b, uint8_t v) {
    if (pr_bytes_reserve(b, 1)) return -1;
    b->data[b->size++] = v;
    return 0;
}

static inline int pr_bytes_push32(PrBytes *b, int32_t v) {
    if (pr_bytes_reserve(b, 4)) return -1;
    memcpy(b->data + b->size, &v, 4);
    b->size += 4;
    return 0;
}

static inline int pr_bytes_push64(PrBytes *b, int64_t v) {
    if (pr_bytes_reserve(b, 8)) return -1;
    memcpy(b->data + b->size, &v, 8);
    b->size += 8;
    return 0;
}

static inline int pr_bytes_append(PrBytes *b, const void *data, size_t n) {
    if (pr_bytes_reserve(b, n)) return -1;
    if (n) memcpy(b->data + b->size, data, n);
    b->size += n;
    return 0;
}

/* Unsigned LEB128; the caller has reserved 10 bytes. */
static inline void pr_bytes_varint(PrBytes *b, uint64_t v) {
    while (v >= 0x80) {
        b->data[b->size++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    b->data[b->size++] = (uint8_t)v;
}

#endif
