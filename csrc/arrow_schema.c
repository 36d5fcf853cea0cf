/* The Arrow type of a message: a tree of ArrowSchema, one for each node; see arrow_export.h.
 *
 * What a node means beyond its Arrow type is in field metadata: "pyray:kind" is its kind's name in
 * docs/format.md, "pyray:global" the index of the class or function, "pyray:class" and
 * "pyray:function" its name, "pyray:node" where the rows of a continued node are, and "pyray:name"
 * the field's name if it has a NUL, which a name of the C data interface cannot hold.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "arrow_export.h"

/* "+ud:" and up to 127 type ids of at most three digits, with commas. */
enum { UNION_FORMAT_SIZE = 4 + 127 * 4 + 1, MAX_PAIRS = 4, NUMBER_SIZE = 12 };

/* -- metadata ---------------------------------------------------------------------------------- */

typedef struct {
    int count;
    const char *keys[MAX_PAIRS];
    PrText values[MAX_PAIRS];
    char number[NUMBER_SIZE]; /* room for the one value that is a number */
} Pairs;

static PrText text_of(const char *string) {
    return (PrText){(const uint8_t *)string, strlen(string)};
}

static void add_pair(Pairs *pairs, const char *key, PrText value) {
    pairs->keys[pairs->count] = key;
    pairs->values[pairs->count++] = value;
}

static void add_number(Pairs *pairs, const char *key, uint32_t value) {
    snprintf(pairs->number, sizeof pairs->number, "%u", value);
    add_pair(pairs, key, text_of(pairs->number));
}

static size_t metadata_size(const Pairs *pairs) {
    size_t size = pairs->count ? sizeof(int32_t) : 0;
    for (int i = 0; i < pairs->count; i++)
        size += 2 * sizeof(int32_t) + strlen(pairs->keys[i]) + pairs->values[i].size;
    return size;
}

static char *put_sized(char *at, const void *data, size_t size) {
    int32_t length = (int32_t)size;
    memcpy(at, &length, sizeof length);
    if (size) memcpy(at + sizeof length, data, size);
    return at + sizeof length + size;
}

static void write_metadata(char *at, const Pairs *pairs) {
    int32_t count = pairs->count;
    memcpy(at, &count, sizeof count);
    at += sizeof count;
    for (int i = 0; i < pairs->count; i++) {
        at = put_sized(at, pairs->keys[i], strlen(pairs->keys[i]));
        at = put_sized(at, pairs->values[i].data, pairs->values[i].size);
    }
}

/* -- one schema -------------------------------------------------------------------------------- */

static void release_schema(struct ArrowSchema *schema) {
    for (int64_t i = 0; i < schema->n_children; i++)
        if (schema->children[i]->release) schema->children[i]->release(schema->children[i]);
    if (schema->dictionary && schema->dictionary->release)
        schema->dictionary->release(schema->dictionary);
    free(schema->private_data);
    schema->release = NULL;
}

/* Fills in a schema with its children (and the dictionary) still empty. One allocation holds the
 * children, the strings and the metadata. */
static int init_schema(struct ArrowSchema *out, const char *format, PrText name, const Pairs *pairs,
                       int64_t n_children, int has_dictionary) {
    size_t n_inner = (size_t)n_children + (has_dictionary != 0);
    size_t structs = n_inner * sizeof(struct ArrowSchema);
    size_t pointers = (size_t)n_children * sizeof(struct ArrowSchema *);
    size_t metadata = pairs ? metadata_size(pairs) : 0;
    size_t format_size = strlen(format) + 1;
    char *memory = calloc(1, structs + pointers + metadata + format_size + name.size + 1);
    if (memory == NULL) return PR_ARROW_NO_MEMORY;

    struct ArrowSchema *inner = (struct ArrowSchema *)(void *)memory;
    struct ArrowSchema **children = (struct ArrowSchema **)(void *)(memory + structs);
    for (int64_t i = 0; i < n_children; i++) children[i] = &inner[i];
    char *metadata_at = memory + structs + pointers, *format_at = metadata_at + metadata;
    if (metadata) write_metadata(metadata_at, pairs);
    memcpy(format_at, format, format_size);
    if (name.size) memcpy(format_at + format_size, name.data, name.size);

    *out = (struct ArrowSchema){.format = format_at,
                                .name = format_at + format_size,
                                .metadata = metadata ? metadata_at : NULL,
                                .flags = ARROW_FLAG_NULLABLE,
                                .n_children = n_children,
                                .children = n_children ? children : NULL,
                                .dictionary = has_dictionary ? &inner[n_children] : NULL,
                                .release = release_schema,
                                .private_data = memory};
    return PR_ARROW_OK;
}

