/* Lists, tuples, sets, dicts, records and unions.
 *
 * A list or tuple is made at its size and its items are decoded straight into it, unless rows below
 * may refer to it. Records are made in blocks: a block of each field's column first, so that the
 * kind of a column is looked at once a block, then the rows. Below a node with REF rows everything
 * is made row by row instead: the writer's order is the one in which objects are complete when
 * they are referred to.
 */
#ifndef PYRAY_DECODE_CONTAINERS_H
#define PYRAY_DECODE_CONTAINERS_H

#include "_decode_memo.h"

/* References to objects of a block, on the stack of the function that makes it. */
enum { CELLS = 256 };

static const PrNode *child(const Decoder *d, const PrNode *node, uint32_t index) {
    return &d->message.nodes[node->child + index];
}

static void clear_cells(PyObject **cells, int64_t count) {
    memset(cells, 0, (size_t)count * sizeof *cells);
}

/* -- sequences -------------------------------------------------------------------------------- */

/* Items of one row. */
static int item_range(const PrNode *node, const PrNode *items, int64_t row, int64_t *begin,
                      int64_t *count) {
    int64_t end;
    if (pr_range(node, row, items->rows, begin, &end) < 0) return bad_offsets();
    *count = end - *begin;
    return 0;
}

static PyObject *make_list(Decoder *d, const PrNode *node, int64_t row) {
    const PrNode *items = child(d, node, 0);
    int64_t begin, count;
    if (item_range(node, items, row, &begin, &count) < 0) return NULL;
    PyObject *list = PyList_New(count);
    if (list == NULL || count == 0) return list;
    if (fill(d, items, begin, count, ((PyListObject *)list)->ob_item) < 0) Py_CLEAR(list);
    return list;
}

static int fill_list(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_list(d, node, row + i)) == NULL) return -1;
    }
    return 0;
}

/* A list that may be asked for by its own items: they see it empty. */
static PyObject *make_list_first(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    remember(d, number, list);
    PyObject *items = make_list(d, node, row);
    if (items == NULL || PyList_SetSlice(list, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, items) < 0) {
        Py_CLEAR(list);
    }
    Py_XDECREF(items);
    return list;
}

/* A tuple of these can be in no cycle, so the collector need not look at it: what it finds out by
 * itself, but only after visiting every tuple once. */
static int is_atomic(const Decoder *d, const PrNode *items) {
    /* A row with a memo entry is whatever was completed first under its number. */
    if (items->kind > PR_DICTIONARY || items->memo_begin != items->memo_end) return 0;
    return items->kind != PR_DICTIONARY || is_atomic(d, child(d, items, 0));
}

static int are_atomic(PyObject **items, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (PyObject_IS_GC(items[i])) return 0;
    }
    return 1;
}

static PyObject *make_tuple(Decoder *d, const PrNode *node, int64_t row) {
    const PrNode *items = child(d, node, 0);
    int64_t begin, count;
    if (item_range(node, items, row, &begin, &count) < 0) return NULL;
    if (count == 0) return Py_NewRef(empty_tuple);
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) return NULL;
    PyObject **cells = ((PyTupleObject *)tuple)->ob_item;
    if (fill(d, items, begin, count, cells) < 0) {
        Py_CLEAR(tuple);
    } else if (is_atomic(d, items) || (count < 8 && are_atomic(cells, count))) {
        PyObject_GC_UnTrack(tuple);
    }
    return tuple;
}

static int fill_tuple(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_tuple(d, node, row + i)) == NULL) return -1;
    }
    return 0;
}

/* -- sets ------------------------------------------------------------------------------------- */

static int add_items(Decoder *d, PyObject *set, const PrNode *items, int64_t begin, int64_t count) {
    PyObject *cells[64];
    int status = 0;
    clear_cells(cells, count < 64 ? count : 64);
    while (count > 0 && status == 0) {
        int64_t n = count < 64 ? count : 64;
        status = fill(d, items, begin, n, cells);
        for (int64_t i = 0; i < n && status == 0; i++) status = PySet_Add(set, cells[i]);
        release_range(cells, n);
        begin += n;
        count -= n;
    }
    return status;
}

