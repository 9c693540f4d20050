/* Which documents may have an evaluation text (`sieve`), and which text it may be (`search`). */

#include "../../base/loops.h"

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
    enum { WORDS, BOUNDS, FIRSTS, STARTS, ENDS, BEGINS, OWNERS, TEXTS, LIMITS, SUMS, LEAST, GAPS, ARRAYS };
    PyObject *result = NULL;
    Py_buffer arrays[ARRAYS] = {{0}};
    Py_ssize_t n, enough;
    Pairs pairs = {0};
    Seen *seen = NULL;
    if (!PyArg_ParseTuple(arguments, "ny*y*y*y*y*y*y*y*y*y*y*y*n", &n, &arrays[WORDS], &arrays[BOUNDS], &arrays[FIRSTS],
                          &arrays[STARTS], &arrays[ENDS], &arrays[BEGINS], &arrays[OWNERS], &arrays[TEXTS],
                          &arrays[LIMITS], &arrays[SUMS], &arrays[LEAST], &arrays[GAPS], &enough))
        return NULL;
    const uint64_t *words = arrays[WORDS].buf, *texts = arrays[TEXTS].buf;
    const int64_t *bounds = arrays[BOUNDS].buf, *firsts = arrays[FIRSTS].buf;
    const int64_t *starts = arrays[STARTS].buf, *ends = arrays[ENDS].buf;
    const int64_t *limits = arrays[LIMITS].buf;
    const int32_t *owners = arrays[OWNERS].buf;
    const double *sums = arrays[SUMS].buf, *least = arrays[LEAST].buf;
    Numbers begins = {arrays[BEGINS].buf, arrays[BEGINS].len > arrays[OWNERS].len};
    Gaps gaps = {arrays[GAPS].buf, arrays[GAPS].len / 16, enough};
    int64_t count = arrays[FIRSTS].len / 8, documents = arrays[BOUNDS].len / 8 - 1, known = arrays[LIMITS].len / 8 - 1;
    int64_t known_begins = arrays[OWNERS].len / 4;
    if (!holds(&arrays[BOUNDS], 8, "bounds") || !holds(&arrays[LIMITS], 8, "limits") ||
        !holds(&arrays[STARTS], 8 * count, "starts") || !holds(&arrays[ENDS], 8 * count, "ends") || !holds(&arrays[LEAST], 8 * known, "least") ||
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
            if (starts[end] < 0 || ends[end] > known_begins) {
                PyErr_Format(PyExc_ValueError, "there are no begins %lld to %lld", (long long)starts[end],
                             (long long)ends[end]);
                goto done;
            }
            int64_t first = firsts[end];
            int follows = end > at && firsts[end - 1] == first - 1; /* an n-gram of texts begins one word before, too */
            for (int64_t entry = starts[end]; entry < ends[end]; entry++) {
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
            for (int64_t entry = starts[at]; entry < ends[at]; entry++)
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

static PyMethodDef functions[] = {
    LOOP(fill_filter),
    LOOP(look_up),
    LOOP(worthy_pairs),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = MODULE_OF(functions);

PyMODINIT_FUNC PyInit_loops(void)
{
    return PyModuleDef_Init(&definition);
}
