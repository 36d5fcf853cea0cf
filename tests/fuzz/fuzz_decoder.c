/* Fuzz target: deserialize(trusted=False) and view, in a Python that allocates with malloc.
 *
 * Each input is decoded from bytes or from memory that ends, perhaps unaligned, where its
 * allocation ends. Beside what the sanitizers find, it is an error to raise what a reader does not
 * expect, to take more than a second, to allocate more than `allowance` says, and to hold more
 * memory after each of several runs.
 */
#include <Python.h>
#include <time.h>

#include "message.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *memory);

enum { SECOND = 1000000000, WALKED_MOST = 20000, WALKED_DEPTH = 60 };

static PyObject *deserialize, *read_view, *allow, *out_of_band, *expected, *never, *plain_errors;
static PyObject *deserialize_keywords, *view_keywords;
static PyTypeObject *ndarray, *buffer_type;
static uint64_t views_of_61 = 5; /* of 61 inputs so many are read by views, which takes longer */

/* -- memory and time --------------------------------------------------------------------------- */

static int64_t live, peak;

static void on_malloc(const volatile void *memory, size_t size) {
    (void)memory;
    live += (int64_t)size;
    if (live > peak) peak = live;
}

static void on_free(const volatile void *memory) {
    if (memory != NULL) live -= (int64_t)__sanitizer_get_allocated_size(memory);
}

static int64_t cpu_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * (int64_t)SECOND + now.tv_nsec;
}

static struct {
    int64_t size, record_rows, n_globals;
} facts;

static void learn(const uint8_t *data, size_t size) {
    static PrMessage m;
    facts.size = facts.record_rows = facts.n_globals = 0;
    uint8_t *aligned = aligned_alloc(16, (size + 15) & ~(size_t)15);
    memcpy(aligned, data, size);
    if (pr_message_parse(&m, aligned, size) == 0) {
        facts.size = (int64_t)m.size;
        facts.record_rows = (int64_t)m.record_rows;
        facts.n_globals = m.n_globals;
    }
    pr_message_free(&m);
    free(aligned);
}

/* The most that decoding may hold at a time: the tables of the parser and the decoder, and what is
 * made of as many bytes as the decoder charges rows at most, however often it comes to them
 * (`begin` in _decode_state.h). */
static int64_t allowance(size_t size) {
    int64_t charged = 2 * (facts.size + facts.record_rows) + 4096;
    int64_t each = facts.n_globals ? 4096 : 384; /* a call may make a deque, or a class */
    return (1 << 18) + 64 * (int64_t)size + each * charged;
}

/* Reading views holds the objects of several calls, and compares some that contain themselves. */
static int64_t allowance_of_views(size_t size) {
    return (1 << 22) + 8 * allowance(size);
}

static void die(const char *what, int64_t value) {
    fprintf(stderr, "FINDING: %s (%lld)\n", what, (long long)value);
    abort();
}

/* -- reading the result ------------------------------------------------------------------------ */

static int left_to_walk;

static void walk(PyObject *object, int depth);

static void walk_items(PyObject **items, Py_ssize_t count, int depth) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (items[i] == NULL) die("a sequence has an item that is NULL", i);
        walk(items[i], depth);
    }
}

static void walk(PyObject *object, int depth) {
    if (depth > WALKED_DEPTH || left_to_walk-- <= 0) return;
    if (PyList_Check(object)) {
        walk_items(((PyListObject *)object)->ob_item, PyList_GET_SIZE(object), depth + 1);
    } else if (PyTuple_Check(object)) {
        walk_items(((PyTupleObject *)object)->ob_item, PyTuple_GET_SIZE(object), depth + 1);
    } else if (PyDict_CheckExact(object)) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(object, &at, &key, &value)) {
            walk(key, depth + 1);
            walk(value, depth + 1);
        }
    } else if (Py_TYPE(object) == ndarray || Py_TYPE(object) == buffer_type) {
        /* A view of the message: read every byte of it. */
        PyObject *copy =
            PyObject_CallMethod(object, Py_TYPE(object) == ndarray ? "tobytes" : "__bytes__", NULL);
        if (copy == NULL) PyErr_Clear();
        Py_XDECREF(copy);
    } else if (PyUnicode_CheckExact(object)) {
        PyObject_Hash(object);
    }
}

/* -- one run ----------------------------------------------------------------------------------- */

