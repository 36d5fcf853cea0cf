/* The data of a message as a tree of ArrowArray, one for each node; see arrow_export.h. */
#include <stdlib.h>

#include "arrow_export.h"

/* What a buffer of no bytes points at: consumers may read a first offset even then. */
static const int64_t nothing[2] = {0, 0};

/* -- one array --------------------------------------------------------------------------------- */

typedef struct {
    PrArrowSource *source;
    const void *buffers[3];
} Private;

static void release_array(struct ArrowArray *array) {
    Private *private = array->private_data;
    PrArrowSource *source = private->source;
    for (int64_t i = 0; i < array->n_children; i++)
        if (array->children[i]->release) array->children[i]->release(array->children[i]);
    if (array->dictionary && array->dictionary->release)
        array->dictionary->release(array->dictionary);
    free(private);
    array->release = NULL;
    pr_arrow_release(source);
}

/* Fills in an array with its buffers unset and its children (and dictionary) still empty. One
 * allocation holds all that is inside. */
static int init_array(PrArrowSource *source, struct ArrowArray *out, int64_t length,
                      int64_t n_buffers, int64_t n_children, int has_dictionary) {
    size_t n_inner = (size_t)n_children + (has_dictionary != 0);
    size_t structs = n_inner * sizeof(struct ArrowArray);
    size_t pointers = (size_t)n_children * sizeof(struct ArrowArray *);
    char *memory = calloc(1, sizeof(Private) + structs + pointers);
    if (memory == NULL) return PR_ARROW_NO_MEMORY;

    Private *private = (Private *)(void *)memory;
    struct ArrowArray *inner = (struct ArrowArray *)(void *)(memory + sizeof(Private));
    struct ArrowArray **children =
        (struct ArrowArray **)(void *)(memory + sizeof(Private) + structs);
    for (int64_t i = 0; i < n_children; i++) children[i] = &inner[i];
   private
    ->source = source;
    pr_arrow_retain(source);
    *out = (struct ArrowArray){.length = length,
                               .n_buffers = n_buffers,
                               .n_children = n_children,
                               .buffers = private->buffers,
                               .children = n_children ? children : NULL,
                               .dictionary = has_dictionary ? &inner[n_children] : NULL,
                               .release = release_array,
                               .private_data = private};
    return PR_ARROW_OK;
}

static void set_buffer(struct ArrowArray *array, int i, const void *data) {
    array->buffers[i] = data ? data : nothing;
}

/* Values without validity: the layout of numbers and bools. */
static int values_array(PrArrowSource *source, struct ArrowArray *out, int64_t length,
                        const void *values) {
    int status = init_array(source, out, length, 2, 0, 0);
    if (status == PR_ARROW_OK) set_buffer(out, 1, values);
    return status;
}

static int text_array(PrArrowSource *source, struct ArrowArray *out, int64_t length,
                      const void *offsets, const void *data) {
    int status = init_array(source, out, length, 3, 0, 0);
    if (status != PR_ARROW_OK) return status;
    set_buffer(out, 1, offsets);
    set_buffer(out, 2, data);
    return status;
}

static int list_array(PrArrowSource *source, struct ArrowArray *out, int64_t length,
                      const void *offsets) {
    int status = init_array(source, out, length, 2, 1, 0);
    if (status == PR_ARROW_OK) set_buffer(out, 1, offsets);
    return status;
}

/* -- nodes ------------------------------------------------------------------------------------- */

static int node_array(PrArrowSource *source, uint32_t index, int own, struct ArrowArray *out);

static int all_children(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = PR_ARROW_OK;
    for (uint32_t c = 0; c < n->n_children && status == PR_ARROW_OK; c++)
        status = node_array(source, n->child + c, 0, out->children[c]);
    return status;
}

static int null_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = init_array(source, out, n->rows, 0, 0, 0);
    if (status == PR_ARROW_OK) out->null_count = n->rows;
    return status;
}

static int complex_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = init_array(source, out, n->rows, 1, 1, 0);
    return status == PR_ARROW_OK ? values_array(source, out->children[0], 2 * n->rows, n->a)
                                 : status;
}

static int dictionary_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    const PrNode *values = &source->message.nodes[n->child];
    int status = init_array(source, out, n->rows, 2, 0, 1);
    if (status != PR_ARROW_OK) return status;
    set_buffer(out, 1, n->a);
    return text_array(source, out->dictionary, values->rows, values->a, values->b);
}

static int index_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = init_array(source, out, n->rows, 1, 1, 0);
    return status == PR_ARROW_OK ? values_array(source, out->children[0], n->rows, n->a) : status;
}

static int items_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = list_array(source, out, n->rows, n->a);
    return status == PR_ARROW_OK ? all_children(source, n, out) : status;
}

static int dict_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = list_array(source, out, n->rows, n->a);
    if (status == PR_ARROW_OK)
        status =
            init_array(source, out->children[0], source->message.nodes[n->child].rows, 1, 2, 0);
    return status == PR_ARROW_OK ? all_children(source, n, out->children[0]) : status;
}

static int struct_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = init_array(source, out, n->rows, 1, n->n_children, 0);
    return status == PR_ARROW_OK ? all_children(source, n, out) : status;
}

static int union_array(PrArrowSource *source, const PrNode *n, struct ArrowArray *out) {
    int status = init_array(source, out, n->rows, 2, n->n_children, 0);
    if (status != PR_ARROW_OK) return status;
    set_buffer(out, 0, n->a);
    set_buffer(out, 1, n->b);
    return all_children(source, n, out);
}

