/* A columns message as a tree that can be changed and written again.
 *
 * tree_read takes apart what pr_message_parse accepts; tree_write lays the parts out anew, with
 * every size, position and node number made to fit, so that a mutant's faults lie where the mutator
 * put them and not in the first sum that a reader checks. All memory comes from one arena that the
 * next tree_read empties.
 */
#ifndef PYRAY_FUZZ_TREE_H
#define PYRAY_FUZZ_TREE_H

#include "message.h"

enum { MOST_NODES = 2048, MOST_TEXTS = 256, MOST_ENTRIES = 2048, MOST_TENSORS = 256 };

typedef struct {
    uint8_t *data;
    size_t size;
} Bytes;

typedef struct Node {
    uint8_t kind, large, parts;
    uint32_t n_children, n_names;
    uint64_t rows, extra;
    Bytes a, b; /* columns */
    struct Node **children;
    Bytes *names;
    int32_t number; /* breadth first; set by tree_write */
} Node;

typedef struct {
    Node *node;
    int64_t row;
    int32_t number;
} Entry;

typedef struct {
    Node *root;
    Bytes globals[2 * MOST_TEXTS], dtypes[MOST_TEXTS];
    uint32_t n_globals, n_dtypes;
    Entry memo[MOST_ENTRIES];
    uint32_t n_memo;
    Bytes tensor_buffer, tensor_dtype, tensor_order, tensor_shape_offsets, tensor_shapes;
    Bytes buffer_offsets, buffer_sizes;
    Bytes buffers;     /* the whole part */
    int keep_order;    /* write the memo as it stands, unsorted and with gaps */
    int n_extra_nodes; /* added to the count of nodes that is written */
} Tree;

void arena_reset(void);
/* Zeroed; NULL when the arena is full. */
void *arena(size_t size);
Bytes bytes_copy(const void *data, size_t size);

/* Takes apart the message; 0, or -1 if it is none or too large for a Tree. */
int tree_read(Tree *tree, const uint8_t *data, size_t size);
/* Number of bytes written, 0 if they are more than `room`. */
size_t tree_write(Tree *tree, uint8_t *out, size_t room);

/* Lists the nodes breadth first, at most MOST_NODES. */
uint32_t tree_nodes(const Tree *tree, Node **out);

/* Bytes of one value in the node's first column; 0: bits, -1: none. Offsets count as values. */
int node_width(const Node *node);
int node_has_offsets(const Node *node);
int node_is_binary(const Node *node);
uint32_t node_arity(const Node *node);
/* Gives the node so many rows; its columns are cut, or lengthened with more of the same. Records
 * take their fields along. */
void node_resize(Node *node, uint64_t rows);

#endif