static void check_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    int fine =
        PyErr_GivenExceptionMatches(type, expected) ||
        (PyErr_GivenExceptionMatches(type, facts.n_globals ? PyExc_Exception : plain_errors) &&
         !PyErr_GivenExceptionMatches(type, never));
    if (!fine) {
        PyErr_Restore(type, value, traceback);
        PyErr_Print();
        die("an exception that no reader expects", 0);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

static void run(PyObject *source, int as_view, int with_buffers) {
    PyObject *buffers = with_buffers ? out_of_band : Py_None;
    PyObject *for_decode[] = {NULL, source, Py_False, allow, buffers};
    PyObject *result =
        as_view ? PyObject_Vectorcall(read_view, for_decode + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                      view_keywords)
                : PyObject_Vectorcall(deserialize, for_decode + 1,
                                      1 | PY_VECTORCALL_ARGUMENTS_OFFSET, deserialize_keywords);
    if (result == NULL) {
        check_exception();
    } else {
        if (PyErr_Occurred()) {
            PyErr_Print();
            die("a result and an exception", 0);
        }
        left_to_walk = WALKED_MOST;
        if (!as_view) walk(result, 0);
        Py_DECREF(result);
    }
}

static void run_measured(PyObject *source, size_t size, int as_view, int with_buffers) {
    int64_t allowed = as_view ? allowance_of_views(size) : allowance(size), held = 0;
    /* A second time if it was too much: it may have been the interpreter's table of interned
     * strings that grew. */
    for (int i = 0; i < 2; i++) {
        int64_t before = peak = live, start = cpu_time();
        run(source, as_view, with_buffers);
        int64_t time = cpu_time() - start;
        if (time > SECOND) die("more than a second", time);
        held = peak - before;
        if (held <= allowed) return;
    }
    fprintf(stderr, "%zu bytes of message, %lld rows of records, %lld allowed\n", size,
            (long long)facts.record_rows, (long long)allowed);
    die("more memory than the message is worth", held);
}

/* Types keep the names that were looked up in them. */
static void collect(void) {
    PyGC_Collect();
    PyType_ClearCache();
}

/* Holds more after each of several runs? Caches fill once. */
static void run_unleaking(PyObject *source, size_t size, int as_view, int with_buffers) {
    int64_t before = live;
    run_measured(source, size, as_view, with_buffers);
    if (live <= before) return;
    for (int i = 0; i < 6; i++) {
        collect();
        int64_t now = live;
        run_measured(source, size, as_view, with_buffers);
        collect();
        if (live <= now) return;
        before = now;
    }
    die("every run leaks", live - before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++) hash = (hash ^ data[i]) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
    learn(data, size);
    char *memory = NULL;
    PyObject *source;
    if (hash & 1) {
        source = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    } else {
        size_t shift = hash & 2 ? (hash >> 8) & 7 : 0;
        memory = malloc(size + shift + 1);
        if (size) memcpy(memory + shift + 1 - (shift ? 0 : 1), data, size);
        source = PyMemoryView_FromMemory(memory + shift + 1 - (shift ? 0 : 1), (Py_ssize_t)size,
                                         PyBUF_READ);
    }
    if (source == NULL) die("no memory", 0);
    int as_view = hash % 61 < views_of_61, with_buffers = (hash & 24) == 0;
    if (hash % 59 == 0) run_unleaking(source, size, as_view, with_buffers);
    else run_measured(source, size, as_view, with_buffers);
    Py_DECREF(source);
    free(memory); /* cyclic garbage may still hold views of it, but only lets go of them */
    return 0;
}

/* -- set-up ------------------------------------------------------------------------------------ */

static PyObject *need(PyObject *object) {
    if (object != NULL) return object;
    PyErr_Print();
    exit(2);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    PyPreConfig preconfig;
    PyConfig config;
    (void)argc;
    PyPreConfig_InitPythonConfig(&preconfig);
    preconfig.allocator = PYMEM_ALLOCATOR_MALLOC;
    Py_PreInitialize(&preconfig);
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    PyConfig_SetBytesString(&config, &config.program_name, (*argv)[0]);
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
    PyObject *targets = need(PyImport_ImportModule("targets"));
    deserialize = need(PyObject_GetAttrString(targets, "deserialize"));
    read_view = need(PyObject_GetAttrString(targets, "read_view"));
    allow = need(PyObject_GetAttrString(targets, "ALLOW"));
    out_of_band = need(PyObject_GetAttrString(targets, "OUT_OF_BAND"));
    expected = need(PyObject_GetAttrString(targets, "EXPECTED"));
    plain_errors = need(PyObject_GetAttrString(targets, "PLAIN_ERRORS"));
    never = need(PyObject_GetAttrString(targets, "NEVER"));
    ndarray = (PyTypeObject *)need(PyObject_GetAttrString(targets, "ndarray"));
    buffer_type = (PyTypeObject *)need(PyObject_GetAttrString(targets, "Buffer"));
    deserialize_keywords = view_keywords =
        need(Py_BuildValue("(sss)", "trusted", "allow", "buffers"));
    need(PyObject_CallMethod(targets, "warm_up", NULL));
    if (getenv("FUZZ_VIEWS")) views_of_61 = strtoull(getenv("FUZZ_VIEWS"), NULL, 10);
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    return 0;
}