static int plain_schema(struct ArrowSchema *out, const char *format, const char *name,
                        int64_t n_children) {
    return init_schema(out, format, text_of(name), NULL, n_children, 0);
}

/* -- metadata and names of a node -------------------------------------------------------------- */

static PrText global_name(const PrArrowSource *source, uint32_t global) {
    return source->message.globals[2 * (uint64_t)global + 1];
}

static void describe(const PrArrowSource *source, uint32_t index, PrText name, int own,
                     Pairs *pairs) {
    const PrNode *n = &source->message.nodes[index];
    if (name.size && memchr(name.data, 0, name.size)) add_pair(pairs, "pyray:name", name);
    if (!own && source->is_continued[index]) {
        add_pair(pairs, "pyray:kind", text_of("CONTINUED"));
        add_number(pairs, "pyray:node", index);
        return;
    }
    add_pair(pairs, "pyray:kind", text_of(pr_arrow_kinds[n->kind].kind));
    if (n->kind == PR_INSTANCE) {
        add_number(pairs, "pyray:global", n->extra);
        add_pair(pairs, "pyray:class", global_name(source, n->extra));
    } else if (n->kind == PR_REDUCE && n->extra > 0) {
        add_number(pairs, "pyray:global", n->extra - 1);
        add_pair(pairs, "pyray:function", global_name(source, n->extra - 1));
    }
}

/* A union member is named after what it holds: the kind, or the class of instances. */
static PrText member_name(const PrArrowSource *source, uint32_t index) {
    const PrNode *n = &source->message.nodes[index];
    PrText name = text_of(pr_arrow_kinds[n->kind].name);
    if (n->kind == PR_INSTANCE) name = global_name(source, n->extra);
    if (n->kind == PR_REDUCE && n->extra > 0) name = global_name(source, n->extra - 1);
    for (uint64_t i = name.size; i > 0; i--)
        if (name.data[i - 1] == '.') return (PrText){name.data + i, name.size - i};
    return name;
}

static int same_name(const char *a, const char *b) {
    return strcasecmp(a, b) == 0;
}

/* Writes the name of member c into out; made unlike the earlier ones by its number, since some
 * readers (DuckDB) want members of different names. */
static void unique_member_name(const PrArrowSource *source, const PrNode *n, uint32_t c,
                               struct ArrowSchema **earlier, char out[64]) {
    PrText name = member_name(source, n->child + c);
    /* Cut long names between characters. */
    uint64_t size = name.size;
    if (size > 40)
        for (size = 40; size > 0 && (name.data[size] & 0xc0) == 0x80;) size--;
    memcpy(out, name.data, size);
    out[size] = 0;
    for (uint32_t i = 0; i < c; i++) {
        if (!same_name(earlier[i]->name, out)) continue;
        snprintf(out + size, 64 - size, "_%u", c);
        return;
    }
}

/* -- nodes ------------------------------------------------------------------------------------- */

static int node_schema(const PrArrowSource *source, uint32_t index, PrText name, int own,
                       struct ArrowSchema *out);

static int children_named(const PrArrowSource *source, const PrNode *n, const char *const *names,
                          struct ArrowSchema *out) {
    int status = PR_ARROW_OK;
    for (uint32_t c = 0; c < n->n_children && status == PR_ARROW_OK; c++)
        status = node_schema(source, n->child + c, text_of(names[c]), 0, out->children[c]);
    return status;
}

static int entries_schema(const PrArrowSource *source, const PrNode *n, int is_map,
                          struct ArrowSchema *out) {
    static const char *const names[] = {"key", "value"};
    int status = plain_schema(out, "+s", is_map ? "entries" : "item", 2);
    if (status == PR_ARROW_OK) status = children_named(source, n, names, out);
    if (status == PR_ARROW_OK && is_map) {
        out->flags = 0;
        out->children[0]->flags = 0;
    }
    return status;
}

