// LD_PRELOAD: kills this process (kill -9) just before its n-th call that changes something below a
// folder, over all threads. Only this process: what it starts doesn't inherit the library.
//   KILL_AT=n      which call; none: only counts
//   KILL_PATH=dir  where; calls on other files, pipes and terminals are not counted
//   KILL_LOG=file  one line per call: number, name, path
//   KILL_TOUCH=file  opened, read and closed by this process before each script: a negative control
//   KILL_LIE=words  calls on paths that hold one of these words, with | between them, or end in a word$, do nothing and claim success: a negative control
//   KILL_LIE_FROM=n  but not before the n-th call
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static long at = -1, lie_from;
static const char *below, *lie, *touch;
static int log_fd = -1;

__attribute__((constructor)) static void init(void) {
    const char *text = getenv("KILL_AT");
    at = text ? atol(text) : -1;
    below = getenv("KILL_PATH");
    lie = getenv("KILL_LIE");
    text = getenv("KILL_LIE_FROM");
    lie_from = text ? atol(text) : 0;
    touch = getenv("KILL_TOUCH");
    const char *name = getenv("KILL_LOG");
    if (name) log_fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("LD_PRELOAD");
}

static void of_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
}

static void of_path(int dir, const char *name, char *path) {
    if (!name || !*name) return of_fd(dir, path);
    if (*name == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (dir == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX)) *path = 0;
    } else {
        of_fd(dir, path);
    }
    size_t n = strlen(path);
    snprintf(path + n, PATH_MAX - n, "/%s", name);
}

/* Whether KILL_LIE names this path. */
static int is_lie(const char *path) {
    char words[256];
    snprintf(words, sizeof words, "%s", lie);
    char *rest = NULL;
    for (char *word = strtok_r(words, "|", &rest); word; word = strtok_r(NULL, "|", &rest)) {
        size_t length = strlen(word), all = strlen(path);
        if (length > 0 && word[length - 1] == '$') {
            if (all >= length - 1 && !strncmp(path + all - (length - 1), word, length - 1)) return 1;
        } else if (strstr(path, word)) {
            return 1;
        }
    }
    return 0;
}

// True if the call is to claim success without being made.
static int hit(const char *call, const char *path) {
    if (!below || strncmp(path, below, strlen(below))) return 0;
    int saved = errno;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (log_fd >= 0) dprintf(log_fd, "%ld %s %s\n", n, call, path + strlen(below));
    if (n == at) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = saved;
    return lie && n >= lie_from && is_lie(path + strlen(below));
}

#define REAL(ret, name, ...) \
    static ret (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define ON_FD(ret, name, params, args, success) \
    ret name params { \
        REAL(ret, name, params_of_##name); \
        char path[PATH_MAX]; \
        of_fd(fd, path); \
        return hit(#name, path) ? (success) : real args; \
    }
#define params_of_fsync int
#define params_of_fdatasync int
#define params_of_syncfs int
#define params_of_sync_file_range int, off64_t, off64_t, unsigned
#define params_of_write int, const void *, size_t
#define params_of_writev int, const struct iovec *, int
#define params_of_pwrite int, const void *, size_t, off_t
#define params_of_pwrite64 int, const void *, size_t, off64_t
#define params_of_ftruncate int, off_t
#define params_of_ftruncate64 int, off64_t
#define params_of_fallocate int, int, off_t, off_t
#define params_of_posix_fallocate int, off_t, off_t
#define params_of_fchmod int, mode_t
#define params_of_flock int, int
ON_FD(int, fsync, (int fd), (fd), 0)
ON_FD(int, fdatasync, (int fd), (fd), 0)
ON_FD(int, syncfs, (int fd), (fd), 0)
ON_FD(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), (ssize_t)n)
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), 0)
ON_FD(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), (ssize_t)n)
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), (ssize_t)n)
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n), 0)
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n), 0)
ON_FD(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), 0)
ON_FD(int, posix_fallocate, (int fd, off_t o, off_t n), (fd, o, n), 0)
ON_FD(int, fchmod, (int fd, mode_t m), (fd, m), 0)
ON_FD(int, flock, (int fd, int op), (fd, op), 0)

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned f) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    char path[PATH_MAX];
    of_fd(to, path);
    return hit("copy_file_range", path) ? 0 : real(from, a, to, b, n, f);
}

ssize_t sendfile64(int to, int from, off64_t *o, size_t n) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    char path[PATH_MAX];
    of_fd(to, path);
    return hit("sendfile64", path) ? 0 : real(to, from, o, n);
}

