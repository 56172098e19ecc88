/* LD_PRELOAD: makes calls of the program under test fail. The calls of all its threads are counted
 * together; what it starts is left alone.
 *
 *   FAIL_AT=n        the n-th counted call fails
 *   FAIL_ON=name     with FAIL_ALL=1: from the n-th call on, every call of this function fails
 *   FAIL_ERRNO=e     with this errno
 *   FAIL_LOG=path    one line per counted call: its number, its name, "!" if it failed, what it was for
 *
 *   FAIL_SKIP_SYNC=w these syncs report success and do nothing: `files` in objects/, `dirs` (every directory),
 *                    `all` of both; what a syncfs would have synced besides is still synced
 *   FAIL_DATASYNC=1  fsync of a database's log is fdatasync, as in most builds of SQLite but ours: when the
 *                    log is overwritten in place, that brings no names of other files along
 *
 * A write to standard error is not counted, but logged as `say` with its text: what was said when.
 */
#define _GNU_SOURCE
#define _FORTIFY_SOURCE 0
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static atomic_long calls;
static long fail_at = -1, fail_all, as_fdatasync, skip_files, skip_dirs;
static int fail_errno = EIO, log_fd = -1;
static const char *fail_on;
static long (*real_syscall)(long, ...);

#define REAL(type, name) static type (*real)(); if (!real) real = (type (*)())dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    real_syscall = dlsym(RTLD_NEXT, "syscall");
    char *at = getenv("FAIL_AT"), *number = getenv("FAIL_ERRNO"), *log = getenv("FAIL_LOG");
    fail_at = at ? atol(at) : -1;
    fail_on = getenv("FAIL_ON");
    fail_all = getenv("FAIL_ALL") != NULL;
    as_fdatasync = getenv("FAIL_DATASYNC") != NULL;
    char *skip = getenv("FAIL_SKIP_SYNC");
    skip_files = skip && (!strcmp(skip, "files") || !strcmp(skip, "all"));
    skip_dirs = skip && (!strcmp(skip, "dirs") || !strcmp(skip, "all"));
    fail_errno = number ? atoi(number) : EIO;
    if (log) log_fd = real_syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("LD_PRELOAD");
}

static void note(const char *line, int length) {
    int saved = errno;
    if (log_fd >= 0) real_syscall(SYS_write, log_fd, line, length);
    errno = saved;
}

/* True if this call has to fail. */
static int hit(const char *name, const char *path, int fd) {
    int saved = errno;
    long n = atomic_fetch_add(&calls, 1) + 1;
    int fails = fail_all ? n >= fail_at && fail_at > 0 && fail_on && !strcmp(fail_on, name) : n == fail_at;
    if (log_fd >= 0) {
        char of[512] = "", link[64], line[700];
        if (path) snprintf(of, sizeof of, "%.400s", path);
        else if (fd >= 0) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            long length = real_syscall(SYS_readlinkat, AT_FDCWD, link, of, sizeof of - 1);
            of[length > 0 ? length : 0] = 0;
        }
        note(line, snprintf(line, sizeof line, "%ld %s%s %s\n", n, name, fails ? " !" : "", of));
    }
    errno = fails ? fail_errno : saved;
    return fails;
}

