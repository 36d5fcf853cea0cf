/* Files with copies; see spill_file.h. */
#include "spill_file.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checksum.h"
#include "object.h"

enum { PAGE = 4096, MESSAGES = 64 }; /* so many are written by one call */

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

/* -- writing ----------------------------------------------------------------------------------- */

typedef struct {
    int fd, n, n_headers;
    uint64_t end; /* of what was written, and of what waits in `pieces` */
    struct iovec pieces[3 * MESSAGES];
    PrCopyHeader headers[MESSAGES];
} Writer;

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
    w->n = w->n_headers = 0;
    return 0;
}

static void add(Writer *w, const void *data, uint64_t size) {
    if (!size) return;
    w->pieces[w->n++] = (struct iovec){(void *)(uintptr_t)data, size};
    w->end += size;
}

int64_t pr_write_copies(const PrSession *s, const PrHandle *handles, uint32_t n, int fd,
                        uint64_t *offsets) {
    Writer w = {.fd = fd};
    for (uint32_t i = 0; i < n; i++) {
        PrObject *o = &s->objects[pr_slot(handles[i])];
        const uint8_t *message = s->read_base + o->place;
        PrCopyHeader *header = &w.headers[w.n_headers++];
        pr_copy_header(header, handles[i], message, o->size);
        offsets[i] = pr_copy_offset(w.end, o->size);
        add(&w, zeros, offsets[i] - sizeof *header - w.end);
        add(&w, header, sizeof *header);
        add(&w, message, o->size);
        if (w.n_headers == MESSAGES && flush(&w)) return PR_SYSTEM;
    }
    return flush(&w) ? PR_SYSTEM : (int64_t)w.end;
}
