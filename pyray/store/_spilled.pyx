"""Reading objects whose memory was given back, and waiting until there is memory for new ones.

What csrc/spill.h calls the spiller has written them to files (csrc/spill_file.h). From a local
directory any process reads them itself, without taking room in the store; what is elsewhere the
spiller brings back. Imports `_session` only.

A file is verified when an object is first read out of it, by the checksum; and again if it was
changed since by anybody, which its times and size tell.
"""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pyray.store._session cimport *

from pyray.store._session import SessionEnded

cdef extern from "errno.h":
    int errno

cdef extern from "sys/mman.h":
    enum:
        PROT_READ
        MAP_SHARED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)

cdef extern from "fcntl.h" nogil:
    enum:
        POSIX_FADV_WILLNEED
    int posix_fadvise(int fd, int64_t offset, int64_t size, int advice)

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *data, size_t size, int64_t offset)

cdef extern from "Python.h":
    void *PyMem_RawMalloc(size_t size)

cdef extern from "spill_file.h" nogil:
    ctypedef struct PrCopyHeader:
        char magic[8]
        uint64_t handle
        uint64_t size
    enum:
        PR_COPY_MAPPED
    bint pr_copy_is_good(const PrCopyHeader *h, PrHandle handle, const void *message,
                         uint64_t size)

cdef enum:
    PAGE = 4096
    HEADER = 64
    FETCHES = 5  # it may have been there, and be gone again
    # Of objects that are waited for one by one, how many are fetched at a time; they take no more
    # of the store than a share, but for the first.
    AHEAD = 8
    AHEAD_SHARE = 4

#: Under which the session knows its targets.
TARGETS = b"spilling-targets"
#: Under which it knows why the spiller cannot write files, or read them; empty if it can.
WRITE_FAILURE = b"spilling-writing"
READ_FAILURE = b"spilling-reading"


class Lost(Exception):
    """The bytes are not those that were written, or are not there."""


class Late(Exception):
    """They did not come in time."""


# -- where files are -----------------------------------------------------------------------------

def publish_targets(Session session not None, targets):
    """Tells every process where files are: a directory or None for each target.

    Before there is anything to spill: these bytes may not themselves be in a file.
    """
    import json
    session.publish(TARGETS, json.dumps(list(targets)).encode())


cdef object directory_of(Session session, uint32_t target):
    if session.targets is None:
        import json
        found = session.find(TARGETS)
        session.targets = () if found is None else tuple(
            json.loads(bytes(found).rstrip(b"\0")))
    return session.targets[target] if target < len(session.targets) else None


def file_name(number):
    """The name of the file of that number in its target."""
    return f"{number:012d}.objects"


# -- reading -------------------------------------------------------------------------------------

cdef uint32_t stamp(object status):
    """A number of a file's state, not 0: another one when it was changed."""
    cdef uint64_t h = <uint64_t> (status.st_ctime_ns & 0x7FFFFFFFFFFFFFFF)
    h = (h ^ <uint64_t> status.st_size * 0x9E3779B97F4A7C15ULL) * 0xC2B2AE3D27D4EB4FULL
    h ^= <uint64_t> status.st_ino
    return <uint32_t> (h >> 32 ^ h) | 1


cdef int read_all(int fd, uint8_t *data, uint64_t size, uint64_t offset) except -1:
    cdef uint64_t done = 0
    cdef ssize_t n
    while done < size:
        with nogil:
            n = pread(fd, data + done, size - done, <int64_t> (offset + done))
        if n == 0:
            raise Lost("its file was cut")
        if n < 0:
            PyErr_CheckSignals()
            if errno != 4:  # EINTR
                raise OSError(errno, os.strerror(errno))
            continue
        done += n
    return 0


