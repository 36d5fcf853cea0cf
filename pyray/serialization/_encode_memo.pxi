# Columns, memo numbers and the path to the object in hand. Part of _encoder.pyx; docs/format.md,
# 7.4 and 7.6.


cdef inline PrColumn *column(Encoder e, PrSlot *slot, int kind, int sub, uint32_t extra,
                             uint32_t n_slots, bint may_defer) except? NULL:
    """The slot's column of that key, made if need be; NULL without an exception: defer."""
    cdef PrColumn *c = pr_find(slot, kind, sub, extra)
    if c == NULL:
        if may_defer and e.b.n_columns >= PR_MAX_COLUMNS and slot != &e.b.root:
            return NULL
        c = pr_add(&e.b, slot, kind, sub, extra, n_slots)
        if c == NULL:
            no_memory()
    return c


cdef int defer(Encoder e, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1:
    """The slot refers to an object that will be put into the root's slot later."""
    if entry < 0:
        entry = new_entry(e, o)
    e.memo.entries[entry].row = DEFERRED
    e.queue.append((<object> o, rv, e.depth - 1))
    e.has_deferred = True
    return put_ref(e, entry, slot)


cdef int put_ref(Encoder e, int64_t entry, PrSlot *slot) except -1:
    put_index(e, PR_REF, number_of(e, entry), slot)
    return number_open(e) if e.has_deferred else 0


cdef int number_open(Encoder e) except -1:
    """Number the containers we are in: format.md, 7.6."""
    cdef Py_ssize_t i
    cdef PathStep *p
    for i in range(e.open_base + 1, e.depth + 1):
        p = &e.path[i]
        if p.entry >= 0:
            if e.memo.entries[p.entry].column != NULL:
                number_of(e, p.entry)
        elif p.column != NULL:
            memo_row(e, p.column, p.row, e.b.n_numbers)
            e.b.n_numbers += 1
            p.column = NULL
    return 0


cdef int64_t new_entry(Encoder e, PyObject *o) except -1:
    cdef int64_t entry = pr_memo_add(&e.memo, o, NULL)
    if entry < 0:
        no_memory()
    Py_INCREF(<object> o)
    return entry


cdef inline int remember(Encoder e, int64_t entry, PrColumn *c, int64_t row) except -1:
    """The row of the container we are in is known (no entry: nobody will ask)."""
    cdef PathStep *p = &e.path[e.depth]
    p.entry = entry
    p.column = c
    p.row = row
    return remember_row(e, entry, c, row)


cdef inline int remember_row(Encoder e, int64_t entry, PrColumn *c, int64_t row) except -1:
    cdef PrMemoEntry *m
    if entry >= 0:
        m = &e.memo.entries[entry]
        m.column = c
        m.row = row
        if m.number >= 0:
            memo_row(e, c, row, m.number)
    return 0


cdef inline int begin(Encoder e, int64_t entry) except -1:
    """The container we are in exists only when it is finished."""
    e.path[e.depth].entry = entry
    if entry >= 0 and e.memo.entries[entry].column == NULL:
        e.memo.entries[entry].row = BEGUN
    return 0


cdef inline bint is_begun(Encoder e, int64_t entry):
    return (entry >= 0 and e.memo.entries[entry].column == NULL
            and e.memo.entries[entry].row == BEGUN)


cdef int finish(Encoder e, int64_t entry, PrColumn *c, int64_t row) except -1:
    """As remember, for what exists only when complete and may have been completed inside."""
    if entry < 0 or e.memo.entries[entry].column == NULL:
        return remember(e, entry, c, row)
    return memo_row(e, c, row, number_of(e, entry))


cdef int32_t number_of(Encoder e, int64_t entry) except -1:
    cdef PrMemoEntry *m = &e.memo.entries[entry]
    if m.number < 0:
        m.number = e.b.n_numbers
        e.b.n_numbers += 1
        if m.column != NULL:
            memo_row(e, <PrColumn *> m.column, m.row, m.number)
    return m.number


cdef int memo_row(Encoder e, PrColumn *c, int64_t row, int32_t number) except -1:
    cdef PrMemoRow r
    memset(&r, 0, sizeof(r))
    r.column = c
    r.row = row
    r.number = number
    return check(pr_bytes_append(&e.b.memo, &r, sizeof(r)))


cdef inline int enter(Encoder e) except -1:
    """One level deeper; `e.depth -= 1` is the way back, unless an exception is."""
    e.depth += 1
    if e.depth >= e.path_limit:
        grow_path(e)
    cdef PathStep *p = &e.path[e.depth]
    p.kind = SILENT
    p.entry = -1
    p.column = NULL
    return 0


cdef int grow_path(Encoder e) except -1:
    """Room for twice the depth, up to the limit."""
    cdef Py_ssize_t capacity = min(e.depth * 2 + 64, e.depth_limit + 1)
    cdef PathStep *path
    if e.depth > e.depth_limit:
        raise RecursionError("maximum recursion depth exceeded while serializing an object")
    path = <PathStep *> realloc(e.path, capacity * sizeof(PathStep))
    if path == NULL:
        no_memory()
    e.path = path
    e.path_capacity = e.path_limit = capacity
    return 0


cdef inline int step(Encoder e, int kind, Py_ssize_t index, PyObject *key) except -1:
    cdef PathStep *p = &e.path[e.depth]
    p.kind = kind
    p.index = index
    p.key = key
    return 0


cdef int note_failure(Encoder e, PyObject *o) except -1:
    """The innermost object an exception comes through is the one to name; keeps the exception.

    Here and not at the top, because keys on the path may belong to temporary states."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    if e.culprit is None:
        PyErr_Fetch(&kind, &value, &traceback)
        e.culprit = type(<object> o)
        try:
            e.culprit_path = path_text(e)
        except BaseException:  # KeyboardInterrupt, say: the error at hand is the one to tell
            e.culprit_path = "obj"
        PyErr_Restore(kind, value, traceback)
    return 0


cdef object brief(object key):
    try:
        return f"{key!r:.80}"
    except Exception:  # somebody else's __repr__
        return f"<{type(key).__name__}>"


cdef object path_text(Encoder e):
    """The path to the object that is being encoded, like obj.workers[2].lock."""
    cdef Py_ssize_t i
    cdef bint attribute = False
    cdef PathStep *p
    text = "obj"
    for i in range(1, e.depth):
        p = &e.path[i]
        key = <object> p.key if p.kind == VALUE or p.kind == KEY else None
        if p.kind == VALUE and attribute and type(key) is str and key.isidentifier():
            text += "." + key
        elif p.kind == VALUE:
            text += f"[{brief(key)}]"
        elif p.kind == KEY:
            text += f".key({brief(key)})"
        elif p.kind == ITEM and not attribute:  # of (state, slots) it need not be said
            text += f"[{p.index}]"
        elif p.kind == MEMBER:
            text += ".<member>"
        elif p.kind == FUNCTION:
            text += ".<function>"
        elif p.kind == ARGUMENT:
            text += ".<arguments>"
        elif p.kind == SETTER:
            text += ".<setter>"
        attribute = p.kind == STATE or (attribute and p.kind in (ITEM, SILENT))
    return text


cdef object located(object error, Encoder e):
    """The exception with the path to what cannot be serialized; its class stays."""
    culprit, path = e.culprit, e.culprit_path
    e.culprit = e.culprit_path = None
    if culprit is None:
        return error
    if type(error) is TypeError or type(error) is PicklingError:
        module = "" if culprit.__module__ == "builtins" else culprit.__module__ + "."
        return type(error)(
            f"cannot serialize '{module}{culprit.__qualname__}' at {path}: {error}")
    if hasattr(error, "add_note") and not isinstance(error, (RecursionError, MemoryError)):
        error.add_note(f"while serializing {path}")
    return error
