/* Loops over the characters of texts and over their words, which are too dear where an array holds each step.
 *
 * What they give is said, and made as well, by numpy: `words`, `word_signs`, `dedup.sketch` and
 * `stages.contamination.sieve`. `compiled` lets a process use them after they have given the same for proof texts;
 * `loops.pyi` says what each takes. Where no compiler made them, numpy does it all.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* The processor's wide registers where it has some, decided when the module is loaded. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

#if defined(__GNUC__)
#define SPECIALISED static inline __attribute__((always_inline))
#else
#define SPECIALISED static inline
#endif

enum { BREAK, LETTER, ALONE, NOTHING }; /* what a character does to words, as in `words` */
#define CODES 0x110000

/* An array that was given: raises ValueError where it has fewer bytes than are read or written. */
static int holds(const Py_buffer *array, size_t bytes, const char *name)
{
    if ((size_t)array->len >= bytes)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %zu", name, array->len, bytes);
    return 0;
}

/* The number of characters of the texts in a list, or -1 with an exception where one is no str. */
static Py_ssize_t characters_of(PyObject *texts)
{
    Py_ssize_t characters = 0;
    for (Py_ssize_t number = 0; number < PyList_GET_SIZE(texts); number++) {
        PyObject *text = PyList_GET_ITEM(texts, number);
        if (!PyUnicode_Check(text)) {
            PyErr_Format(PyExc_TypeError, "text %zd is of type %s, not str", number, Py_TYPE(text)->tp_name);
            return -1;
        }
        characters += PyUnicode_GET_LENGTH(text);
    }
    return characters;
}

static void release(Py_buffer *arrays, int count)
{
    while (count--)
        if (arrays[count].obj)
            PyBuffer_Release(&arrays[count]);
}

/* ---- hashes of words ---- */

typedef struct {
    const uint8_t *kinds;
    const uint64_t *numbers, *powers;
    size_t portion;
    uint64_t inside[128]; /* all bits where a character of ASCII is a letter, none where it ends words */
} Characters;

/* Where the piece of a text that begins here ends: behind what ends a word, if the text is longer (`words._cut`). */
SPECIALISED size_t end_of_piece(const Characters *of, int width, const void *text, size_t begin, size_t size)
{
    if (size < of->portion || begin + of->portion - 1 >= size)
        return size;
    size_t end = begin + of->portion - 1;
    for (size_t at = end; at > begin; at--) {
        uint8_t kind = of->kinds[PyUnicode_READ(width, text, at - 1)];
        if (kind == BREAK || kind == ALONE)
            return at;
    }
    return end;
}

/* Writes the hashes of a text's words; returns how many. */
SPECIALISED size_t hash_words(const Characters *of, int width, const void *text, size_t size, uint64_t *hashes)
{
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        size_t stop = end_of_piece(of, width, text, at, size);
        uint64_t word = 0, begun = 0; /* all bits while there are letters of a word */
        size_t letters = 0;
        while (at < stop) {
            Py_UCS4 code = PyUnicode_READ(width, text, at);
            at++;
            if (code < 128) {
                /* The word so far is written down at each character, where the next one overwrites it unless the
                 * word ends here: so there is nothing for the processor to guess. */
                uint64_t inside = of->inside[code];
                hashes[count] = word;
                count -= begun & ~inside;
                word = (word + of->numbers[code] * of->powers[letters]) & inside;
                letters = (letters + 1) & inside;
                begun = inside;
                continue;
            }
            uint8_t kind = of->kinds[code];
            if (kind == LETTER) {
                word += of->numbers[code] * of->powers[letters++];
                begun = ~(uint64_t)0;
            } else if (kind != NOTHING) {
                hashes[count] = word;
                count -= begun;
                word = letters = begun = 0;
                if (kind == ALONE)
                    hashes[count++] = of->numbers[code];
            }
        }
        hashes[count] = word;
        count -= begun;
    }
    return count;
}

static WIDE void mix(uint64_t *hashes, size_t count)
{
    for (size_t place = 0; place < count; place++)
        hashes[place] ^= hashes[place] >> 31;
}

