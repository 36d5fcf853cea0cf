# Reductions: what an object without a column of its own is made of. Part of _encoder.pyx;
# docs/format.md, 7.5.

# The type of functions that Cython made; each extension module may have its own.
cdef str CYTHON_FUNCTION = "cython_function_or_method"

# Attributes of a class through which a reduction can run code of the user's; the last two give
# the items of what inherits from list, dict or deque.
_HOOKS = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__",
          "__getattribute__", "__getattr__", "__iter__", "items")
# Their reductions return what the object holds, nothing that only they can reach.
_TRUSTED = frozenset(sys.stdlib_module_names) | {
    "cloudpickle", "numpy", "pandas", "scipy", "torch", "pyarrow", "polars", "pyray"}


def is_trusted(function):
    """Whether it is a function of a library that we know."""
    if type(function) is not FunctionType and type(function) is not BuiltinFunctionType:
        return False  # of an object that can be called, the module is that of its class
    return str(function.__module__).partition(".")[0] in _TRUSTED


def runs_user_code(cls, reducer):
    """Whether reducing an instance runs code that might show us an object a second time."""
    if cls in registry.registered or (
            reducer is not reduction.reduce_ex and not is_trusted(reducer)):
        return True
    for base in cls.__mro__:
        if str(base.__module__).partition(".")[0] not in _TRUSTED:
            for name in _HOOKS:
                if name in base.__dict__ and not is_trusted(base.__dict__[name]):
                    return True
    return False


