/* The full check of a parsed message's contents, for those who give its columns away.
 *
 * A decoder checks each value as it follows it. Whoever hands the columns to somebody else's code,
 * as the Arrow export does, must know beforehand that no offset, type id or index leads out of its
 * column, and that text is UTF-8. This is that check: every value once, no allocation.
 */
#ifndef PYRAY_VALIDATE_H
#define PYRAY_VALIDATE_H

#include "message.h"

/* Checks all columns of a message that pr_message_parse accepted. Returns 0, or -1 with m->error
 * set (a static text). */
int pr_message_validate(PrMessage *m);

/* Whether the bytes are UTF-8 as Unicode defines it: shortest forms, no surrogates. */
int pr_utf8_is_valid(const uint8_t *data, uint64_t size);

/* Bytes of one item of a NumPy dtype string of docs/format.md section 5; -1 if it is none. */
int64_t pr_dtype_itemsize(PrText text);

#endif