static PyObject *word_hashes(PyObject *module, PyObject *arguments)
{
    PyObject *texts, *result = NULL;
    Py_buffer arrays[5] = {{0}};
    if (!PyArg_ParseTuple(arguments, "O!y*y*y*w*w*", &PyList_Type, &texts, &arrays[0], &arrays[1], &arrays[2],
                          &arrays[3], &arrays[4]))
        return NULL;
    Characters of = {arrays[0].buf, arrays[1].buf, arrays[2].buf, arrays[2].len / sizeof(uint64_t), {0}};
    uint64_t *hashes = arrays[3].buf;
    int64_t *offsets = arrays[4].buf;
    Py_ssize_t rows = PyList_GET_SIZE(texts), characters = characters_of(texts), count = 0;
    if (characters < 0 || !holds(&arrays[0], CODES, "kinds") || !holds(&arrays[1], 8 * CODES, "numbers") ||
        !holds(&arrays[2], 16, "powers") || !holds(&arrays[3], 8 * (characters + 1), "hashes") ||
        !holds(&arrays[4], 8 * (rows + 1), "offsets"))
        goto done;
    for (int code = 0; code < 128; code++)
        of.inside[code] = -(uint64_t)(of.kinds[code] == LETTER);
    offsets[0] = 0;
    for (Py_ssize_t row = 0; row < rows; row++) {
        PyObject *text = PyList_GET_ITEM(texts, row);
        const void *data = PyUnicode_DATA(text);
        size_t size = PyUnicode_GET_LENGTH(text);
        switch (PyUnicode_KIND(text)) {
        case PyUnicode_1BYTE_KIND: count += hash_words(&of, PyUnicode_1BYTE_KIND, data, size, hashes + count); break;
        case PyUnicode_2BYTE_KIND: count += hash_words(&of, PyUnicode_2BYTE_KIND, data, size, hashes + count); break;
        default: count += hash_words(&of, PyUnicode_4BYTE_KIND, data, size, hashes + count);
        }
        offsets[row + 1] = count;
    }
    mix(hashes, count);
    result = PyLong_FromSsize_t(count);
done:
    release(arrays, 5);
    return result;
}

/* ---- signs of words ---- */

/* The small letter or digit that each byte of ASCII is, or 0. */
static WIDE void ascii_letters(const uint8_t *text, size_t size, uint8_t *letters)
{
    for (size_t at = 0; at < size; at++) {
        uint8_t small = text[at] | 0x20;
        uint8_t inside = ((uint8_t)(small - 'a') < 26) | ((uint8_t)(text[at] - '0') < 10);
        letters[at] = small & -inside;
    }
}

/* The byte of each character, 0 for what ends words; one that is a word of its own has a 0 on both sides. */
SPECIALISED size_t any_letters(const uint8_t *table, uint8_t alone, uint8_t nothing, int width, const void *text,
                               size_t size, uint8_t *letters)
{
    size_t to = 0;
    for (size_t at = 0; at < size; at++) {
        uint8_t letter = table[PyUnicode_READ(width, text, at)];
        if (letter < alone) {
            letters[to++] = letter;
        } else if (letter != nothing) {
            letters[to] = letters[to + 2] = 0;
            letters[to + 1] = letter;
            to += 3;
        }
    }
    return to;
}

/* Which of eight bytes begin words, and how many do. */
typedef struct {
    uint8_t places[4], count;
} Begins;

static Begins begins_in[256];

static void list_begins(void)
{
    for (int bits = 0; bits < 256; bits++) {
        Begins here = {{0}, 0};
        for (uint8_t place = 0; place < 8 && here.count < 4; place++)
            if (bits >> place & 1)
                here.places[here.count++] = place;
        begins_in[bits] = here;
    }
}

/* Whether a word begins at each byte, before the first of which there is a 0. */
static WIDE void find_begins(const uint8_t *letters, size_t size, uint8_t *begins)
{
    for (size_t at = 0; at < size; at++)
        begins[at] = (letters[at] != 0) & (letters[at - 1] == 0);
}

static inline uint16_t sign_at(const uint8_t *word)
{
    return (uint16_t)(word[0] | word[1] << 8);
}

/* Writes the first two letters of each word; returns how many. For each eight bytes two signs are written at least, where
 * the next ones overwrite those that are none: so there is little for the processor to guess. */
