/* What all loops in C need: checks of the arrays that they are given, and the form of their module.
 *
 * A folder that has some has them in its `loops.c`, and says in `loops.pyi` what each takes. Numpy says what they give, and
 * makes it too: `compiled` has a process use them after they have given the same, and where no compiler made them, numpy
 * does it all.
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

/* An array that was given: raises ValueError where it has fewer bytes than are read or written. */
static inline int holds(const Py_buffer *array, size_t bytes, const char *name)
{
    if ((size_t)array->len >= bytes)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, not %zu", name, array->len, bytes);
    return 0;
}

static inline void release(Py_buffer *arrays, int count)
{
    while (count--)
        if (arrays[count].obj)
            PyBuffer_Release(&arrays[count]);
}

#define LOOP(function) {#function, function, METH_VARARGS, NULL}
#define MODULE_OF(functions) {PyModuleDef_HEAD_INIT, .m_name = "loops", .m_methods = functions}