#define ON_FD(type, name, params, args, fd) \
    type name params { REAL(type, name); if (hit(#name, NULL, fd)) return -1; return real args; }
#define ON_PATH(type, name, params, args, path) \
    type name params { REAL(type, name); if (hit(#name, path, -1)) return -1; return real args; }

/* Whether this sync is one of those that do nothing. */
static int is_skipped(int fd) {
    if (!skip_files && !skip_dirs) return 0;
    struct stat found;
    char link[64], of[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = real_syscall(SYS_readlinkat, AT_FDCWD, link, of, sizeof of - 1);
    if (length < 0 || real_syscall(SYS_fstat, fd, &found)) return 0;
    of[length] = 0;
    return S_ISDIR(found.st_mode) ? skip_dirs : skip_files && strstr(of, "/objects/") != NULL;
}

static int sync_file(const char *path, const struct stat *found, int kind, struct FTW *at) {
    (void)at;
    if (kind != FTW_F || !S_ISREG(found->st_mode)) return 0;
    int fd = real_syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return 0;
    int failed = real_syscall(SYS_fsync, fd);
    real_syscall(SYS_close, fd);
    return failed;
}

int fsync(int fd) {
    REAL(int, fsync);
    if (hit("fsync", NULL, fd)) return -1;
    if (is_skipped(fd)) return 0;
    if (!as_fdatasync) return real(fd);
    char link[64], of[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = real_syscall(SYS_readlinkat, AT_FDCWD, link, of, sizeof of);
    int is_log = length > 4 && !memcmp(of + length - 4, "-wal", 4);
    return is_log ? real_syscall(SYS_fdatasync, fd) : real(fd);
}
int fdatasync(int fd) {
    REAL(int, fdatasync);
    if (hit("fdatasync", NULL, fd)) return -1;
    return is_skipped(fd) ? 0 : real(fd);
}
int syncfs(int fd) {
    REAL(int, syncfs);
    if (hit("syncfs", NULL, fd)) return -1;
    if (!skip_files && !skip_dirs) return real(fd);
    if (skip_files && skip_dirs) return 0;
    /* The names alone: the journal with the renames is written, the bytes are not. */
    if (skip_files) return real_syscall(SYS_fsync, fd);
    char link[64], root[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = real_syscall(SYS_readlinkat, AT_FDCWD, link, root, sizeof root - 1);
    if (length < 0) return -1;
    root[length] = 0;
    return nftw(root, sync_file, 16, FTW_PHYS);
}
ON_FD(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), fd)
ON_FD(ssize_t, pread64, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o), fd)
ON_FD(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n), fd)
ON_FD(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n), fd)
ON_FD(ssize_t, copy_file_range, (int a, off64_t *ao, int b, off64_t *bo, size_t n, unsigned f), (a, ao, b, bo, n, f), a)
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n), fd)
ON_FD(int, flock, (int fd, int what), (fd, what), fd)
ON_FD(int, fchmod, (int fd, mode_t mode), (fd, mode), fd)
ON_FD(off64_t, lseek64, (int fd, off64_t o, int w), (fd, o, w), fd)
ON_FD(int, fstat64, (int fd, struct stat64 *s), (fd, s), fd)
ON_FD(int, fstatvfs64, (int fd, struct statvfs64 *s), (fd, s), fd)
ON_FD(int, renameat, (int a, const char *x, int b, const char *y), (a, x, b, y), a)
ON_PATH(int, renameat2, (int a, const char *x, int b, const char *y, unsigned f), (a, x, b, y, f), y)
ON_PATH(int, rename, (const char *x, const char *y), (x, y), y)
ON_PATH(int, linkat, (int a, const char *x, int b, const char *y, int f), (a, x, b, y, f), y)
ON_PATH(int, unlinkat, (int a, const char *x, int f), (a, x, f), x)
ON_PATH(int, unlink, (const char *x), (x), x)
ON_PATH(int, rmdir, (const char *x), (x), x)
ON_PATH(int, mkdir, (const char *x, mode_t m), (x, m), x)
ON_PATH(int, mkdirat, (int a, const char *x, mode_t m), (a, x, m), x)
ON_PATH(int, stat64, (const char *x, struct stat64 *s), (x, s), x)
ON_PATH(int, lstat64, (const char *x, struct stat64 *s), (x, s), x)
ON_PATH(int, fstatat64, (int a, const char *x, struct stat64 *s, int f), (a, x, s, f), x)
ON_PATH(int, statx, (int a, const char *restrict x, int f, unsigned m, struct statx *restrict s), (a, x, f, m, s), x)
ON_PATH(int, statvfs64, (const char *x, struct statvfs64 *s), (x, s), x)
ON_PATH(int, statfs64, (const char *x, struct statfs64 *s), (x, s), x)
ON_PATH(int, waitid, (idtype_t t, id_t id, siginfo_t *i, int o), (t, id, i, o), NULL)
ON_PATH(pid_t, wait4, (pid_t p, int *s, int o, struct rusage *u), (p, s, o, u), NULL)

ssize_t write(int fd, const void *bytes, size_t n) {
    REAL(ssize_t, write);
    if (fd == 2 || fd == 1) {
        char line[300];
        int length = snprintf(line, sizeof line, "0 say %.*s", n < 200 ? (int)n : 200, (const char *)bytes);
        for (int i = 0; i < length - 1; i++) if (line[i] == '\n') line[i] = '~';
        line[length - 1] = '\n';
        note(line, length);
        return real(fd, bytes, n);
    }
    return hit("write", NULL, fd) ? -1 : real(fd, bytes, n);
}

#define OPEN(name, params, args, path) \
    int name params { REAL(int, name); mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; \
        va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        return hit(#name, path, -1) ? -1 : real args; }
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), path)
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), path)

#define WITH_ONE_ARGUMENT(name, kind) \
    int name(int fd, kind what, ...) { REAL(int, name); va_list rest; va_start(rest, what); \
        void *arg = va_arg(rest, void *); va_end(rest); if (hit(#name, NULL, fd)) return -1; return real(fd, what, arg); }
WITH_ONE_ARGUMENT(fcntl, int)
WITH_ONE_ARGUMENT(fcntl64, int)
WITH_ONE_ARGUMENT(ioctl, unsigned long)

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t o) {
    REAL(void *, mmap64);
    /* Memory without a file is Rust's own start-up and stacks. */
    if (fd >= 0 && hit("mmap64", NULL, fd)) return MAP_FAILED;
    return real(at, n, prot, flags, fd, o);
}
DIR *opendir(const char *path) { REAL(DIR *, opendir); return hit("opendir", path, -1) ? NULL : real(path); }
struct dirent64 *readdir64(DIR *dir) { REAL(struct dirent64 *, readdir64); return hit("readdir64", NULL, dirfd(dir)) ? NULL : real(dir); }

int posix_spawnp(pid_t *p, const char *x, const posix_spawn_file_actions_t *f, const posix_spawnattr_t *a, char *const *v, char *const *e) {
    REAL(int, posix_spawnp);
    return hit("posix_spawnp", x, -1) ? errno : real(p, x, f, a, v, e);
}
/* std prefers this one, where glibc has it. */
int pidfd_spawnp(int *p, const char *x, const posix_spawn_file_actions_t *f, const posix_spawnattr_t *a, char *const *v, char *const *e) {
    REAL(int, pidfd_spawnp);
    if (!real) return ENOSYS;
    return hit("pidfd_spawnp", x, -1) ? errno : real(p, x, f, a, v, e);
}
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    REAL(int, pthread_create);
    return hit("pthread_create", NULL, -1) ? EAGAIN : real(t, a, f, x);
}

long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long), d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    const char *name = number == SYS_getdents64 ? "getdents64" : number == SYS_renameat2 ? "renameat2" : number == SYS_statx ? "statx"
        : number == SYS_pidfd_open ? "pidfd_open" : number == SYS_close_range ? "close_range" : number == SYS_openat2 ? "openat2" : NULL;
    if (name && hit(name, NULL, number == SYS_getdents64 ? (int)a : -1)) return -1;
    return real_syscall(number, a, b, c, d, e, f);
}
