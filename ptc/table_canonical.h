/* The text of a table in the one form that ptc_table_format writes, read without
 * a JSON document: for ptc/table_text.c only. */
#ifndef PTC_TABLE_CANONICAL_H
#define PTC_TABLE_CANONICAL_H

#include "ptc/table.h"

/* *ret is NULL, and BASE_OK, when @text is not exactly that, or has escapes in
 * its names: then it must be read as JSON, which also says what is wrong.
 * Errors: BASE_NO_MEM */
enum base_code ptc_table_parse_canonical(struct base_str text,
                                         struct ptc_table **ret,
                                         struct base_err *err) BASE_MUST_CHECK;

#endif