cdef int put_by_reducer(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    cdef TypeInfo info
    cdef int32_t g
    cdef object rv = NotImplemented
    e.calls += 1
    if is_type(o) or is_function(o):
        g = global_of(e, <object> o)
        if g >= 0:
            return put_index(e, PR_GLOBAL, g, slot)
        rv = e.reductions[<size_t> o]
        if entry < 0:
            entry = pr_memo_get(&e.memo, o, NULL)
        return put_reduced(e, o, rv, slot, new_entry(e, o) if entry < 0 else entry)
    if e.context is not None:
        rv = e.context.reduce(<object> o)
        if rv is not NotImplemented:
            require_memo(e)
    if rv is NotImplemented:
        info = info_of(e, o)
        if info.reducer is None:
            return put_plain(e, o, slot, entry)
        if info.runs_user_code:
            require_memo(e)
        rv = info.reducer(<object> o)
    if type(rv) is str:
        return put_index(e, PR_GLOBAL, named_global(e, <object> o, rv), slot)
    return put_reduced(e, o, rv, slot, entry)


cdef int put_plain(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    """An instance that object.__reduce_ex__ would reduce to its class and its __dict__."""
    cdef PyObject *held = pyray_instance_dict(o)
    cdef object state = None
    cdef int32_t g
    if held != NULL:
        state = <object> held
        Py_DECREF(state)
        if not PyDict_GET_SIZE(held):  # no state, as object.__reduce_ex__ has it
            state = None
    cls = type(<object> o)
    g = global_of(e, cls)
    if g < 0:
        return put_reduce(e, o, newobj, (cls,), state, None, None, None, slot, entry)
    return put_instance(e, o, cls, g, state, slot, entry, 2)


cdef int put_instance(Encoder e, PyObject *o, object cls, int32_t g, object state, PrSlot *slot,
                      int64_t entry, Py_ssize_t own) except -1:
    cdef PrColumn *c = pr_find(slot, PR_INSTANCE, 0, <uint32_t> g)
    if c == NULL:
        if pr_count_members(slot) >= PR_MAX_CALLABLES:
            return put_reduce(e, o, newobj, (cls,), state, None, None, None, slot, entry, True)
        c = column(e, slot, PR_INSTANCE, 0, <uint32_t> g, 1, not is_begun(e, entry))
        if c == NULL:
            return defer(e, o, (newobj, (cls,), state), slot, entry)
    remember(e, entry, c, c.rows)
    check(pr_row(slot, c))
    c.rows += 1
    if state is None:
        put_scalar(e, Py_None, &c.slots[0])
        return 0
    step(e, STATE, 0, NULL)
    return put_state(e, state, &c.slots[0], own)


cdef int put_reduced(Encoder e, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1:
    cdef int32_t g
    cdef Py_ssize_t n
    cdef object state = None, listitems = None, dictitems = None, setter = None
    if not is_sound(o, rv):
        rv = reduction.check_reduce_value(<object> o, rv)
    n = PyTuple_GET_SIZE(rv)
    func, args = (<tuple> rv)[0], (<tuple> rv)[1]
    if n > 2:
        state = (<tuple> rv)[2]
    if n > 3:
        listitems = (<tuple> rv)[3]
    if n > 4:
        dictitems = (<tuple> rv)[4]
    if n > 5:
        setter = (<tuple> rv)[5]
    if (func is newobj and len(args) == 1 and listitems is None and dictitems is None
            and setter is None):
        g = global_of(e, args[0])
        if g >= 0:
            return put_instance(e, o, args[0], g, state, slot, entry, 2)
    return put_reduce(e, o, func, args, state, listitems, dictitems, setter, slot, entry)


cdef bint is_sound(PyObject *o, object rv):
    """Whether a reduce value is one of the ordinary ones, which need no further check."""
    cdef Py_ssize_t n
    if not PyTuple_CheckExact(rv):
        return False
    n = PyTuple_GET_SIZE(rv)
    if n < 2 or n > 6 or not PyTuple_CheckExact((<tuple> rv)[1]):
        return False
    if n > 3 and ((<tuple> rv)[3] is not None or (n > 4 and (<tuple> rv)[4] is not None)):
        return False
    if n == 6 and not ((<tuple> rv)[5] is None or type((<tuple> rv)[5]) is FunctionType):
        return False
    func = (<tuple> rv)[0]
    if func is newobj:
        return PyTuple_GET_SIZE((<tuple> rv)[1]) > 0 and (<tuple> rv)[1][0] is type(<object> o)
    if type(func) is FunctionType:
        return not func.__name__.startswith("__newobj")
    return type(func) is BuiltinFunctionType or type(func) is type


cdef int put_reduce(Encoder e, PyObject *o, object func, object args, object state,
                    object listitems, object dictitems, object setter, PrSlot *slot,
                    int64_t entry, bint no_global=False) except -1:
    """A REDUCE row, of its own global's column unless there is none or it is not to be."""
    cdef int parts = PR_PART_ARGUMENTS
    cdef int64_t row
    cdef int32_t g = -1 if no_global else global_of(e, func)
    cdef PrColumn *c
    if listitems is not None:
        parts |= PR_PART_LIST_ITEMS
    if dictitems is not None:
        parts |= PR_PART_DICT_ITEMS
    if state is not None:
        parts |= PR_PART_STATE
        if setter is not None:
            parts |= PR_PART_SETTER
    if g >= 0 and pr_count_members(slot) >= PR_MAX_CALLABLES and (
            pr_find(slot, PR_REDUCE, parts, <uint32_t> g + 1) == NULL):
        g = -1
    if g < 0:
        parts |= PR_PART_FUNCTION
    c = column(e, slot, PR_REDUCE, parts, <uint32_t> (g + 1), bit_count(parts), not is_begun(e, entry))
    if c == NULL:
        return defer(e, o, (func, args, state, listitems, dictitems, setter), slot, entry)
    check(pr_row(slot, c))
    row = c.rows
    c.rows += 1
    return put_reduce_parts(e, c, parts, func, args, state, listitems, dictitems, setter,
                            entry, row)


cdef int put_reduce_parts(Encoder e, PrColumn *c, int parts, object func, object args, object state,
                          object listitems, object dictitems, object setter, int64_t entry,
                          int64_t row) except -1:
    cdef PrSlot *child = c.slots
    cdef list items
    e.postorder += entry >= 0
    begin(e, entry)
    if parts & PR_PART_FUNCTION:
        step(e, FUNCTION, 0, NULL)
        put(e, <PyObject *> func, child)
        child += 1
    step(e, ARGUMENT, 0, NULL)
    put_arguments(e, args, child)
    child += 1
    e.postorder -= entry >= 0
    finish(e, entry, c, row)
    step(e, SILENT, 0, NULL)
    if listitems is not None:
        items = list(listitems)
        enter(e)
        put_list(e, <PyObject *> items, child, NO_IDENTITY, False)
        e.depth -= 1
        child += 1
    if dictitems is not None:
        enter(e)
        put_dict_items(e, dictitems, child)
        e.depth -= 1
        child += 1
    if state is not None:
        step(e, STATE, 0, NULL)
        put_state(e, state, child, 2)
        child += 1
    if parts & PR_PART_SETTER:
        step(e, SETTER, 0, NULL)
        put(e, <PyObject *> setter, child)
    return 0


cdef int put_dict_items(Encoder e, object items, PrSlot *slot) except -1:
    """(key, value) pairs as a DICT row without identity."""
    cdef list pairs = list(items)
    cdef PrColumn *c = column(e, slot, PR_DICT, 0, 0, 2, False)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError("dict items iterator must return 2-tuples")
    check(pr_list_row(slot, c, len(pairs)))
    if len(pairs) >= 2:
        note_pair(e, &c.slots[0], <PyObject *> pairs[0][0], <PyObject *> pairs[1][0])
        note_pair(e, &c.slots[1], <PyObject *> pairs[0][1], <PyObject *> pairs[1][1])
    for pair in pairs:
        key, value = pair
        step(e, KEY, 0, <PyObject *> key)
        put(e, <PyObject *> key, &c.slots[0])
        step(e, VALUE, 0, <PyObject *> key)
        put(e, <PyObject *> value, &c.slots[1])
    return 0


cdef int put_arguments(Encoder e, object args, PrSlot *slot) except -1:
    """The argument tuple: a value with identity, but never deferred."""
    cdef PyObject *o
    cdef int64_t entry = -1
    if type(args) is not tuple:
        args = tuple(args)
    o = <PyObject *> args
    if PyTuple_GET_SIZE(args) and (
            PYRAY_REFCNT(o) > 2 or e.memo_all or e.postorder != 0):
        entry = pr_memo_get(&e.memo, o, NULL)
        if entry >= 0 and (e.memo.entries[entry].column != NULL
                           or e.memo.entries[entry].row == DEFERRED):
            return put_ref(e, entry, slot)
        if entry < 0:
            entry = new_entry(e, o)
    enter(e)
    put_tuple(e, o, slot, entry, False)
    e.depth -= 1
    return 0


cdef int put_state(Encoder e, object state, PrSlot *slot, Py_ssize_t own) except -1:
    """A state is held by its reduce value and by us; a third reference makes it shared."""
    cdef PyObject *o = <PyObject *> state
    if PyDict_CheckExact(state) or PyTuple_CheckExact(state):
        return put_object(e, o, slot, own)
    return put(e, o, slot)


cdef TypeInfo info_of(Encoder e, PyObject *o):
    """How instances of the type of `o` are reduced: kept over messages, while nothing changes."""
    cdef void *kind = PYRAY_TYPE(o)
    cdef unsigned int tag = pyray_type_version(kind)
    cdef TypeInfo info = type_infos.get(<size_t> kind)
    cls = type(<object> o)
    if (info is None or info.tag != tag or tag == 0 or info.version != registry.version
            or cls in dispatch_table):
        info = TypeInfo()
        info.reducer = reduction.reducer_for(cls)
        info.runs_user_code = info.reducer is not None and runs_user_code(cls, info.reducer)
        info.tag = pyray_type_version(kind)
        info.version = registry.version
        if len(type_infos) >= MOST_INFOS:
            type_infos.clear()
        type_infos[<size_t> kind] = info
    if info.reducer is reduction.reduce_by_cloudpickle:
        begin_message(e)
    return info


cdef int begin_message(Encoder e) except -1:
    if not e.in_message:
        reduction.begin_message()
        e.in_message = True
    return 0


cdef inline int32_t known_global(Encoder e, PyObject *o) noexcept:
    """Index of a global that the message has already; -1: it has not."""
    cdef int64_t entry = pr_memo_get(&e.globals, o, NULL)
    return -1 if entry < 0 else <int32_t> e.globals.entries[entry].row


cdef int32_t global_of(Encoder e, object o) except -2:
    """Index of a function or class that can be imported by name; -1 for all else.

    What a function or class is reduced to instead is kept, so that it is asked for once."""
    cdef PyObject *p = <PyObject *> o
    cdef int32_t g
    if not (is_type(p) or is_function(p) or type(o).__name__ == CYTHON_FUNCTION):
        return -1
    g = known_global(e, p)
    if g >= 0 or <size_t> p in e.reductions:
        return g
    known = importable_name(o)
    if known is not None:
        return add_global(e, o, (<tuple> known)[0], (<tuple> known)[1])
    known = by_value(e, o)
    if type(known) is str:
        return named_global(e, o, known)
    e.pinned.append(o)
    e.reductions[<size_t> p] = known
    return -1


cdef object by_value(Encoder e, object o):
    """What a function or class that has no ordinary name is reduced to."""
    cdef PyObject *p = <PyObject *> o
    begin_message(e)
    if e.context is not None or type(o) in dispatch_table or type(o) in registry.registered:
        require_memo(e)
        return reduction.reduce(o, e.context)
    if type(o) is FunctionType:
        return reduction.reduce_by_cloudpickle(o)
    if type(o) is not type or pyray_is_heap_type(p):
        return reduction.reduce(o)
    # A type in C lasts for ever, and so does what stands for it.
    known = static_types.get(<size_t> p)
    if known is None:
        known = static_types[<size_t> p] = reduction.reduce(o)
    return known


cdef object importable_name(object o):
    """(module, name) of an ordinary function or class that an import finds under it, else None.

    A shortcut past `reduction`, which decides about everything that is None here."""
    if is_type(<PyObject *> o):
        if type(o) is not type and type(o) in dispatch_table:
            return None
    elif type(o) is not FunctionType and type(o) is not BuiltinFunctionType:
        return None
    if registry.registered and type(o) in registry.registered:
        return None
    try:
        module, name = o.__module__, o.__qualname__
    except AttributeError:
        return None
    if type(module) is not str or type(name) is not str or "." in name:
        return None
    if module == "__main__" or module == "__mp_main__":
        return None
    cloudpickle = modules.get("cloudpickle.cloudpickle")
    if cloudpickle is not None and getattr(cloudpickle, "_PICKLE_BY_VALUE_MODULES", True):
        return None
    if getattr(modules.get(module), name, None) is not o:
        return None
    return module, name


cdef int32_t named_global(Encoder e, object o, object name) except -2:
    """Index of the global that a reduction named."""
    cdef int32_t g = known_global(e, <PyObject *> o)
    if g >= 0:
        return g
    module, name = reduction.global_name(o, name)
    return add_global(e, o, module, name)


cdef int32_t add_global(Encoder e, object o, object module, object name) except -2:
    cdef int32_t g = <int32_t> e.b.n_globals
    cdef int64_t entry
    cdef bytes text
    for part in (module, name):
        text = (<str?> part).encode()
        check(pr_bytes_reserve(&e.b.globals, len(text) + 10))
        pr_bytes_varint(&e.b.globals, len(text))
        pr_bytes_append(&e.b.globals, PyBytes_AS_STRING(text), len(text))
    e.b.n_globals += 1
    e.pinned.append(o)
    entry = pr_memo_add(&e.globals, <PyObject *> o, NULL)
    if entry < 0:
        no_memory()
    e.globals.entries[entry].row = g
    return g


cdef int require_memo(Encoder e) except -1:
    """User code is about to run, and may show us any object again."""
    if not e.memo_all:
        if e.b.n_columns:
            raise Restart
        e.memo_all = True
    return 0
