/* A disk that remembers: a FUSE file system of two files. `disk` is an image; every write to it and every
 * flush is appended to a log, in order. What is written to `mark` goes into the log as well, so that
 * it is known what had been said before which write.
 *
 *   blocklog IMAGE LOG MOUNTPOINT      stays in the background until fusermount3 -u MOUNTPOINT
 *
 * A record: u32 kind (1 write, 2 flush, 3 mark), u32 length, u64 offset, the bytes (none for a flush).
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct record { uint32_t kind, length; uint64_t offset; };
enum { WRITE = 1, FLUSH = 2, MARK = 3 };

static int image, journal;
static off_t size;

static void note(uint32_t kind, uint64_t offset, const char *bytes, uint32_t length) {
    struct record record = {kind, length, offset};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)bytes, length}};
    /* A log with a gap would make every state after it wrong. */
    if (writev(journal, parts, length ? 2 : 1) != (ssize_t)(sizeof record + length)) abort();
}

static int is(const char *path, const char *name) { return !strcmp(path, name); }

static int get_attributes(const char *path, struct stat *found, struct fuse_file_info *file) {
    memset(found, 0, sizeof *found);
    found->st_nlink = 1;
    if (is(path, "/")) found->st_mode = S_IFDIR | 0755, found->st_nlink = 2;
    else if (is(path, "/disk")) found->st_mode = S_IFREG | 0600, found->st_size = size;
    else if (is(path, "/mark")) found->st_mode = S_IFREG | 0600;
    else return -ENOENT;
    return 0;
}
static int list(const char *path, void *into, fuse_fill_dir_t fill, off_t from, struct fuse_file_info *file, enum fuse_readdir_flags flags) {
    fill(into, "disk", NULL, 0, 0);
    fill(into, "mark", NULL, 0, 0);
    return 0;
}
static int open_file(const char *path, struct fuse_file_info *file) {
    file->direct_io = is(path, "/mark");
    return 0;
}
static int read_file(const char *path, char *into, size_t length, off_t offset, struct fuse_file_info *file) {
    if (!is(path, "/disk")) return 0;
    ssize_t got = pread(image, into, length, offset);
    return got < 0 ? -errno : got;
}
static int write_file(const char *path, const char *bytes, size_t length, off_t offset, struct fuse_file_info *file) {
    if (is(path, "/mark")) {
        note(MARK, 0, bytes, length);
        return length;
    }
    ssize_t put = pwrite(image, bytes, length, offset);
    if (put < 0) return -errno;
    note(WRITE, offset, bytes, put);
    return put;
}
static int flush_file(const char *path, int data_only, struct fuse_file_info *file) {
    if (is(path, "/disk")) note(FLUSH, 0, NULL, 0);
    return 0;
}
static int truncate_file(const char *path, off_t length, struct fuse_file_info *file) { return 0; }

static const struct fuse_operations operations = {
    .getattr = get_attributes, .readdir = list, .open = open_file, .read = read_file,
    .write = write_file, .fsync = flush_file, .truncate = truncate_file,
};

int main(int count, char **words) {
    struct stat found;
    if (count != 4) return 2;
    image = open(words[1], O_RDWR | O_CLOEXEC);
    journal = open(words[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (image < 0 || journal < 0 || fstat(image, &found)) return 1;
    size = found.st_size;
    /* One thread: the order of the log is the order of the disk. */
    char *args[] = {words[0], "-s", words[3], NULL};
    return fuse_main(3, args, &operations, NULL);
}