#define ON_PATH(name, params, types, args, dir, named) \
    int name params { \
        REAL(int, name, types); \
        char path[PATH_MAX]; \
        of_path(dir, named, path); \
        return hit(#name, path) ? 0 : real args; \
    }
#define TYPES(...) __VA_ARGS__
ON_PATH(rename, (const char *a, const char *b), TYPES(const char *, const char *), (a, b), AT_FDCWD, b)
ON_PATH(renameat, (int d, const char *a, int e, const char *b), TYPES(int, const char *, int, const char *), (d, a, e, b), e, b)
ON_PATH(renameat2, (int d, const char *a, int e, const char *b, unsigned f), TYPES(int, const char *, int, const char *, unsigned), (d, a, e, b, f), e, b)
ON_PATH(link, (const char *a, const char *b), TYPES(const char *, const char *), (a, b), AT_FDCWD, b)
ON_PATH(linkat, (int d, const char *a, int e, const char *b, int f), TYPES(int, const char *, int, const char *, int), (d, a, e, b, f), e, b)
ON_PATH(symlink, (const char *a, const char *b), TYPES(const char *, const char *), (a, b), AT_FDCWD, b)
ON_PATH(unlink, (const char *a), TYPES(const char *), (a), AT_FDCWD, a)
ON_PATH(unlinkat, (int d, const char *a, int f), TYPES(int, const char *, int), (d, a, f), d, a)
ON_PATH(rmdir, (const char *a), TYPES(const char *), (a), AT_FDCWD, a)
ON_PATH(mkdir, (const char *a, mode_t m), TYPES(const char *, mode_t), (a, m), AT_FDCWD, a)
ON_PATH(mkdirat, (int d, const char *a, mode_t m), TYPES(int, const char *, mode_t), (d, a, m), d, a)
ON_PATH(chmod, (const char *a, mode_t m), TYPES(const char *, mode_t), (a, m), AT_FDCWD, a)
ON_PATH(fchmodat, (int d, const char *a, mode_t m, int f), TYPES(int, const char *, mode_t, int), (d, a, m, f), d, a)
ON_PATH(truncate, (const char *a, off_t n), TYPES(const char *, off_t), (a, n), AT_FDCWD, a)

// Opening counts when it can make or empty a file.
#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE(flags, last) \
    mode_t mode = 0; \
    if (CHANGES(flags)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
#define OPEN(name) \
    int name(const char *a, int flags, ...) { \
        MODE(flags, flags) \
        REAL(int, name, const char *, int, ...); \
        if (CHANGES(flags)) { \
            char path[PATH_MAX]; \
            of_path(AT_FDCWD, a, path); \
            hit(#name, path); \
        } \
        return real(a, flags, mode); \
    }
#define OPENAT(name) \
    int name(int d, const char *a, int flags, ...) { \
        MODE(flags, flags) \
        REAL(int, name, int, const char *, int, ...); \
        if (CHANGES(flags)) { \
            char path[PATH_MAX]; \
            of_path(d, a, path); \
            hit(#name, path); \
        } \
        return real(d, a, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

// A script is started: not a change, but a moment worth dying in.
int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *at_, char *const argv[], char *const envp[]) {
    REAL(int, posix_spawnp, pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/(spawn)", below ? below : "");
    hit("posix_spawnp", path);
    if (touch) {
        int fd = syscall(SYS_openat, AT_FDCWD, touch, O_RDONLY | O_CLOEXEC, 0);
        char head[100];
        if (fd >= 0 && read(fd, head, sizeof head) >= 0) close(fd);
    }
    return real(pid, file, fa, at_, argv, envp);
}

// What has no wrapper, or whose wrapper is not used.
long syscall(long number, ...) {
    REAL(long, syscall, long, ...);
    long a[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    char path[PATH_MAX];
    const char *name = 0;
    switch (number) {
    case SYS_renameat2: name = "renameat2"; of_path(a[2], (char *)a[3], path); break;
    case SYS_copy_file_range: name = "copy_file_range"; of_fd(a[2], path); break;
    case SYS_syncfs: name = "syncfs"; of_fd(a[0], path); break;
    case SYS_fchmod: name = "fchmod"; of_fd(a[0], path); break;
    case SYS_fchmodat: name = "fchmodat"; of_path(a[0], (char *)a[1], path); break;
#ifdef SYS_fchmodat2
    case SYS_fchmodat2: name = "fchmodat2"; of_path(a[0], (char *)a[1], path); break;
#endif
    }
    if (name && hit(name, path)) return 0;
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
