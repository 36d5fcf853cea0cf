"""What the spiller does with the shared tables: csrc/spill.h for `spiller`.

Only the thread that made a `Spilling` may use it; a `Batch` may be written by any one thread.
"""

import os

cimport cython
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pyray.store._session cimport *

cdef extern from "errno.h":
    int errno

cdef extern from "Python.h":
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)
    int PyBUF_READ

cdef extern from "spill.h" nogil:
    void pr_begin_spilling(PrSession *s)
    int pr_grant(PrSession *s, uint32_t process)
    int pr_may_free(PrSession *s, uint32_t process)
    uint32_t pr_choose(PrSession *s, int dirty, uint64_t bytes, PrHandle *chosen, uint32_t room)
    void pr_spillable(PrSession *s, uint64_t *clean, uint64_t *dirty)
    uint32_t pr_fetched(PrSession *s, PrHandle *chosen, uint32_t room)
    uint32_t pr_file_new(PrSession *s, uint32_t target)
    void pr_file_done(PrSession *s, uint32_t file, uint64_t size)
    void pr_set_copy(PrSession *s, uint32_t slot, uint32_t file, uint64_t offset)
    void pr_not_written(PrSession *s, uint32_t slot)
    uint32_t pr_file_unused(PrSession *s, uint32_t after)
    void pr_file_free(PrSession *s, uint32_t file)
    int pr_evict(PrSession *s, uint32_t slot)
    int pr_make_incoming(PrSession *s, uint32_t slot, uint8_t **data)
    void pr_arrive(PrSession *s, uint32_t slot)
    void pr_give_up(PrSession *s, uint32_t slot)

cdef extern from "spill_file.h" nogil:
    ctypedef struct PrCopyHeader:
        pass
    uint64_t pr_copy_offset(uint64_t end, uint64_t size)
    void pr_copy_header(PrCopyHeader *h, PrHandle handle, const void *message, uint64_t size)
    bint pr_copy_is_good(const PrCopyHeader *h, PrHandle handle, const void *message,
                         uint64_t size)
    int64_t pr_write_copies(const PrSession *s, const PrHandle *handles, uint32_t n, int fd,
                            uint64_t *offsets)

cdef extern from "session.h" nogil:
    uint64_t pr_arena_used(const PrArena *a)

cdef enum:
    MOST = 1 << 16  # objects at a time
    HEADER = 64


