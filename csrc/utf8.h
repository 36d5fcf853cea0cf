/* UTF-8 from CPython's three string widths. */
#ifndef PYRAY_UTF8_H
#define PYRAY_UTF8_H

#include <stdint.h>

/* Writes the text of n code points of `width` bytes each (1: Latin-1, 2, 4) to out, which has room
 * for 2n, 3n or 4n bytes. Returns the bytes written. A lone surrogate is written like a character
 * if `surrogates` is set; otherwise the result is -1. */
int64_t pr_utf8_encode(uint8_t *out, const void *text, int64_t n, int width, int surrogates);

/* Whether there is a lone surrogate among n code points of 2 or 4 bytes. */
int pr_has_surrogates(const void *text, int64_t n, int width);

#endif
