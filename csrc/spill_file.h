/* The files with copies of objects: one after another, each a header of 64 bytes and the message.
 *
 * Messages begin at multiples of 64, and those that are worth a mapping at multiples of a page, so
 * that a mapped copy is aligned as the message in memory was. The header tells which object it is
 * of, in a session's files, and the checksum of the message, whose seed is the handle. All numbers
 * are little-endian.
 */
#ifndef PYRAY_SPILL_FILE_H
#define PYRAY_SPILL_FILE_H

#include "session.h"

typedef struct {
    char magic[8]; /* PR_COPY_MAGIC */
    uint64_t handle, size, checksum;
    uint8_t zeros[32];
} PrCopyHeader;

#define PR_COPY_MAGIC "PYRAYOBJ"

enum { PR_COPY_MAPPED = 1 << 16 }; /* larger messages are mapped when they are read */

/* Where the next message of `size` bytes begins in a file that has `end` bytes; its header is just
 * before that. */
uint64_t pr_copy_offset(uint64_t end, uint64_t size);
void pr_copy_header(PrCopyHeader *h, PrHandle handle, const void *message, uint64_t size);
/* Whether header and message are what was written for that object. */
int pr_copy_is_good(const PrCopyHeader *h, PrHandle handle, const void *message, uint64_t size);
/* Writes objects, which this process holds and of which none has a copy, into an empty file.
 * offsets[] gets where their messages are. The length of the file, whole pages, or PR_SYSTEM. The
 * file may be open with O_DIRECT. Needs nothing but the arena: any thread may. */
int64_t pr_write_copies(const PrSession *s, const PrHandle *handles, uint32_t n, int fd,
                        uint64_t *offsets);

#endif
