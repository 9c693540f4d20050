/* Refuses calls on paths below a folder, in every process that preloads it. refusals.py compiles it and says what the
   variables of the environment mean. Calls of all processes are counted in one mapped file. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *call, *below;
static int number;
static uint64_t at, seed;
static double share;
static _Atomic uint64_t *seen;

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("ETTIN_REFUSE_COUNT"), *what = getenv("ETTIN_REFUSE_CALL");
    if (!place || !what) return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, place, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *map = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (map == MAP_FAILED) return;
    seen = map;
    below = getenv("ETTIN_REFUSE_BELOW");
    number = atoi(getenv("ETTIN_REFUSE_ERROR"));
    at = strtoull(getenv("ETTIN_REFUSE_AT"), NULL, 10);
    seed = strtoull(getenv("ETTIN_REFUSE_SEED"), NULL, 10);
    share = atof(getenv("ETTIN_REFUSE_SHARE"));
    call = what;
}

static double drawn(uint64_t n) {  /* splitmix64 of the seed and the number of the call, in [0, 1) */
    uint64_t z = seed + n * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static int refused(const char *what, int folder, const char *path) {
    if (!call || strcmp(call, what)) return 0;
    int before = errno;
    char full[2 * PATH_MAX], link[40];
    ssize_t length = 0;
    if (!path || path[0] != '/') {  /* relative to an open folder, or an open file itself */
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, full, PATH_MAX) < 0) return 0;
            length = (ssize_t)strlen(full);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            length = readlink(link, full, PATH_MAX);
        }
        errno = before;
        if (length < 0) return 0;
        full[length] = 0;
        if (path) full[length++] = '/';
    }
    if (path) snprintf(full + length, PATH_MAX, "%s", path);
    size_t size = strlen(below);
    if (strncmp(full, below, size) || (full[size] && full[size] != '/')) return 0;
    uint64_t n = atomic_fetch_add(seen, 1) + 1;
    if (at ? n != at : drawn(n) >= share) return 0;
    errno = number;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPENED(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        REAL(int, name, const char *, int, ...); \
        return refused("open", AT_FDCWD, path) ? -1 : real(path, flags, mode); \
    }
#define OPENED_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        REAL(int, name, int, const char *, int, ...); \
        return refused("open", folder, path) ? -1 : real(folder, path, flags, mode); \
    }
#define ON_FILE(name, what) \
    int name(int file) { REAL(int, name, int); return refused(what, file, NULL) ? -1 : real(file); }
#define ON_PATH(name, what) \
    int name(const char *path) { REAL(int, name, const char *); return refused(what, AT_FDCWD, path) ? -1 : real(path); }
#define ON_TWO(name, what) \
    int name(const char *from, const char *to) { \
        REAL(int, name, const char *, const char *); \
        return refused(what, AT_FDCWD, to) ? -1 : real(from, to); \
    }

OPENED(open)
OPENED(open64)
OPENED_AT(openat)
OPENED_AT(openat64)
ON_FILE(fsync, "fsync")
ON_FILE(fdatasync, "fsync")
ON_PATH(unlink, "remove")
ON_PATH(rmdir, "remove")
ON_TWO(rename, "rename")
ON_TWO(link, "link")

FILE *fopen(const char *path, const char *mode) {
    REAL(FILE *, fopen, const char *, const char *);
    return refused("open", AT_FDCWD, path) ? NULL : real(path, mode);
}
int flock(int file, int how) {
    REAL(int, flock, int, int);
    return refused("flock", file, NULL) ? -1 : real(file, how);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return refused("mkdir", AT_FDCWD, path) ? -1 : real(path, mode);
}
DIR *opendir(const char *path) {
    REAL(DIR *, opendir, const char *);
    return refused("scandir", AT_FDCWD, path) ? NULL : real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    return refused("remove", folder, path) ? -1 : real(folder, path, flags);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    return refused("rename", b, to) ? -1 : real(a, from, b, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    return refused("link", b, to) ? -1 : real(a, from, b, to, flags);
}
