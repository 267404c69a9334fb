/* A pattern becomes atoms: a byte, any byte, a set of bytes, or a star.  What a
 * bracket accepts is asked of fnmatch(3) itself, byte by byte, when the glob is
 * compiled.
 *
 * Matching tells most names apart by prefix and suffix; the others run through
 * the atoms, and after a mismatch only the last star takes one more byte: the
 * earlier ones need not, as what stands between two stars matches earliest
 * best.  So a match costs at most pattern times name. */
#include "ptc/glob.h"

#include <fnmatch.h>

enum {
    PATTERN_MAX_BYTES = 4096,
    ATOM_BYTE = 0,
    ATOM_ANY = 1,
    ATOM_SET = 2,
    ATOM_STAR = 3,
};

/* The length of the bracket expression at @s (s.ptr[0] is '['), or 0 when it
 * has no end and '[' is a plain byte. */
static size_t bracket_bytes(struct base_str s)
{
    size_t i = 1;
    bool is_first = true;

    if (i < s.len && (s.ptr[i] == '!' || s.ptr[i] == '^')) {
        i++;
    }
    while (i < s.len) {
        char c = s.ptr[i];

        if (c == ']' && !is_first) {
            return i + 1;
        }
        is_first = false;
        if (c == '\\') {
            i += 2;
            continue;
        }
        if (c == '[' && i + 1 < s.len &&
            (s.ptr[i + 1] == ':' || s.ptr[i + 1] == '.' ||
             s.ptr[i + 1] == '=')) {
            char kind = s.ptr[i + 1];
            size_t j = i + 2;

            while (j + 1 < s.len &&
                   !(s.ptr[j] == kind && s.ptr[j + 1] == ']')) {
                j++;
            }
            if (j + 1 < s.len) {
                i = j + 2;
                continue;
            }
        }
        i++;
    }
    return 0;
}

/* The bytes that bracket expression @text (NUL-terminated) accepts. */
static void set_fill(const char *text, uint64_t set[4])
{
    for (unsigned c = 1; c < 256; c++) {
        char one[2] = {(char)c, '\0'};

        if (fnmatch(text, one, 0) == 0) {
            set[c / 64] |= UINT64_C(1) << (c % 64);
        }
    }
}

/* Cut @pattern into atoms; sets[i] is the text of the i-th bracket. */
static uint32_t atoms_cut(struct base_str pattern,
                          struct ptc_glob_atom *atoms,
                          struct base_str *sets)
{
    uint32_t n = 0;
    uint16_t n_sets = 0;
    size_t i = 0;

    while (i < pattern.len) {
        struct ptc_glob_atom atom = {.kind = ATOM_BYTE};
        char c = pattern.ptr[i];
        size_t bytes = 1;

        if (c == '*') {
            atom.kind = ATOM_STAR;
        } else if (c == '?') {
            atom.kind = ATOM_ANY;
        } else if (c == '[' && (bytes = bracket_bytes((struct base_str){
                                    pattern.ptr + i, pattern.len - i})) != 0) {
            atom.kind = ATOM_SET;
            atom.set = n_sets;
            sets[n_sets++] = (struct base_str){pattern.ptr + i, bytes};
        } else if (c == '\\' && i + 1 < pattern.len) {
            bytes = 2;
            atom.byte = (uint8_t)pattern.ptr[i + 1];
        } else {
            bytes = 1;
            atom.byte = (uint8_t)c;
        }
        i += bytes;
        if (atom.kind == ATOM_STAR && n > 0 && atoms[n - 1].kind == ATOM_STAR) {
            continue;
        }
        atoms[n++] = atom;
    }
    return n;
}

/* Plain bytes [begin, end) of the atoms as a string of the arena. */
static bool plain_str(struct base_arena *arena,
                      const struct ptc_glob_atom *atoms,
                      uint32_t begin,
                      uint32_t end,
                      struct base_str *ret)
{
    char *text = base_arena_alloc(arena, (size_t)(end - begin) + 1, 1);

    if (text == NULL) {
        return false;
    }
    for (uint32_t i = begin; i < end; i++) {
        text[i - begin] = (char)atoms[i].byte;
    }
    *ret = (struct base_str){text, end - begin};
    return true;
}

