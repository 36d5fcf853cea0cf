# The builders of csrc/column.h, csrc/memo.h and csrc/utf8.h, as Cython sees them.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "bytes.h" nogil:
    ctypedef struct PrBytes:
        uint8_t *data
        size_t size
        size_t capacity

    int pr_bytes_reserve(PrBytes *b, size_t more)
    int pr_bytes_push8(PrBytes *b, uint8_t v)
    int pr_bytes_push32(PrBytes *b, int32_t v)
    int pr_bytes_push64(PrBytes *b, int64_t v)
    int pr_bytes_append(PrBytes *b, const void *data, size_t n)
    void pr_bytes_varint(PrBytes *b, uint64_t v)
    void pr_bytes_free(PrBytes *b)


cdef extern from "message.h" nogil:
    enum:
        PR_LARGE, PR_COLUMNS_BYTE, PR_OUT_OF_LINE
        PR_NULL, PR_BOOL, PR_INT64, PR_FLOAT64, PR_COMPLEX128, PR_UTF8, PR_SURROGATES, PR_BYTES
        PR_BYTEARRAY, PR_BIGINT, PR_DICTIONARY, PR_REF, PR_GLOBAL, PR_BYTES_BUFFER
        PR_BYTEARRAY_BUFFER, PR_BUFFER, PR_NDARRAY, PR_LIST, PR_TUPLE, PR_SET, PR_FROZENSET
        PR_DICT, PR_DICT_RECORD, PR_TUPLE_RECORD, PR_INSTANCE, PR_REDUCE, PR_UNION
        PR_BUFFER_WRITABLE
        PR_PART_FUNCTION, PR_PART_ARGUMENTS, PR_PART_LIST_ITEMS, PR_PART_DICT_ITEMS
        PR_PART_STATE, PR_PART_SETTER

    ctypedef struct PrText:
        const uint8_t *data
        uint64_t size


cdef extern from "column.h" nogil:
    enum:
        PR_LEVEL_UNSET, PR_LEVEL_START, PR_MAX_COLUMNS, PR_MAX_ARITIES, PR_MAX_CALLABLES
        PR_OTHER, PR_BOOLS, PR_INTS, PR_FLOATS, PR_STRS, PR_SHORT

    ctypedef struct PrColumn
    ctypedef struct PrSlot:
        PrColumn *column
        uint8_t level
        uint8_t always_union

    ctypedef struct PrColumn:
        uint8_t kind
        uint8_t sub
        uint8_t large
        uint8_t repeated
        int8_t member
        uint32_t extra
        uint32_t n_slots
        int64_t rows
        uint64_t bits
        PrBytes a
        PrBytes b
        PrBytes c
        PrSlot *slots
        PrColumn **members
        uint8_t *by_kind
        const void **names
        PrText *texts

    ctypedef struct PrBlob:
        const void *data
        int64_t size

    ctypedef struct PrMemoRow:
        PrColumn *column
        int64_t row
        int32_t number

    ctypedef struct PrBuilder:
        uint32_t n_columns
        PrSlot root
        PrBytes memo
        int32_t n_numbers
        PrBytes globals
        PrBytes dtypes
        uint32_t n_globals
        uint32_t n_dtypes
        uint32_t n_tensors
        PrBytes tensor_buffer
        PrBytes tensor_dtype
        PrBytes tensor_order
        PrBytes tensor_shape_offsets
        PrBytes tensor_shapes
        PrBytes blobs
        uint64_t head_size
        uint64_t total_size

    int pr_builder_init(PrBuilder *b)
    void pr_builder_free(PrBuilder *b)
    void pr_builder_reset(PrBuilder *b, size_t kept)
    PrColumn *pr_find(const PrSlot *slot, int kind, int sub, uint32_t extra)
    PrColumn *pr_add(PrBuilder *b, PrSlot *slot, int kind, int sub, uint32_t extra,
                     uint32_t n_slots)
    int pr_count_kind(const PrSlot *slot, int kind)
    uint32_t pr_count_members(const PrSlot *slot)
    void *pr_arena(PrBuilder *b, size_t size)
    int pr_row(PrSlot *slot, PrColumn *column)
    int pr_end(PrColumn *c, int64_t end)
    int pr_list_row(PrSlot *slot, PrColumn *c, int64_t n)
    int pr_int_row(PrSlot *slot, PrColumn *c, int64_t v)
    int pr_float_row(PrSlot *slot, PrColumn *c, double v)
    int pr_index_row(PrSlot *slot, PrColumn *c, int32_t v)
    int pr_data_row(PrSlot *slot, PrColumn *c, const void *data, int64_t size)
    int pr_make_repeated(PrColumn *c)
    int pr_plan(PrBuilder *b)
    void pr_write_head(const PrBuilder *b, uint8_t *out)
    uint64_t pr_padded_head(const PrBuilder *b)
    void pr_write_blobs(const PrBlob *blobs, size_t n, uint8_t *out)


cdef extern from "memo.h" nogil:
    ctypedef struct PrMemoEntry:
        const void *key
        void *column
        int64_t row
        int32_t number

    ctypedef struct PrMemo:
        PrMemoEntry *entries
        uint32_t n_entries

    int64_t pr_memo_get(const PrMemo *m, const void *key, const void *column)
    int64_t pr_memo_add(PrMemo *m, const void *key, const void *column)
    void pr_memo_clear(PrMemo *m)
    void pr_memo_free(PrMemo *m)


cdef extern from "utf8.h" nogil:
    int64_t pr_utf8_encode(uint8_t *out, const void *text, int64_t n, int width, int surrogates)
    int pr_has_surrogates(const void *text, int64_t n, int width)
