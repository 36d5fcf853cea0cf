/* Objects that other rows refer to: the memo, REF rows, and rows that carry a memo number. */
#ifndef PYRAY_DECODE_MEMO_H
#define PYRAY_DECODE_MEMO_H

#include "_decode_state.h"

/* A row that others refer to and that must exist before its children do. In _decode_core.h. */
static PyObject *make_before_children(Decoder *d, const PrNode *node, int64_t row, int32_t number);
static int exists_before_children(const PrNode *node);
static int fill_rows(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out);

/* Proves the memo, and makes room for its objects. */
static int open_memo(Decoder *d) {
    PrMessage *m = &d->message;
    if (d->memo != NULL || m->n_memo == 0) return 0;
    if (pr_message_check(m) < 0) return malformed(m->error);
    d->demanded = block(d, m->n_numbers * sizeof *d->demanded);
    if (d->demanded != NULL) d->memo = object_array(d, m->n_numbers);
    return d->memo == NULL ? -1 : 0;
}

/* Lets REF rows find the object. */
static void remember(Decoder *d, int32_t number, PyObject *object) {
    d->memo[number] = Py_NewRef(object);
    d->objects_made++;
}

/* The object of a number that a row has been completed for: the first one that was. Takes over
 * the reference. */
static PyObject *settle(Decoder *d, int32_t number, PyObject *object) {
    if (d->memo[number] == NULL) {
        remember(d, number, object);
    } else {
        Py_SETREF(object, Py_NewRef(d->memo[number]));
    }
    return object;
}

/* One row that has an entry in the memo. */
static int fill_remembered(Decoder *d, const PrNode *node, uint32_t entry, PyObject **out) {
    int32_t number = d->message.memo_number[entry];
    int64_t row = d->message.memo_row[entry];
    if (d->memo[number] != NULL) {
        *out = Py_NewRef(d->memo[number]);
        return 0;
    }
    if (node->kind == PR_REDUCE || (node->has_refs && exists_before_children(node))) {
        *out = make_before_children(d, node, row, number);
        return *out == NULL ? -1 : 0;
    }
    /* Without REF rows below it nothing can ask for it before it is complete. */
    if (fill_rows(d, node, row, 1, out) < 0) return -1;
    *out = settle(d, number, *out);
    return 0;
}

/* A range of rows of which some have entries: these one by one, what lies between at once. */
static int fill_with_memo(Decoder *d, const PrNode *node, int64_t row, int64_t count,
                          PyObject **out) {
    int64_t at = row, end = row + count;
    uint32_t entry = pr_memo_lower_bound(&d->message, node, row);
    if (entry < node->memo_end && d->message.memo_row[entry] < end && open_memo(d) < 0) return -1;
    for (; entry < node->memo_end && d->message.memo_row[entry] < end; entry++) {
        int64_t next = d->message.memo_row[entry];
        if (next > at && fill_rows(d, node, at, next - at, out + (at - row)) < 0) return -1;
        if (fill_remembered(d, node, entry, out + (next - row)) < 0) return -1;
        at = next + 1;
    }
    return at < end ? fill_rows(d, node, at, end - at, out + (at - row)) : 0;
}

/* The object of a number that no row has made yet: makes the row listed first. */
static int make_on_demand(Decoder *d, int32_t number, PyObject **out) {
    const PrMessage *m = &d->message;
    uint32_t entry = (uint32_t)m->memo_first[number];
    /* To come here for a number twice is honest only if objects that exist before their children
     * were made in between: they will end the circle. */
    if (d->demanded[number] == d->objects_made + 1) {
        return malformed("an object that must be complete first contains itself");
    }
    uint64_t outer = d->demanded[number];
    d->demanded[number] = d->objects_made + 1;
    int status = enter(d);
    if (status == 0) status = fill_remembered(d, &m->nodes[m->memo_node[entry]], entry, out);
    d->demanded[number] = outer;
    return status;
}

static int fill_ref(Decoder *d, const PrNode *node, int64_t row, int64_t count, PyObject **out) {
    const int32_t *numbers = (const int32_t *)(const void *)node->a + row;
    if (open_memo(d) < 0) return -1;
    for (int64_t i = 0; i < count; i++) {
        int32_t number = numbers[i];
        if (number < 0 || (uint32_t)number >= d->message.n_numbers) {
            return malformed("a reference names no object");
        }
        if (d->memo[number] != NULL) {
            out[i] = Py_NewRef(d->memo[number]);
        } else if (make_on_demand(d, number, &out[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

#endif
