/* A checksum of bytes in files: XXH64 as its specification has it
 * (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md). It finds what was altered by
 * accident, not by intent, at the speed at which memory is read. */
#ifndef PYRAY_CHECKSUM_H
#define PYRAY_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t pr_checksum(const void *data, size_t size, uint64_t seed);

#endif
