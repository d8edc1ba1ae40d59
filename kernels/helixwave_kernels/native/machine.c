/* Threads, and what the library says of itself. */
#include "machine.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define THREADS 1
#endif

#define MOST_THREADS 256
/* bytes for a thread's local arrays: some systems give less by themselves */
#define STACK ((size_t)4 << 20)
/* starting and joining a thread takes some ten microseconds */
#define WORK_PER_THREAD 1e5

typedef struct {
    rows_function function;
    void *context;
    int64_t first, last;
} part;

#ifdef THREADS
static void *run(void *argument) {
    part *p = argument;
    p->function(p->context, p->first, p->last);
    return NULL;
}
#endif

void parallel_rows(int64_t n_rows, int64_t n_threads, double work, rows_function function, void *context) {
    int64_t n = smaller(smaller(n_threads, MOST_THREADS), n_rows);
    if (work < n * WORK_PER_THREAD)
        n = (int64_t)(work / WORK_PER_THREAD);
#ifdef THREADS
    if (n > 1) {
        part parts[MOST_THREADS];
        pthread_t threads[MOST_THREADS];
        int started[MOST_THREADS];
        for (int64_t i = 0; i < n; i++)
            parts[i] = (part){function, context, n_rows * i / n, n_rows * (i + 1) / n};
        pthread_attr_t attributes;
        int sized = pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, STACK) == 0;
        for (int64_t i = 1; i < n; i++)
            started[i] = sized && pthread_create(&threads[i], &attributes, run, &parts[i]) == 0;
        run(&parts[0]);
        if (sized)
            pthread_attr_destroy(&attributes);
        for (int64_t i = 1; i < n; i++) {
            if (started[i])
                pthread_join(threads[i], NULL);
            else
                run(&parts[i]);
        }
        return;
    }
#endif
    if (n_rows > 0)
        function(context, 0, n_rows);
}

VISIBLE int64_t helixwave_abi(void);
int64_t helixwave_abi(void) { return HELIXWAVE_ABI; }

VISIBLE const char *helixwave_instruction_set(void);
const char *helixwave_instruction_set(void) {
#ifdef HELIXWAVE_CLONES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4"))
        return "avx512";
    if (__builtin_cpu_supports("x86-64-v3"))
        return "avx2";
#elif defined(__AVX512F__)
    return "avx512";
#elif defined(__AVX2__)
    return "avx2";
#endif
    return "generic";
}

/* The one name that the build of a Python extension asks for. The library is loaded by ctypes and cannot be imported,
   so that it needs no header of Python. */
VISIBLE void *PyInit__native(void);
void *PyInit__native(void) { return NULL; }