static size_t take_signs(const uint8_t *letters, const uint8_t *begins, size_t size, uint16_t *signs)
{
    size_t count = 0;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t eight;
        memcpy(&eight, begins + at, 8);
        const Begins *here = &begins_in[eight * 0x0102040810204080u >> 56]; /* a bit for each byte, the first the lowest */
        signs[count] = sign_at(letters + at + here->places[0]);
        signs[count + 1] = sign_at(letters + at + here->places[1]);
        if (here->count > 2) { /* seldom */
            signs[count + 2] = sign_at(letters + at + here->places[2]);
            signs[count + 3] = sign_at(letters + at + here->places[3]);
        }
        count += here->count;
    }
    return count;
}

static PyObject *word_signs(PyObject *module, PyObject *arguments)
{
    PyObject *texts, *result = NULL;
    Py_buffer arrays[3] = {{0}};
    unsigned char alone, nothing;
    uint8_t *room = NULL;
    if (!PyArg_ParseTuple(arguments, "O!y*bbw*w*", &PyList_Type, &texts, &arrays[0], &alone, &nothing, &arrays[1],
                          &arrays[2]))
        return NULL;
    const uint8_t *table = arrays[0].buf;
    uint16_t *signs = arrays[1].buf;
    int64_t *offsets = arrays[2].buf;
    Py_ssize_t rows = PyList_GET_SIZE(texts), characters = characters_of(texts);
    size_t count = 0, longest = 0;
    if (characters < 0 || !holds(&arrays[0], CODES, "table") || !holds(&arrays[1], 2 * (characters + 4), "signs") ||
        !holds(&arrays[2], 8 * (rows + 1), "offsets"))
        goto done;
    for (Py_ssize_t row = 0; row < rows; row++) {
        PyObject *text = PyList_GET_ITEM(texts, row);
        size_t size = PyUnicode_GET_LENGTH(text);
        size = PyUnicode_IS_ASCII(text) ? size : 3 * size; /* a character that is a word of its own takes three bytes */
        longest = size > longest ? size : longest;
    }
    if (!(room = PyMem_Malloc(2 * longest + 24))) {
        PyErr_NoMemory();
        goto done;
    }
    uint8_t *letters = room + 1, *begins = room + longest + 12;
    letters[-1] = 0;
    offsets[0] = 0;
    for (Py_ssize_t row = 0; row < rows; row++) {
        PyObject *text = PyList_GET_ITEM(texts, row);
        const void *data = PyUnicode_DATA(text);
        size_t size = PyUnicode_GET_LENGTH(text);
        if (PyUnicode_IS_ASCII(text))
            ascii_letters(data, size, letters);
        else
            switch (PyUnicode_KIND(text)) {
            case PyUnicode_1BYTE_KIND:
                size = any_letters(table, alone, nothing, PyUnicode_1BYTE_KIND, data, size, letters);
                break;
            case PyUnicode_2BYTE_KIND:
                size = any_letters(table, alone, nothing, PyUnicode_2BYTE_KIND, data, size, letters);
                break;
            default: size = any_letters(table, alone, nothing, PyUnicode_4BYTE_KIND, data, size, letters);
            }
        memset(letters + size, 0, 10);
        find_begins(letters, size, begins);
        memset(begins + size, 0, 8);
        count += take_signs(letters, begins, size, signs + count);
        offsets[row + 1] = count;
    }
    result = PyLong_FromSize_t(count);
done:
    PyMem_Free(room);
    release(arrays, 3);
    return result;
}

/* ---- where stretches of words may begin ---- */

#define BASE 0x9E3779B97F4A7C15u
#define TOGETHER 4 /* signs that are one number */
#define AT_ONCE 64 /* places that are looked up together */

/* Two bits for each hash in the same 64 (`sieve.HashFilter`). */
typedef struct {
    const uint8_t *table;
    uint64_t shift;
} Filter;

static inline uint64_t bits_of(uint64_t hash, uint64_t shift)
{
    return (uint64_t)1 << (hash >> shift & 63) | (uint64_t)1 << (hash >> (shift - 6) & 63);
}

static inline int has(const Filter *filter, uint64_t hash)
{
    uint64_t there, bits = bits_of(hash, filter->shift);
    memcpy(&there, filter->table + (hash >> filter->shift >> 6 << 3), 8);
    return (there & bits) == bits;
}

