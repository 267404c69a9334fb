/* A line is built in one buffer and written by one write(2), so that lines of
 * several threads or processes do not mix.  Repeats are counted per sentence in
 * a small table, keyed by its address (sentences are literals); two that share
 * a slot share a second's budget at worst. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

enum { LINE_MAX_BYTES = 4096, N_SLOTS = 64, LINES_PER_SECOND = 10 };

struct slot {
    const char *sentence;
    int64_t second;
    unsigned n_lines;
    unsigned n_dropped;
};

static const char *const level_names[] = {"error", "warning", "notice", "info",
                                          "debug"};

static const char *program = "retile";          /* set before threads */
static enum base_level level_max = BASE_NOTICE; /* set before threads */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[N_SLOTS]; /* guarded by lock */

void base_log_init(const char *name)
{
    /* No thread runs yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *wanted = getenv("RETILE_LOG");
    size_t i;

    program = name;
    for (i = 0; wanted != NULL && i < sizeof(level_names) / sizeof(char *);
         i++) {
        if (strcmp(wanted, level_names[i]) == 0) {
            level_max = (enum base_level)i;
        }
    }
}

/* May this line be printed?  *ret_dropped: lines dropped before it. */
static bool admit(const char *sentence, unsigned *ret_dropped)
{
    struct slot *slot = &slots[((uintptr_t)sentence >> 3) % N_SLOTS];
    struct timespec now = {0};
    bool is_admitted;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    *ret_dropped = 0;
    (void)pthread_mutex_lock(&lock); /* a default mutex: cannot fail */
    if (slot->sentence != sentence || slot->second != now.tv_sec) {
        if (slot->sentence == sentence) {
            *ret_dropped = slot->n_dropped;
        }
        *slot = (struct slot){.sentence = sentence, .second = now.tv_sec};
    }
    is_admitted = slot->n_lines < LINES_PER_SECOND;
    if (is_admitted) {
        slot->n_lines++;
    } else {
        slot->n_dropped++;
    }
    (void)pthread_mutex_unlock(&lock);
    return is_admitted;
}

static bool value_is_plain(const char *value)
{
    size_t i;

    for (i = 0; value[i] != '\0'; i++) {
        unsigned char c = (unsigned char)value[i];

        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f) {
            return false;
        }
    }
    return i > 0;
}

static void add_field(struct base_buf *line, const char *key, const char *value)
{
    (void)base_buf_addf(line, " %s=", key); /* sticky */
    if (value_is_plain(value)) {
        (void)base_buf_add_str(line, base_str_of(value));
    } else {
        (void)base_buf_add_json(line, base_str_of(value));
    }
}

void base_log_(enum base_level level, const char *sentence, ...)
{
    BASE_AUTO_BUF line;
    char dropped_text[16];
    const char *key;
    const char *value;
    unsigned n_dropped;
    va_list args;

    base_buf_init(&line, LINE_MAX_BYTES);
    if (level > level_max || !admit(sentence, &n_dropped)) {
        return;
    }
    (void)base_buf_addf(&line, "%s: %s: %s", program, level_names[level],
                        sentence);
    va_start(args, sentence);
    while ((key = va_arg(args, const char *)) != NULL &&
           (value = va_arg(args, const char *)) != NULL) {
        add_field(&line, key, value);
    }
    va_end(args);
    if (n_dropped > 0) {
        (void)snprintf(dropped_text, sizeof(dropped_text), "%u", n_dropped);
        add_field(&line, "dropped_before", dropped_text);
    }
    if (line.ptr == NULL) {
        return; /* no memory for a line: nobody to tell */
    }
    /* The NUL's place becomes the newline; a cut line is better than none. */
    line.ptr[line.len] = '\n';
    if (write(STDERR_FILENO, line.ptr, line.len + 1) < 0) {
        return; /* stderr is gone: nobody to tell */
    }
}