/* Puts the items of a row into a set that may have a memo number already. */
static PyObject *fill_set_object(Decoder *d, const PrNode *node, int64_t row, PyObject *set) {
    const PrNode *items = child(d, node, 0);
    int64_t begin, count;
    if (set == NULL) return NULL;
    if (item_range(node, items, row, &begin, &count) < 0 ||
        add_items(d, set, items, begin, count) < 0) {
        Py_CLEAR(set);
    }
    return set;
}

static int fill_set(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = fill_set_object(d, node, row + i, PySet_New(NULL))) == NULL) return -1;
    }
    return 0;
}

static int fill_frozenset(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                          PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = fill_set_object(d, node, row + i, PyFrozenSet_New(NULL))) == NULL) return -1;
    }
    return 0;
}

static PyObject *make_set_first(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    PyObject *set = PySet_New(NULL);
    if (set != NULL) remember(d, number, set);
    return fill_set_object(d, node, row, set);
}

/* -- dicts ------------------------------------------------------------------------------------ */

enum { PAIRS = CELLS / 2 };

static int set_item(PyObject *object, PyObject *key, PyObject *value) {
    return PyDict_CheckExact(object) ? PyDict_SetItem(object, key, value)
                                     : PyObject_SetItem(object, key, value);
}

/* Blocks of keys and of values. */
static int set_blocks(Decoder *d, PyObject *object, const PrNode *keys, const PrNode *values,
                      int64_t row, int64_t count) {
    PyObject *key[PAIRS], *value[PAIRS];
    int status = 0;
    clear_cells(key, PAIRS);
    clear_cells(value, PAIRS);
    while (count > 0 && status == 0) {
        int64_t n = count < PAIRS ? count : PAIRS;
        status = fill(d, keys, row, n, key);
        if (status == 0) status = fill(d, values, row, n, value);
        for (int64_t i = 0; i < n && status == 0; i++) status = set_item(object, key[i], value[i]);
        release_range(key, n);
        release_range(value, n);
        row += n;
        count -= n;
    }
    return status;
}

/* Sets `count` pairs of rows from `row` on. One by one if order matters, and when they are few:
 * what is nested deeply is seldom large, and blocks take stack. */
static int set_pairs(Decoder *d, PyObject *object, const PrNode *keys, const PrNode *values,
                     int64_t row, int64_t count) {
    int status = 0;
    if (count > 4 && !keys->has_refs && !values->has_refs) {
        return set_blocks(d, object, keys, values, row, count);
    }
    for (int64_t i = 0; i < count && status == 0; i++) {
        PyObject *key = NULL, *value = NULL;
        status = fill(d, keys, row + i, 1, &key);
        if (status == 0) status = fill(d, values, row + i, 1, &value);
        if (status == 0) status = set_item(object, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return status;
}

static int pair_range(Decoder *d, const PrNode *node, int64_t row, int64_t *begin, int64_t *count) {
    int64_t keys = child(d, node, 0)->rows, values = child(d, node, 1)->rows, end;
    if (pr_range(node, row, keys < values ? keys : values, begin, &end) < 0) return bad_offsets();
    *count = end - *begin;
    return 0;
}

/* A presized dict does not know that its keys are str, which makes it larger and slower; growing
 * costs more than that gains only if there are many. */
static PyObject *new_dict(const PrNode *keys, int64_t count) {
    int of_strings = keys->kind == PR_UTF8 || keys->kind == PR_DICTIONARY;
    return count > (of_strings ? 50 : 5) ? _PyDict_NewPresized(count) : PyDict_New();
}

static PyObject *make_dict(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    int64_t begin, count;
    if (pair_range(d, node, row, &begin, &count) < 0) return NULL;
    PyObject *dict = new_dict(child(d, node, 0), count);
    if (dict == NULL) return NULL;
    if (number >= 0) remember(d, number, dict);
    if (set_pairs(d, dict, child(d, node, 0), child(d, node, 1), begin, count) < 0) Py_CLEAR(dict);
    return dict;
}

static int fill_dict(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_dict(d, node, row + i, -1)) == NULL) return -1;
    }
    return 0;
}

