/* For tests of layouts: tables and layouts from short texts, and what a layout
 * says as short texts. */
#ifndef UNIT_PTC_BIND_H
#define UNIT_PTC_BIND_H

#include "ptc/layout.h"

/* A table of "NAME DTYPE DIMxDIM.. [GROUP]" lines ("-": no dimensions; group
 * `model`, or `optim` for states) and "NAME = TARGET" ties.  Free it. */
struct ptc_table *bind_table(const char *lines);

/* The YAML bound to the table; fails the test when it does not.  Free it. */
struct ptc_layout *bind_layout(const char *yaml, const struct ptc_table *table);

/* The error of a YAML that does not bind: its code, text in @ret. */
enum base_code bind_error(const char *yaml,
                          const struct ptc_table *table,
                          struct base_err *ret);

#define BIND_TEXT_BYTES 2000

/* Parts of a tensor: "[0:3, 0:8]@0 [6:9, 0:8]@24", "" when none. */
const char *bind_parts(const struct ptc_layout *layout,
                       const char *tensor,
                       ptc_rank rank,
                       char *text);
/* Cells of the whole tensor: "[0:3]:0,4 [3:6]:1,5" (holders). */
const char *
bind_cells(const struct ptc_layout *layout, const char *tensor, char *text);
/* What a rank shows of @group ("": all): "a[3,8] b[]". */
const char *bind_shown(const struct ptc_layout *layout,
                       ptc_rank rank,
                       const char *group,
                       char *text);
/* The parts of one shown tensor: "a[0:3]@0 b[0:2]@3". */
const char *bind_shown_parts(const struct ptc_layout *layout,
                             ptc_rank rank,
                             const char *name,
                             char *text);
/* What the metadata says of one shown tensor. */
const char *bind_json(const struct ptc_layout *layout,
                      ptc_rank rank,
                      const char *name,
                      char *text);

#endif
