/* Fuzz target: the parser, its check, the full check and the Arrow export, without Python. */
#include <stdlib.h>
#include <string.h>

#include "arrow_export.h"
#include "validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum; /* keeps reads from being optimized away */

static void read_bytes(const void *data, uint64_t size) {
    for (uint64_t i = 0; i < size; i++) sum += ((const uint8_t *)data)[i];
}

/* What pr_message_parse has promised: each column lies in the message, the tree is a tree. */
static void read_node(const PrMessage *m, const PrNode *n) {
    if (n->child > m->n_nodes || n->n_children > m->n_nodes - n->child) abort();
    if (n->memo_begin > n->memo_end || n->memo_end > m->n_memo) abort();
    if (n->rows < 0) abort();
    if (n->kind >= PR_UTF8 && n->kind <= PR_BIGINT) read_bytes(n->b, n->data_size);
    if ((n->kind >= PR_UTF8 && n->kind <= PR_BIGINT) ||
        (n->kind >= PR_LIST && n->kind <= PR_DICT)) {
        for (int64_t row = 0; row <= n->rows; row++) sum += (uint64_t)pr_offset(n, n->a, row);
    }
    if (n->kind == PR_UNION) {
        for (int64_t row = 0; row < n->rows; row++) sum += (uint64_t)pr_offset(n, n->b, row);
        read_bytes(n->a, (uint64_t)n->rows);
    }
}

static void read_message(PrMessage *m) {
    if (m->record_rows > m->head_size || m->head_size > m->size) abort();
    for (uint32_t i = 0; i < m->n_nodes; i++) read_node(m, &m->nodes[i]);
    for (uint32_t i = 0; i < 2 * m->n_globals; i++)
        read_bytes(m->globals[i].data, m->globals[i].size);
    for (uint32_t i = 0; i < m->n_names; i++) read_bytes(m->names[i].data, m->names[i].size);
    for (uint32_t i = 0; i < m->n_buffers; i++) {
        const uint8_t *buffer;
        uint64_t size;
        if (pr_message_buffer(m, i, &buffer, &size) == 0) read_bytes(buffer, size);
    }
}

static void check_message(const uint8_t *data, size_t size) {
    static PrMessage m;
    if (pr_message_parse(&m, data, size) == 0) {
        read_message(&m);
        if (pr_message_check(&m) == 0) {
            for (uint32_t i = 0; i < m.n_memo; i++) {
                const PrNode *node = &m.nodes[m.memo_node[i]];
                if (pr_memo_lower_bound(&m, node, m.memo_row[i]) != i) abort();
            }
            pr_message_validate(&m);
        }
    }
    pr_message_free(&m);
}

static void nothing(void *handle) {
    (void)handle;
}

/* Values and offsets of what has rows must be there; the third buffer, data, may be empty. */
static void read_arrow(const struct ArrowArray *array) {
    for (int64_t i = 0; i < array->n_buffers && i < 2; i++) {
        if (array->buffers[i] != NULL && array->length > 0) read_bytes(array->buffers[i], 1);
    }
    for (int64_t i = 0; i < array->n_children; i++) read_arrow(array->children[i]);
    if (array->dictionary != NULL) read_arrow(array->dictionary);
}

static void export_message(const uint8_t *data, size_t size) {
    int status;
    const char *error;
    struct ArrowArray array;
    struct ArrowSchema schema;
    PrArrowSource *source = pr_arrow_open(data, size, nothing, NULL, &status, &error);
    if (source == NULL) return;
    if (pr_arrow_schema(source, &schema) == PR_ARROW_OK) schema.release(&schema);
    if (pr_arrow_array(source, &array) == PR_ARROW_OK) {
        read_arrow(&array);
        array.release(&array);
    }
    pr_arrow_release(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = aligned_alloc(16, (size + 15) & ~(size_t)15), *end;
    if (copy == NULL || size == 0) return free(copy), 0;
    /* The message ends where the allocation does; columns are aligned to 8 if its size is. */
    end = copy + ((size + 15) & ~(size_t)15);
    memcpy(end - size, data, size);
    if ((uintptr_t)(end - size) % 8 == 0) check_message(end - size, size);
    /* The export takes many small allocations: of whole messages, one in four. */
    if (size % 8 || (data[size - 1] ^ data[size / 2] ^ size >> 3) % 4 == 0)
        export_message(end - size, size);
    free(copy);
    return 0;
}
