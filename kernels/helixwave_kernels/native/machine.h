/* What all sources share: visible names, code for several instruction sets, rows in parallel. */
#ifndef HELIXWAVE_MACHINE_H
#define HELIXWAVE_MACHINE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Counts changes of the conventions between C and Python; native/__init__.py expects the same number. */
#define HELIXWAVE_ABI 1

#if defined(_MSC_VER) && !defined(__clang__)
#define VISIBLE __declspec(dllexport)
#define INLINE static __forceinline
#define INDEPENDENT __pragma(loop(ivdep))
#define PREFETCH(address) ((void)(address))
#define PREFETCH_OUTPUT(address) ((void)(address))
#define restrict __restrict
#else
#ifdef _WIN32
#define VISIBLE __declspec(dllexport)
#else
#define VISIBLE __attribute__((visibility("default")))
#endif
#define INLINE static inline __attribute__((always_inline))
/* Starts to load what will be read soon. */
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#define PREFETCH_OUTPUT(address) __builtin_prefetch(address, 1, 2)
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
#endif

/* TARGETS before a function compiles it for AVX-512, AVX2 and any machine; the loader picks one where it runs. What it
   calls must be INLINE to be compiled with it. Elsewhere the compiler's own instruction set is all there is. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12 && !defined(HELIXWAVE_ONE_TARGET)
#define TARGETS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define HELIXWAVE_CLONES 1
#else
#define TARGETS
#endif

/* How many neighbouring channels are worked on together: one AVX-512 register of float32. */
#define LANES 16

/* A function that Python calls, once per precision. `arguments` has a letter for each: p pointer, i int64_t, d double. */
#define EXPORT(name, arguments)                                                                                        \
    VISIBLE extern const char NAME(name##_arguments)[];                                                                \
    const char NAME(name##_arguments)[] = arguments;                                                                   \
    VISIBLE void NAME(name)

typedef void (*rows_function)(void *context, int64_t first, int64_t last);

/* Calls function(context, first, last) on parts of the rows 0 .. n_rows, each part in a thread of its own. Each thread
   gets the same rows in every call with the same sizes. `work` is about the nanoseconds that all rows take on one core:
   little work is not worth a thread. */
void parallel_rows(int64_t n_rows, int64_t n_threads, double work, rows_function function, void *context);

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