/* Raises ValueError where a filter's table is not as large as its shift says. */
static int is_filter(const Py_buffer *table, uint64_t shift, const char *name)
{
    if (shift >= 6 && shift <= 58)
        return holds(table, (size_t)1 << (61 - shift), name);
    PyErr_Format(PyExc_ValueError, "the shift of %s is 6 to 58, not %llu", name, (unsigned long long)shift);
    return 0;
}

/* Reads a table in a row, which takes a tenth of what it takes to fetch it where lookups happen to ask for it. */
static void fetch(const Py_buffer *table)
{
    const uint8_t *bytes = table->buf;
    volatile uint8_t last;
    for (Py_ssize_t at = 0; at < table->len; at += 64)
        last = bytes[at];
    (void)last;
}

static inline uint64_t signs_from(const uint16_t *signs)
{
    uint64_t read;
    memcpy(&read, signs, 8);
    return read;
}

/* Which of the signs that are read at once are of so many words. */
static inline uint64_t mask_of(size_t words)
{
    return words < TOGETHER ? ((uint64_t)1 << 16 * words) - 1 : ~(uint64_t)0;
}

static inline uint64_t hash_of(const uint16_t *signs, size_t words, uint64_t mask)
{
    uint64_t hash = (signs_from(signs) & mask) * BASE;
    for (size_t ahead = TOGETHER; ahead < words; ahead += TOGETHER)
        hash = (hash + signs_from(signs + (ahead + TOGETHER < words ? ahead : words - TOGETHER))) * BASE;
    return hash;
}

static PyObject *fill_filter(PyObject *module, PyObject *arguments)
{
    PyObject *result = NULL;
    Py_buffer arrays[2] = {{0}};
    unsigned long long shift;
    if (!PyArg_ParseTuple(arguments, "y*Kw*", &arrays[0], &shift, &arrays[1]))
        return NULL;
    const uint64_t *hashes = arrays[0].buf;
    uint8_t *table = arrays[1].buf;
    if (!is_filter(&arrays[1], shift, "table"))
        goto done;
    for (size_t number = 0; number < arrays[0].len / sizeof(uint64_t); number++) {
        uint8_t *at = table + (hashes[number] >> shift >> 6 << 3);
        uint64_t there;
        memcpy(&there, at, 8);
        there |= bits_of(hashes[number], shift);
        memcpy(at, &there, 8);
    }
    Py_INCREF(Py_None);
    result = Py_None;
done:
    release(arrays, 2);
    return result;
}

static PyObject *look_up(PyObject *module, PyObject *arguments)
{
    PyObject *result = NULL;
    Py_buffer arrays[4] = {{0}};
    Py_ssize_t count, first, step, words;
    unsigned long long some_shift, whole_shift;
    if (!PyArg_ParseTuple(arguments, "y*nnnny*Ky*Kw*", &arrays[0], &count, &first, &step, &words, &arrays[1],
                          &some_shift, &arrays[2], &whole_shift, &arrays[3]))
        return NULL;
    const uint16_t *signs = arrays[0].buf;
    Filter some = {arrays[1].buf, some_shift}, whole = {arrays[2].buf, whole_shift};
    int64_t *found = arrays[3].buf;
    size_t number = 0;
    if (count < 0 || first < 1 || first > TOGETHER || step < 1 || words < first) {
        PyErr_SetString(PyExc_ValueError, "sizes out of range");
        goto done;
    }
    if (!holds(&arrays[0], 2 * (count + TOGETHER - 1), "signs") || !holds(&arrays[3], 8 * (count + 1), "found") ||
        !is_filter(&arrays[1], some_shift, "some") || !is_filter(&arrays[2], whole_shift, "whole"))
        goto done;
    if (count / step > arrays[1].len / 64) {
        fetch(&arrays[1]);
        fetch(&arrays[2]);
    }
    uint64_t first_mask = mask_of(first), mask = mask_of(words);
    Py_ssize_t passed[AT_ONCE];
    for (Py_ssize_t place = 0; place + first <= count;) {
        /* First without a branch on what memory says, as the processor would wait for each answer. */
        int passing = 0;
        for (int nth = 0; nth < AT_ONCE && place + first <= count; nth++, place += step) {
            passed[passing] = place;
            passing += has(&some, (signs_from(signs + place) & first_mask) * BASE);
        }
        for (int nth = 0; nth < passing; nth++) {
            Py_ssize_t begin = passed[nth] < step ? 0 : passed[nth] - step + 1;
            Py_ssize_t end = passed[nth] + words <= count ? passed[nth] : count - words;
            for (; begin <= end; begin++) {
                found[number] = begin;
                number += has(&whole, hash_of(signs + begin, words, mask));
            }
        }
    }
    result = PyLong_FromSize_t(number);
done:
    release(arrays, 4);
    return result;
}

