/* A small checkpoint directory to open, damage and convert. */
#ifndef UNIT_STORE_SAMPLE_H
#define UNIT_STORE_SAMPLE_H

#include "ptc/layout.h"
#include "store/source.h"
#include "tests/prop/tree_dir.h"

/* Two ranks: w is cut by rows, v is replicated, u by columns, t is tied to w;
 * s has one element more than ranks; optimizer state in a group of its own. */
#define SAMPLE_TP2                                                             \
    "mesh: {tp: 2}\n"                                                          \
    "rules:\n"                                                                 \
    "- {match: w, dims: [tp]}\n"                                               \
    "- {match: u, dims: [~, tp]}\n"                                            \
    "- {match: '[sv]'}\n"                                                      \
    "- {match: t, dims: [tp], tie: w}\n"                                       \
    "objects: {'rng.txt': {on_change: copy}}\n"
#define SAMPLE_DP4                                                             \
    "mesh: {dp: 4}\n"                                                          \
    "flats: {z: {over: [dp], align: 4}}\n"                                     \
    "rules:\n"                                                                 \
    "- {match: 'optim.*', flat: z}\n"                                          \
    "- {match: t, tie: w}\n"                                                   \
    "- {match: '?'}\n"                                                         \
    "objects: {'rng.txt': {on_change: copy}}\n"

/* The table of all samples. */
struct ptc_table *sample_table(void);
/* Bind @yaml to @table. */
struct ptc_layout *sample_layout(const char *yaml,
                                 const struct ptc_table *table);
/* Write the plain form of @yaml to ROOT/@name; the path is given. */
char *sample_write(const char *root, const char *name, const char *yaml);

/* Write a safetensors file with the JSON @header and @n_bytes of data, byte i
 * being i modulo 251. */
void sample_put_st(const char *dir,
                   const char *name,
                   const char *header,
                   uint64_t n_bytes);
void sample_make_dir(const char *root, const char *name);

/* A header's entry of a tensor of dtype F32, as text. */
#define F32(name, shape, begin, end)                                           \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape                         \
    ",\"data_offsets\":[" #begin "," #end "]}"

#endif
