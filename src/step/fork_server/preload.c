/* The fork server's half inside the interpreter: an object that the loader puts in (LD_PRELOAD) and whose constructor
 * runs when everything is loaded, before all other constructors and main. It never returns in the process that was
 * started: that one waits at descriptor 4 for requests, and forks for each. The child returns, into the constructors
 * of the C library and of all others, and into the interpreter's own main, with the environment that the request
 * brought. Constructors seed generators, read clocks, variables and process numbers, and start threads, so each child
 * runs its own. `build.rs` links the object so that glibc runs this constructor first (-z initfirst); musl does anyway,
 * because it depends on nothing.
 *
 * It makes raw system calls and uses nothing of a C library: glibc's is not set up yet, and so one object serves glibc
 * and musl. What a child must not share with its server is put right here: processors, process group, thread number,
 * robust list, environment, random bytes of the kernel, and the place of the heap, which Lua, for one, seeds its
 * generator with.
 *
 * A request begins with a head: a u32 with the number of bytes that follow the head, a u32 with the number of
 * variables, and a set of processors. The set is not empty if the runner has bound the server to one: the child goes
 * back to these. Then come the working directory, and the variables, each with a NUL. The answer is an i32: the
 * child's process number, or -errno; and an i32 that says what failed: 0 nothing, 1 chdir, 2 fork. Before the first request it says that it is there. If a colon follows its
 * own path in LD_PRELOAD, and not a blank, it is a probe and ends then. The last
 * argument has a stand-in for its last slash, so that an interpreter without this object in it would find no script: a
 * child puts the slash back. Descriptor 5, where there is one, has the rules of
 * a sandbox, which every child takes on.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>

extern char **environ;

/* A sanitizer that must be the first of all objects, and ends the program otherwise. */
extern void __asan_init(void) __attribute__((weak));

#define SOCKET 4
#define OBJECT 3
#define RULES 5
#define STAND_IN '\x7f'
#define PR_GET_TID_ADDRESS 40
#define PR_SET_NO_NEW_PRIVS 38
#define F_GETFD 1
#define SIGCHLD_NUMBER 17
#define MOST (1 << 17)
#define FARTHEST (1L << 28) /* that a heap is moved; sixteen million places */
#define ALIGNMENT 16        /* of what malloc gives */
#define ENOMEM_NUMBER 12

#ifndef SYS_landlock_restrict_self /* Debian 11's headers */
#define SYS_landlock_restrict_self 446
#endif

/* What comes first in a request. */
struct head {
    uint32_t bytes, variables;
    uint64_t processors[16];
};

static char request[sizeof(struct head) + MOST] __attribute__((aligned(8)));

/* Every processor. The kernel leaves out those that there aren't. */
static const uint64_t every[16] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

static inline long call(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "cc");
    return x0;
#else
#error "no system calls for this architecture"
#endif
}

static void leave(int code)
{
    for (;;)
        call(SYS_exit_group, code, 0, 0, 0, 0);
}

static long length(const char *text)
{
    long n = 0;
    while (text[n])
        n++;
    return n;
}

