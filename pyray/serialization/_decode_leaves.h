/* Columns without children: numbers, strings, bytes, dictionary indices. One loop a kind. */
#ifndef PYRAY_DECODE_LEAVES_H
#define PYRAY_DECODE_LEAVES_H

#include <string.h>

#include "_decode_state.h"

/* -- None, bool, numbers ---------------------------------------------------------------------- */

static int fill_null(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    (void)d, (void)node, (void)row;
    for (int64_t i = 0; i < count; i++) out[i] = Py_NewRef(Py_None);
    return 0;
}

static int fill_bool(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    (void)d;
    for (int64_t i = 0; i < count; i++) {
        int bit = node->a[(row + i) >> 3] >> ((row + i) & 7) & 1;
        out[i] = Py_NewRef(bit ? Py_True : Py_False);
    }
    return 0;
}

#define FILL_NUMBERS(name, type, make)                                                            \
    static int name(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) { \
        const type *values = (const type *)(const void *)node->a + row;                           \
        (void)d;                                                                                  \
        for (int64_t i = 0; i < count; i++) {                                                     \
            if ((out[i] = make(values[i])) == NULL) return -1;                                    \
        }                                                                                         \
        return 0;                                                                                 \
    }

FILL_NUMBERS(fill_int8, int8_t, PyLong_FromLong)
FILL_NUMBERS(fill_int16, int16_t, PyLong_FromLong)
FILL_NUMBERS(fill_int32, int32_t, PyLong_FromLong)
FILL_NUMBERS(fill_int64, int64_t, PyLong_FromLongLong)
FILL_NUMBERS(fill_float64, double, PyFloat_FromDouble)

static int fill_complex128(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                           PyObject **out) {
    const double *values = (const double *)(const void *)node->a + 2 * row;
    (void)d;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = PyComplex_FromDoubles(values[2 * i], values[2 * i + 1])) == NULL) return -1;
    }
    return 0;
}

/* -- str -------------------------------------------------------------------------------------- */

static int is_ascii(const uint8_t *data, int64_t size) {
    const uint8_t *end = data + size;
    uint64_t seen = 0, word;
    for (; end - data >= 8; data += 8) {
        memcpy(&word, data, 8);
        seen |= word;
    }
    for (; data < end; data++) seen |= *data;
    return (seen & 0x8080808080808080u) == 0;
}

static inline PyObject *ascii_str(const uint8_t *data, int64_t size) {
    if (size <= 1) return PyUnicode_DecodeLatin1((const char *)data, size, NULL); /* cached ones */
    PyObject *str = PyUnicode_New(size, 127);
    if (str != NULL) memcpy(PyUnicode_1BYTE_DATA(str), data, (size_t)size);
    return str;
}

/* The first and the last offset of a range of rows, which the others must lie between. */
static int byte_range(Decoder *d, const PrNode *node, int64_t row, int64_t count, int64_t *begin,
                      int64_t *end) {
    *begin = pr_offset(node, node->a, row);
    *end = pr_offset(node, node->a, row + count);
    if (*begin < 0 || *end < *begin || (uint64_t)*end > node->data_size) return bad_offsets();
    return charge_bytes(d, *end - *begin);
}

static int fill_utf8(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    int64_t begin, end, last;
    if (byte_range(d, node, row, count, &begin, &last) < 0) return -1;
    const uint8_t *data = node->b;
    int ascii = is_ascii(data + begin, last - begin);
    for (int64_t i = 0; i < count; i++, begin = end) {
        end = pr_offset(node, node->a, row + i + 1);
        if (end < begin || end > last) return bad_offsets();
        out[i] = ascii ? ascii_str(data + begin, end - begin)
                       : PyUnicode_DecodeUTF8((const char *)data + begin, end - begin, NULL);
        if (out[i] == NULL) return bad_text();
    }
    return 0;
}

static PyObject *str_with_surrogates(const uint8_t *data, int64_t size) {
    return PyUnicode_DecodeUTF8((const char *)data, size, "surrogatepass");
}

/* -- bytes and large ints --------------------------------------------------------------------- */

static PyObject *make_bytes(const uint8_t *data, int64_t size) {
    return PyBytes_FromStringAndSize((const char *)data, size);
}

static PyObject *make_bytearray(const uint8_t *data, int64_t size) {
    return PyByteArray_FromStringAndSize((const char *)data, size);
}

static PyObject *make_int(const uint8_t *data, int64_t size) {
    if (size == 0) {
        malformed("an int has no bytes");
        return NULL;
    }
    return int_from_bytes(data, (size_t)size);
}

static int fill_binary(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out,
                       PyObject *(*make)(const uint8_t *, int64_t)) {
    int64_t begin, end, last;
    if (byte_range(d, node, row, count, &begin, &last) < 0) return -1;
    for (int64_t i = 0; i < count; i++, begin = end) {
        end = pr_offset(node, node->a, row + i + 1);
        if (end < begin || end > last) return bad_offsets();
        if ((out[i] = make(node->b + begin, end - begin)) == NULL) return bad_text();
    }
    return 0;
}

static int fill_surrogates(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                           PyObject **out) {
    return fill_binary(d, node, row, count, out, str_with_surrogates);
}

static int fill_bytes(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    return fill_binary(d, node, row, count, out, make_bytes);
}

static int fill_bytearray(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                          PyObject **out) {
    return fill_binary(d, node, row, count, out, make_bytearray);
}

static int fill_bigint(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    return fill_binary(d, node, row, count, out, make_int);
}

/* -- dictionary indices ----------------------------------------------------------------------- */

/* The values of a DICTIONARY node, each made once. All of them now, if most will be wanted. */
static PyObject **dictionary_values(Decoder *d, const PrNode *node, int64_t wanted) {
    if (d->caches == NULL && (d->caches = node_table(d)) == NULL) return NULL;
    PyObject ***slot = &d->caches[node - d->message.nodes];
    if (*slot != NULL) return *slot;
    const PrNode *values = &d->message.nodes[node->child];
    PyObject **cache = object_array(d, (size_t)values->rows);
    if (cache == NULL) return NULL;
    if (wanted >= values->rows && fill(d, values, 0, values->rows, cache) < 0) return NULL;
    *slot = cache;
    return cache;
}

static int fill_dictionary(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                           PyObject **out) {
    const int32_t *indices = (const int32_t *)(const void *)node->a + row;
    const PrNode *values = &d->message.nodes[node->child];
    PyObject **cache = dictionary_values(d, node, count);
    if (cache == NULL) return -1;
    for (int64_t i = 0; i < count; i++) {
        int64_t index = indices[i];
        if (index < 0 || index >= values->rows) return malformed("an index names no string");
        if (cache[index] == NULL && fill(d, values, index, 1, &cache[index]) < 0) return -1;
        out[i] = Py_NewRef(cache[index]);
    }
    return 0;
}

#endif