@cython.final
cdef class Batch:
    """Objects that are to be written into one file. They stay until `done` or `failed`."""

    cdef Session session
    cdef PrHandle *handles
    cdef uint64_t *offsets
    cdef uint32_t n
    cdef readonly uint32_t file     # its slot in the table
    cdef readonly uint32_t target
    cdef readonly uint64_t number   # of its name
    cdef readonly uint64_t size     # of messages, in bytes

    def __dealloc__(self):
        free(self.handles)
        free(self.offsets)

    def __len__(self):
        return self.n

    def write(self, int fd):
        """Into an empty file; how long it is then. Raises OSError."""
        cdef int64_t size
        with nogil:
            size = pr_write_copies(&self.session.s, self.handles, self.n, fd, self.offsets)
        if size < 0:
            raise OSError(errno, os.strerror(errno))
        return size

    def pieces(self):
        """What `write` writes, as buffers, one after another."""
        cdef PrObject *o
        cdef uint32_t i
        cdef uint64_t end = 0
        cdef uint8_t[HEADER] header
        for i in range(self.n):
            o = &self.session.s.objects[pr_slot(self.handles[i])]
            self.offsets[i] = pr_copy_offset(end, o.size)
            data = pr_message_of(&self.session.s, o)
            with nogil:
                pr_copy_header(<PrCopyHeader *> header, self.handles[i], data, o.size)
            yield bytes(self.offsets[i] - HEADER - end)
            yield PyBytes_FromStringAndSize(<const char *> header, HEADER)
            yield PyMemoryView_FromMemory(<char *> data, o.size, PyBUF_READ)
            end = self.offsets[i] + o.size

    def done(self, uint64_t size):
        """The file is whole: the objects have their copies there."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t i
        for i in range(self.n):
            pr_set_copy(s, pr_slot(self.handles[i]), self.file, self.offsets[i])
        self.end(size)

    def failed(self):
        """There is no such file."""
        cdef uint32_t i
        for i in range(self.n):
            pr_not_written(&self.session.s, pr_slot(self.handles[i]))
        self.end(0)

    cdef int end(self, uint64_t size) except -1:
        cdef uint32_t i
        pr_file_done(&self.session.s, self.file, size)
        for i in range(self.n):
            pr_release(&self.session.s, pr_slot(self.handles[i]))
        self.n = 0
        return 0


@cython.final
cdef class Fetch:
    """An object that is to be brought back. It stays until `arrive` or `give_up`."""

    cdef Session session
    cdef PrHandle handle
    cdef readonly uint32_t target
    cdef readonly uint64_t number    # of its file's name
    cdef readonly uint64_t begin     # of its header in the file
    cdef readonly uint64_t size      # of header and message

    def arrive(self, const uint8_t[::1] data):
        """With header and message as they were in the file: "there", "full", "altered"; or "gone":
        it was given up, or made again, meanwhile."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t slot = pr_slot(self.handle)
        cdef uint64_t size = s.objects[slot].size
        cdef uint8_t *out
        cdef bint good = data.shape[0] == <Py_ssize_t> self.size
        cdef int status
        if good:
            with nogil:
                good = pr_copy_is_good(<const PrCopyHeader *> &data[0], self.handle,
                                       &data[0] + HEADER, size)
        if not good:
            return "altered"
        status = pr_make_incoming(s, slot, &out)
        if status:
            return "gone" if status == PR_STALE else "full"
        with nogil:
            memcpy(out, &data[0] + HEADER, size)
        pr_arrive(s, slot)
        pr_release(s, slot)
        return "there"

    def give_up(self, bint lost):
        """It cannot be read: now, or with `lost` ever."""
        cdef uint32_t slot = pr_slot(self.handle)
        if lost:
            pr_lose_copy(&self.session.s, slot)
        pr_give_up(&self.session.s, slot)
        pr_release(&self.session.s, slot)


