/* The words of texts (`words`) and their signs (`word_signs`), one character after the other. */

#include "loops.h"

enum { BREAK, LETTER, ALONE, NOTHING }; /* what a character does to words, as in `words` */
#define CODES 0x110000

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

static PyMethodDef functions[] = {
    LOOP(word_hashes),
    LOOP(word_signs),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = MODULE_OF(functions);

PyMODINIT_FUNC PyInit_loops(void)
{
    list_begins();
    return PyModuleDef_Init(&definition);
}
