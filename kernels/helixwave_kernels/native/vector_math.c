/* The elementary functions by themselves, so that the tests can tell how exact they are. */
#ifndef REAL
#define THIS_FILE "vector_math.c"
#include "both_precisions.h"
#else

typedef struct {
    REAL *y;
    const REAL *x;
} NAME(elements);

#define EACH(name, function)                                                                                           \
    TARGETS static void NAME(name##_rows)(void *context, int64_t first, int64_t last) {                                \
        REAL *restrict y = ((NAME(elements) *)context)->y;                                                             \
        const REAL *restrict x = ((NAME(elements) *)context)->x;                                                       \
        for (int64_t i = first; i < last; i++)                                                                         \
            y[i] = function(x[i]);                                                                                     \
    }                                                                                                                  \
    EXPORT(vector_##name, "ppii")(REAL * y, const REAL *x, int64_t n, int64_t n_threads) {                             \
        NAME(elements) context = {y, x};                                                                               \
        parallel_rows(n, n_threads, (double)n, NAME(name##_rows), &context);                                           \
    }

EACH(exp, EXP)
EACH(exp2, EXP2)
EACH(expm1, EXPM1)
EACH(log1p, LOG1P)
EACH(sigmoid, SIGMOID)
EACH(silu, SILU)
EACH(tanh, TANH)
EACH(log_sigmoid, LOG_SIGMOID)
EACH(softplus, SOFTPLUS)

#undef EACH
#endif
