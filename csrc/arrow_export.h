/* A message as Arrow arrays, through the Arrow C data interface, without a copy of its columns.
 *
 * The export is one struct array of one row, a record batch in Arrow's terms. docs/arrow.md has the
 * table of columns and types. Arrays point into the message; what Arrow wants and the message does
 * not have as a column (names of globals, bounds of one-row lists, offsets into the buffers) is
 * made once when the source is opened, and is small: it grows with the number of globals, tensors
 * and buffers, not with their bytes.
 *
 * Lifetime: every exported array holds a reference to the source, children too, since a consumer
 * may move a child out and release its parent. The last one to go, on whichever thread, calls the
 * source's `release`. Schemas own copies of all they point to.
 */
#ifndef PYRAY_ARROW_EXPORT_H
#define PYRAY_ARROW_EXPORT_H

#include <stdatomic.h>

#include "arrow_abi.h"
#include "message.h"

enum { PR_ARROW_OK = 0, PR_ARROW_NO_MEMORY = -1, PR_ARROW_INVALID = -2, PR_ARROW_TOO_LARGE = -3 };

/* A node that would lie deeper than this many Arrow types is a column of its own, "continued":
 * Arrow libraries refuse types nested more than 64 deep. */
enum { PR_ARROW_DEPTH = 48 };

/* What Arrow type a node becomes. */
typedef enum {
    PR_ARROW_NULL,
    PR_ARROW_VALUES,     /* one buffer */
    PR_ARROW_COMPLEX,    /* fixed_size_list<float64, 2> */
    PR_ARROW_BINARY,     /* offsets and data */
    PR_ARROW_DICTIONARY, /* int32 indices of utf8 */
    PR_ARROW_INDEX,      /* struct of one int32 */
    PR_ARROW_LIST,
    PR_ARROW_MAP,
    PR_ARROW_PAIRS, /* list<struct<key, value>>: a dict that cannot be a map */
    PR_ARROW_STRUCT,
    PR_ARROW_UNION,
    PR_ARROW_CONTINUED /* null, and the node's rows are elsewhere */
} PrArrowLayout;

typedef struct {
    const char *kind;         /* docs/format.md's name, in the metadata */
    const char *name;         /* as the member of a union */
    const char *format;       /* of the C data interface; NULL where it is not fixed */
    const char *large_format; /* with int64 offsets */
    PrArrowLayout layout;
} PrArrowKind;

extern const PrArrowKind pr_arrow_kinds[PR_KIND_LIMIT];

typedef struct PrArrowSource {
    atomic_llong references;
    void (*release)(void *handle);
    void *handle;
    PrMessage message;
    PrNode scalar;            /* the only node of a scalar message ... */
    int64_t scalar_values[2]; /* ... and its value, or its offsets */
    uint8_t *head;            /* the columns again, if the message was not aligned to 8 */
    uint8_t *depths;          /* node -> Arrow types above it in its column */
    uint8_t *is_continued;    /* node -> whether it begins a column of its own */
    uint32_t n_continued;
    uint32_t *continued;     /* those nodes */
    int64_t *list_bounds;    /* two offsets for each top-level column, int32 or int64 */
    int64_t *buffer_offsets; /* n_buffers + 1 */
    int32_t *dtype_offsets;  /* n_tensors + 1, into dtype_data */
    uint8_t *dtype_data;
    int32_t *global_offsets[2]; /* modules, qualified names: n_globals + 1 each */
    uint8_t *global_data[2];
    const char *error;
} PrArrowSource;

/* Opens the message of `size` bytes at `base` and checks all of it. Columns that are not aligned to
 * 8 are copied, buffers never. On success the
 * source has one reference and owns `handle`. On failure *error is a static text, the handle stays
 * the caller's, and the result is NULL. */
PrArrowSource *pr_arrow_open(const uint8_t *base, uint64_t size, void (*release)(void *),
                             void *handle, int *status, const char **error);
void pr_arrow_retain(PrArrowSource *source);
void pr_arrow_release(PrArrowSource *source);

/* The type and the data of the one-row struct array. Both return PR_ARROW_OK or
 * PR_ARROW_NO_MEMORY, and then `out` is released. */
int pr_arrow_schema(PrArrowSource *source, struct ArrowSchema *out);
int pr_arrow_array(PrArrowSource *source, struct ArrowArray *out);

/* -- shared by the files of the export -------------------------------------------------------- */

/* How the node is laid out where its parent has it. */
PrArrowLayout pr_arrow_layout(const PrArrowSource *source, uint32_t node);

/* The same for the column that a continued node has of its own. */
PrArrowLayout pr_arrow_own_layout(const PrArrowSource *source, uint32_t node);

/* Whether a one-row list of that many items needs int64 offsets. */
static inline int pr_arrow_list_is_large(int64_t rows) {
    return rows > INT32_MAX;
}

#endif
