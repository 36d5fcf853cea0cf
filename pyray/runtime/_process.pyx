"""What the system lets a process say of itself; none of it is in the standard library.

Imports nothing else of pyray.
"""

from cpython.exc cimport PyErr_SetFromErrno


cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    enum:
        PR_SET_NAME
        PR_SET_PDEATHSIG
        PR_SET_CHILD_SUBREAPER


cdef int _set(int option, unsigned long value) except -1:
    if prctl(option, value, 0, 0, 0) != 0:
        PyErr_SetFromErrno(OSError)
        return -1
    return 0


def set_name(bytes name not None):
    """The name that ps and top show of this thread; the system keeps 15 bytes of it."""
    _set(PR_SET_NAME, <unsigned long><const char*>name)


def die_with_parent(int signal):
    """Have this signal sent to this process when the thread that made it ends."""
    _set(PR_SET_PDEATHSIG, signal)


def adopt_orphans():
    """Become the parent of what the descendants of this process leave behind."""
    _set(PR_SET_CHILD_SUBREAPER, 1)
