/* Preloaded, it kills or stops its process at a chosen call to the file system, or sets its clock back.

   DISK_ROOT      only calls whose path begins so are counted and logged
   DISK_LOG       a file that gets a line for each of them: its name and its path
   DISK_KILL_AT   SIGKILL instead of the call of this number, from 1
   DISK_KILL_ON   NAME:END, SIGKILL instead of a call NAME whose path ends so, where * is anything
   DISK_KILL_NTH  of those calls, from 1, which is what it is if not set
   DISK_HANG_ON   NAME:END, each such call waits for ever
   CLOCK_BACK     seconds by which the time of day is too early */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int calls, chosen;

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

static void note(const char *name, const char *path) {
    char line[2 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s %s\n", name, path);
    int fd = syscall(SYS_openat, AT_FDCWD, getenv("DISK_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0644);
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

static int ends_so(const char *name, const char *path, const char *wanted) {
    char pattern[2 * PATH_MAX];
    size_t length = strcspn(wanted, ":");
    snprintf(pattern, sizeof pattern, "*%s", wanted + length + 1);
    return strlen(name) == length && strncmp(name, wanted, length) == 0 && fnmatch(pattern, path, 0) == 0;
}

static int is_nth(void) {
    const char *nth = getenv("DISK_KILL_NTH");
    return atomic_fetch_add(&chosen, 1) + 1 == (nth ? atoi(nth) : 1);
}

static void met(const char *name, const char *path) {
    const char *root = getenv("DISK_ROOT"), *at = getenv("DISK_KILL_AT"), *on = getenv("DISK_KILL_ON");
    const char *hang = getenv("DISK_HANG_ON");
    if (!root || strncmp(path, root, strlen(root)) != 0)
        return;
    int number = atomic_fetch_add(&calls, 1) + 1;
    if (getenv("DISK_LOG"))
        note(name, path);
    if ((at && number == atoi(at)) || (on && ends_so(name, path, on) && is_nth()))
        die();
    while (hang && ends_so(name, path, hang))
        pause();
}

static void met_at(const char *name, int directory, const char *path) {
    char whole[2 * PATH_MAX], link[64];
    if (path && (path[0] == '/' || directory == AT_FDCWD)) {
        met(name, path);
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = syscall(SYS_readlink, link, whole, (size_t)PATH_MAX);
    if (length < 0)
        return;
    whole[length] = 0;
    if (path) {
        whole[length] = '/';
        snprintf(whole + length + 1, PATH_MAX, "%s", path);
    }
    met(name, whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) met("open", path); return REAL(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) met("open", path); return REAL(open64)(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) {
    MODE(flags) met_at("open", at, path); return REAL(openat)(at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags) met_at("open", at, path); return REAL(openat64)(at, path, flags, mode);
}
int mkdir(const char *path, mode_t mode) { met("mkdir", path); return REAL(mkdir)(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { met_at("mkdir", at, path); return REAL(mkdirat)(at, path, mode); }
int rename(const char *old, const char *new) { met("rename", old); return REAL(rename)(old, new); }
int renameat(int at, const char *old, int to, const char *new) {
    met_at("rename", at, old); return REAL(renameat)(at, old, to, new);
}
int unlink(const char *path) { met("unlink", path); return REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) { met_at("unlink", at, path); return REAL(unlinkat)(at, path, flags); }
int rmdir(const char *path) { met("rmdir", path); return REAL(rmdir)(path); }
int fsync(int fd) { met_at("fsync", fd, NULL); return REAL(fsync)(fd); }
int fdatasync(int fd) { met_at("fsync", fd, NULL); return REAL(fdatasync)(fd); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && getenv("CLOCK_BACK"))
        now->tv_sec -= atol(getenv("CLOCK_BACK"));
    return result;
}
