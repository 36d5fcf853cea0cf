/* What the encoder needs of CPython that differs between 3.10 and 3.13, or has no public name. */
#ifndef PYRAY_ENCODE_COMPAT_H
#define PYRAY_ENCODE_COMPAT_H

#include <Python.h>
#include <stdint.h>

/* Exported by every CPython for its own pickle module, but not declared in all of them. */
extern int _PySet_NextEntry(PyObject *set, Py_ssize_t *position, PyObject **key, Py_hash_t *hash);

/* 1 and *out set when the exact int fits 64 bits, else 0. */
static inline int pyray_int64(PyObject *o, int64_t *out) {
#if PY_VERSION_HEX >= 0x030c0000
    PyLongObject *v = (PyLongObject *)o;
    if (PyUnstable_Long_IsCompact(v)) {
        *out = PyUnstable_Long_CompactValue(v);
        return 1;
    }
#else
    PyLongObject *v = (PyLongObject *)o;
    switch (Py_SIZE(o)) {
    case 0: *out = 0; return 1;
    case 1: *out = v->ob_digit[0]; return 1;
    case -1: *out = -(int64_t)v->ob_digit[0]; return 1;
#if PYLONG_BITS_IN_DIGIT == 30
    case 2: *out = (int64_t)v->ob_digit[0] | (int64_t)v->ob_digit[1] << 30; return 1;
    case -2: *out = -((int64_t)v->ob_digit[0] | (int64_t)v->ob_digit[1] << 30); return 1;
#endif
    }
#endif
    {
        int overflow;
        *out = PyLong_AsLongLongAndOverflow(o, &overflow);
        return !overflow;
    }
}

/* Bytes of the two's complement form, bit_length() // 8 + 1. */
static inline int64_t pyray_int_size(PyObject *o) {
    return (int64_t)(_PyLong_NumBits(o) / 8 + 1);
}

static inline int pyray_int_bytes(PyObject *o, uint8_t *out, int64_t size) {
#if PY_VERSION_HEX >= 0x030d0000
    return _PyLong_AsByteArray((PyLongObject *)o, out, (size_t)size, 1, 1, 1);
#else
    return _PyLong_AsByteArray((PyLongObject *)o, out, (size_t)size, 1, 1);
#endif
}

/* The instance's dictionary, new reference; NULL without an exception if it has none. */
static inline PyObject *pyray_instance_dict(PyObject *o) {
    PyObject *dict;
#if PY_VERSION_HEX >= 0x030c0000
    if (!Py_TYPE(o)->tp_dictoffset && !PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_MANAGED_DICT))
        return NULL;
#else
    if (!Py_TYPE(o)->tp_dictoffset) return NULL;
#endif
    dict = PyObject_GenericGetDict(o, NULL);
    if (!dict) PyErr_Clear();
    return dict;
}

/* The type's version tag: it changes with every change of the type, and is never given to another.
 * 0 when the type has none at the moment. */
static inline unsigned int pyray_type_version(void *kind) {
    PyTypeObject *type = (PyTypeObject *)kind;
#if PY_VERSION_HEX < 0x030d0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) return 0;
#endif
    return type->tp_version_tag;
}

static inline int pyray_is_heap_type(PyObject *o) {
    return PyType_HasFeature((PyTypeObject *)o, Py_TPFLAGS_HEAPTYPE) != 0;
}

#define PYRAY_TYPE(o) ((void *)Py_TYPE(o))
#define PYRAY_REFCNT(o) ((Py_ssize_t)Py_REFCNT(o))

static inline PyObject **pyray_list_items(PyObject *o) {
    return ((PyListObject *)o)->ob_item;
}
static inline PyObject **pyray_tuple_items(PyObject *o) {
    return ((PyTupleObject *)o)->ob_item;
}

#endif
