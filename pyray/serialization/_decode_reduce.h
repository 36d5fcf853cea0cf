/* Instances and reductions: objects that are made by calling something. */
#ifndef PYRAY_DECODE_REDUCE_H
#define PYRAY_DECODE_REDUCE_H

#include "_decode_objects.h"

/* Names that are looked up for every object; interned when _decoder.pyx is imported. */
static PyObject *str_setstate, *str_extend, *str_append, *str_dict;

/* -- state ------------------------------------------------------------------------------------ */

static int update_dict(PyObject *object, PyObject *state) {
    PyObject *key, *value, *dict;
    Py_ssize_t position = 0;
    if (!PyDict_Check(state)) return malformed("the state of an object is not a dict");
    if ((dict = PyObject_GetAttr(object, str_dict)) == NULL) return -1;
    int status = 0;
    while (status == 0 && PyDict_Next(state, &position, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        if (PyUnicode_CheckExact(key)) PyUnicode_InternInPlace(&key);
        status = PyObject_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_DECREF(dict);
    return status;
}

static int set_slots(PyObject *object, PyObject *slots) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    int status = 0;
    if (!PyDict_Check(slots)) return malformed("the state of an object's slots is not a dict");
    while (status == 0 && PyDict_Next(slots, &position, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        status = PyObject_SetAttr(object, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    return status;
}

/* NULL without an exception if the object has no such attribute. */
static PyObject *find_optional(PyObject *object, PyObject *name) {
    PyObject *found = PyObject_GetAttr(object, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
    return found;
}

static int set_state(PyObject *object, PyObject *state) {
    PyObject *method = find_optional(object, str_setstate);
    if (method == NULL && PyErr_Occurred()) return -1;
    if (method != NULL) {
        PyObject *result = PyObject_CallOneArg(method, state);
        Py_DECREF(method);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    PyObject *slots = Py_None;
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) == 2) {
        slots = PyTuple_GET_ITEM(state, 1);
        state = PyTuple_GET_ITEM(state, 0);
    }
    if (state != Py_None && update_dict(object, state) < 0) return -1;
    return slots == Py_None ? 0 : set_slots(object, slots);
}

/* Decodes one row and applies it as the object's state. */
static int set_state_row(Decoder *d, PyObject *object, const PrNode *node, int64_t row) {
    PyObject *state = NULL;
    int status = fill(d, node, row, 1, &state);
    if (status == 0 && state != Py_None) status = set_state(object, state);
    Py_XDECREF(state);
    return status;
}

/* -- instances -------------------------------------------------------------------------------- */

/* How to make the instances of one INSTANCE node. */
typedef struct ClassPlan {
    PyTypeObject *cls; /* borrowed from the decoder's globals */
    int attributes;    /* the fields of the state record may be set as plain attributes */
    PyObject **names;  /* of those fields */
} ClassPlan;

/* Whether the type's attribute of that name takes precedence over an instance's. */
static int is_data_descriptor(PyTypeObject *cls, PyObject *name) {
    PyObject *found = _PyType_Lookup(cls, name);
    return found != NULL && Py_TYPE(found)->tp_descr_set != NULL;
}

/* Whether setting attributes one by one does what updating `__dict__` does. It is faster, and keeps
 * the keys that instances of a class share. */
static int attributes_are_the_dict(PyTypeObject *cls, PyObject **names, uint32_t count) {
    PyObject *dict = _PyType_Lookup(cls, str_dict);
    if (cls->tp_getattro != PyObject_GenericGetAttr || cls->tp_dictoffset == 0) return 0;
    if (dict == NULL || Py_TYPE(dict) != &PyGetSetDescr_Type) return 0;
    if (_PyType_Lookup(cls, str_setstate) != NULL) return 0;
    for (uint32_t i = 0; i < count; i++) {
        if (is_data_descriptor(cls, names[i])) return 0;
    }
    return 1;
}

static ClassPlan *class_plan(Decoder *d, const PrNode *node) {
    if (d->plans == NULL && (d->plans = node_table(d)) == NULL) return NULL;
    ClassPlan **slot = &d->plans[node - d->message.nodes];
    if (*slot != NULL) return *slot;
    const PrNode *state = child(d, node, 0);
    PyObject *cls = global_at(d, node->extra);
    if (cls == NULL) return NULL;
    if (!PyType_Check(cls) || ((PyTypeObject *)cls)->tp_new == NULL) {
        malformed("an instance is of a global that is not a class");
        return NULL;
    }
    ClassPlan *plan = block(d, sizeof *plan);
    if (plan == NULL) return NULL;
    plan->cls = (PyTypeObject *)cls;
    if (state->kind == PR_DICT_RECORD && state->memo_begin == state->memo_end) {
        if ((plan->names = record_names(d, state)) == NULL) return NULL;
        plan->attributes = attributes_are_the_dict(plan->cls, plan->names, state->n_children);
    }
    return *slot = plan;
}

static PyObject *new_instance(const ClassPlan *plan) {
    return plan->cls->tp_new(plan->cls, empty_tuple, NULL);
}

/* Records of at most so many fields are decoded whole on the stack of a recursive function. */
enum { FEW = 16 };

static int fill_fields(Decoder *d, const PrNode *record, int64_t row, PyObject **cells) {
    for (uint32_t f = 0; f < record->n_children; f++) {
        if (fill(d, child(d, record, f), row, 1, &cells[f]) < 0) return -1;
    }
    return 0;
}

/* As pickle does, only once all of the state is there: attributes of half-made state are never
 * seen. */
static int set_attributes(Decoder *d, const ClassPlan *plan, PyObject *object, const PrNode *record,
                          int64_t row) {
    PyObject *cells[FEW];
    uint32_t fields = record->n_children;
    clear_cells(cells, fields);
    int status = fill_fields(d, record, row, cells);
    for (uint32_t f = 0; f < fields && status == 0; f++) {
        status = PyObject_GenericSetAttr(object, plan->names[f], cells[f]);
    }
    release_range(cells, fields);
    return status;
}

static PyObject *make_instance(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    ClassPlan *plan = class_plan(d, node);
    PyObject *object = plan == NULL ? NULL : new_instance(plan);
    if (object == NULL) return NULL;
    if (number >= 0) object = settle(d, number, object);
    const PrNode *state = child(d, node, 0);
    /* A class's `__new__` may return anything, of which the plan knows nothing. */
    int status = plan->attributes && state->n_children <= FEW && Py_IS_TYPE(object, plan->cls)
                     ? set_attributes(d, plan, object, state, row)
                     : set_state_row(d, object, state, row);
    if (status < 0) Py_CLEAR(object);
    return object;
}

/* The state of what is no instance of the class that made it: a dict, applied as one. Field f is
 * cells[f * stride]. */
static int set_state_of_stranger(const ClassPlan *plan, PyObject *object, PyObject **cells,
                                 int64_t stride, uint32_t fields) {
    PyObject *state = PyDict_New();
    int status = state == NULL ? -1 : 0;
    for (uint32_t f = 0; f < fields && status == 0; f++) {
        status = PyDict_SetItem(state, plan->names[f], cells[f * stride]);
    }
    if (status == 0) status = set_state(object, state);
    Py_XDECREF(state);
    return status;
}

static int make_instances(const PrNode *record, void *given, PyObject **cells, int64_t count,
                          PyObject **out) {
    const ClassPlan *plan = given;
    uint32_t fields = record->n_children;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = new_instance(plan)) == NULL) return -1;
        if (!Py_IS_TYPE(out[i], plan->cls)) {
            if (set_state_of_stranger(plan, out[i], cells + i, count, fields) < 0) return -1;
            continue;
        }
        for (uint32_t f = 0; f < fields; f++) {
            if (PyObject_GenericSetAttr(out[i], plan->names[f], cells[f * count + i]) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int fill_instance(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                         PyObject **out) {
    const PrNode *state = child(d, node, 0);
    if (enter(d) < 0) return -1;
    ClassPlan *plan = class_plan(d, node);
    if (plan == NULL) return -1;
    if (count > 1 && plan->attributes && !state->has_refs && state->n_children <= CELLS) {
        return fill_blocks(d, state, make_instances, plan, row, count, out);
    }
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_instance(d, node, row + i, -1)) == NULL) return -1;
    }
    return 0;
}

/* -- reductions ------------------------------------------------------------------------------- */

/* The child that is a part of a reduction, NULL if it has none. */
static const PrNode *part(const Decoder *d, const PrNode *node, int which) {
    if (!(node->parts & which)) return NULL;
    return child(d, node, (uint32_t)__builtin_popcount(node->parts & (which - 1)));
}

static PyObject *make_function(Decoder *d, const PrNode *node, int64_t row) {
    const PrNode *function = part(d, node, PR_PART_FUNCTION);
    PyObject *made = NULL;
    if (function == NULL) return Py_XNewRef(global_at(d, (int64_t)node->extra - 1));
    if (fill(d, function, row, 1, &made) < 0) Py_CLEAR(made);
    return made;
}

/* What a reduction's function is called with: fields of a record, or a tuple. */
typedef struct {
    PyObject *room; /* vectorcall may use the place before the cells */
    PyObject *cells[FEW];
    uint32_t count;
    PyObject *tuple; /* NULL if the cells are used */
} Arguments;

static int read_arguments(Decoder *d, const PrNode *node, int64_t row, Arguments *arguments) {
    arguments->tuple = NULL;
    arguments->count = 0;
    if (node->kind == PR_TUPLE_RECORD && node->n_children <= FEW &&
        node->memo_begin == node->memo_end) {
        arguments->count = node->n_children;
        clear_cells(arguments->cells, arguments->count);
        return fill_fields(d, node, row, arguments->cells);
    }
    if (fill(d, node, row, 1, &arguments->tuple) < 0) return -1;
    if (PyTuple_Check(arguments->tuple)) return 0;
    return malformed("the arguments of a reduction are not a tuple");
}

static void release_arguments(Arguments *arguments) {
    release_range(arguments->cells, arguments->count);
    Py_CLEAR(arguments->tuple);
}

static PyObject *call(PyObject *function, Arguments *arguments) {
    if (arguments->tuple != NULL) return PyObject_CallObject(function, arguments->tuple);
    return PyObject_Vectorcall(function, arguments->cells,
                               arguments->count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static int append_each(PyObject *object, PyObject *items) {
    PyObject *append = PyObject_GetAttr(object, str_append);
    if (append == NULL) return -1;
    int status = 0;
    /* Others may know the list, and `append` may change it. */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items) && status == 0; i++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(items, i));
        PyObject *result = PyObject_CallOneArg(append, item);
        if (result == NULL) status = -1;
        Py_DECREF(item);
        Py_XDECREF(result);
    }
    Py_DECREF(append);
    return status;
}

static int extend(PyObject *object, PyObject *items) {
    if (PyList_CheckExact(object)) {
        return PyList_SetSlice(object, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, items);
    }
    PyObject *method = find_optional(object, str_extend);
    if (method == NULL) return PyErr_Occurred() ? -1 : append_each(object, items);
    PyObject *result = PyObject_CallOneArg(method, items);
    Py_DECREF(method);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int add_list_items(Decoder *d, PyObject *object, const PrNode *node, int64_t row) {
    if (node->kind == PR_UNION && (node = union_member(d, node, row, &row)) == NULL) return -1;
    if (node->kind != PR_LIST) return malformed("the list items of a reduction are no list");
    /* A new list, whatever the memo says: one that others know could be extended with itself, and
     * a row that doubles it each time would make memory without bounds. */
    PyObject *items = make_list(d, node, row);
    if (items == NULL) return -1;
    int status = extend(object, items);
    Py_DECREF(items);
    return status;
}

/* Pair by pair: an object may take a key twice, or one that no dict would. */
static int add_dict_items(Decoder *d, PyObject *object, const PrNode *node, int64_t row) {
    int64_t begin, count;
    if (node->kind == PR_UNION && (node = union_member(d, node, row, &row)) == NULL) return -1;
    if (node->kind != PR_DICT) return malformed("the dict items of a reduction are no dict");
    if (pair_range(d, node, row, &begin, &count) < 0) return -1;
    return set_pairs(d, object, child(d, node, 0), child(d, node, 1), begin, count);
}

static int call_setter(Decoder *d, PyObject *object, const PrNode *setter, const PrNode *node,
                       int64_t row) {
    PyObject *state = NULL, *function = NULL, *result = NULL;
    int status = fill(d, node, row, 1, &state);
    if (status == 0) status = fill(d, setter, row, 1, &function);
    if (status == 0) result = PyObject_CallFunctionObjArgs(function, object, state, NULL);
    Py_XDECREF(state);
    Py_XDECREF(function);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Everything after the call. */
static int complete(Decoder *d, PyObject *object, const PrNode *node, int64_t row) {
    const PrNode *list_items = part(d, node, PR_PART_LIST_ITEMS);
    const PrNode *dict_items = part(d, node, PR_PART_DICT_ITEMS);
    const PrNode *state = part(d, node, PR_PART_STATE), *setter = part(d, node, PR_PART_SETTER);
    if (list_items != NULL && add_list_items(d, object, list_items, row) < 0) return -1;
    if (dict_items != NULL && add_dict_items(d, object, dict_items, row) < 0) return -1;
    if (state == NULL) return 0;
    return setter != NULL ? call_setter(d, object, setter, state, row)
                          : set_state_row(d, object, state, row);
}

/* Function, arguments, call. `*exists` if making the arguments has made the object itself: a
 * reduction that contains itself; then it is complete, too. */
static PyObject *make_by_call(Decoder *d, const PrNode *node, int64_t row, int32_t number,
                              int *exists) {
    Arguments arguments;
    PyObject *object = NULL, *function = make_function(d, node, row);
    if (function == NULL) return NULL;
    if (read_arguments(d, part(d, node, PR_PART_ARGUMENTS), row, &arguments) == 0) {
        *exists = number >= 0 && d->memo[number] != NULL;
        object = *exists ? Py_NewRef(d->memo[number]) : call(function, &arguments);
    }
    release_arguments(&arguments);
    Py_DECREF(function);
    if (object != NULL && number >= 0 && !*exists) object = settle(d, number, object);
    return object;
}

static PyObject *make_reduced(Decoder *d, const PrNode *node, int64_t row, int32_t number) {
    int exists = 0;
    PyObject *object = make_by_call(d, node, row, number, &exists);
    if (object == NULL || exists) return object;
    if (complete(d, object, node, row) < 0) Py_CLEAR(object);
    return object;
}

static int fill_reduce(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    if (enter(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        if ((out[i] = make_reduced(d, node, row + i, -1)) == NULL) return -1;
    }
    return 0;
}

#endif
