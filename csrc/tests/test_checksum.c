/* Known sums, and that every bit counts. */
#include "../checksum.h"

#include <string.h>

#include "runtime.h"

static void test_known(void) {
    EQUAL(pr_checksum("", 0, 0), 0xef46db3751d8e999u);
    EQUAL(pr_checksum("a", 1, 0), 0xd24ec4f1a98c6e5bu);
    EQUAL(pr_checksum("abc", 3, 0), 0x44bc2cf5ad770999u);
    EQUAL(pr_checksum("Nobody inspects the spammish repetition", 39, 0), 0xfbcea83c8a378bf1u);
    EQUAL(pr_checksum("xxhash", 6, 20141025), 0xb559b98d844e0635u);
}

static void test_every_bit(void) {
    uint8_t data[100];
    for (size_t size = 1; size <= sizeof data; size++) {
        write_pattern(data, size, size);
        uint64_t sum = pr_checksum(data, size, 1);
        CHECK(pr_checksum(data, size, 2) != sum);
        CHECK(pr_checksum(data, size - 1, 1) != sum);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK(pr_checksum(data, size, 1) != sum);
            data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

int main(void) {
    RUN(test_known);
    RUN(test_every_bit);
    return 0;
}
