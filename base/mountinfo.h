/* Lines of /proc/PID/mountinfo, which name mounts and ask nobody who serves them. */
#ifndef BASE_MOUNTINFO_H
#define BASE_MOUNTINFO_H

/* The mountpoint in @line, with its escapes (\040 is a blank) undone; @line is
 * changed, and the result lies in it.  NULL: it has none.  Pure. */
char *base_mountinfo_point(char *line);

#endif
