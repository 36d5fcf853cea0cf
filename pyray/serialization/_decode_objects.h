/* Globals, buffers, arrays, instances and reductions: what runs or looks up code, and what is a
 * view of the message. The steps of a reduction are pickle's, docs/format.md section 4.1. */
#ifndef PYRAY_DECODE_OBJECTS_H
#define PYRAY_DECODE_OBJECTS_H

#include "_decode_containers.h"

/* -- globals ---------------------------------------------------------------------------------- */

static PyObject *text_of(PrText text) {
    PyObject *str = PyUnicode_DecodeUTF8((const char *)text.data, (Py_ssize_t)text.size, NULL);
    if (str == NULL) bad_text();
    return str;
}

/* The attribute of a module that is loaded; NULL without an exception if it takes an import or a
 * nested name, or does not exist: then find_global says so. */
static PyObject *find_loaded(PyObject *module_name, PyObject *name, PrText text) {
    if (memchr(text.data, '.', text.size) != NULL) return NULL;
    PyObject *module = PyDict_GetItemWithError(PyImport_GetModuleDict(), module_name);
    if (module == NULL) return NULL;
    if (PySys_Audit("pickle.find_class", "OO", module_name, name) < 0) return NULL;
    Py_INCREF(module);
    PyObject *found = PyObject_GetAttr(module, name);
    Py_DECREF(module);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
    return found;
}

static PyObject *find_global(PyObject *module_name, PyObject *name) {
    PyObject *reduction = PyImport_ImportModule("pyray.serialization.reduction");
    if (reduction == NULL) return NULL;
    PyObject *found = PyObject_CallMethod(reduction, "find_global", "OO", module_name, name);
    Py_DECREF(reduction);
    return found;
}

/* Borrowed. */
static PyObject *global_at(Decoder *d, int64_t index) {
    const PrMessage *m = &d->message;
    if (d->globals == NULL) d->globals = object_array(d, m->n_globals);
    if (d->globals == NULL) return NULL;
    if (d->globals[index] != NULL) return d->globals[index];
    PrText text = m->globals[2 * index + 1];
    PyObject *module_name = text_of(m->globals[2 * index]), *name = NULL, *found = NULL;
    if (module_name != NULL) name = text_of(text);
    if (name != NULL) {
        PyUnicode_InternInPlace(&name);
        found = find_loaded(module_name, name, text);
        if (found == NULL && !PyErr_Occurred()) found = find_global(module_name, name);
    }
    Py_XDECREF(module_name);
    Py_XDECREF(name);
    if (found != NULL && d->globals[index] != NULL) {
        Py_DECREF(found); /* an import let another thread, reading a view, come first */
    } else if (found != NULL) {
        d->globals[index] = found;
    }
    return found == NULL ? NULL : d->globals[index];
}

static int fill_global(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    const int32_t *indices = (const int32_t *)(const void *)node->a + row;
    for (int64_t i = 0; i < count; i++) {
        if (indices[i] < 0 || (uint32_t)indices[i] >= d->message.n_globals) {
            return malformed("an index names no global");
        }
        PyObject *found = global_at(d, indices[i]);
        if (found == NULL) return -1;
        out[i] = Py_NewRef(found);
    }
    return 0;
}

/* -- buffers ---------------------------------------------------------------------------------- */

/* The caller's buffer for a negative index; borrowed. */
static PyObject *out_of_band(Decoder *d, int64_t index) {
    int64_t k = -(index + 1);
    if (d->out_of_band == NULL) {
        PyErr_SetString(DeserializationError,
                        "the message has out-of-band buffers: pass them as buffers=");
        return NULL;
    }
    if (k >= PyList_GET_SIZE(d->out_of_band)) {
        PyErr_Format(DeserializationError, "the message needs at least %lld buffers, %zd are given",
                     (long long)k + 1, PyList_GET_SIZE(d->out_of_band));
        return NULL;
    }
    return PyList_GET_ITEM(d->out_of_band, k);
}

static int in_band(Decoder *d, int64_t index, const uint8_t **data, Py_ssize_t *size) {
    uint64_t length;
    if (pr_message_buffer(&d->message, index, data, &length) < 0) {
        return malformed("an index names no buffer inside the message");
    }
    *size = (Py_ssize_t)length;
    return 0;
}

/* A bytes or bytearray with a copy of the buffer. */
static PyObject *copy_buffer(Decoder *d, int64_t index, int kind) {
    const uint8_t *data;
    Py_ssize_t size;
    if (index < 0) {
        PyObject *given = out_of_band(d, index);
        if (given == NULL) return NULL;
        return kind == PR_BYTES_BUFFER ? PyBytes_FromObject(given) : PyByteArray_FromObject(given);
    }
    if (in_band(d, index, &data, &size) < 0 || charge_bytes(d, size) < 0) return NULL;
    return kind == PR_BYTES_BUFFER ? make_bytes(data, size) : make_bytearray(data, size);
}

/* A view of the buffer; out of band, as in pickle, the object that was given. */
static PyObject *view_buffer(Decoder *d, int64_t index, int kind) {
    const uint8_t *data;
    Py_ssize_t size;
    if (index >= 0) {
        return in_band(d, index, &data, &size) < 0
                   ? NULL
                   : make_buffer(d->source, data, size, !d->writable);
    }
    PyObject *given = out_of_band(d, index);
    if (given == NULL || kind == PR_BUFFER_WRITABLE) return Py_XNewRef(given);
    PyObject *view = PyMemoryView_FromObject(given);
    if (view == NULL) return NULL;
    PyObject *result = PyMemoryView_GET_BUFFER(view)->readonly
                           ? Py_NewRef(given)
                           : PyObject_CallMethod(view, "toreadonly", NULL);
    Py_DECREF(view);
    return result;
}