/* ---- evaluation texts that documents may have ---- */

/* Numbers that are int32 where these are enough, and else int64. */
typedef struct {
    const void *at;
    int wide;
} Numbers;

static inline int64_t number_at(const Numbers *of, int64_t place)
{
    return of->wide ? ((const int64_t *)of->at)[place] : ((const int32_t *)of->at)[place];
}

/* How a place may grow over words that differ: so many of the text, so many of the document, then `enough` equal ones. */
typedef struct {
    const int64_t *sizes;
    int64_t count, enough;
} Gaps;

/* Whether something equal follows behind a gap, from these words on in the direction of the step. */
static int opens(const Gaps *gaps, const uint64_t *text, int64_t of_text, const uint64_t *words, int64_t of_words,
                 int64_t step)
{
    for (int64_t gap = 0; gap < gaps->count; gap++) {
        int64_t a = gaps->sizes[2 * gap], b = gaps->sizes[2 * gap + 1], equal = 0;
        if (a + gaps->enough > of_text || b + gaps->enough > of_words)
            continue;
        while (equal < gaps->enough && text[step * (a + equal)] == words[step * (b + equal)])
            equal++;
        if (equal == gaps->enough)
            return 1;
    }
    return 0;
}

/* What is known of a text in the document that is looked at. */
typedef struct {
    int64_t document;
    double weight;
    int open;
} Seen;

typedef struct {
    int64_t *rows;
    size_t count, room;
} Pairs;

static int add_pair(Pairs *pairs, int64_t number, int64_t begin)
{
    if (pairs->count == pairs->room) {
        size_t room = pairs->room ? 2 * pairs->room : 1024;
        int64_t *rows = PyMem_Realloc(pairs->rows, 2 * sizeof(int64_t) * room);
        if (!rows) {
            PyErr_NoMemory();
            return 0;
        }
        pairs->rows = rows, pairs->room = room;
    }
    pairs->rows[2 * pairs->count] = number, pairs->rows[2 * pairs->count + 1] = begin;
    pairs->count++;
    return 1;
}

