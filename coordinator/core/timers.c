/* Deadlines, in a binary heap that knows where each of them stands: setting one
 * costs a few swaps, the next one nothing. */
#include "coordinator/core/impl.h"

static void put(struct coord *coord, struct coord_timer *timer, size_t at)
{
    coord->timers.items[at] = timer;
    timer->pos = at + 1;
}

static void sift(struct coord *coord, size_t at)
{
    struct coord_timer **heap = coord->timers.items;
    struct coord_timer *timer = heap[at];

    while (at > 0 && heap[(at - 1) / 2]->at_ns > timer->at_ns) {
        put(coord, heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < coord->timers.n &&
            heap[child + 1]->at_ns < heap[child]->at_ns) {
            child++;
        }
        if (child >= coord->timers.n || heap[child]->at_ns >= timer->at_ns) {
            break;
        }
        put(coord, heap[child], at);
        at = child;
    }
    put(coord, timer, at);
}

void coord_timer_set(struct coord *coord,
                     struct coord_timer *timer,
                     int64_t at_ns)
{
    timer->at_ns = at_ns;
    if (at_ns != NO_NS && timer->pos == 0) {
        if (!base_vec_push(&coord->timers, timer)) {
            coord_no_mem(coord);
            return;
        }
        timer->pos = coord->timers.n;
        sift(coord, timer->pos - 1);
    } else if (at_ns != NO_NS) {
        sift(coord, timer->pos - 1);
    } else if (timer->pos != 0) {
        size_t at = timer->pos - 1;
        struct coord_timer *last = coord->timers.items[--coord->timers.n];

        timer->pos = 0;
        if (last != timer) {
            put(coord, last, at);
            sift(coord, at);
        }
    }
}

int64_t coord_timer_next(const struct coord *coord)
{
    return coord->timers.n > 0 ? coord->timers.items[0]->at_ns : NO_NS;
}
