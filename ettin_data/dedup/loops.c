/* The sketches of texts, by the hashes of their words (`sketch`). */

#include "../base/loops.h"

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
    LOOP(sketches),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = MODULE_OF(functions);

PyMODINIT_FUNC PyInit_loops(void)
{
    return PyModuleDef_Init(&definition);
}