/* -- records ---------------------------------------------------------------------------------- */

/* Makes `count` rows of a record out of its fields: cells[f * count + i] is field f of row i. The
 * cells are the caller's. */
typedef int (*MakeRecords)(const PrNode *record, void *plan, PyObject **cells, int64_t count,
                           PyObject **out);

/* A block of each field, then the rows: `record` has the fields, `make` makes of them what its
 * parent or itself is. */
static int fill_blocks(Decoder *d, const PrNode *record, MakeRecords make, void *plan, int64_t row,
                       int64_t count, PyObject **out) {
    PyObject *cells[CELLS];
    int64_t fields = record->n_children, at_once = record->has_refs ? 1 : CELLS / fields;
    int status = 0;
    if (at_once > count) at_once = count;
    clear_cells(cells, fields * at_once);
    while (count > 0 && status == 0) {
        int64_t n = count < at_once ? count : at_once;
        for (int64_t f = 0; f < fields && status == 0; f++) {
            status = fill(d, child(d, record, (uint32_t)f), row, n, cells + f * n);
        }
        if (status == 0) status = make(record, plan, cells, n, out);
        release_range(cells, fields * n);
        row += n;
        count -= n;
        out += n;
    }
    return status;
}

/* -- dict records ----------------------------------------------------------------------------- */

/* The names of a DICT_RECORD, interned, their hashes known; behind them room for a dict. */
static PyObject **record_names(Decoder *d, const PrNode *node) {
    if (d->caches == NULL && (d->caches = node_table(d)) == NULL) return NULL;
    PyObject ***slot = &d->caches[node - d->message.nodes];
    if (*slot != NULL) return *slot;
    PyObject **names = object_array(d, (size_t)node->n_children + 1);
    if (names == NULL) return NULL;
    for (uint32_t i = 0; i < node->n_children; i++) {
        PrText text = d->message.names[node->extra + i];
        names[i] = PyUnicode_DecodeUTF8((const char *)text.data, (Py_ssize_t)text.size, NULL);
        if (names[i] == NULL) return bad_text(), NULL;
        PyUnicode_InternInPlace(&names[i]);
        if (PyObject_Hash(names[i]) == -1) return NULL;
    }
    return *slot = names;
}

static Py_hash_t name_hash(PyObject *name) {
    return ((PyASCIIObject *)name)->hash;
}

/* A dict to copy, which has these names already: a presized one would not know that all keys are
 * str, and be larger and slower for it. Borrowed. */
static PyObject *record_template(PyObject **names, uint32_t fields) {
    if (names[fields] != NULL) return names[fields];
    PyObject *dict = PyDict_New();
    for (uint32_t f = 0; f < fields && dict != NULL; f++) {
        if (PyDict_SetItem(dict, names[f], Py_None) < 0) Py_CLEAR(dict);
    }
    return names[fields] = dict;
}