static int fill_buffer(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    const int32_t *indices = (const int32_t *)(const void *)node->a + row;
    int copies = node->kind == PR_BYTES_BUFFER || node->kind == PR_BYTEARRAY_BUFFER;
    for (int64_t i = 0; i < count; i++) {
        out[i] = copies ? copy_buffer(d, indices[i], node->kind)
                        : view_buffer(d, indices[i], node->kind);
        if (out[i] == NULL) return -1;
    }
    return 0;
}

/* -- arrays ----------------------------------------------------------------------------------- */

/* Set with the first array that this process decodes. */
static const PyrayNdarrayApi *numpy_api;

static int load_numpy(void) {
    if (numpy_api != NULL) return 0;
    PyObject *module = PyImport_ImportModule("pyray.serialization._ndarray");
    if (module == NULL) return -1;
    PyObject *capsule = PyObject_GetAttrString(module, "_api");
    Py_DECREF(module);
    if (capsule == NULL) return -1;
    numpy_api = PyCapsule_GetPointer(capsule, PYRAY_NDARRAY_CAPSULE);
    Py_DECREF(capsule);
    return numpy_api == NULL ? -1 : 0;
}

/* Borrowed; each is made once. */
static PyObject *dtype_at(Decoder *d, int64_t index, int64_t *itemsize) {
    const PrMessage *m = &d->message;
    if (index < 0 || index >= m->n_dtypes) {
        malformed("an array names no dtype");
        return NULL;
    }
    if (d->dtypes == NULL) {
        d->itemsizes = block(d, m->n_dtypes * sizeof *d->itemsizes);
        if (d->itemsizes != NULL) d->dtypes = object_array(d, m->n_dtypes);
        if (d->dtypes == NULL) return NULL;
    }
    if (d->dtypes[index] == NULL) {
        PrText text = m->dtypes[index];
        PyObject *dtype = numpy_api->dtype_from_text((const char *)text.data, (Py_ssize_t)text.size,
                                                     &d->itemsizes[index]);
        Py_XSETREF(d->dtypes[index], dtype);
    }
    *itemsize = d->itemsizes[index];
    return d->dtypes[index];
}

/* Bytes of an array of that shape; -1 if no memory could hold them. The dimensions beside a zero
 * count, too: numpy refuses what they would overflow. */
static int64_t array_size(const int64_t *shape, int64_t ndim, int64_t itemsize) {
    int64_t size = itemsize > 0 ? itemsize : 1;
    int empty = itemsize == 0;
    for (int64_t i = 0; i < ndim; i++) {
        if (shape[i] < 0) return -1;
        if (shape[i] == 0) {
            empty = 1;
        } else if (__builtin_mul_overflow(size, shape[i], &size)) {
            return -1;
        }
    }
    return empty ? 0 : size;
}

/* An array's memory, and the object that keeps it alive (new reference). */
static PyObject *array_memory(Decoder *d, int64_t index, const uint8_t **data, Py_ssize_t *size,
                              int *writable) {
    *writable = d->writable;
    if (index >= 0) return in_band(d, index, data, size) < 0 ? NULL : Py_NewRef(d->source);
    PyObject *given = out_of_band(d, index);
    PyObject *view = given == NULL ? NULL : PyMemoryView_FromObject(given);
    if (view == NULL) return NULL;
    const Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
    if (!PyBuffer_IsContiguous(buffer, 'A')) {
        Py_DECREF(view);
        PyErr_SetString(PyExc_BufferError, "an out-of-band buffer is not contiguous");
        return NULL;
    }
    *data = buffer->buf;
    *size = buffer->len;
    *writable = !buffer->readonly;
    return view;
}

enum { MOST_DIMENSIONS = 64 };

static PyObject *make_array(Decoder *d, int64_t tensor) {
    const PrMessage *m = &d->message;
    if (tensor < 0 || tensor >= m->n_tensors) return malformed("an index names no tensor"), NULL;
    int64_t begin = m->tensor_shape_offsets[tensor], end = m->tensor_shape_offsets[tensor + 1];
    if (begin < 0 || end < begin || (uint64_t)end > m->n_dims || end - begin > MOST_DIMENSIONS) {
        return malformed("an array's shape lies outside its column"), NULL;
    }
    if (charge_bytes(d, 8 * (end - begin)) < 0) return NULL;
    const int64_t *shape = m->tensor_shapes + begin;
    int order = m->tensor_order[tensor], writable;
    if (order != 0 && order != 1) return malformed("an array is of no known order"), NULL;
    int64_t itemsize;
    PyObject *dtype = dtype_at(d, m->tensor_dtype[tensor], &itemsize);
    if (dtype == NULL) return NULL;
    const uint8_t *data;
    Py_ssize_t size;
    PyObject *owner = array_memory(d, m->tensor_buffer[tensor], &data, &size, &writable);
    if (owner == NULL) return NULL;
    PyObject *array = NULL;
    if (array_size(shape, end - begin, itemsize) != size) {
        malformed("an array's shape does not fit its buffer");
    } else {
        array = numpy_api->view(owner, data, dtype, (int)(end - begin), shape, order, writable);
    }
    Py_DECREF(owner);
    return array;
}

static int fill_ndarray(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                        PyObject **out) {
    const int32_t *tensors = (const int32_t *)(const void *)node->a + row;
    if (load_numpy() < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_array(d, tensors[i])) == NULL) return -1;
    }
    return 0;
}

#endif
