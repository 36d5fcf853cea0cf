/* Memory, errors and limits of a Decoder. */
#ifndef PYRAY_DECODE_STATE_H
#define PYRAY_DECODE_STATE_H

#include "_decode.h"

/* Set when _decoder.pyx is imported. */
static PyObject *DeserializationError;
static PyObject *empty_tuple;
static PyObject *(*make_buffer)(PyObject *owner, const void *data, Py_ssize_t size, int readonly);

static int fill(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out);

/* -- errors ----------------------------------------------------------------------------------- */

static int malformed(const char *what) {
    PyErr_Format(DeserializationError, "malformed message: %s", what);
    return -1;
}

static int bad_offsets(void) {
    return malformed("an offset points outside its column");
}

/* After a decoding function of str: bytes that are not UTF-8 are the message's fault. */
static int bad_text(void) {
    if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        malformed("a str is not UTF-8");
    }
    return -1;
}

static void release_range(PyObject **items, int64_t count) {
    for (int64_t i = 0; i < count; i++) Py_CLEAR(items[i]);
}

/* -- limits ----------------------------------------------------------------------------------- */

/* An honest message visits each row about once. Rows that overlap, which only a hostile writer
 * makes, run into this limit before they cost more than a multiple of the message.
 *
 * What a row is charged, in bits: never more than it takes in the message, and enough for the
 * objects it makes, of which no charged byte pays for more than 500 bytes. The worst are dicts of
 * many fields that are None. */
static const uint8_t charges[PR_KIND_LIMIT] = {
    /* No more than a reference to what is there, or was charged elsewhere. */
    [PR_NULL] = 1,
    [PR_BOOL] = 1,
    [PR_DICTIONARY] = 1,
    [PR_REF] = 1,
    [PR_GLOBAL] = 1,
    [PR_UNION] = 1,
    [PR_INT8] = 8,
    [PR_INT16] = 8,
    [PR_INT32] = 8,
    [PR_INT64] = 8,
    [PR_FLOAT64] = 8,
    [PR_COMPLEX128] = 8,
    /* And for their bytes, see charge_bytes. */
    [PR_UTF8] = 8,
    [PR_SURROGATES] = 8,
    [PR_BYTES] = 8,
    [PR_BYTEARRAY] = 8,
    [PR_BIGINT] = 8,
    [PR_BYTES_BUFFER] = 32,
    [PR_BYTEARRAY_BUFFER] = 32,
    [PR_BUFFER] = 32,
    [PR_BUFFER_WRITABLE] = 32,
    [PR_NDARRAY] = 32, /* and for its dimensions */
    [PR_LIST] = 8,
    [PR_TUPLE] = 8,
    [PR_SET] = 8,
    [PR_FROZENSET] = 8,
    [PR_DICT] = 8,
    [PR_DICT_RECORD] = 8,
    [PR_TUPLE_RECORD] = 8,
    [PR_INSTANCE] = 8,
    [PR_REDUCE] = 8,
};

static int charge(Decoder *d, int64_t bits) {
    d->work -= bits;
    if (d->work >= 0) return 0;
    return malformed("its rows overlap");
}

static int charge_rows(Decoder *d, const PrNode *node, int64_t count) {
    return charge(d, count * charges[node->kind]);
}

static int charge_bytes(Decoder *d, int64_t count) {
    return charge(d, 8 * count);
}

enum { STACK_STEP = 64 << 10, STACK_RESERVE = 256 << 10, STACK_LARGEST = 64 << 20 };

/* The stack has come down to the floor. The first floor is only the point from which on it is worth
 * asking where the stack ends; the second is final. */
static int stack_is_deep(Decoder *d) {
    char *here = (char *)__builtin_frame_address(0), *bottom = stack_bottom();
    if (d->floor_is_final) {
        PyErr_SetString(PyExc_RecursionError,
                        "the message is nested too deeply for the stack of this thread");
        return -1;
    }
    size_t left = bottom != NULL && here > bottom ? (size_t)(here - bottom) : 2 * STACK_RESERVE;
    if (left > STACK_LARGEST) left = STACK_LARGEST;
    /* Code that the message makes run needs stack, too: leave it a third. */
    size_t reserve = left / 3 > STACK_RESERVE ? left / 3 : STACK_RESERVE;
    d->floor_is_final = 1;
    d->stack_floor = here - left + reserve;
    return d->stack_floor < here ? 0 : stack_is_deep(d);
}

/* Starts an operation on the calling thread, with new limits: all that the message takes and its
 * records are charged, twice, as tuples in cycles may be made again; and a little for small
 * messages. */
static void begin(Decoder *d) {
    d->work = 8 * (2 * (int64_t)(d->message.size + d->message.record_rows) + 4096);
    d->stack_floor = (char *)__builtin_frame_address(0) - STACK_STEP;
    d->floor_is_final = 0;
}

static inline int enter(Decoder *d) {
    if ((char *)__builtin_frame_address(0) > d->stack_floor) return 0;
    return stack_is_deep(d);
}

/* -- memory ----------------------------------------------------------------------------------- */

static PyObject **object_array(Decoder *d, size_t count) {
    ObjectArray *array = PyMem_Calloc(1, sizeof(ObjectArray) + count * sizeof(PyObject *));
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    array->count = count;
    array->next = d->arrays;
    d->arrays = array;
    return array->items;
}

/* Zeroed memory that is freed with the decoder. */
static void *block(Decoder *d, size_t size) {
    void **memory = PyMem_Calloc(1, sizeof(void *) + size);
    if (memory == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *memory = d->blocks;
    d->blocks = memory;
    return memory + 1;
}

static void release_arrays(Decoder *d) {
    while (d->arrays != NULL) {
        ObjectArray *array = d->arrays;
        d->arrays = array->next;
        release_range(array->items, (int64_t)array->count);
        PyMem_Free(array);
    }
    while (d->blocks != NULL) {
        void **memory = d->blocks;
        d->blocks = *memory;
        PyMem_Free(memory);
    }
}

/* Zeroed memory for one pointer a node. */
static void *node_table(Decoder *d) {
    return block(d, d->message.n_nodes * sizeof(void *));
}

#endif