cdef uint8_t *fill(FileCopy copy, int fd) except NULL:
    """Reads or maps the header and the message, whose size is set; where the header is."""
    cdef uint64_t begin, at = copy.offset - HEADER
    if copy.size < PR_COPY_MAPPED:
        copy.memory = PyMem_RawMalloc(copy.size + HEADER)
        if copy.memory == NULL:
            raise MemoryError
        read_all(fd, <uint8_t *> copy.memory, copy.size + HEADER, at)
        return <uint8_t *> copy.memory
    begin = at & ~<uint64_t> (PAGE - 1)
    length = copy.offset + copy.size - begin
    # All of it is needed, and perhaps what was made after it: a page fault at a time, a disk is
    # several times slower.
    posix_fadvise(fd, <int64_t> begin, 2 * <int64_t> length, POSIX_FADV_WILLNEED)
    copy.memory = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, <int64_t> begin)
    if copy.memory == MAP_FAILED:
        copy.memory = NULL
        raise MemoryError(f"cannot map {length} bytes of {copy.path}: {os.strerror(errno)}")
    copy.mapped = length
    return <uint8_t *> copy.memory + (at - begin)


cdef int open_in(str directory, str name) except -1:
    """Raises Lost only if the file is missing in the directory that is there now: a disk that was
    away may have come back since another attempt."""
    cdef int folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError as error:
        raise Lost(f"its file cannot be opened: {error}") from None
    finally:
        os.close(folder)


cdef FileCopy read_copy(Session session, uint32_t slot, uint32_t file, str directory):
    """Raises Lost if there is no good copy, OSError if it cannot be read now."""
    cdef PrObject *o = &session.s.objects[slot]
    cdef PrCopy *c = pr_copy_of(o)
    cdef FileCopy self = FileCopy.__new__(FileCopy)
    cdef PrHandle handle = pr_handle(o.state, slot)
    cdef uint8_t *header
    cdef uint32_t state
    cdef bint good
    self.path = os.path.join(directory, file_name(session.s.files[file].number))
    self.offset = c.offset
    self.size = o.size
    try:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        fd = open_in(directory, os.path.basename(self.path))
    try:
        status = os.fstat(fd)
        if status.st_size < <int64_t> (self.offset + self.size):
            raise Lost("its file was cut")
        state = stamp(status)
        header = fill(self, fd)
    finally:
        os.close(fd)
    if c.verified != state:
        with nogil:
            good = pr_copy_is_good(<PrCopyHeader *> header, handle, header + HEADER, self.size)
        if not good:
            raise Lost("its file was altered")
        c.verified = state
    self.data = header + HEADER
    return self


def find_value(Session session not None, uint32_t slot, int64_t deadline=-1):
    """The bytes of an object that is not in memory; None if it may be there again.

    The caller holds it. Raises what `Session.lost` does if there is no good copy, and Late if it is
    fetched, or made again, and does not come by the deadline, of pr_now().
    """
    cdef PrSession *s = &session.s
    cdef uint32_t file = pr_copy_of(&s.objects[slot]).file
    why = "its value was evicted"
    if not s.objects[slot].state & PR_OUT:
        return None
    if file:
        directory = directory_of(session, s.files[file].target)
        if directory is None:
            if bring_back(session, slot, deadline):
                return None
            why = failure(session, READ_FAILURE)
            why = f"it could not be read back: {why or 'there is no room for it'}"
        else:
            try:
                return read_copy(session, slot, file, directory)
            except Lost as error:
                why = str(error)
                pr_lose_copy(s, slot)
            except OSError as error:
                why = f"it could not be read back: {error}"
    if session.lost is None:
        raise RuntimeError(f"the object {pr_handle(s.objects[slot].state, slot):032x} is lost: "
                           f"{why}")
    session.lost(pr_handle(s.objects[slot].state, slot), why, deadline)
    return None


cdef int look_around(Session session) except -1:
    PyErr_CheckSignals()
    try:
        session.check()
        if session.s.control.ended:
            raise SessionEnded("the session has ended")
    except SessionEnded as error:
        if session.over is not None:
            session.over(error)
        raise
    return 0


