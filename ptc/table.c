/* Reading a table; ptc/table_build.c makes it. */
#include "ptc/table.h"

#include <assert.h>
#include <stdlib.h>

#include "ptc/table_impl.h"

void ptc_table_free(struct ptc_table *table)
{
    if (table == NULL) {
        return;
    }
    base_arena_free(table->arena);
    free(table->tensors);
    free(table->objects);
    free(table->groups);
    free(table);
}

uint32_t ptc_table_n_tensors(const struct ptc_table *table)
{
    return table->n_tensors;
}

const struct ptc_tensor *ptc_table_tensor(const struct ptc_table *table,
                                          uint32_t idx)
{
    assert(idx < table->n_tensors);
    return &table->tensors[idx];
}

uint32_t ptc_tensors_find_(const struct ptc_tensor *tensors,
                           uint32_t n,
                           struct base_str name)
{
    uint32_t begin = 0;
    uint32_t end = n;

    while (begin < end) {
        uint32_t mid = begin + (end - begin) / 2;
        int order = base_str_cmp(name, tensors[mid].name);

        if (order == 0) {
            return mid;
        }
        if (order < 0) {
            end = mid;
        } else {
            begin = mid + 1;
        }
    }
    return PTC_NONE;
}

uint32_t ptc_table_find(const struct ptc_table *table, struct base_str name)
{
    return ptc_tensors_find_(table->tensors, table->n_tensors, name);
}

uint32_t ptc_table_root(const struct ptc_table *table, uint32_t idx)
{
    uint32_t tie = ptc_table_tensor(table, idx)->tie;

    return tie == PTC_NONE ? idx : tie;
}

uint32_t ptc_table_n_objects(const struct ptc_table *table)
{
    return table->n_objects;
}

const struct ptc_object *ptc_table_object(const struct ptc_table *table,
                                          uint32_t idx)
{
    assert(idx < table->n_objects);
    return &table->objects[idx];
}

uint32_t ptc_table_n_groups(const struct ptc_table *table)
{
    return table->n_groups;
}

struct base_str ptc_table_group(const struct ptc_table *table, uint32_t idx)
{
    assert(idx < table->n_groups);
    return table->groups[idx];
}

uint64_t ptc_table_n_bytes(const struct ptc_table *table)
{
    return table->n_bytes;
}

struct base_digest ptc_table_digest(const struct ptc_table *table)
{
    return table->digest;
}
