#include "utf8.h"

static inline uint8_t *put(uint8_t *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (uint8_t)c;
    } else if (c < 0x800) {
        *out++ = (uint8_t)(0xc0 | c >> 6);
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (uint8_t)(0xe0 | c >> 12);
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | c >> 18);
        *out++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (c & 0x3f));
    }
    return out;
}

int64_t pr_utf8_encode(uint8_t *out, const void *text, int64_t n, int width, int surrogates) {
    uint8_t *p = out;
    int64_t i;
    if (width == 1) {
        const uint8_t *s = text;
        for (i = 0; i < n; i++) p = put(p, s[i]);
    } else if (width == 2) {
        const uint16_t *s = text;
        for (i = 0; i < n; i++) {
            if (s[i] >= 0xd800 && s[i] < 0xe000 && !surrogates) return -1;
            p = put(p, s[i]);
        }
    } else {
        const uint32_t *s = text;
        for (i = 0; i < n; i++) {
            if (s[i] >= 0xd800 && s[i] < 0xe000 && !surrogates) return -1;
            p = put(p, s[i]);
        }
    }
    return p - out;
}

int pr_has_surrogates(const void *text, int64_t n, int width) {
    int64_t i;
    if (width == 2) {
        const uint16_t *s = text;
        for (i = 0; i < n; i++)
            if (s[i] >= 0xd800 && s[i] < 0xe000) return 1;
    } else if (width == 4) {
        const uint32_t *s = text;
        for (i = 0; i < n; i++)
            if (s[i] >= 0xd800 && s[i] < 0xe000) return 1;
    }
    return 0;
}