static int make_dict_records(const PrNode *record, void *plan, PyObject **cells, int64_t count,
                             PyObject **out) {
    PyObject **names = plan, *template = NULL;
    uint32_t fields = record->n_children;
    if (fields > 5 && (template = record_template(names, fields)) == NULL) return -1;
    for (int64_t i = 0; i < count; i++) {
        PyObject *dict = out[i] = template == NULL ? PyDict_New() : PyDict_Copy(template);
        if (dict == NULL) return -1;
        for (uint32_t f = 0; f < fields; f++) {
            PyObject *value = cells[f * count + i];
            if (_PyDict_SetItem_KnownHash(dict, names[f], value, name_hash(names[f])) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

/* Sets the fields of one row one after another, in a dict that others may see. */
static int set_fields(Decoder *d, const PrNode *record, int64_t row, PyObject *dict) {
    PyObject **names = record_names(d, record);
    if (names == NULL) return -1;
    for (uint32_t f = 0; f < record->n_children; f++) {
        PyObject *value = NULL;
        int status = fill(d, child(d, record, f), row, 1, &value);
        if (status == 0) status = PyDict_SetItem(dict, names[f], value);
        Py_XDECREF(value);
        if (status < 0) return -1;
    }
    return 0;
}

static PyObject *make_dict_record(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    if (number >= 0) remember(d, number, dict);
    if (set_fields(d, node, row, dict) < 0) Py_CLEAR(dict);
    return dict;
}

static int fill_dict_record(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                            PyObject **out) {
    if (enter(d) < 0) return -1;
    if (count > 1 && !node->has_refs && node->n_children <= CELLS) {
        PyObject **names = record_names(d, node);
        return names == NULL ? -1 : fill_blocks(d, node, make_dict_records, names, row, count, out);
    }
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_dict_record(d, node, row + i, -1)) == NULL) return -1;
    }
    return 0;
}

/* -- tuple records ---------------------------------------------------------------------------- */

static int make_tuple_records(const PrNode *record, void *untrack, PyObject **cells, int64_t count,
                              PyObject **out) {
    uint32_t fields = record->n_children;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = PyTuple_New(fields)) == NULL) return -1;
        if (untrack != NULL) PyObject_GC_UnTrack(out[i]);
        PyObject **items = ((PyTupleObject *)out[i])->ob_item;
        for (uint32_t f = 0; f < fields; f++) {
            items[f] = cells[f * count + i]; /* moved, not copied */
            cells[f * count + i] = NULL;
        }
    }
    return 0;
}

static int has_atomic_fields(const Decoder *d, const PrNode *record) {
    for (uint32_t f = 0; f < record->n_children; f++) {
        if (!is_atomic(d, child(d, record, f))) return 0;
    }
    return 1;
}

static int fill_tuple_record(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                             PyObject **out) {
    if (enter(d) < 0) return -1;
    if (count > 1 && !node->has_refs && node->n_children <= CELLS) {
        void *untrack = has_atomic_fields(d, node) ? d : NULL;
        return fill_blocks(d, node, make_tuple_records, untrack, row, count, out);
    }
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = PyTuple_New(node->n_children)) == NULL) return -1;
        PyObject **items = ((PyTupleObject *)out[i])->ob_item;
        for (uint32_t f = 0; f < node->n_children; f++) {
            if (fill(d, child(d, node, f), row + i, 1, &items[f]) < 0) return -1;
        }
    }
    return 0;
}

/* -- unions ----------------------------------------------------------------------------------- */

/* The member and its row that stand behind a row of a UNION. */
static const PrNode *union_member(Decoder *d, const PrNode *node, int64_t row,
                                  int64_t *member_row) {
    int type = (int8_t)node->a[row];
    if (type < 0 || (uint32_t)type >= node->n_children) {
        malformed("a type id names no member of its union");
        return NULL;
    }
    const PrNode *member = child(d, node, (uint32_t)type);
    *member_row = pr_offset(node, node->b, row);
    if (*member_row < 0 || *member_row >= member->rows) {
        bad_offsets();
        return NULL;
    }
    return member;
}

/* How many of `count` rows from `row` on, which is row `first` of its member, are that member's
 * next rows. */
static int64_t union_run(const PrNode *node, const PrNode *member, int64_t row, int64_t count,
                         int64_t first) {
    int64_t n = 1;
    while (n < count && node->a[row + n] == node->a[row] && first + n < member->rows &&
           pr_offset(node, node->b, row + n) == first + n) {
        n++;
    }
    return n;
}

static int fill_union(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    while (count > 0) {
        int64_t first;
        const PrNode *member = union_member(d, node, row, &first);
        if (member == NULL) return -1;
        int64_t n = union_run(node, member, row, count, first);
        if (fill(d, member, first, n, out) < 0) return -1;
        row += n;
        count -= n;
        out += n;
    }
    return 0;
}

#endif
