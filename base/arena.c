/* Blocks in a list; the newest is bumped.  A request larger than a quarter of
 * a block gets a block of its own, put behind the newest, so that the rest of
 * the newest is not lost.  Blocks double from 4 KiB to 1 MiB. */
#include "base/str.h"

enum {
    ARENA_ALIGN = 16,
    ARENA_FIRST_BYTES = 4096,
    ARENA_LAST_BYTES = 1 << 20,
};

struct block {
    struct block *next;
    size_t used; /* of bytes */
    size_t size;
    _Alignas(ARENA_ALIGN) unsigned char bytes[];
};

struct base_arena {
    struct block *blocks; /* the newest first */
    size_t max_bytes;
    size_t n_bytes; /* of all blocks */
    size_t next_bytes;
};

struct base_arena *base_arena_create(size_t max_bytes)
{
    struct base_arena *arena = calloc(1, sizeof(*arena));

    if (arena != NULL) {
        arena->max_bytes = max_bytes;
        arena->next_bytes = ARENA_FIRST_BYTES;
    }
    return arena;
}

void base_arena_free(struct base_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    while (arena->blocks != NULL) {
        struct block *block = arena->blocks;

        arena->blocks = block->next;
        free(block);
    }
    free(arena);
}

static struct block *block_add(struct base_arena *arena, size_t size)
{
    struct block *block;
    size_t total;

    if (size > arena->max_bytes - arena->n_bytes ||
        __builtin_add_overflow(sizeof(*block), size, &total)) {
        return NULL;
    }
    block = calloc(1, total);
    if (block != NULL) {
        block->size = size;
        arena->n_bytes += size;
    }
    return block;
}

static struct block *block_add_newest(struct base_arena *arena, size_t need)
{
    size_t left = arena->max_bytes - arena->n_bytes;
    size_t size = arena->next_bytes < left ? arena->next_bytes : left;
    struct block *block = block_add(arena, size > need ? size : need);

    if (block != NULL) {
        block->next = arena->blocks;
        arena->blocks = block;
        if (arena->next_bytes < ARENA_LAST_BYTES) {
            arena->next_bytes *= 2;
        }
    }
    return block;
}

static struct block *block_add_own(struct base_arena *arena, size_t need)
{
    struct block *block = block_add(arena, need);

    if (block != NULL && arena->blocks != NULL) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else if (block != NULL) {
        arena->blocks = block;
    }
    return block;
}

void *base_arena_alloc(struct base_arena *arena, size_t n, size_t item_bytes)
{
    struct block *block = arena->blocks;
    size_t need;
    void *ptr;

    if (__builtin_mul_overflow(n, item_bytes, &need) ||
        __builtin_add_overflow(need, ARENA_ALIGN - 1, &need)) {
        return NULL;
    }
    need &= ~(size_t)(ARENA_ALIGN - 1);
    if (need == 0) { /* still a pointer of its own */
        need = ARENA_ALIGN;
    }
    if (block == NULL || block->size - block->used < need) {
        block = need > arena->next_bytes / 4 ? block_add_own(arena, need)
                                             : block_add_newest(arena, need);
        if (block == NULL) {
            return NULL;
        }
    }
    ptr = block->bytes + block->used;
    block->used += need;
    return ptr;
}

struct base_str base_arena_str(struct base_arena *arena, struct base_str s)
{
    char *copy = NULL;

    if (s.len < SIZE_MAX) {
        copy = base_arena_alloc(arena, s.len + 1, 1);
    }
    if (copy == NULL) {
        return (struct base_str){NULL, 0};
    }
    if (s.len > 0) {
        memcpy(copy, s.ptr, s.len);
    }
    return (struct base_str){copy, s.len};
}

size_t base_arena_bytes(const struct base_arena *arena)
{
    return arena->n_bytes;
}
