/* libFuzzer's mutator and crossover, which know what a message is made of.
 *
 * Most mutants are whole messages in which a few things are wrong: an offset, a kind, a row count,
 * a memo entry, a subtree where it does not belong. One in sixteen is also mutated as plain bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "tree.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_size, unsigned seed);

/* Names that a reader of the fuzz target allows (targets.py), and some it does not. */
static const char *const globals[][2] = {
    {"collections", "OrderedDict"},
    {"collections", "deque"},
    {"collections", "defaultdict"},
    {"collections", "Counter"},
    {"datetime", "datetime"},
    {"datetime", "timedelta"},
    {"decimal", "Decimal"},
    {"functools", "partial"},
    {"builtins", "object"},
    {"builtins", "complex"},
    {"builtins", "set"},
    {"builtins", "dict"},
    {"builtins", "slice"},
    {"builtins", "ValueError"},
    {"types", "SimpleNamespace"},
    {"copyreg", "__newobj__"},
    {"copyreg", "__newobj_ex__"},
    {"copyreg", "_reconstructor"},
    {"pyray.serialization.context", "_restore"},
    {"pyray.serialization.context", "_new_instance"},
    {"pyray.serialization.context", "_update_attributes"},
    {"targets", "Plain"},
    {"targets", "Slots"},
    {"targets", "SlotsAndDict"},
    {"targets", "WithState"},
    {"targets", "Reduced"},
    {"targets", "Eater"},
    {"targets", "Elsewhere"},
    {"targets", "Factory"},
    {"targets", "Guarded"},
    {"targets", "ListSubclass"},
    {"targets", "DictSubclass"},
    {"targets", "TupleSubclass"},
    {"targets", "Point"},
    {"targets", "Color"},
    {"targets", "Plain.Inner"},
    {"targets", "identity"},
    {"targets", "set_content"},
    {"targets", "clear"},
    {"os", "system"},
    {"", ""},
    {"targets", "\xff"},
};

static const char *const dtypes[] = {
    "<f8", "<i4", ">i2", "|b1", "|u1",        "<c16", "<M8[ns]", "<m8[7D]",
    "|S3", "<U2", "|V5", "|S0", "<U0",        "|V0",  "|O",      "<f16",
    "<f2", "=i8", "<f9", "<M8", "|S99999999", "",     "<M8[",    "|V4[2]",
};

/* -- chance ------------------------------------------------------------------------------------ */

static uint64_t state;

static uint32_t chance(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (uint32_t)((state >> 16) % below) : 0;
}

static int64_t interesting(int64_t old, int64_t limit) {
    switch (chance(12)) {
    case 0: return 0;
    case 1: return -1;
    case 2: return (int64_t)((uint64_t)old + 1);
    case 3: return (int64_t)((uint64_t)old - 1);
    case 4: return limit;
    case 5: return limit - 1;
    case 6: return limit + 1;
    case 7: return INT32_MAX - (int64_t)chance(2);
    case 8: return chance(2) ? INT64_MAX : INT64_MIN;
    case 9: return (int64_t)1 << chance(63);
    default: return limit > 0 ? (int64_t)chance((uint32_t)limit) : (int64_t)chance(8);
    }
}

static Bytes text_of(const char *text) {
    return bytes_copy(text, strlen(text));
}

static int64_t load(const uint8_t *at, size_t width) {
    int64_t value = 0;
    memcpy(&value, at, width < 8 ? width : 8);
    if (width < 8) value = (int64_t)((uint64_t)value << (64 - 8 * width)) >> (64 - 8 * width);
    return value;
}

static void store(uint8_t *at, size_t width, int64_t value) {
    memcpy(at, &value, width < 8 ? width : 8);
}

static void swap_values(uint8_t *a, uint8_t *b, size_t width) {
    uint8_t kept[16];
    memcpy(kept, a, width);
    memcpy(a, b, width);
    memcpy(b, kept, width);
}

/* Changes one value of a column. */
static void change_value(Bytes column, size_t width, int64_t limit) {
    size_t count = width ? column.size / width : 0;
    if (count == 0) return;
    uint8_t *at = column.data + chance((uint32_t)count) * width;
    uint8_t *other = column.data + chance((uint32_t)count) * width;
    switch (chance(4)) {
    case 0: swap_values(at, other, width); break;
    case 1: memmove(at, other, width); break;
    default: store(at, width, interesting(load(at, width), limit));
    }
}