static PyObject *worthy_pairs(PyObject *module, PyObject *arguments)
{
    enum { WORDS, BOUNDS, FIRSTS, GRAMS, STARTS, BEGINS, OWNERS, TEXTS, LIMITS, SUMS, LEAST, GAPS, ARRAYS };
    PyObject *result = NULL;
    Py_buffer arrays[ARRAYS] = {{0}};
    Py_ssize_t n, enough;
    Pairs pairs = {0};
    Seen *seen = NULL;
    if (!PyArg_ParseTuple(arguments, "ny*y*y*y*y*y*y*y*y*y*y*y*n", &n, &arrays[WORDS], &arrays[BOUNDS], &arrays[FIRSTS],
                          &arrays[GRAMS], &arrays[STARTS], &arrays[BEGINS], &arrays[OWNERS], &arrays[TEXTS],
                          &arrays[LIMITS], &arrays[SUMS], &arrays[LEAST], &arrays[GAPS], &enough))
        return NULL;
    const uint64_t *words = arrays[WORDS].buf, *texts = arrays[TEXTS].buf;
    const int64_t *bounds = arrays[BOUNDS].buf, *firsts = arrays[FIRSTS].buf, *grams = arrays[GRAMS].buf;
    const int64_t *limits = arrays[LIMITS].buf;
    const int32_t *owners = arrays[OWNERS].buf;
    const double *sums = arrays[SUMS].buf, *least = arrays[LEAST].buf;
    int wide = arrays[BEGINS].len > arrays[OWNERS].len;
    Numbers starts = {arrays[STARTS].buf, wide}, begins = {arrays[BEGINS].buf, wide};
    Gaps gaps = {arrays[GAPS].buf, arrays[GAPS].len / 16, enough};
    int64_t count = arrays[FIRSTS].len / 8, documents = arrays[BOUNDS].len / 8 - 1, known = arrays[LIMITS].len / 8 - 1;
    if (!holds(&arrays[BOUNDS], 8, "bounds") || !holds(&arrays[LIMITS], 8, "limits") ||
        !holds(&arrays[GRAMS], 8 * count, "grams") || !holds(&arrays[LEAST], 8 * known, "least") ||
        !holds(&arrays[WORDS], 8 * bounds[documents], "words") || !holds(&arrays[TEXTS], 8 * limits[known], "texts") ||
        !holds(&arrays[SUMS], 8 * (limits[known] + 1), "sums"))
        goto done;
    if (!(seen = PyMem_Malloc((known + 1) * sizeof(Seen)))) {
        PyErr_NoMemory();
        goto done;
    }
    for (int64_t text = 0; text < known; text++)
        seen[text].document = -1;
    for (int64_t at = 0, document = 0; at < count;) {
        while (document < documents && firsts[at] >= bounds[document + 1])
            document++;
        if (document == documents || firsts[at] < bounds[document] || firsts[at] + n > bounds[document + 1]) {
            PyErr_Format(PyExc_ValueError, "n-gram %lld is in no document", (long long)at);
            goto done;
        }
        int64_t from = bounds[document], to = bounds[document + 1], end = at;
        for (; end < count && firsts[end] < to; end++) {
            if (grams[end] < 0) {
                PyErr_Format(PyExc_ValueError, "there is no n-gram %lld", (long long)grams[end]);
                goto done;
            }
            if (!holds(&arrays[STARTS], (grams[end] + 2) * (wide ? 8 : 4), "starts"))
                goto done;
            int64_t first = firsts[end], last = number_at(&starts, grams[end] + 1);
            int follows = end > at && firsts[end - 1] == first - 1; /* an n-gram of texts begins one word before, too */
            for (int64_t entry = number_at(&starts, grams[end]); entry < last; entry++) {
                int64_t begin = number_at(&begins, entry), text = owners[entry];
                int64_t before = begin - limits[text], behind = limits[text + 1] - begin, size = n;
                if (seen[text].document != document)
                    seen[text] = (Seen){document, 0, 0};
                seen[text].weight += sums[begin + 1] - sums[begin];
                if (seen[text].open)
                    continue;
                if (before && first > from && texts[begin - 1] == words[first - 1]) {
                    /* The run that this is of begins before, and its first n-gram says whether it is open; but for an
                     * n-gram that its text has too often, which is not looked for and weighs nothing. */
                    seen[text].open = !follows || sums[begin] <= sums[begin - 1];
                    continue;
                }
                while (size < behind && first + size < to && texts[begin + size] == words[first + size])
                    size++;
                seen[text].open = opens(&gaps, texts + begin - 1, before, words + first - 1, first - from, -1) ||
                                  opens(&gaps, texts + begin + size, behind - size, words + first + size,
                                        to - first - size, 1);
            }
        }
        for (; at < end; at++)
            for (int64_t entry = number_at(&starts, grams[at]); entry < number_at(&starts, grams[at] + 1); entry++)
                if ((seen[owners[entry]].open || seen[owners[entry]].weight > least[owners[entry]]) &&
                    !add_pair(&pairs, at, number_at(&begins, entry)))
                    goto done;
    }
    result = PyBytes_FromStringAndSize((const char *)pairs.rows, 2 * sizeof(int64_t) * pairs.count);
done:
    PyMem_Free(pairs.rows);
    PyMem_Free(seen);
    release(arrays, ARRAYS);
    return result;
}

/* ---- sketches ---- */

typedef struct {
    uint64_t gamma, shift_1, factor_1, shift_2, factor_2, last;
} Finaliser;

static inline uint64_t drawn_from(const Finaliser *of, uint64_t number)
{
    number += of->gamma;
    number = (number ^ number >> of->shift_1) * of->factor_1;
    number = (number ^ number >> of->shift_2) * of->factor_2;
    return number ^ number >> of->last;
}