/* `own`: the node is the top of a column, not a place in its parent. */
static int node_array(PrArrowSource *source, uint32_t index, int own, struct ArrowArray *out) {
    const PrNode *n = &source->message.nodes[index];
    switch (own ? pr_arrow_own_layout(source, index) : pr_arrow_layout(source, index)) {
    case PR_ARROW_NULL:
    case PR_ARROW_CONTINUED: return null_array(source, n, out);
    case PR_ARROW_VALUES: return values_array(source, out, n->rows, n->a);
    case PR_ARROW_COMPLEX: return complex_array(source, n, out);
    case PR_ARROW_BINARY: return text_array(source, out, n->rows, n->a, n->b);
    case PR_ARROW_DICTIONARY: return dictionary_array(source, n, out);
    case PR_ARROW_INDEX: return index_array(source, n, out);
    case PR_ARROW_LIST: return items_array(source, n, out);
    case PR_ARROW_MAP:
    case PR_ARROW_PAIRS: return dict_array(source, n, out);
    case PR_ARROW_STRUCT: return struct_array(source, n, out);
    default: return union_array(source, n, out);
    }
}

/* -- the record batch -------------------------------------------------------------------------- */

/* A list of one row that holds everything; `slot` says which of the source's bounds are its
 * offsets. */
static int one_row_list(PrArrowSource *source, uint32_t slot, struct ArrowArray *out) {
    return list_array(source, out, 1, &source->list_bounds[2 * (size_t)slot]);
}

static int one_row_struct_list(PrArrowSource *source, uint32_t slot, int64_t items,
                               int64_t n_fields, struct ArrowArray *out) {
    int status = one_row_list(source, slot, out);
    return status == PR_ARROW_OK ? init_array(source, out->children[0], items, 1, n_fields, 0)
                                 : status;
}

static int one_row_node(PrArrowSource *source, uint32_t slot, uint32_t node,
                        struct ArrowArray *out) {
    int status = one_row_list(source, slot, out);
    return status == PR_ARROW_OK ? node_array(source, node, 1, out->children[0]) : status;
}

static int tensors_array(PrArrowSource *source, struct ArrowArray *out) {
    const PrMessage *m = &source->message;
    int status = one_row_struct_list(source, 1, m->n_tensors, 4, out);
    if (status != PR_ARROW_OK) return status;
    struct ArrowArray **fields = out->children[0]->children;
    status = text_array(source, fields[0], m->n_tensors, source->dtype_offsets, source->dtype_data);
    if (status == PR_ARROW_OK)
        status = list_array(source, fields[1], m->n_tensors, m->tensor_shape_offsets);
    if (status == PR_ARROW_OK)
        status = values_array(source, fields[1]->children[0], m->n_tensors ? (int64_t)m->n_dims : 0,
                              m->tensor_shapes);
    if (status == PR_ARROW_OK)
        status = values_array(source, fields[2], m->n_tensors, m->tensor_order);
    if (status == PR_ARROW_OK)
        status = values_array(source, fields[3], m->n_tensors, m->tensor_buffer);
    return status;
}

static int buffers_array(PrArrowSource *source, struct ArrowArray *out) {
    const PrMessage *m = &source->message;
    int status = one_row_struct_list(source, 2, m->n_buffers, 2, out);
    if (status != PR_ARROW_OK) return status;
    struct ArrowArray **fields = out->children[0]->children;
    status = values_array(source, fields[0], m->n_buffers, m->buffer_sizes);
    if (status == PR_ARROW_OK)
        status = text_array(source, fields[1], m->n_buffers, source->buffer_offsets, m->buffers);
    return status;
}

static int globals_array(PrArrowSource *source, struct ArrowArray *out) {
    uint32_t n = source->message.n_globals;
    int status = one_row_struct_list(source, 3, n, 2, out);
    for (int i = 0; i < 2 && status == PR_ARROW_OK; i++)
        status = text_array(source, out->children[0]->children[i], n, source->global_offsets[i],
                            source->global_data[i]);
    return status;
}

static int memo_array(PrArrowSource *source, struct ArrowArray *out) {
    const PrMessage *m = &source->message;
    int status = one_row_struct_list(source, 4, m->n_memo, 3, out);
    if (status != PR_ARROW_OK) return status;
    struct ArrowArray **fields = out->children[0]->children;
    status = values_array(source, fields[0], m->n_memo, m->memo_node);
    if (status == PR_ARROW_OK) status = values_array(source, fields[1], m->n_memo, m->memo_row);
    if (status == PR_ARROW_OK) status = values_array(source, fields[2], m->n_memo, m->memo_number);
    return status;
}

static int continued_array(PrArrowSource *source, struct ArrowArray *out) {
    int status = init_array(source, out, 1, 1, source->n_continued, 0);
    for (uint32_t i = 0; i < source->n_continued && status == PR_ARROW_OK; i++)
        status = one_row_node(source, 5 + i, source->continued[i], out->children[i]);
    return status;
}

static int batch_array(PrArrowSource *source, struct ArrowArray *out) {
    int status = init_array(source, out, 1, 1, source->n_continued ? 6 : 5, 0);
    if (status == PR_ARROW_OK) status = one_row_node(source, 0, 0, out->children[0]);
    if (status == PR_ARROW_OK) status = tensors_array(source, out->children[1]);
    if (status == PR_ARROW_OK) status = buffers_array(source, out->children[2]);
    if (status == PR_ARROW_OK) status = globals_array(source, out->children[3]);
    if (status == PR_ARROW_OK) status = memo_array(source, out->children[4]);
    if (status == PR_ARROW_OK && source->n_continued)
        status = continued_array(source, out->children[5]);
    return status;
}

int pr_arrow_array(PrArrowSource *source, struct ArrowArray *out) {
    out->release = NULL;
    int status = batch_array(source, out);
    if (status != PR_ARROW_OK && out->release) out->release(out);
    return status;
}