/* -- nodes ------------------------------------------------------------------------------------- */

static Node *nodes[MOST_NODES];
static uint32_t n_nodes;
static Tree tree, other;

static Node *any_node(void) {
    return nodes[chance(n_nodes)];
}

/* What values of the node's first column must be less than. */
static int64_t limit_of(const Node *node) {
    switch (node->kind) {
    case PR_GLOBAL: return tree.n_globals;
    case PR_NDARRAY: return (int64_t)tree.tensor_order.size;
    case PR_REF: return tree.n_memo;
    case PR_UNION: return node->n_children;
    case PR_BYTES_BUFFER:
    case PR_BYTEARRAY_BUFFER:
    case PR_BUFFER:
    case PR_BUFFER_WRITABLE: return (int64_t)tree.buffer_offsets.size / 8;
    default: break;
    }
    if (node_is_binary(node)) return (int64_t)node->b.size;
    return node->n_children ? (int64_t)node->children[0]->rows : 1 << 16;
}

static void change_column(Node *node) {
    int width = node_width(node);
    if (width < 0) return;
    if (node->kind == PR_UNION && chance(2)) {
        Node *member = node->n_children ? node->children[chance(node->n_children)] : node;
        change_value(node->b, node->large ? 8 : 4, (int64_t)member->rows);
    } else if (node_is_binary(node) && chance(3) == 0) {
        change_value(node->b, 1, 256);
    } else {
        change_value(node->a, width ? (size_t)width : 1, limit_of(node));
    }
}

static const uint8_t kind_groups[][8] = {
    {PR_LIST, PR_TUPLE, PR_SET, PR_FROZENSET},
    {PR_UTF8, PR_SURROGATES, PR_BYTES, PR_BYTEARRAY, PR_BIGINT},
    {PR_INT32, PR_REF, PR_GLOBAL, PR_BYTES_BUFFER, PR_BYTEARRAY_BUFFER, PR_BUFFER, PR_NDARRAY,
     PR_BUFFER_WRITABLE},
    {PR_INT64, PR_FLOAT64},
    {PR_NULL, PR_BOOL},
};

/* Another kind of the same layout. */
static void change_kind(Node *node) {
    for (size_t g = 0; g < sizeof kind_groups / sizeof *kind_groups; g++) {
        const uint8_t *group = kind_groups[g];
        size_t n = 0;
        while (n < 8 && (group[n] || (g == 4 && n == 0))) n++;
        for (size_t i = 0; i < n; i++) {
            if (group[i] == node->kind) {
                node->kind = group[chance((uint32_t)n)];
                return;
            }
        }
    }
    if (node->kind == PR_DICT_RECORD) node->kind = PR_TUPLE_RECORD;
    else if (node->kind == PR_INSTANCE) node->kind = PR_TUPLE_RECORD;
}

/* A leaf with plausible values in the place of whatever the node was. */
static void become_leaf(Node *node) {
    static const uint8_t leaves[] = {
        PR_NULL,  PR_BOOL,   PR_INT8, PR_INT16, PR_INT64, PR_FLOAT64, PR_COMPLEX128, PR_UTF8,
        PR_BYTES, PR_BIGINT, PR_REF,  PR_REF,   PR_REF,   PR_GLOBAL,  PR_NDARRAY,    PR_BUFFER,
    };
    uint64_t rows = node->rows < 4096 ? node->rows : 4096;
    memset(node, 0, sizeof *node);
    node->kind = leaves[chance(sizeof leaves)];
    node_resize(node, rows);
    size_t width = (size_t)(node_width(node) > 0 ? node_width(node) : 1);
    if (node_is_binary(node)) {
        node->b = bytes_copy("abcdefgh", chance(9));
        for (uint64_t i = 0; i <= rows; i++)
            store(node->a.data + i * width, width, (int64_t)(node->b.size * i / (rows ? rows : 1)));
        return;
    }
    int64_t limit = limit_of(node);
    for (size_t i = 0; i + width <= node->a.size; i += width)
        store(node->a.data + i, width, limit > 0 ? (int64_t)chance((uint32_t)limit) : 0);
}