/* Find what tells most names apart. */
static bool glob_classify(struct base_arena *arena, struct ptc_glob *glob)
{
    uint32_t n = glob->n_atoms;
    uint32_t head = 0;
    uint32_t tail = n;
    uint32_t n_stars = 0;

    while (head < n && glob->atoms[head].kind == ATOM_BYTE) {
        head++;
    }
    while (tail > head && glob->atoms[tail - 1].kind == ATOM_BYTE) {
        tail--;
    }
    for (uint32_t i = 0; i < n; i++) {
        n_stars += glob->atoms[i].kind == ATOM_STAR;
    }
    glob->min_bytes = n - n_stars;
    glob->is_plain = head == n;
    glob->is_simple =
        n_stars == 1 && tail == head + 1 && glob->atoms[head].kind == ATOM_STAR;
    return plain_str(arena, glob->atoms, 0, head, &glob->prefix) &&
           plain_str(arena, glob->atoms, tail, n, &glob->suffix);
}

enum base_code ptc_glob_compile(struct base_arena *arena,
                                struct base_str pattern,
                                struct ptc_glob *ret,
                                struct base_err *err)
{
    BASE_AUTO_MEM struct base_str *texts = NULL;
    struct ptc_glob_atom *atoms;
    struct ptc_glob glob = {.n_atoms = 0};
    uint64_t(*sets)[4];
    size_t n_sets = 0;

    if (pattern.len > PATTERN_MAX_BYTES) {
        return base_fail(err, BASE_LIMIT, "a glob of %zu bytes, at most %d",
                         pattern.len, PATTERN_MAX_BYTES);
    }
    texts = calloc(pattern.len + 1, sizeof(*texts));
    atoms = base_arena_alloc(arena, pattern.len + 1, sizeof(*atoms));
    if (texts == NULL || atoms == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot compile a glob");
    }
    glob.n_atoms = atoms_cut(pattern, atoms, texts);
    glob.atoms = atoms;
    while (n_sets < pattern.len && texts[n_sets].len != 0) {
        n_sets++;
    }
    sets = base_arena_alloc(arena, n_sets + 1, sizeof(*sets));
    if (sets == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot compile a glob");
    }
    for (size_t i = 0; i < n_sets; i++) {
        struct base_str text = base_arena_str(arena, texts[i]);

        if (text.ptr == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot compile a glob");
        }
        set_fill(text.ptr, sets[i]);
    }
    glob.sets = (const uint64_t(*)[4])sets;
    if (!glob_classify(arena, &glob)) {
        return base_fail(err, BASE_NO_MEM, "cannot compile a glob");
    }
    *ret = glob;
    return BASE_OK;
}

static bool atom_accepts(const struct ptc_glob *glob,
                         const struct ptc_glob_atom *atom,
                         uint8_t c)
{
    if (atom->kind == ATOM_BYTE) {
        return atom->byte == c;
    }
    if (atom->kind == ATOM_SET) {
        return (glob->sets[atom->set][c / 64] >> (c % 64) & 1) != 0;
    }
    return true; /* ATOM_ANY */
}

static bool atoms_match(const struct ptc_glob *glob, struct base_str name)
{
    const uint8_t *bytes = (const uint8_t *)name.ptr;
    uint32_t a = 0;
    uint32_t star = UINT32_MAX; /* the last star passed */
    size_t i = 0;
    size_t star_end = 0; /* what it has taken ends here */

    while (i < name.len) {
        if (a < glob->n_atoms && glob->atoms[a].kind == ATOM_STAR) {
            star = a++;
            star_end = i;
        } else if (a < glob->n_atoms &&
                   atom_accepts(glob, &glob->atoms[a], bytes[i])) {
            a++;
            i++;
        } else if (star != UINT32_MAX) {
            a = star + 1;
            i = ++star_end;
        } else {
            return false;
        }
    }
    while (a < glob->n_atoms && glob->atoms[a].kind == ATOM_STAR) {
        a++;
    }
    return a == glob->n_atoms;
}

bool ptc_glob_matches(const struct ptc_glob *glob, struct base_str name)
{
    if (name.len < glob->min_bytes) {
        return false;
    }
    if (glob->is_plain) {
        return base_str_eq(name, glob->prefix);
    }
    if (!base_str_ends(name, glob->suffix) ||
        !base_str_starts(name, glob->prefix)) {
        return false;
    }
    return glob->is_simple || atoms_match(glob, name);
}
