/* Memory of messages: what the state owns is of malloc, what goes out lives in
 * the actions' arena.  A copy is made by packing and unpacking. */
#include <stdio.h>

#include "coordinator/core/impl.h"

static void *state_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size > 0 ? size : 1);
}

static void state_free(void *ctx, void *ptr)
{
    (void)ctx;
    free(ptr);
}

ProtobufCAllocator coord_allocator = {state_alloc, state_free, NULL};

static void *arena_alloc(void *ctx, size_t size)
{
    return base_arena_alloc(ctx, size > 0 ? size : 1, 1);
}

static void arena_free(void *ctx, void *ptr)
{
    (void)ctx;
    (void)ptr;
}

void coord_no_mem(struct coord *coord)
{
    if (coord->failed == BASE_OK) {
        coord->failed = BASE_NO_MEM;
    }
}

void coord_is_bug(struct coord *coord, const char *what)
{
    if (coord->failed == BASE_OK) {
        coord->failed = BASE_CHANGED;
        coord->bug = what;
    }
}

void coord_text(struct coord *coord, char **field, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n > 0) {
        text = malloc((size_t)n + 1);
    }
    if (n < 0 || (n > 0 && text == NULL)) {
        coord_no_mem(coord);
        return;
    }
    if (n > 0) {
        va_start(args, fmt);
        (void)vsnprintf(text, (size_t)n + 1, fmt, args);
        va_end(args);
    }
    if (*field != protobuf_c_empty_string) {
        free(*field);
    }
    /* As protobuf-c's own: never written, never freed. */
    *field = n > 0 ? text : (char *)(uintptr_t)protobuf_c_empty_string;
}

static void drop_unknown(ProtobufCMessage *message);

static void drop_unknown_of(ProtobufCMessage *message,
                            const ProtobufCFieldDescriptor *field)
{
    char *base = (char *)message;
    void *member = base + field->offset;
    void *quantifier = base + field->quantifier_offset;
    ProtobufCMessage *const *one = member;
    ProtobufCMessage **const *all = member;

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        for (size_t i = 0; i < *(const size_t *)quantifier; i++) {
            drop_unknown((*all)[i]);
        }
    } else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 ||
               *(const uint32_t *)quantifier == field->id) {
        drop_unknown(*one);
    }
}

/* Free fields that we do not know: nothing would bound them, and some cannot be
 * read again when they were written. */
static void drop_unknown(ProtobufCMessage *message)
{
    if (message == NULL) {
        return;
    }
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        free(message->unknown_fields[i].data);
    }
    if (message->n_unknown_fields > 0) {
        free(message->unknown_fields);
        message->unknown_fields = NULL;
        message->n_unknown_fields = 0;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (message->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) {
            drop_unknown_of(message, &message->descriptor->fields[i]);
        }
    }
}

static void *copy_with(struct coord *coord,
                       const ProtobufCMessage *message,
                       ProtobufCAllocator *allocator)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    BASE_AUTO_MEM uint8_t *bytes = malloc(n > 0 ? n : 1);
    void *copy = NULL;

    if (bytes != NULL) {
        (void)protobuf_c_message_pack(message, bytes);
        copy =
            protobuf_c_message_unpack(message->descriptor, allocator, n, bytes);
    }
    if (copy == NULL) {
        coord_no_mem(coord);
    }
    return copy;
}

void *coord_copy(struct coord *coord, const void *message)
{
    ProtobufCMessage *copy = copy_with(coord, message, &coord_allocator);

    drop_unknown(copy);
    return copy;
}

void *coord_copy_out(struct coord *coord, const void *message)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free,
                                    coord->actions->arena};

    return copy_with(coord, message, &allocator);
}

void coord_message_free(void *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, &coord_allocator);
    }
}

bool coord_list_grow(struct coord *coord, void *items, size_t n, size_t size)
{
    void **list = items;
    void *grown = reallocarray(*list, n + 1, size);

    if (grown == NULL) {
        coord_no_mem(coord);
        return false;
    }
    *list = grown;
    return true;
}

struct base_str coord_pack_out(struct coord *coord, const void *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = base_arena_alloc(coord->actions->arena, n > 0 ? n : 1, 1);

    if (bytes == NULL) {
        coord_no_mem(coord);
        return (struct base_str){NULL, 0};
    }
    (void)protobuf_c_message_pack(message, bytes);
    return (struct base_str){(const char *)bytes, n};
}

char *coord_textf_out(struct coord *coord, const char *fmt, ...)
{
    static char none[1];
    va_list args;
    char *text;
    int n;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    text = n < 0 ? NULL
                 : base_arena_alloc(coord->actions->arena, (size_t)n + 1, 1);
    if (text == NULL) {
        coord_no_mem(coord);
        return none;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}

void coord_vline(char *line, size_t n, const char *fmt, va_list args)
{
    int n_wanted = vsnprintf(line, n, fmt, args);

    if (n_wanted < 0 || (size_t)n_wanted < n) {
        return;
    }
    for (size_t len = n - 1; len > 0; len--) {
        unsigned char c = (unsigned char)line[len - 1];

        if ((c & 0xc0) != 0x80) { /* where the last one begins */
            line[c < 0x80 ? len : len - 1] = '\0';
            return;
        }
    }
}

void coord_line(char *line, size_t n, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    coord_vline(line, n, fmt, args);
    va_end(args);
}

/* An allocator that remembers that it failed. */
static void *marking_alloc(void *ctx, size_t size)
{
    void *ptr = state_alloc(NULL, size);

    if (ptr == NULL) {
        *(bool *)ctx = true;
    }
    return ptr;
}

enum base_code coord_unpack(const ProtobufCMessageDescriptor *descriptor,
                            struct base_str body,
                            void *ret_message)
{
    bool is_short = false;
    ProtobufCAllocator allocator = {marking_alloc, state_free, &is_short};
    void *message = protobuf_c_message_unpack(descriptor, &allocator, body.len,
                                              (const uint8_t *)body.ptr);

    if (message == NULL) {
        return is_short ? BASE_NO_MEM : BASE_BAD_INPUT;
    }
    drop_unknown(message);
    memcpy(ret_message, &message, sizeof(message));
    return BASE_OK;
}

size_t coord_lower(const void *items,
                   size_t n,
                   const char *key,
                   const char *(*name)(const void *item))
{
    const void *const *list = items;
    size_t begin = 0;
    size_t end = n;

    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;

        if (strcmp(name(list[middle]), key) < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}
