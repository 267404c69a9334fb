/* The coordinator's records, damaged: they are refused, or the core begins with
 * them, holds its invariants while time goes by, and writes what can be read.
 *
 * An input is records: kind (1 byte), lengths of id (1) and body (2, little
 * endian), id, body. */
#include <stdlib.h>

#include "coordinator/core/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static bool load(struct coord *coord, const uint8_t *data, size_t size)
{
    struct base_err err;

    while (size >= 4) {
        size_t n_id = data[1];
        size_t n_body = (size_t)(data[2] | data[3] << 8);

        if (n_id + n_body > size - 4) {
            return true;
        }
        if (coord_load(coord, (enum coord_record_kind)(data[0] % 3),
                       (struct base_str){(const char *)data + 4, n_id},
                       (struct base_str){(const char *)data + 4 + n_id, n_body},
                       &err) != BASE_OK) {
            return false;
        }
        data += 4 + n_id + n_body;
        size -= 4 + n_id + n_body;
    }
    return true;
}

static void again(const struct coord_limits *limits,
                  const struct coord_actions *actions)
{
    BASE_AUTO(coord) coord = NULL;
    struct base_err err;

    require(coord_create(limits, &coord, &err) == BASE_OK);
    for (size_t i = 0; i < actions->records.n; i++) {
        const struct coord_record *rec = &actions->records.items[i];

        if (rec->body.ptr != NULL) {
            require(coord_load(coord, rec->kind, rec->id, rec->body, &err) ==
                    BASE_OK);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct coord_limits limits;
    struct coord_actions actions;
    struct coord_event tick = {.kind = COORD_TICK};
    struct coord_time now = {1, 1};
    BASE_AUTO(coord) coord = NULL;
    struct base_err err;

    coord_limits_init(&limits);
    require(coord_create(&limits, &coord, &err) == BASE_OK);
    require(coord_actions_init(&actions, &err) == BASE_OK);
    if (load(coord, data, size) &&
        coord_begin(coord, 0, now, &actions, &err) == BASE_OK) {
        require(coord_invariant(coord, &err));
        for (int i = 0; i < 20 && actions.next_ns != INT64_MAX; i++) {
            tick.now.mono_ns = actions.next_ns;
            require(coord_step(coord, &tick, &actions, &err) == BASE_OK);
            require(coord_invariant(coord, &err));
        }
        require(coord_flush(coord, &actions, &err) == BASE_OK);
        again(&limits, &actions);
    }
    coord_actions_done(&actions);
    return 0;
}