static void one_item_each(Node *node) {
    node->a.size = 0;
    node->a.data = NULL;
    node_resize(node, node->rows);
    if (node->a.data == NULL) return;
    for (uint64_t i = 0; i <= node->rows; i++) store(node->a.data + 4 * i, 4, (int64_t)i);
}

/* The node's content moves into a new child; the node becomes a container of it. */
static void wrap(Node *node) {
    static const uint8_t containers[] = {PR_LIST,   PR_TUPLE,       PR_SET,          PR_FROZENSET,
                                         PR_DICT,   PR_DICT_RECORD, PR_TUPLE_RECORD, PR_INSTANCE,
                                         PR_REDUCE, PR_UNION};
    Node *inner = arena(sizeof *inner), *second = arena(sizeof *second);
    Node **children = arena(2 * sizeof *children);
    if (children == NULL || node->rows > 4096) return;
    *inner = *node;
    for (uint32_t i = 0; i < tree.n_memo; i++)
        if (tree.memo[i].node == node && chance(2)) tree.memo[i].node = inner;
    memset(node, 0, sizeof *node);
    node->kind = containers[chance(sizeof containers)];
    node->rows = inner->rows;
    node->children = children;
    node->n_children = 1;
    children[0] = inner;
    *second = *inner;
    children[1] = second;
    switch (node->kind) {
    case PR_DICT: node->n_children = 2; break;
    case PR_DICT_RECORD:
        node->n_names = 1;
        node->names = arena(sizeof *node->names);
        if (node->names != NULL) *node->names = text_of(chance(2) ? "x" : "__dict__");
        break;
    case PR_INSTANCE: node->extra = chance(tree.n_globals); break;
    case PR_REDUCE:
        node->parts = PR_PART_ARGUMENTS;
        node->extra = 1 + chance(tree.n_globals);
        if (chance(2)) {
            node->parts |= chance(2) ? PR_PART_STATE : PR_PART_LIST_ITEMS;
            node->n_children = 2;
        }
        break;
    case PR_UNION:
        node_resize(node, inner->rows);
        node->b.data = arena(4 * node->rows);
        for (uint64_t i = 0; i < node->rows && node->b.data != NULL; i++)
            store(node->b.data + 4 * i, 4, (int64_t)i);
        if (chance(2)) {
            node->n_children = 2;
            become_leaf(second);
        }
        return;
    default: break;
    }
    if (node_has_offsets(node)) one_item_each(node);
}

static void change_arity(Node *node) {
    if (node->kind == PR_REDUCE && chance(2)) node->parts ^= (uint8_t)(1 << chance(7));
    else if (node->n_children && chance(2)) node->n_children--;
    else if (node->n_children) {
        Node **children = arena((node->n_children + 1) * sizeof *children);
        Node *added = arena(sizeof *added);
        if (added == NULL) return;
        memcpy(children, node->children, node->n_children * sizeof *children);
        *added = *node->children[chance(node->n_children)];
        children[node->n_children++] = added;
        node->children = children;
    }
    if (node->kind == PR_DICT_RECORD && node->n_names != node->n_children) {
        Bytes *names = arena(node->n_children * sizeof *names);
        if (names == NULL) return;
        for (uint32_t i = 0; i < node->n_children; i++)
            names[i] = i < node->n_names ? node->names[i] : bytes_copy("added", chance(6));
        node->names = names;
        node->n_names = node->n_children;
    }
}

static void toggle_large(Node *node) {
    if (!node_has_offsets(node) && node->kind != PR_UNION) {
        if (chance(8) == 0) node->large = !node->large; /* an error */
        return;
    }
    Bytes *column = node->kind == PR_UNION ? &node->b : &node->a;
    size_t from = node->large ? 8 : 4, to = 12 - from, n = column->size / from;
    Bytes new = {arena(n * to), n * to};
    if (new.data == NULL) return;
    for (size_t i = 0; i < n; i++) store(new.data + i *to, to, load(column->data + i * from, from));
    *column = new;
    node->large = !node->large;
}

