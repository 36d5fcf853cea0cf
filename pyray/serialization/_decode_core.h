/* The table of kinds, and the decoder's entry points. Included by _decoder.pyx alone. */
#ifndef PYRAY_DECODE_CORE_H
#define PYRAY_DECODE_CORE_H

#include <assert.h>

#include "_decode_containers.h"
#include "_decode_leaves.h"
#include "_decode_objects.h"
#include "_decode_reduce.h"

static const FillRows fillers[PR_KIND_LIMIT] = {
    [PR_NULL] = fill_null,
    [PR_BOOL] = fill_bool,
    [PR_INT8] = fill_int8,
    [PR_INT16] = fill_int16,
    [PR_INT32] = fill_int32,
    [PR_INT64] = fill_int64,
    [PR_FLOAT64] = fill_float64,
    [PR_COMPLEX128] = fill_complex128,
    [PR_UTF8] = fill_utf8,
    [PR_SURROGATES] = fill_surrogates,
    [PR_BYTES] = fill_bytes,
    [PR_BYTEARRAY] = fill_bytearray,
    [PR_BIGINT] = fill_bigint,
    [PR_DICTIONARY] = fill_dictionary,
    [PR_REF] = fill_ref,
    [PR_GLOBAL] = fill_global,
    [PR_BYTES_BUFFER] = fill_buffer,
    [PR_BYTEARRAY_BUFFER] = fill_buffer,
    [PR_BUFFER] = fill_buffer,
    [PR_BUFFER_WRITABLE] = fill_buffer,
    [PR_NDARRAY] = fill_ndarray,
    [PR_LIST] = fill_list,
    [PR_TUPLE] = fill_tuple,
    [PR_SET] = fill_set,
    [PR_FROZENSET] = fill_frozenset,
    [PR_DICT] = fill_dict,
    [PR_DICT_RECORD] = fill_dict_record,
    [PR_TUPLE_RECORD] = fill_tuple_record,
    [PR_INSTANCE] = fill_instance,
    [PR_REDUCE] = fill_reduce,
    [PR_UNION] = fill_union,
};

/* Without regard to the memo. The parser lets no kind through that is not in the table. */
static int fill_rows(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    return fillers[node->kind](d, node, row, count, out);
}

static int fill(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (charge_rows(d, node, count) < 0) return -1;
    int status = node->memo_begin != node->memo_end ? fill_with_memo(d, node, row, count, out)
                                                    : fill_rows(d, node, row, count, out);
#ifdef PYRAY_DEBUG
    assert(row >= 0 && row + count <= node->rows);
    assert((status < 0) == (PyErr_Occurred() != NULL));
    for (int64_t i = 0; i < count && status == 0; i++) assert(out[i] != NULL);
#endif
    return status;
}

static int exists_before_children(const PrNode *node) {
    switch (node->kind) {
    case PR_LIST:
    case PR_SET:
    case PR_DICT:
    case PR_DICT_RECORD:
    case PR_INSTANCE: return 1;
    default: return 0;
    }
}

static PyObject *make_before_children(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    if (enter(d) < 0) return NULL;
    switch (node->kind) {
    case PR_LIST: return make_list_first(d, node, row, number);
    case PR_SET: return make_set_first(d, node, row, number);
    case PR_DICT: return make_dict(d, node, row, number);
    case PR_DICT_RECORD: return make_dict_record(d, node, row, number);
    case PR_INSTANCE: return make_instance(d, node, row, number);
    default: return make_reduced(d, node, row, number);
    }
}

/* -- entry points ----------------------------------------------------------------------------- */

/* Everything but `message` and `head` is zeroed. Takes over the reference to `source`. */
static void decoder_init(Decoder *d) {
    memset((char *)d + sizeof d->message, 0, sizeof *d - sizeof d->message);
    d->message.storage = d->message.memo_first = NULL;
}

static void decoder_free(Decoder *d) {
    release_arrays(d);
    Py_CLEAR(d->out_of_band);
    pr_message_free(&d->message);
    PyMem_Free(d->head);
    d->head = NULL;
    Py_CLEAR(d->source);
}

/* Parses the message at `data`; an unaligned one's columns are copied. */
static int decoder_open(Decoder *d, const void *data, Py_ssize_t size) {
    PrMessage *m = &d->message;
    if (pr_message_parse(m, data, (uint64_t)size) < 0) return malformed(m->error);
    if ((uintptr_t)data % 8 == 0) return 0;
    d->head = PyMem_Malloc(m->head_size);
    if (d->head == NULL) return PyErr_NoMemory(), -1;
    memcpy(d->head, data, m->head_size);
    pr_message_realign(m, d->head);
    return 0;
}

/* One object, with the cyclic collector paused: it would look again and again at objects that are
 * all in use. */
static PyObject *decode_row(Decoder *d, uint32_t node, int64_t row) {
    PyObject *object = NULL;
    begin(d);
    int collecting = PyGC_Disable();
    if (fill(d, &d->message.nodes[node], row, 1, &object) < 0) Py_CLEAR(object);
    if (collecting) PyGC_Enable();
    return object;
}

/* One object of a kind without children, for a view: other threads may be decoding rows. */
static PyObject *decode_leaf(Decoder *d, uint32_t node, int64_t row) {
    PyObject *object = NULL;
    int64_t work = d->work;
    d->work = INT64_MAX;
    if (fill(d, &d->message.nodes[node], row, 1, &object) < 0) Py_CLEAR(object);
    d->work = work;
    return object;
}

/* The message's object. The whole message will be read, so all of it is proved first. */
static PyObject *decode_root(Decoder *d) {
    if (pr_message_check(&d->message) < 0) return malformed(d->message.error), NULL;
    return decode_row(d, 0, 0);
}

#endif
