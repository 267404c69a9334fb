/* Presets: the short form "llama:tp=2,pp=4,heads=32,kv=8" written out as a
 * spec.  Heads and sizes come from the short form, else from config.json, else
 * from a tensor's shape where that determines them; they are never guessed.
 * A preset never renames or fuses tensors.  Pure. */
#ifndef PTC_PRESET_H
#define PTC_PRESET_H

#include "ptc/spec.h"
#include "ptc/table.h"

struct ptc_preset_info {
    const char *name;
    const char *about;   /* one line: whose names, what is cut */
    const char *options; /* "tp pp dp heads kv ..." */
};

/* NULL past the last: for help and completion. */
const struct ptc_preset_info *ptc_preset_info(unsigned idx);

/* Does @text look like a short form: a preset's name, alone or before ':'? */
bool ptc_preset_is_short_form(struct base_str text);

/* Write a short form out.  @config is the text of config.json (.len 0: none)
 * and @config_origin its path; @table may be NULL (a plan from names alone).
 * An axis that is not named has size 1 and stays in the mesh only where the
 * preset's rules need it.
 * Errors: BASE_BAD_ARG    no such preset or option (nearest named), a value out
 *                         of range, heads that nothing tells, cp or an option
 *                         that the preset does not have
 *         BASE_BAD_INPUT  config.json malformed or of another architecture */
enum base_code ptc_preset_expand(struct base_str short_form,
                                 struct base_str config,
                                 const char *config_origin,
                                 const struct ptc_table *table,
                                 struct ptc_spec **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