static void change_rows(Node *node) {
    int64_t rows = interesting((int64_t)node->rows, 4);
    if (rows < 0 || rows > 1024) {
        if (chance(4) == 0) node->rows = (uint64_t)rows; /* and the columns stay */
        return;
    }
    if (chance(4)) node_resize(node, (uint64_t)rows);
    else node->rows = (uint64_t)rows;
}

/* -- subtrees ---------------------------------------------------------------------------------- */

static Node *copy_subtree(const Node *from, const Tree *owner, int depth) {
    Node *node = arena(sizeof *node);
    if (node == NULL || depth > 200) return NULL;
    *node = *from;
    node->a = bytes_copy(from->a.data, from->a.size);
    node->b = bytes_copy(from->b.data, from->b.size);
    node->children = arena(from->n_children * sizeof *node->children);
    if (node->children == NULL) return NULL;
    for (uint32_t i = 0; i < from->n_children; i++) {
        node->children[i] = copy_subtree(from->children[i], owner, depth + 1);
        if (node->children[i] == NULL) return NULL;
    }
    uint32_t limit = owner->n_memo; /* grows, if the owner is the tree that is added to */
    for (uint32_t i = 0; i < limit && tree.n_memo < MOST_ENTRIES; i++) {
        if (owner->memo[i].node != from) continue;
        tree.memo[tree.n_memo++] = (Entry){node, owner->memo[i].row, owner->memo[i].number};
    }
    return node;
}

/* A copy of some subtree of `from` takes the place of a node. */
static void graft(const Tree *from, const Node *source) {
    Node *place = any_node(), *copy = copy_subtree(source, from, 0);
    if (copy == NULL) return;
    if (chance(8) && copy->rows != place->rows && place->rows < 2048)
        node_resize(copy, place->rows);
    for (uint32_t i = 0; i < tree.n_memo; i++)
        if (tree.memo[i].node == copy) tree.memo[i].node = place;
    *place = *copy;
}

/* -- tables ------------------------------------------------------------------------------------ */

static void change_global(void) {
    uint32_t pick = chance(sizeof globals / sizeof *globals), at = chance(tree.n_globals + 1);
    if (chance(8)) pick = chance(sizeof globals / sizeof *globals - 3);
    if (at >= MOST_TEXTS) return;
    if (at == tree.n_globals) tree.n_globals++;
    tree.globals[2 * at] = text_of(globals[pick][0]);
    tree.globals[2 * at + 1] = text_of(globals[pick][1]);
}

static void change_dtype(void) {
    uint32_t at = chance(tree.n_dtypes + 1);
    if (at >= MOST_TEXTS) return;
    if (at == tree.n_dtypes) tree.n_dtypes++;
    tree.dtypes[at] = text_of(dtypes[chance(sizeof dtypes / sizeof *dtypes)]);
}

static void change_tensors(void) {
    switch (chance(6)) {
    case 0: change_dtype(); break;
    case 1: change_value(tree.tensor_buffer, 4, (int64_t)tree.buffer_sizes.size / 8); break;
    case 2: change_value(tree.tensor_dtype, 4, tree.n_dtypes); break;
    case 3: change_value(tree.tensor_order, 1, 2); break;
    case 4: change_value(tree.tensor_shape_offsets, 4, (int64_t)tree.tensor_shapes.size / 8); break;
    default: change_value(tree.tensor_shapes, 8, 8);
    }
}

static void change_buffers(void) {
    if (tree.buffer_offsets.size == 0 || chance(16) == 0) { /* one more, of a few bytes */
        static const uint8_t zeros[64] = {1, 2, 3};
        size_t n = tree.buffer_offsets.size;
        int64_t offset = (int64_t)tree.buffers.size, size = chance(65);
        Bytes offsets = {arena(n + 8), n + 8}, sizes = {arena(n + 8), n + 8};
        Bytes all = {arena(tree.buffers.size + 64), tree.buffers.size + 64};
        if (all.data == NULL || offsets.data == NULL || sizes.data == NULL) return;
        if (n) memcpy(offsets.data, tree.buffer_offsets.data, n);
        if (n) memcpy(sizes.data, tree.buffer_sizes.data, n);
        if (offset) memcpy(all.data, tree.buffers.data, (size_t)offset);
        memcpy(all.data + offset, zeros, 64);
        store(offsets.data + n, 8, offset);
        store(sizes.data + n, 8, size);
        tree.buffer_offsets = offsets;
        tree.buffer_sizes = sizes;
        tree.buffers = all;
    } else if (chance(2)) {
        change_value(tree.buffer_offsets, 8, 64 * (int64_t)chance(4));
    } else {
        change_value(tree.buffer_sizes, 8, 64);
    }
}

