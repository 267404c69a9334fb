/* What happened to a mount: a bounded ring of failures, refusals and changes of
 * state, shown as .retile/events, one JSON object per line with its level,
 * oldest first; each is also logged.
 * A repetition of the newest event is counted in it.  Any thread. */
#ifndef FUSE_EVENTS_H
#define FUSE_EVENTS_H

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"

#define FS_EVENTS_MAX 1024 /* a refused save tells 100 lines */

struct fs_events;
struct fs_events *fs_events_create(void); /* NULL: no memory */
void fs_events_free(struct fs_events *events);
BASE_AUTO_DEFINE(fs_events);

/* Tell that @what (a literal) happened to @file, because of @reason. */
void fs_events_add(struct fs_events *events,
                   enum base_level level,
                   const char *what,
                   const char *file,
                   const char *reason);

/* Append all events as text. */
enum base_code fs_events_format(struct fs_events *events,
                                struct base_buf *buf,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
