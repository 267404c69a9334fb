#include "base/mountinfo.h"

#include <string.h>

static void unescape(char *text)
{
    char *out = text;

    while (*text != '\0') {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' &&
            text[2] >= '0' && text[2] <= '7' && text[3] >= '0' &&
            text[3] <= '7') {
            *out++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 +
                            (text[3] - '0'));
            text += 4;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

char *base_mountinfo_point(char *line)
{
    char *at = line;

    for (int i = 0; i < 4; i++) { /* the fifth field */
        at = strchr(at, ' ');
        if (at == NULL) {
            return NULL;
        }
        at++;
    }
    at[strcspn(at, " \n")] = '\0';
    unescape(at);
    return at[0] == '\0' ? NULL : at;
}