static void add_entry(void) {
    Node *node = any_node();
    if (tree.n_memo >= MOST_ENTRIES || node->rows == 0) return;
    tree.memo[tree.n_memo] =
        (Entry){node, chance((uint32_t)node->rows), (int32_t)chance(tree.n_memo + 1)};
    tree.n_memo++;
}

static void change_memo(void) {
    Entry *entry = tree.n_memo ? &tree.memo[chance(tree.n_memo)] : NULL;
    switch (chance(8)) {
    case 0:
    case 1:
    case 2: add_entry(); break;
    case 3:
        if (entry) *entry = tree.memo[--tree.n_memo];
        break;
    case 4:
        if (entry) entry->row = interesting(entry->row, (int64_t)entry->node->rows);
        break;
    case 5:
        if (entry) entry->number = (int32_t)interesting(entry->number, tree.n_memo);
        break;
    case 6:
        if (entry) entry->node = any_node();
        break;
    default: tree.keep_order = chance(4) == 0;
    }
}

/* -- mutants ----------------------------------------------------------------------------------- */

static void mutate_once(void) {
    n_nodes = tree_nodes(&tree, nodes);
    Node *node = any_node();
    switch (chance(24)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: change_column(node); break;
    case 5:
    case 6: change_kind(node); break;
    case 7: change_rows(node); break;
    case 8:
        node->extra = chance(4) ? chance(tree.n_globals + 2) : (uint64_t)interesting(0, 4);
        break;
    case 9:
    case 10: become_leaf(node); break;
    case 11:
    case 12: wrap(node); break;
    case 13: change_arity(node); break;
    case 14: toggle_large(node); break;
    case 15:
    case 16: graft(&tree, node); break;
    case 17:
    case 18: change_memo(); break;
    case 19: change_tensors(); break;
    case 20: change_buffers(); break;
    case 21: change_global(); break;
    case 22:
        if (node->n_names) {
            Bytes *name = &node->names[chance(node->n_names)];
            if (chance(2)) *name = node->names[chance(node->n_names)];
            else change_value(*name, 1, 256);
        } else {
            change_column(node);
        }
        break;
    default:
        if (chance(8)) add_entry();
        else if (chance(2)) tree.n_extra_nodes = (int)chance(5) - 2;
        else node->kind = (uint8_t)chance(64);
    }
}

static size_t mutate_bytes(uint8_t *data, size_t size, size_t max_size) {
    size_t n = LLVMFuzzerMutate(data, size, max_size);
    if (n >= 16 && data[0] == PR_COLUMNS_BYTE && chance(8)) {
        uint64_t total = n & ~(size_t)7;
        memcpy(data + 8, &total, 8);
    }
    return n;
}

static size_t finish(uint8_t *data, size_t size, size_t max_size) {
    size_t n = tree_write(&tree, data, max_size);
    if (n == 0) return mutate_bytes(data, size, max_size);
    return chance(16) ? n : mutate_bytes(data, n, max_size);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    chance(1);
    arena_reset();
    if (chance(32) == 0 || tree_read(&tree, data, size) < 0) {
        return mutate_bytes(data, size, max_size);
    }
    uint32_t times = 1 + chance(1u << chance(4));
    for (uint32_t i = 0; i < times; i++) mutate_once();
    return finish(data, size, max_size);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1, const uint8_t *data2,
                                 size_t size2, uint8_t *out, size_t max_size, unsigned seed) {
    static Node *sources[MOST_NODES];
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    chance(1);
    arena_reset();
    if (tree_read(&tree, data1, size1) < 0 || tree_read(&other, data2, size2) < 0) return 0;
    n_nodes = tree_nodes(&tree, nodes);
    uint32_t n_sources = tree_nodes(&other, sources), times = 1 + chance(2);
    for (uint32_t i = 0; i < times; i++) graft(&other, sources[chance(n_sources)]);
    return tree_write(&tree, out, max_size);
}