static int reduce_schema(const PrArrowSource *source, const PrNode *n, struct ArrowSchema *out) {
    static const char *const parts[] = {"function",   "arguments", "list_items",
                                        "dict_items", "state",     "setter"};
    const char *names[6];
    int count = 0;
    for (int bit = 0; bit < 6; bit++)
        if (n->parts & 1 << bit) names[count++] = parts[bit];
    return children_named(source, n, names, out);
}

static int tuple_schema(const PrArrowSource *source, const PrNode *n, struct ArrowSchema *out) {
    int status = PR_ARROW_OK;
    for (uint32_t c = 0; c < n->n_children && status == PR_ARROW_OK; c++) {
        char position[NUMBER_SIZE];
        snprintf(position, sizeof position, "%u", c);
        status = node_schema(source, n->child + c, text_of(position), 0, out->children[c]);
    }
    return status;
}

static int struct_schema(const PrArrowSource *source, const PrNode *n, struct ArrowSchema *out) {
    static const char *const state[] = {"state"};
    if (n->kind == PR_INSTANCE) return children_named(source, n, state, out);
    if (n->kind == PR_REDUCE) return reduce_schema(source, n, out);
    if (n->kind == PR_TUPLE_RECORD) return tuple_schema(source, n, out);
    int status = PR_ARROW_OK;
    for (uint32_t c = 0; c < n->n_children && status == PR_ARROW_OK; c++)
        status = node_schema(source, n->child + c, source->message.names[n->extra + c], 0,
                             out->children[c]);
    return status;
}

static int union_schema(const PrArrowSource *source, const PrNode *n, struct ArrowSchema *out) {
    int status = PR_ARROW_OK;
    for (uint32_t c = 0; c < n->n_children && status == PR_ARROW_OK; c++) {
        char name[64];
        unique_member_name(source, n, c, out->children, name);
        status = node_schema(source, n->child + c, text_of(name), 0, out->children[c]);
    }
    return status;
}

/* What the one field of an INDEX struct is called. */
static const char *index_name(const PrNode *n) {
    switch (n->kind) {
    case PR_REF: return "ref";
    case PR_GLOBAL: return "global";
    case PR_NDARRAY: return "tensor";
    default: return "buffer";
    }
}

static const char *node_format(const PrNode *n, PrArrowLayout layout, char union_format[]) {
    if (layout == PR_ARROW_CONTINUED) return "n";
    if (layout == PR_ARROW_MAP) return "+m";
    if (layout == PR_ARROW_PAIRS) return n->large ? "+L" : "+l";
    if (layout != PR_ARROW_UNION)
        return n->large ? pr_arrow_kinds[n->kind].large_format : pr_arrow_kinds[n->kind].format;
    char *at = union_format + sprintf(union_format, "+ud:");
    for (uint32_t c = 0; c < n->n_children; c++) at += sprintf(at, c ? ",%u" : "%u", c);
    return union_format;
}

static int64_t child_count(const PrNode *n, PrArrowLayout layout) {
    switch (layout) {
    case PR_ARROW_NULL:
    case PR_ARROW_VALUES:
    case PR_ARROW_BINARY:
    case PR_ARROW_DICTIONARY:
    case PR_ARROW_CONTINUED: return 0;
    case PR_ARROW_STRUCT:
    case PR_ARROW_UNION: return n->n_children;
    default: return 1;
    }
}

/* `own`: the node is the top of a column, not a place in its parent. */
static int node_schema(const PrArrowSource *source, uint32_t index, PrText name, int own,
                       struct ArrowSchema *out) {
    static const char *const item[] = {"item"};
    const PrNode *n = &source->message.nodes[index];
    PrArrowLayout layout =
        own ? pr_arrow_own_layout(source, index) : pr_arrow_layout(source, index);
    char union_format[UNION_FORMAT_SIZE];
    Pairs pairs = {0};
    describe(source, index, name, own, &pairs);
    int status = init_schema(out, node_format(n, layout, union_format), name, &pairs,
                             child_count(n, layout), layout == PR_ARROW_DICTIONARY);
    if (status != PR_ARROW_OK) return status;
    switch (layout) {
    case PR_ARROW_COMPLEX: return plain_schema(out->children[0], "g", "item", 0);
    case PR_ARROW_DICTIONARY:
        return plain_schema(out->dictionary, source->message.nodes[n->child].large ? "U" : "u", "",
                            0);
    case PR_ARROW_INDEX: return plain_schema(out->children[0], "i", index_name(n), 0);
    case PR_ARROW_LIST: return children_named(source, n, item, out);
    case PR_ARROW_MAP:
    case PR_ARROW_PAIRS: return entries_schema(source, n, layout == PR_ARROW_MAP, out->children[0]);
    case PR_ARROW_STRUCT: return struct_schema(source, n, out);
    case PR_ARROW_UNION: return union_schema(source, n, out);
    default: return PR_ARROW_OK;
    }
}

