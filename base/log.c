/* A line is built in one buffer and written by one write(2), so that lines of
 * several threads or processes do not mix.  Repeats are counted per sentence in
 * a small table, keyed by its address (sentences are literals); two that share
 * a slot share a second's budget at worst. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

enum {
    LINE_MAX_BYTES = 4096,
    TAIL_BYTES = 16, /* of it, for what ends a JSON line */
    N_SLOTS = 64,
    LINES_PER_SECOND = 10
};

struct slot {
    const char *sentence;
    int64_t second;
    unsigned n_lines;
    unsigned n_dropped;
};

const char *const base_level_names[] = {"error", "warning", "notice",
                                        "info",  "debug",   NULL};
const char *const base_log_format_names[] = {"text", "json", NULL};

static const char *program = "retile"; /* set before threads */
static atomic_int level_max = BASE_NOTICE;
static atomic_int line_format = BASE_LOG_TEXT;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[N_SLOTS]; /* guarded by lock */

void base_log_init(const char *name)
{
    /* No thread runs yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *wanted = getenv("RETILE_LOG");

    program = name;
    for (size_t i = 0; wanted != NULL && base_level_names[i] != NULL; i++) {
        if (strcmp(wanted, base_level_names[i]) == 0) {
            base_log_set_level((enum base_level)i);
        }
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe) */
    wanted = getenv("RETILE_LOG_FORMAT");
    if (wanted != NULL && strcmp(wanted, "json") == 0) {
        base_log_set_format(BASE_LOG_JSON);
    }
}

void base_log_set_level(enum base_level level)
{
    atomic_store(&level_max, (int)level);
}

void base_log_set_format(enum base_log_format format)
{
    atomic_store(&line_format, (int)format);
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

static void
begin_json(struct base_buf *line, enum base_level level, const char *sentence)
{
    struct timespec now = {0};
    struct tm utc = {0};
    char text[32];

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    if (gmtime_r(&now.tv_sec, &utc) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc) == 0) {
        text[0] = '\0'; /* a clock beyond the year 9999 */
    }
    /* All sticky. */
    (void)base_buf_addf(line, "{\"time\":\"%s.%03ldZ\",\"program\":", text,
                        now.tv_nsec / 1000000);
    (void)base_buf_add_json(line, base_str_of(program));
    (void)base_buf_addf(
        line, ",\"level\":\"%s\",\"message\":", base_level_names[level]);
    (void)base_buf_add_json(line, base_str_of(sentence));
}

/* What is no UTF-8 is no JSON: its bytes become '?'. */
static void add_json_value(struct base_buf *line, const char *value)
{
    BASE_AUTO_BUF clean;
    struct base_str text = base_str_of(value);

    base_buf_init(&clean, LINE_MAX_BYTES);
    if (!base_str_is_utf8(text)) {
        for (size_t i = 0; i < text.len; i++) {
            /* Sticky. */
            (void)base_buf_add(
                &clean, (unsigned char)value[i] < 0x80 ? &value[i] : "?", 1);
        }
        text = base_buf_str(&clean);
    }
    (void)base_buf_add_json(line, text);
}

/* A field that does not fit is left out, and all after it. */
static void add_json_field(struct base_buf *line,
                           const char *key,
                           const char *value,
                           bool *is_cut)
{
    const size_t len = line->len;

    if (*is_cut) {
        return;
    }
    (void)base_buf_add_str(line, BASE_STR(",")); /* sticky, as all */
    (void)base_buf_add_json(line, base_str_of(key));
    (void)base_buf_add_str(line, BASE_STR(":"));
    add_json_value(line, value);
    if (line->failed != BASE_OK) {
        line->failed = BASE_OK;
        line->len = len;
        *is_cut = true;
    }
}

static void end_json(struct base_buf *line, bool is_cut)
{
    line->max_bytes = LINE_MAX_BYTES;
    if (is_cut) {
        (void)base_buf_add_str(line, BASE_STR(",\"cut\":true"));
    }
    (void)base_buf_add_str(line, BASE_STR("}"));
}

void base_log_(enum base_level level, const char *sentence, ...)
{
    const bool is_json = atomic_load(&line_format) == BASE_LOG_JSON;
    BASE_AUTO_BUF line;
    char dropped_text[16];
    const char *key;
    const char *value;
    bool is_cut = false;
    unsigned n_dropped;
    va_list args;

    base_buf_init(&line,
                  is_json ? LINE_MAX_BYTES - TAIL_BYTES : LINE_MAX_BYTES);
    if ((int)level > atomic_load(&level_max) || !admit(sentence, &n_dropped)) {
        return;
    }
    if (is_json) {
        begin_json(&line, level, sentence);
    } else {
        (void)base_buf_addf(&line, "%s: %s: %s", program,
                            base_level_names[level], sentence);
    }
    va_start(args, sentence);
    while ((key = va_arg(args, const char *)) != NULL &&
           (value = va_arg(args, const char *)) != NULL) {
        if (is_json) {
            add_json_field(&line, key, value, &is_cut);
        } else {
            add_field(&line, key, value);
        }
    }
    va_end(args);
    if (n_dropped > 0) {
        (void)snprintf(dropped_text, sizeof(dropped_text), "%u", n_dropped);
        if (is_json) {
            add_json_field(&line, "dropped_before", dropped_text, &is_cut);
        } else {
            add_field(&line, "dropped_before", dropped_text);
        }
    }
    if (is_json) {
        end_json(&line, is_cut);
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
