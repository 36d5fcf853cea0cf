/* XXH64; see checksum.h. */
#include "checksum.h"

#include <string.h>

static const uint64_t P1 = 0x9e3779b185ebca87u, P2 = 0xc2b2ae3d27d4eb4fu, P3 = 0x165667b19e3779f9u,
                      P4 = 0x85ebca77c2b2ae63u, P5 = 0x27d4eb2f165667c5u;

static inline uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

/* Numbers in the data are little-endian, as all machines are that this is for. */
static inline uint64_t read8(const uint8_t *at) {
    uint64_t x;
    memcpy(&x, at, 8);
    return x;
}

static inline uint64_t read4(const uint8_t *at) {
    uint32_t x;
    memcpy(&x, at, 4);
    return x;
}

static inline uint64_t mix(uint64_t lane, uint64_t input) {
    return rotate(lane + input * P2, 31) * P1;
}

static inline uint64_t merge(uint64_t sum, uint64_t lane) {
    return (sum ^ mix(0, lane)) * P1 + P4;
}

/* All whole stripes of 32 bytes. */
static uint64_t sum_stripes(const uint8_t **at, const uint8_t *end, uint64_t seed) {
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    for (; end - *at >= 32; *at += 32) {
        a = mix(a, read8(*at));
        b = mix(b, read8(*at + 8));
        c = mix(c, read8(*at + 16));
        d = mix(d, read8(*at + 24));
    }
    uint64_t sum = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    return merge(merge(merge(merge(sum, a), b), c), d);
}

uint64_t pr_checksum(const void *data, size_t size, uint64_t seed) {
    const uint8_t *at = data, *end = at + size;
    uint64_t sum = size < 32 ? seed + P5 : sum_stripes(&at, end, seed);
    sum += size;
    for (; end - at >= 8; at += 8) sum = rotate(sum ^ mix(0, read8(at)), 27) * P1 + P4;
    for (; end - at >= 4; at += 4) sum = rotate(sum ^ read4(at) * P1, 23) * P2 + P3;
    for (; at < end; at++) sum = rotate(sum ^ *at * P5, 11) * P1;
    sum = (sum ^ sum >> 33) * P2;
    sum = (sum ^ sum >> 29) * P3;
    return sum ^ sum >> 32;
}