/* -- the record batch -------------------------------------------------------------------------- */

/* Formats and names of a struct's fields, the last with a NULL format. */
typedef struct {
    const char *format, *name;
} Field;

static int list_of_struct(struct ArrowSchema *out, const char *name, const Field *fields) {
    int64_t count = 0;
    while (fields[count].format) count++;
    int status = plain_schema(out, "+l", name, 1);
    if (status == PR_ARROW_OK) status = plain_schema(out->children[0], "+s", "item", count);
    for (int64_t i = 0; i < count && status == PR_ARROW_OK; i++)
        status = plain_schema(out->children[0]->children[i], fields[i].format, fields[i].name,
                              strcmp(fields[i].format, "+l") == 0);
    return status;
}

static int list_of_node(const PrArrowSource *source, uint32_t node, const char *name,
                        struct ArrowSchema *out) {
    int large = pr_arrow_list_is_large(source->message.nodes[node].rows);
    int status = plain_schema(out, large ? "+L" : "+l", name, 1);
    return status == PR_ARROW_OK ? node_schema(source, node, text_of("item"), 1, out->children[0])
                                 : status;
}

static int tensors_schema(struct ArrowSchema *out) {
    static const Field fields[] = {
        {"u", "dtype"}, {"+l", "shape"}, {"c", "order"}, {"i", "buffer"}, {NULL, NULL}};
    int status = list_of_struct(out, "tensors", fields);
    if (status != PR_ARROW_OK) return status;
    return plain_schema(out->children[0]->children[1]->children[0], "l", "item", 0);
}

static int continued_schema(const PrArrowSource *source, struct ArrowSchema *out) {
    int status = plain_schema(out, "+s", "continued", source->n_continued);
    for (uint32_t i = 0; i < source->n_continued && status == PR_ARROW_OK; i++) {
        char name[NUMBER_SIZE];
        snprintf(name, sizeof name, "%u", source->continued[i]);
        status = list_of_node(source, source->continued[i], name, out->children[i]);
    }
    return status;
}

static int batch_schema(const PrArrowSource *source, struct ArrowSchema *out) {
    static const Field buffers[] = {{"l", "size"}, {"Z", "data"}, {NULL, NULL}};
    static const Field globals[] = {{"u", "module"}, {"u", "qualname"}, {NULL, NULL}};
    static const Field memo[] = {{"i", "node"}, {"l", "row"}, {"i", "number"}, {NULL, NULL}};
    Pairs pairs = {0};
    add_number(&pairs, "pyray:version", PR_VERSION);
    int status = init_schema(out, "+s", text_of(""), &pairs, source->n_continued ? 6 : 5, 0);
    if (status == PR_ARROW_OK) status = list_of_node(source, 0, "roots", out->children[0]);
    if (status == PR_ARROW_OK) status = tensors_schema(out->children[1]);
    if (status == PR_ARROW_OK) status = list_of_struct(out->children[2], "buffers", buffers);
    if (status == PR_ARROW_OK) status = list_of_struct(out->children[3], "globals", globals);
    if (status == PR_ARROW_OK) status = list_of_struct(out->children[4], "memo", memo);
    if (status == PR_ARROW_OK && source->n_continued)
        status = continued_schema(source, out->children[5]);
    /* A record batch is a struct that cannot itself be null. */
    out->flags = 0;
    return status;
}

int pr_arrow_schema(PrArrowSource *source, struct ArrowSchema *out) {
    out->release = NULL;
    int status = batch_schema(source, out);
    if (status != PR_ARROW_OK && out->release) out->release(out);
    return status;
}
