/* The state of decoding one message, and what its parts share.
 *
 * Decoding is random access: fill() makes the objects of a range of rows of any node, whatever was
 * made before, so whole-object decoding and lazy views run the same code. Each kind of node has a
 * function in _decode_leaves.h, _decode_containers.h or _decode_objects.h, listed in
 * _decode_core.h; _decoder.pyx is the only module that includes those. Every offset, index and type
 * id is compared with its column before use.
 */
#ifndef PYRAY_DECODE_H
#define PYRAY_DECODE_H

#include "_decode_compat.h"
#include "_ndarray_api.h"
#include "message.h"

/* References owned by the decoder: one array a purpose, zeroed, released together at the end. */
typedef struct ObjectArray {
    struct ObjectArray *next;
    size_t count;
    PyObject *items[];
} ObjectArray;

typedef struct Decoder {
    PrMessage message;
    PyObject *source;      /* owned; what keeps the message's bytes alive: bytes or a Buffer */
    PyObject *out_of_band; /* owned list of the buffers given by the caller, or NULL */
    void *head;            /* aligned copy of an unaligned message's head, or NULL */
    PyObject **memo;       /* number -> object, once it exists */
    uint64_t *demanded;    /* number -> objects_made + 1 while it is made on demand */
    uint64_t objects_made; /* how many memo numbers have their object */
    PyObject **globals;    /* index -> object, once looked up */
    PyObject **dtypes;     /* index -> dtype, once made */
    int64_t *itemsizes;    /* of dtypes */
    PyObject ***caches;    /* node -> values of a DICTIONARY, names of a record; NULL until used */
    struct ClassPlan **plans; /* node -> how to make an INSTANCE; NULL until used */
    ObjectArray *arrays;
    void *blocks;      /* other memory to free at the end */
    char *stack_floor; /* recursion stops when the C stack has come down here */
    int floor_is_final;
    int writable; /* the message is the reader's own memory: arrays may be written */
    int64_t work; /* bits that rows may still be charged, see _decode_state.h */
} Decoder;

/* Makes the objects of rows [row, row + count) of a node: new references in out, whose slots are
 * NULL before. The caller has checked the rows to exist. 0, or -1 with an exception; then some
 * slots may be filled, and are the caller's to release. */
typedef int (*FillRows)(Decoder *, const PrNode *, int64_t row, int64_t count, PyObject **out);

#endif