@cython.final
cdef class Spilling:
    """This process is the session's spiller from now on."""

    cdef Session session
    cdef set fetching  # handles

    def __init__(self, Session session not None):
        self.session = session
        self.fetching = set()
        pr_begin_spilling(&session.s)

    # -- being called ---------------------------------------------------------------------------

    def wait(self, double seconds):
        """Until somebody calls, but for so long at most; not at all if somebody has."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t seen = s.self.event
        if s.control.called or s.control.ended:
            return
        with nogil:
            pr_sleep(s, seen, <int64_t> (seconds * 1e9), 0)

    def look(self):
        """What is called for from now on calls again. Whether the session goes on."""
        self.session.s.control.called = 0
        return not self.session.s.control.ended

    # -- how much there is ----------------------------------------------------------------------

    def used(self):
        """Bytes of the arena in use; and from which on there is to be spilled."""
        return pr_arena_used(self.session.s.arena), self.session.s.control.spill_at

    def call_beyond(self, uint64_t bytes):
        """Be called when more are in use, and not before that because of it."""
        self.session.s.control.call_at = max(bytes, self.session.s.control.spill_at)

    def spillable(self):
        """Bytes of objects that nobody reads: with a copy in a file, and without."""
        cdef uint64_t clean, dirty
        pr_spillable(&self.session.s, &clean, &dirty)
        return clean, dirty

    # -- writing --------------------------------------------------------------------------------

    def choose(self, uint64_t bytes, uint32_t target):
        """Objects for a file, so many bytes or a little more; None if there are none."""
        cdef PrSession *s = &self.session.s
        cdef PrHandle *chosen = <PrHandle *> malloc(MOST * sizeof(PrHandle))
        cdef Batch batch
        cdef uint32_t n, i
        if chosen == NULL:
            raise MemoryError
        n = pr_choose(s, 1, bytes, chosen, MOST)
        if not n:
            free(chosen)
            return None
        batch = Batch.__new__(Batch)
        batch.session = self.session
        batch.handles = chosen
        batch.n = n
        batch.target = target
        batch.offsets = <uint64_t *> malloc(n * sizeof(uint64_t))
        batch.file = pr_file_new(s, target)
        if batch.offsets == NULL or not batch.file:
            for i in range(n):
                pr_not_written(s, pr_slot(chosen[i]))
                pr_release(s, pr_slot(chosen[i]))
            return None
        batch.number = s.files[batch.file].number
        for i in range(n):
            batch.size += s.objects[pr_slot(chosen[i])].size
        return batch

    def unused_files(self):
        """(slot, target, number) of each file that no object needs; `forget_file` is to be called
        when it is removed."""
        cdef PrFile *f
        cdef uint32_t file = 0
        found = []
        while file := pr_file_unused(&self.session.s, file):
            f = &self.session.s.files[file]
            found.append((file, f.target, f.number))
        return found

    def files_done(self):
        """Whether there may be files that no object needs; then all of them are to be taken."""
        done = self.session.s.control.files_done != 0
        self.session.s.control.files_done = 0
        return done

    def forget_file(self, uint32_t file):
        """It is removed."""
        pr_file_free(&self.session.s, file)

    # -- making room ----------------------------------------------------------------------------

    def evict(self, uint64_t bytes):
        """Gives back the blocks of objects that have copies: how many bytes."""
        cdef PrSession *s = &self.session.s
        cdef PrHandle *chosen = <PrHandle *> malloc(MOST * sizeof(PrHandle))
        cdef uint64_t freed = 0, before
        cdef uint32_t n, i
        if chosen == NULL:
            raise MemoryError
        n = pr_choose(s, 0, bytes, chosen, MOST)
        for i in range(n):
            before = s.objects[pr_slot(chosen[i])].size
            if pr_evict(s, pr_slot(chosen[i])) == 0:
                freed += before
            pr_release(s, pr_slot(chosen[i]))
        free(chosen)
        return freed

    def first_wanting(self):
        """(process, bytes, since when) of who has waited longest for room, or None."""
        cdef uint64_t bytes = 0
        cdef uint32_t process = pr_first_wanting(&self.session.s, &bytes)
        if not process:
            return None
        return process, bytes, self.session.s.processes[process].since / 1e9

    def grant(self, uint32_t process):
        """Whether there was a block for it."""
        return pr_grant(&self.session.s, process) == 0

    def deny(self, uint32_t process):
        pr_deny(&self.session.s, process)

    def may_free(self, uint32_t process):
        """Whether another process may soon give up what it reads."""
        return pr_may_free(&self.session.s, process) != 0

    # -- bringing back --------------------------------------------------------------------------

    def fetched(self):
        """Objects that are waited for and not being fetched yet."""
        cdef PrSession *s = &self.session.s
        cdef PrHandle *chosen = <PrHandle *> malloc(MOST * sizeof(PrHandle))
        cdef PrCopy *c
        cdef Fetch fetch
        cdef uint32_t n, i
        if chosen == NULL:
            raise MemoryError
        n = pr_fetched(s, chosen, MOST)
        result = []
        for i in range(n):
            if chosen[i] in self.fetching:
                pr_release(s, pr_slot(chosen[i]))
                continue
            c = pr_copy_of(&s.objects[pr_slot(chosen[i])])
            fetch = Fetch.__new__(Fetch)
            fetch.session = self.session
            fetch.handle = chosen[i]
            fetch.target = s.files[c.file].target
            fetch.number = s.files[c.file].number
            fetch.begin = c.offset - HEADER
            fetch.size = s.objects[pr_slot(chosen[i])].size + HEADER
            self.fetching.add(chosen[i])
            result.append(fetch)
        free(chosen)
        return result

    def forget_fetch(self, Fetch fetch not None):
        """It has arrived, or was given up."""
        self.fetching.discard(fetch.handle)
