#include "bytes.h"

#include <stdlib.h>

int pr_bytes_grow(PrBytes *b, size_t more) {
    size_t need, capacity;
    uint8_t *data;
    if (more > (size_t)PTRDIFF_MAX - b->size) return -1;
    need = b->size + more;
    capacity = b->capacity < 32 ? 64 : b->capacity * 2;
    if (capacity < need) capacity = need;
    data = realloc(b->data, capacity);
    if (!data) return -1;
    b->data = data;
    b->capacity = capacity;
    return 0;
}

void pr_bytes_free(PrBytes *b) {
    free(b->data);
    b->data = NULL;
    b->size = b->capacity = 0;
}