cdef bint bring_back(Session session, uint32_t slot, int64_t deadline) except -1:
    """Has the spiller read it; whether it has, or cannot."""
    cdef int status, _i
    cdef int64_t until
    cdef uint32_t given_up
    cdef PrCopy *c = pr_copy_of(&session.s.objects[slot])
    begin_use(session)
    try:
        for _i in range(FETCHES):
            given_up = c.given_up
            pr_fetch(&session.s, slot)
            status = PR_TIMEOUT
            while status:
                until = pr_now() + SLICE
                if 0 <= deadline < until:
                    until = deadline
                with nogil:
                    status = pr_await_fetch(&session.s, slot, until)
                if status:
                    look_around(session)
                if status == PR_TIMEOUT and until == deadline:
                    raise Late
            if not session.s.objects[slot].state & PR_OUT:
                return True
            if not c.file or c.given_up != given_up:
                break
        return False
    finally:
        end_use(session)


cdef bint is_remote(Session session, uint32_t slot) except -1:
    """Whether only the spiller can read its bytes."""
    cdef uint32_t file
    if not session.s.objects[slot].state & PR_OUT:
        return False
    file = pr_copy_of(&session.s.objects[slot]).file
    return file != 0 and directory_of(session, session.s.files[file].target) is None


cdef int fetch_ahead(Session session, const uint32_t *slots, size_t n) except -1:
    """Several of these objects, which the caller holds and is about to read one by one, are fetched
    at a time, if the first of them is to be fetched at all."""
    cdef uint64_t most = session.s.control.arena_size // AHEAD_SHARE, bytes = 0
    cdef size_t i
    cdef int asked = 0
    for i in range(min(n, <size_t> LOOK_AHEAD)):
        if is_remote(session, slots[i]):
            bytes += session.s.objects[slots[i]].size
            if asked == AHEAD or asked and bytes > most:
                break
            pr_fetch(&session.s, slots[i])
            asked += 1
        elif i == 0:
            break
    return 0


# -- room ----------------------------------------------------------------------------------------

cpdef bint await_room(Session session, uint64_t size) except -1:
    """Waits until there may be room for a block of that size: whether to try again.

    Who is told so tries at once, as a block is kept for it.
    """
    cdef int64_t since = pr_now()  # though other threads are before it
    cdef int status = pr_want_room(&session.s, size, since)
    cdef uint32_t seen
    if status == PR_FULL:
        return False
    begin_use(session)
    try:
        while status == PR_BUSY:  # another thread has its turn
            look_around(session)
            with nogil:
                seen = session.s.self.event
                pr_sleep(&session.s, seen, SLICE // 10, 0)
            status = pr_want_room(&session.s, size, since)
        while True:
            with nogil:
                status = pr_await_room(&session.s, pr_now() + SLICE)
            if status == 0:
                return True
            if status == PR_FULL:
                pr_forget_room(&session.s)
                return False
            look_around(session)
    except BaseException:
        if not session.closed and not session.dead:
            pr_forget_room(&session.s)
        raise
    finally:
        end_use(session)


cdef str describe_full(Session session, uint64_t size):
    """Why there is no room for a block of that size."""
    stats = session.stats()
    pinned = session.pinned()
    text = (f"there is no room for an object of {size} bytes: {stats['used']} of "
            f"{stats['capacity']} bytes are used")
    if pinned:
        largest = sorted(pinned.items(), key=lambda item: -item[1])[:5]
        text += ", of which these processes read now: " + ", ".join(
            f"pid {pid} {held} bytes" for pid, held in largest)
    reason = failure(session, WRITE_FAILURE)
    if reason:
        text += f"; objects could not be written to files: {reason}"
    return text


cdef str failure(Session session, bytes what):
    found = session.find(what)
    return "" if found is None else bytes(found).rstrip(b"\0").decode(errors="replace")
