# Containers: lists, tuples, dicts, records, sets. Part of _encoder.pyx; docs/format.md, 7.1 to 7.3.


cdef int put_list(Encoder e, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1:
    cdef Py_ssize_t n = PyList_GET_SIZE(<object> o)
    cdef int item_class = class_of(pyray_list_items(o)[0]) if n else PR_OTHER
    cdef PrColumn *c = list_column(e, slot, item_class, n, may_defer)
    if c == NULL:
        return defer(e, o, None, slot, entry)
    if entry != NO_IDENTITY:
        remember(e, entry, c, c.rows)
    check(pr_list_row(slot, c, n))
    if n >= 2:
        note_pair(e, &c.slots[0], pyray_list_items(o)[0], pyray_list_items(o)[1])
    return put_sequence(e, o, True, n, &c.slots[0])


cdef PrColumn *list_column(Encoder e, PrSlot *slot, int item_class, Py_ssize_t n,
                           bint may_defer) except? NULL:
    """format.md, section 7.3; NULL without an exception: defer."""
    cdef PrColumn *top = slot.column
    cdef PrColumn *c
    cdef uint32_t i
    if top != NULL and n == 0:
        c = top
        if top.kind == PR_UNION:
            c = top.members[top.by_kind[PR_LIST] - 1] if top.by_kind[PR_LIST] else NULL
        if c != NULL and c.kind == PR_LIST:
            return c
    c = pr_find(slot, PR_LIST, item_class, 0)
    if c != NULL:
        return c
    if top != NULL and top.kind == PR_LIST and top.slots[0].column == NULL:
        top.sub = item_class
        return top
    if top != NULL and top.kind == PR_UNION:
        for i in range(top.n_slots):
            c = top.members[i]
            if c.kind == PR_LIST and c.slots[0].column == NULL:
                c.sub = item_class
                return c
    return column(e, slot, PR_LIST, item_class, 0, 1, may_defer)


cdef int put_tuple(Encoder e, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1:
    cdef Py_ssize_t n = PyTuple_GET_SIZE(<object> o)
    cdef PrColumn *c = NULL
    cdef int item_class
    cdef int64_t row
    if slot.level != PR_LEVEL_UNSET and slot.level > 0 and 1 <= n <= 16:
        c = pr_find(slot, PR_TUPLE_RECORD, 0, <uint32_t> n)
        if c == NULL and pr_count_kind(slot, PR_TUPLE_RECORD) < PR_MAX_ARITIES:
            c = column(e, slot, PR_TUPLE_RECORD, 0, <uint32_t> n, <uint32_t> n, may_defer)
            if c == NULL:
                return defer(e, o, None, slot, entry)
    if c == NULL:
        item_class = PR_SHORT if n < 8 else class_of(pyray_tuple_items(o)[0])
        c = column(e, slot, PR_TUPLE, item_class, 0, 1, may_defer)
        if c == NULL:
            return defer(e, o, None, slot, entry)
    if c.kind == PR_TUPLE:
        row = c.rows
        check(pr_list_row(slot, c, n))
    else:
        check(pr_row(slot, c))
        row = c.rows
        c.rows += 1
    if entry < 0:
        return put_tuple_items(e, o, c, n)
    begin(e, entry)
    e.postorder += 1
    put_tuple_items(e, o, c, n)
    e.postorder -= 1
    return finish(e, entry, c, row)


cdef int put_tuple_items(Encoder e, PyObject *o, PrColumn *c, Py_ssize_t n) except -1:
    cdef PyObject **items = pyray_tuple_items(o)
    cdef Py_ssize_t i
    if c.kind == PR_TUPLE:
        if n >= 2:
            note_pair(e, &c.slots[0], items[0], items[1])
        return put_sequence(e, o, False, n, &c.slots[0])
    for i in range(n):
        if not put_scalar(e, items[i], &c.slots[i]):
            step(e, ITEM, i, NULL)
            put_object(e, items[i], &c.slots[i], 1)
    return 0


cdef int put_sequence(Encoder e, PyObject *o, bint is_list, Py_ssize_t n, PrSlot *slot) except -1:
    """The items of a list or tuple; user code may change a list while we are in it."""
    cdef Py_ssize_t i = 0, run
    cdef PyObject **items
    while i < n:
        if is_list and PyList_GET_SIZE(<object> o) != n:
            raise RuntimeError("list changed size during iteration")
        items = pyray_list_items(o) if is_list else pyray_tuple_items(o)
        run = put_run(e, items + i, n - i, slot)
        if run:
            i += run
            continue
        if not put_scalar(e, items[i], slot):
            step(e, ITEM, i, NULL)
            put_object(e, items[i], slot, 1)
        i += 1
    if is_list and PyList_GET_SIZE(<object> o) != n:
        raise RuntimeError("list changed size during iteration")
    return 0


cdef Py_ssize_t put_run(Encoder e, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1:
    """Items from the front that go into the slot's one typed column; 0 if it is not so."""
    cdef PrColumn *c = slot.column
    cdef Py_ssize_t i = 0
    cdef int64_t value
    cdef int64_t bits
    cdef double *numbers
    cdef int64_t *integers
    cdef int kind
    if PyFloat_CheckExact(<object> items[0]):
        kind = PR_FLOAT64
    elif PyLong_CheckExact(<object> items[0]):
        kind = PR_INT64
    elif PyUnicode_CheckExact(<object> items[0]):
        return put_str_run(e, items, n, slot)
    else:
        return 0
    if c == NULL:
        if slot.always_union or (kind == PR_INT64 and not pyray_int64(items[0], &value)):
            return 0
        c = column(e, slot, kind, 0, 0, 0, False)
    elif c.kind != kind:
        return 0
    if PYRAY_TYPE(items[n - 1]) != PYRAY_TYPE(items[0]) and n > 256:
        n = 256  # no more memory than a run is likely to need
    check(pr_bytes_reserve(&c.a, 8 * n))
    if kind == PR_FLOAT64:
        numbers = <double *> (c.a.data + c.a.size)
        while i < n and PyFloat_CheckExact(<object> items[i]):
            numbers[i] = PyFloat_AS_DOUBLE(<object> items[i])
            i += 1
    else:
        integers = <int64_t *> (c.a.data + c.a.size)
        bits = 0
        while i < n and PyLong_CheckExact(<object> items[i]) and pyray_int64(items[i], &value):
            integers[i] = value
            bits |= value ^ (value >> 63)
            i += 1
        c.bits |= <uint64_t> bits
    c.a.size += 8 * i
    c.rows += i
    return i


cdef Py_ssize_t put_str_run(Encoder e, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1:
    cdef PrColumn *c = slot.column
    cdef Py_ssize_t i = 0, length
    cdef bint unshared = not e.memo_all and e.postorder == 0
    cdef PyObject *o
    if c == NULL or c.kind != PR_UTF8:
        return 0
    while i < n:
        o = items[i]
        if not PyUnicode_CheckExact(<object> o) or not PyUnicode_IS_COMPACT_ASCII(o):
            break
        length = PyUnicode_GET_LENGTH(o)
        if not c.repeated and (length <= 1 or (unshared and PYRAY_REFCNT(o) == 1)):
            check(pr_bytes_append(&c.b, PyUnicode_DATA(o), length))
            check(pr_end(c, c.b.size))
        else:
            put_str_value(e, o, slot, c)
        i += 1
    return i


cdef int put_dict(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    cdef Py_ssize_t n = PyDict_GET_SIZE(o), position = 0
    cdef PyObject *items[4]
    cdef PyObject *values[32]
    cdef PrColumn *c = NULL
    if slot.level != PR_LEVEL_UNSET and slot.level > 0 and 1 <= n <= 32:
        c = slot.column
        if c == NULL or c.kind != PR_DICT_RECORD:
            c = pr_find(slot, PR_DICT_RECORD, 0, 0)
        if c == NULL and new_record(e, o, slot, &c) and c == NULL:
            return defer(e, o, None, slot, entry)
        if c != NULL and collect_fields(o, c, values):
            remember(e, entry, c, c.rows)
            check(pr_row(slot, c))
            c.rows += 1
            return put_fields(e, o, c, values)
    c = column(e, slot, PR_DICT, 0, 0, 2, True)
    if c == NULL:
        return defer(e, o, None, slot, entry)
    remember(e, entry, c, c.rows)
    check(pr_list_row(slot, c, n))
    if n >= 2:
        PyDict_Next(<object> o, &position, &items[0], &items[1])
        PyDict_Next(<object> o, &position, &items[2], &items[3])
        note_pair(e, &c.slots[0], items[0], items[2])
        note_pair(e, &c.slots[1], items[1], items[3])
    return put_pairs(e, o, c, n)


cdef int put_pairs(Encoder e, PyObject *o, PrColumn *c, Py_ssize_t n) except -1:
    cdef Py_ssize_t position = 0, i = 0
    cdef PyObject *key
    cdef PyObject *value
    while i < n and PyDict_Next(<object> o, &position, &key, &value):
        step(e, KEY, i, key)
        if PyUnicode_CheckExact(<object> key):
            put_str(e, key, &c.slots[0])
        else:
            Py_INCREF(<object> value)  # the key's reduction may take it out of the dict
            kept = <object> value
            Py_DECREF(kept)
            put(e, key, &c.slots[0])
            if PyDict_GET_SIZE(o) != n:
                break
            kept = None
        step(e, VALUE, i, key)
        put(e, value, &c.slots[1])
        i += 1
        if PyDict_GET_SIZE(o) != n:
            break
    if i != n or PyDict_GET_SIZE(o) != n:
        raise RuntimeError("dictionary changed size during iteration")
    return 0


cdef bint collect_fields(PyObject *o, PrColumn *c, PyObject **values):
    """Whether the dict has the record's keys in their order; its values, borrowed."""
    cdef Py_ssize_t position = 0
    cdef uint32_t i = 0
    cdef PyObject *key
    if PyDict_GET_SIZE(o) != c.n_slots:
        return False
    while i < c.n_slots and PyDict_Next(<object> o, &position, &key, &values[i]):
        if key != <PyObject *> c.names[i]:
            if not PyUnicode_CheckExact(<object> key):
                return False
            if <str> <object> key != <str> <object> <PyObject *> c.names[i]:
                return False
        i += 1
    return i == c.n_slots


cdef int put_fields(Encoder e, PyObject *o, PrColumn *c, PyObject **values) except -1:
    cdef uint32_t i
    cdef size_t calls = e.calls
    for i in range(c.n_slots):
        if e.calls != calls:
            # Code of the user's ran while a value was encoded: the others may not be alive.
            calls = e.calls
            if not collect_fields(o, c, values):
                raise RuntimeError("dictionary changed its keys during serialization")
        if not put_scalar(e, values[i], &c.slots[i]):
            step(e, VALUE, i, <PyObject *> c.names[i])
            put_object(e, values[i], &c.slots[i], 1)
    return 0


cdef int new_record(Encoder e, PyObject *o, PrSlot *slot, PrColumn **out) except -1:
    cdef Py_ssize_t position = 0
    cdef uint32_t n = <uint32_t> PyDict_GET_SIZE(o), i = 0
    cdef PyObject *key
    cdef PrColumn *c
    cdef bytes text
    while PyDict_Next(<object> o, &position, &key, NULL):
        if not PyUnicode_CheckExact(<object> key):
            return 0
        PyUnicode_READY(<object> key)
        if PyUnicode_KIND(key) != 1 and has_surrogates(key):
            return 0
    c = column(e, slot, PR_DICT_RECORD, 0, 0, n, True)
    if c == NULL:
        return 1
    c.names = <const void **> pr_arena(&e.b, n * sizeof(void *))
    c.texts = <PrText *> pr_arena(&e.b, n * sizeof(PrText))
    if c.names == NULL or c.texts == NULL:
        no_memory()
    position = 0
    while PyDict_Next(<object> o, &position, &key, NULL):
        text = (<str> <object> key).encode()
        e.pinned.append(text)
        e.pinned.append(<object> key)
        c.names[i] = key
        c.texts[i].data = <const uint8_t *> PyBytes_AS_STRING(text)
        c.texts[i].size = PyBytes_GET_SIZE(text)
        i += 1
    out[0] = c
    return 1


cdef int put_set(Encoder e, PyObject *o, PrSlot *slot, int64_t entry, int kind,
                 bint may_defer) except -1:
    cdef Py_ssize_t n = PySet_GET_SIZE(o), position = 0, i = 0
    cdef Py_hash_t h
    cdef PyObject *item
    cdef PyObject *second
    cdef int64_t row
    cdef PrColumn *c = column(e, slot, kind, 0, 0, 1, may_defer)
    cdef bint postorder = kind == PR_FROZENSET and entry >= 0
    if c == NULL:
        return defer(e, o, None, slot, entry)
    row = c.rows
    if kind == PR_SET:
        remember(e, entry, c, row)
    check(pr_list_row(slot, c, n))
    if n >= 2 and c.slots[0].level == PR_LEVEL_UNSET:
        _PySet_NextEntry(o, &position, &item, &h)
        _PySet_NextEntry(o, &position, &second, &h)
        note_pair(e, &c.slots[0], item, second)
        position = 0
    if postorder:
        begin(e, entry)
        e.postorder += 1
    while i < n and _PySet_NextEntry(o, &position, &item, &h):
        if not put_scalar(e, item, &c.slots[0]):
            step(e, MEMBER, i, NULL)
            put_object(e, item, &c.slots[0], 1)
        i += 1
        if PySet_GET_SIZE(o) != n:
            break
    e.postorder -= postorder
    if i != n or PySet_GET_SIZE(o) != n:
        raise RuntimeError("set changed size during iteration")
    return finish(e, entry, c, row) if postorder else 0


cdef inline int note_pair(Encoder e, PrSlot *slot, PyObject *first, PyObject *second) except -1:
    """Two equal types at the front of a container: records may follow."""
    if slot.level == PR_LEVEL_UNSET and PYRAY_TYPE(first) == PYRAY_TYPE(second):
        slot.level = PR_LEVEL_START
    return 0
