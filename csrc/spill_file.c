/* Files with copies; see spill_file.h. */
#include "spill_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checksum.h"
#include "object.h"

enum { PAGE = 4096 };

_Static_assert(sizeof(PrCopyHeader) == 64, "a header is a line");

static const uint8_t zeros[PAGE + 64];

uint64_t pr_copy_offset(uint64_t end, uint64_t size) {
    uint64_t to = size >= PR_COPY_MAPPED ? PAGE : 64;
    return (end + sizeof(PrCopyHeader) + to - 1) / to * to;
}

void pr_copy_header(PrCopyHeader *h, PrHandle handle, const void *message, uint64_t size) {
    memset(h, 0, sizeof *h);
    memcpy(h->magic, PR_COPY_MAGIC, sizeof h->magic);
    h->handle = handle;
    h->size = size;
    h->checksum = pr_checksum(message, size, handle);
}

int pr_copy_is_good(const PrCopyHeader *h, PrHandle handle, const void *message, uint64_t size) {
    return !memcmp(h->magic, PR_COPY_MAGIC, sizeof h->magic) && h->handle == handle &&
           h->size == size && h->checksum == pr_checksum(message, size, handle);
}

/* -- writing -----------------------------------------------------------------------------------
 *
 * All is written in whole pages from whole pages, as a descriptor with O_DIRECT needs it: messages
 * that lie so in the arena from there, the rest by way of a stage. The last page is filled up.
 */

enum { STAGE = 1 << 18, PIECES = 2 * STAGE / PAGE };

typedef struct {
    int fd, n;
    uint64_t end;    /* of what was written, and of what waits in `pieces` */
    uint64_t staged; /* bytes of the stage that wait */
    uint8_t *stage;
    struct iovec pieces[PIECES];
} Writer;

/* What waits are whole pages. */
static int flush(Writer *w) {
    struct iovec *at = w->pieces, *end = at + w->n;
    while (at < end) {
        ssize_t written = writev(w->fd, at, (int)(end - at));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return PR_SYSTEM;
        for (; at < end && (size_t)written >= at->iov_len; at++) written -= (ssize_t)at->iov_len;
        if (at == end) break;
        at->iov_base = (uint8_t *)at->iov_base + written;
        at->iov_len -= (size_t)written;
    }
    w->n = 0;
    w->staged = 0;
    return 0;
}

/* The last piece goes on, or there is one more. */
static void add(Writer *w, const uint8_t *data, uint64_t size) {
    struct iovec *last = &w->pieces[w->n - 1];
    w->end += size;
    if (w->n && (const uint8_t *)last->iov_base + last->iov_len == data) last->iov_len += size;
    else w->pieces[w->n++] = (struct iovec){(void *)(uintptr_t)data, size};
}

static int copy(Writer *w, const uint8_t *data, uint64_t size) {
    while (size) {
        uint64_t part = STAGE - w->staged < size ? STAGE - w->staged : size;
        memcpy(w->stage + w->staged, data, part);
        add(w, w->stage + w->staged, part);
        w->staged += part;
        data += part;
        size -= part;
        if (w->staged == STAGE && flush(w)) return PR_SYSTEM;
    }
    return 0;
}

static int write_message(Writer *w, const uint8_t *message, uint64_t size) {
    uint64_t whole = 0;
    if (w->end % PAGE == 0 && (uintptr_t)message % PAGE == 0) whole = size - size % PAGE;
    if (whole) add(w, message, whole);
    if (w->n == PIECES && flush(w)) return PR_SYSTEM;
    return copy(w, message + whole, size - whole);
}

static int write_all(Writer *w, const PrSession *s, const PrHandle *handles, uint32_t n,
                     uint64_t *offsets) {
    for (uint32_t i = 0; i < n; i++) {
        PrObject *o = &s->objects[pr_slot(handles[i])];
        const uint8_t *message = s->read_base + o->place;
        PrCopyHeader header;
        pr_copy_header(&header, handles[i], message, o->size);
        offsets[i] = pr_copy_offset(w->end, o->size);
        if (copy(w, zeros, offsets[i] - sizeof header - w->end) ||
            copy(w, (const uint8_t *)&header, sizeof header) || write_message(w, message, o->size))
            return PR_SYSTEM;
    }
    return copy(w, zeros, -w->end % PAGE) || flush(w) ? PR_SYSTEM : 0;
}

int64_t pr_write_copies(const PrSession *s, const PrHandle *handles, uint32_t n, int fd,
                        uint64_t *offsets) {
    Writer w = {.fd = fd, .stage = aligned_alloc(PAGE, STAGE)};
    if (!w.stage) return PR_SYSTEM;
    int status = write_all(&w, s, handles, n, offsets);
    free(w.stage);
    return status ? PR_SYSTEM : (int64_t)w.end;
}