/* Throws every n-gram of a text into the bins, round after round, until each has its least (`dedup.sketch`). */
static void throw_all(const Finaliser *of, const uint64_t *grams, size_t count, const uint64_t *rounds, uint64_t bit,
                      uint64_t *least, size_t values)
{
    const uint64_t low = ((uint64_t)1 << 40) - 1;
    memset(least, 0xFF, values * sizeof(uint64_t));
    size_t empty = values;
    for (uint64_t number = 0; number < 2 * values && empty; number++) {
        for (size_t place = 0; place < count; place++) {
            uint64_t drawn = drawn_from(of, grams[place] ^ rounds[number]);
            uint64_t into = number < values ? (drawn >> 40) * values >> 24 : number - values;
            drawn = (drawn & low) | number << bit;
            empty -= least[into] == UINT64_MAX;
            least[into] = drawn < least[into] ? drawn : least[into];
        }
    }
}

static PyObject *sketches(PyObject *module, PyObject *arguments)
{
    PyObject *result = NULL;
    Py_buffer arrays[5] = {{0}};
    Py_ssize_t n, shortest;
    unsigned long long base, bit, last;
    uint64_t *room = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*nnKy*KKy*w*", &arrays[0], &arrays[1], &n, &shortest, &base, &arrays[2], &bit,
                          &last, &arrays[3], &arrays[4]))
        return NULL;
    const uint64_t *hashes = arrays[0].buf, *rounds = arrays[2].buf, *parts = arrays[3].buf;
    const int64_t *offsets = arrays[1].buf;
    uint8_t *found = arrays[4].buf;
    Py_ssize_t rows = arrays[1].len / sizeof(int64_t) - 1, longest = 0;
    size_t values = rows > 0 ? arrays[4].len / rows : 0;
    if (n < 1 || shortest < n || bit > 63) {
        PyErr_SetString(PyExc_ValueError, "sizes out of range");
        goto done;
    }
    if (!holds(&arrays[2], 16 * values, "rounds") || !holds(&arrays[3], sizeof(Finaliser), "finaliser"))
        goto done;
    for (Py_ssize_t row = 0; row < rows; row++) {
        if (offsets[row] < 0 || offsets[row + 1] < offsets[row] || !holds(&arrays[0], 8 * offsets[row + 1], "hashes")) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "offsets do not rise");
            goto done;
        }
        longest = offsets[row + 1] - offsets[row] > longest ? offsets[row + 1] - offsets[row] : longest;
    }
    if (!(room = PyMem_Malloc((longest + values + 1) * sizeof(uint64_t)))) {
        PyErr_NoMemory();
        goto done;
    }
    Finaliser of = {parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]};
    uint64_t *grams = room, *least = room + longest + 1, behind = 1;
    for (Py_ssize_t power = 0; power < n; power++)
        behind *= base;
    for (Py_ssize_t row = 0; row < rows; row++, found += values) {
        const uint64_t *words = hashes + offsets[row];
        Py_ssize_t size = offsets[row + 1] - offsets[row], count = size - n + 1;
        if (size < shortest)
            continue;
        uint64_t gram = 0;
        for (Py_ssize_t place = 0; place < n; place++)
            gram = gram * base + words[place];
        grams[0] = gram;
        for (Py_ssize_t place = 1; place < count; place++) /* what a word that leaves has added is taken off again */
            grams[place] = gram = gram * base - words[place - 1] * behind + words[place + n - 1];
        throw_all(&of, grams, count, rounds, bit, least, values);
        for (size_t place = 0; place < values; place++)
            found[place] = (uint8_t)drawn_from(&of, least[place] ^ last);
    }
    Py_INCREF(Py_None);
    result = Py_None;
done:
    PyMem_Free(room);
    release(arrays, 5);
    return result;
}

static PyMethodDef functions[] = {
    {"word_hashes", word_hashes, METH_VARARGS, NULL},
    {"word_signs", word_signs, METH_VARARGS, NULL},
    {"fill_filter", fill_filter, METH_VARARGS, NULL},
    {"look_up", look_up, METH_VARARGS, NULL},
    {"worthy_pairs", worthy_pairs, METH_VARARGS, NULL},
    {"sketches", sketches, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "loops", .m_size = 0, .m_methods = functions,
};

PyMODINIT_FUNC PyInit_loops(void)
{
    list_begins();
    return PyModuleDef_Init(&definition);
}
