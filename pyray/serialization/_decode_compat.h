/* What the decoder needs of CPython beyond its documented API, and of the platform's threads.
 *
 * Each function exists in 3.10 to 3.13 and is exported there; the declarations live here so that a
 * new Python version is a change of one file.
 */
#ifndef PYRAY_DECODE_COMPAT_H
#define PYRAY_DECODE_COMPAT_H

#include <Python.h>
#include <pthread.h>

#if PY_VERSION_HEX < 0x030A0000 || PY_VERSION_HEX >= 0x030E0000
#error "pyray's decoder is written for CPython 3.10 to 3.13"
#endif

#if PY_VERSION_HEX >= 0x030D0000
/* Moved to internal headers in 3.13, still exported. */
PyAPI_FUNC(PyObject *) _PyDict_NewPresized(Py_ssize_t minused);
PyAPI_FUNC(int)
    _PyDict_SetItem_KnownHash(PyObject *dict, PyObject *key, PyObject *value, Py_hash_t hash);
#endif

static inline PyObject *int_from_bytes(const unsigned char *data, size_t size) {
    return _PyLong_FromByteArray(data, size, 1 /* little-endian */, 1 /* signed */);
}

/* The lowest address of this thread's stack; NULL if it cannot be told. Reads /proc for the main
 * thread, so each thread asks once. */
static inline char *stack_bottom(void) {
#ifdef __linux__
    static __thread char *known;
    if (known == NULL) {
        pthread_attr_t attributes;
        void *low = NULL;
        size_t size = 0;
        if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
            pthread_attr_getstack(&attributes, &low, &size);
            pthread_attr_destroy(&attributes);
        }
        known = (char *)low;
    }
    return known;
#elif defined(__APPLE__)
    pthread_t self = pthread_self();
    return (char *)pthread_get_stackaddr_np(self) - pthread_get_stacksize_np(self);
#else
    return NULL;
#endif
}

#endif