static int begins(const char *text, const char *with)
{
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

/* Where the C library keeps the number of the main thread. glibc: at the address that the kernel clears when the thread
 * ends. musl has its list's lock there, and the number in the thread's own record, which the thread pointer leads to. */
static int32_t *thread_number(int32_t *cleared, int32_t self)
{
    if (*cleared == self)
        return cleared;
#if defined(__x86_64__)
    int32_t *record, *found = 0;
    __asm__("mov %%fs:0, %0" : "=r"(record));
    for (int n = 0; n < 48; n++)
        if (record[n] == self) {
            if (found)
                return 0;
            found = record + n;
        }
    return found;
#else
    return 0;
#endif
}

/* Moves a heap that nobody has begun, by less where a limit wants it so. The pages below are given back. */
static void move_heap(long top, long page)
{
    unsigned long place;
    if (call(SYS_getrandom, (long)&place, sizeof place, 0, 0, 0) != sizeof place)
        return;
    for (long range = FARTHEST; range > ALIGNMENT; range /= 16) {
        long new = top + (long)(place & (range - ALIGNMENT)), first = new & -page;
        if (call(SYS_brk, new, 0, 0, 0, 0) == new) {
            if (first > top)
                call(SYS_munmap, top, first - top, 0, 0, 0);
            return;
        }
    }
}

/* The strings of the environment lie one after the other where the kernel has put them; bytes, or -1. */
static long room(char **variables)
{
    char *first = variables[0], *next = first;
    for (; *variables; variables++) {
        if (*variables != next)
            return -1;
        next += length(next) + 1;
    }
    return next - first;
}

static void say(long answer, int32_t what)
{
    int32_t words[2] = {(int32_t)answer, what};
    if (call(SYS_write, SOCKET, (long)words, sizeof words, 0, 0) != sizeof words)
        leave(0);
}

/* Puts the variables where the old ones are, so that /proc/self/environ shows them, and that who has kept the address of
 * the old ones finds the new ones. They are as many as the old ones, and not longer. */
static void replace(char **variables, const char *new, const char *end, long space)
{
    char *to = variables[0], *rest = to + space;
    for (; new < end; variables++) {
        *variables = to;
        while ((*to++ = *new++))
            ;
    }
    while (to < rest)
        *to++ = 0;
}

/* glibc hands the environment over, and has not put it into `environ` before its own constructor runs; musl hands
 * nothing over. */
__attribute__((constructor)) static void serve(int argc, char **argv, char **given)
{
    (void)argc, (void)argv;
    int is_probe = -1, is_first = !environ;
    char **own = is_first ? given : environ;
    for (char **variable = own; *variable; variable++)
        if (begins(*variable, "LD_PRELOAD=/proc/self/fd/3")) {
            is_probe = (*variable)[26] == ':';
            break;
        }
    if (is_probe < 0)
        return; /* Somebody else has loaded it. */
    call(SYS_close, OBJECT, 0, 0, 0, 0);
    long space = room(own), count = 0;
    for (; own[count]; count++)
        ;
    /* The arguments end before the environment. */
    char *slash = own[-2] + length(own[-2]);
    while (slash > own[-2] && *slash != STAND_IN)
        slash--;
    long random = 0, page = 0;
    for (Elf64_auxv_t *fact = (Elf64_auxv_t *)(own + count + 1); fact->a_type != AT_NULL; fact++)
        if (fact->a_type == AT_RANDOM)
            random = (long)fact->a_un.a_val;
        else if (fact->a_type == AT_PAGESZ)
            page = (long)fact->a_un.a_val;
    int32_t *cleared = 0, self = (int32_t)call(SYS_gettid, 0, 0, 0, 0, 0), *number = 0;
    if (call(SYS_prctl, PR_GET_TID_ADDRESS, (long)&cleared, 0, 0, 0) == 0 && cleared)
        number = thread_number(cleared, self);
    void *robust = 0;
    uint64_t robust_size = 0;
    call(SYS_get_robust_list, 0, (long)&robust, (long)&robust_size, 0, 0);
    int has_rules = call(SYS_fcntl, RULES, F_GETFD, 0, 0, 0) >= 0;
    /* In an older glibc, libpthread comes first, and all others before this one. */
    int is_late = !is_first && number == cleared;
    /* The page below the end of a heap is there only if the heap has begun, or is where it is by the user's wish
     * (setarch -R). */
    unsigned char is_there;
    long top = is_first ? call(SYS_brk, 0, 0, 0, 0, 0) : 0;
    int can_move = top && page && call(SYS_mincore, (top - 1) & -page, 1, (long)&is_there, 0, 0) == -ENOMEM_NUMBER;
    if (space < 0 || !number || is_late || __asan_init)
        leave(0); /* Without a word: it can't be done here. */
    say(self, 0);
    if (is_probe)
        leave(0);
    for (;;) {
        struct head *head = (struct head *)request;
        long got = 0, size = sizeof *head;
        while (got < size || got < size + (long)head->bytes) {
            long n = call(SYS_read, SOCKET, (long)request + got, sizeof request - got, 0, 0);
            if (n == -4 /* EINTR */)
                continue;
            if (n <= 0 || (got + n >= size && (head->bytes > MOST || head->variables != count)))
                leave(0);
            got += n;
        }
        char *folder = request + size, *variables = folder + length(folder) + 1, *end = folder + head->bytes;
        if (end - variables > space)
            leave(0);
        long failed = call(SYS_chdir, (long)folder, 0, 0, 0, 0);
        if (failed < 0) {
            say(failed, 1);
            continue;
        }
        long child = call(SYS_clone, CLONE_PARENT | SIGCHLD_NUMBER, 0, 0, 0, 0);
        if (child) {
            say(child, child < 0 ? 2 : 0);
            continue;
        }
        call(SYS_close, SOCKET, 0, 0, 0, 0);
        uint64_t bound = 0;
        for (int n = 0; n < 16; n++)
            bound |= head->processors[n];
        /* It is refused if a cpuset has none of them any more. */
        if (bound && call(SYS_sched_setaffinity, 0, sizeof head->processors, (long)head->processors, 0, 0) < 0)
            call(SYS_sched_setaffinity, 0, sizeof every, (long)every, 0, 0);
        call(SYS_setpgid, 0, 0, 0, 0, 0);
        *number = (int32_t)call(SYS_set_tid_address, (long)cleared, 0, 0, 0, 0);
        if (has_rules) {
            long failed = call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (failed == 0)
                failed = call(SYS_landlock_restrict_self, RULES, 0, 0, 0, 0);
            if (failed < 0) {
                static const char why[] = "the sandbox can't be entered\n";
                call(SYS_write, 2, (long)why, sizeof why - 1, 0, 0);
                leave(126);
            }
            call(SYS_close, RULES, 0, 0, 0, 0);
        }
        if (robust)
            call(SYS_set_robust_list, (long)robust, (long)robust_size, 0, 0, 0);
        replace(own, variables, end, space);
        if (*slash == STAND_IN)
            *slash = '/';
        if (random)
            call(SYS_getrandom, random, 16, 0, 0, 0);
        if (can_move)
            move_heap(top, page);
        return;
    }
}
