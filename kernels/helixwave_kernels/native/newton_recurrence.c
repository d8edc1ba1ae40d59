/* Recurrent cells with diagonal weights. A row is a few channels of one sequence, which step through time in registers
   and the nearest cache.

   x, dx [B, T, 3, D]; diagonal [3, D]; peephole [2, D]; start [S, B, D]; states, grads [S, B, T, D]. */
#ifndef REAL
#define THIS_FILE "newton_recurrence.c"
#include "both_precisions.h"
#else

#define WIDTH 64

typedef struct {
    const REAL *x, *diagonal, *peephole, *start, *grads;
    const uint8_t *reset;
    REAL *states, *dx, *ddiagonal, *dpeephole, *dstart;
    int64_t lstm, B, T, D, n_block;
} NAME(diagonal_recurrence);

INLINE int NAME(is_cut)(const NAME(diagonal_recurrence) * c, int64_t b, int64_t t) {
    return c->reset && c->reset[b * c->T + t];
}

/* Part s of the state before time t, from channel d on. */
INLINE const REAL *NAME(state_before)(const NAME(diagonal_recurrence) * c, int64_t s, int64_t b, int64_t t, int64_t d) {
    static const REAL empty[WIDTH];
    if (NAME(is_cut)(c, b, t))
        return empty;
    return (t == 0 ? c->start + (s * c->B + b) * c->D : c->states + ((s * c->B + b) * c->T + t - 1) * c->D) + d;
}

INLINE void NAME(gru_forward)(const REAL *restrict a, const REAL *restrict x, int64_t D, int64_t width,
                              const REAL *restrict h, REAL *restrict next_h) {
    INDEPENDENT
    for (int64_t d = 0; d < width; d++) {
        REAL z = SIGMOID(a[d] * h[d] + x[d]), r = SIGMOID(a[D + d] * h[d] + x[D + d]);
        next_h[d] = (1 - z) * h[d] + z * TANH(a[2 * D + d] * r * h[d] + x[2 * D + d]);
    }
}

INLINE void NAME(lstm_forward)(const REAL *restrict a, const REAL *restrict p, const REAL *restrict x, int64_t D,
                               int64_t width, const REAL *restrict h, const REAL *restrict c, REAL *restrict next_h,
                               REAL *restrict next_c) {
    INDEPENDENT
    for (int64_t d = 0; d < width; d++) {
        REAL f = SIGMOID(a[d] * h[d] + p[d] * c[d] + x[d]);
        REAL c_t = f * c[d] + (1 - f) * TANH(a[D + d] * h[d] + x[D + d]);
        next_h[d] = SIGMOID(a[2 * D + d] * h[d] + p[D + d] * c_t + x[2 * D + d]) * TANH(c_t);
        next_c[d] = c_t;
    }
}

TARGETS static void NAME(forward_channels)(void *context, int64_t first, int64_t last) {
    const NAME(diagonal_recurrence) *c = context;
    for (int64_t row = first; row < last; row++) {
        int64_t b = row / c->n_block, d = row % c->n_block * WIDTH, width = smaller(WIDTH, c->D - d);
        const REAL *a = c->diagonal + d, *p = c->peephole + d;
        for (int64_t t = 0; t < c->T; t++) {
            const REAL *x = c->x + (b * c->T + t) * 3 * c->D + d;
            const REAL *h = NAME(state_before)(c, 0, b, t, d);
            REAL *next_h = c->states + (b * c->T + t) * c->D + d;
            if (c->lstm)
                NAME(lstm_forward)
            (a, p, x, c->D, width, h, NAME(state_before)(c, 1, b, t, d), next_h, next_h + c->B * c->T * c->D);
            else
                NAME(gru_forward)(a, x, c->D, width, h, next_h);
        }
    }
}

EXPORT(newton_recurrence_forward, "ppppppiiiii")
(REAL *states, const REAL *x, const REAL *diagonal, const REAL *peephole, const REAL *start, const uint8_t *reset,
 int64_t lstm, int64_t B, int64_t T, int64_t D, int64_t n_threads) {
    NAME(diagonal_recurrence)
    c = {.x = x, .diagonal = diagonal, .peephole = peephole, .start = start, .reset = reset, .states = states,
         .lstm = lstm, .B = B, .T = T, .D = D, .n_block = (D + WIDTH - 1) / WIDTH};
    parallel_rows(B * c.n_block, n_threads, (double)B * T * D * 2, NAME(forward_channels), &c);
}

/* g comes in as the gradient of h_t and goes out as what it adds to that of h_{t-1}; sums of the weights' gradients */
INLINE void NAME(gru_backward)(const REAL *restrict a, const REAL *restrict x, int64_t D, int64_t width,
                               const REAL *restrict h, const REAL *restrict grad, REAL *restrict g, REAL *restrict dx,
                               REAL *restrict sums) {
    INDEPENDENT
    for (int64_t d = 0; d < width; d++) {
        REAL z = SIGMOID(a[d] * h[d] + x[d]), r = SIGMOID(a[D + d] * h[d] + x[D + d]), ah = a[2 * D + d] * h[d];
        REAL n = TANH(ah * r + x[2 * D + d]), g_t = g[d] + grad[d];
        REAL of_z = g_t * (n - h[d]) * z * (1 - z), of_h = g_t * z * (1 - n * n), of_r = of_h * ah * r * (1 - r);
        dx[d] = of_z;
        dx[D + d] = of_r;
        dx[2 * D + d] = of_h;
        sums[d] += of_z * h[d];
        sums[WIDTH + d] += of_r * h[d];
        sums[2 * WIDTH + d] += of_h * h[d] * r;
        g[d] = g_t * (1 - z) + of_z * a[d] + of_r * a[D + d] + of_h * r * a[2 * D + d];
    }
}

INLINE void NAME(lstm_backward)(const REAL *restrict a, const REAL *restrict p, const REAL *restrict x, int64_t D,
                                int64_t width, const REAL *restrict h, const REAL *restrict c,
                                const REAL *restrict next_c, const REAL *restrict grad_h, const REAL *restrict grad_c,
                                REAL *restrict g_h, REAL *restrict g_c, REAL *restrict dx, REAL *restrict sums) {
    INDEPENDENT
    for (int64_t d = 0; d < width; d++) {
        REAL f = SIGMOID(a[d] * h[d] + p[d] * c[d] + x[d]), g = TANH(a[D + d] * h[d] + x[D + d]);
        REAL o = SIGMOID(a[2 * D + d] * h[d] + p[D + d] * next_c[d] + x[2 * D + d]), output = TANH(next_c[d]);
        REAL of_o = (g_h[d] + grad_h[d]) * output * o * (1 - o);
        REAL at_c = g_c[d] + grad_c[d] + (g_h[d] + grad_h[d]) * o * (1 - output * output) + of_o * p[D + d];
        REAL of_f = at_c * (c[d] - g) * f * (1 - f), of_g = at_c * (1 - f) * (1 - g * g);
        dx[d] = of_f;
        dx[D + d] = of_g;
        dx[2 * D + d] = of_o;
        sums[d] += of_f * h[d];
        sums[WIDTH + d] += of_g * h[d];
        sums[2 * WIDTH + d] += of_o * h[d];
        sums[3 * WIDTH + d] += of_f * c[d];
        sums[4 * WIDTH + d] += of_o * next_c[d];
        g_h[d] = of_f * a[d] + of_g * a[D + d] + of_o * a[2 * D + d];
        g_c[d] = at_c * f + of_f * p[d];
    }
}

TARGETS static void NAME(backward_channels)(void *context, int64_t first, int64_t last) {
    const NAME(diagonal_recurrence) *c = context;
    int64_t part = c->B * c->T * c->D;
    for (int64_t row = first; row < last; row++) {
        int64_t b = row / c->n_block, d = row % c->n_block * WIDTH, width = smaller(WIDTH, c->D - d);
        REAL g[2][WIDTH] = {{0}}, sums[5][WIDTH] = {{0}};
        for (int64_t t = c->T - 1; t >= 0; t--) {
            int64_t at = (b * c->T + t) * c->D + d, gates = (b * c->T + t) * 3 * c->D + d;
            const REAL *h = NAME(state_before)(c, 0, b, t, d);
            if (c->lstm)
                NAME(lstm_backward)
            (c->diagonal + d, c->peephole + d, c->x + gates, c->D, width, h, NAME(state_before)(c, 1, b, t, d),
             c->states + part + at, c->grads + at, c->grads + part + at, g[0], g[1], c->dx + gates, sums[0]);
            else
                NAME(gru_backward)
            (c->diagonal + d, c->x + gates, c->D, width, h, c->grads + at, g[0], c->dx + gates, sums[0]);
            if (NAME(is_cut)(c, b, t))
                memset(g, 0, sizeof g);
        }
        for (int64_t k = 0; k < 3; k++)
            memcpy(c->ddiagonal + (b * 3 + k) * c->D + d, sums[k], width * sizeof(REAL));
        for (int64_t k = 0; k < 2; k++)
            memcpy(c->dpeephole + (b * 2 + k) * c->D + d, sums[3 + k], width * sizeof(REAL));
        for (int64_t s = 0; s <= c->lstm; s++)
            memcpy(c->dstart + (s * c->B + b) * c->D + d, g[s], width * sizeof(REAL));
    }
}

/* ddiagonal [B, 3, D] and dpeephole [B, 2, D] have a part for each sequence. */
EXPORT(newton_recurrence_backward, "pppppppppppiiiii")
(REAL *dx, REAL *ddiagonal, REAL *dpeephole, REAL *dstart, const REAL *grads, const REAL *x, const REAL *diagonal,
 const REAL *peephole, const REAL *start, const uint8_t *reset, REAL *states, int64_t lstm, int64_t B, int64_t T,
 int64_t D, int64_t n_threads) {
    NAME(diagonal_recurrence)
    c = {.x = x, .diagonal = diagonal, .peephole = peephole, .start = start, .grads = grads, .reset = reset,
         .states = states, .dx = dx, .ddiagonal = ddiagonal, .dpeephole = dpeephole, .dstart = dstart, .lstm = lstm,
         .B = B, .T = T, .D = D, .n_block = (D + WIDTH - 1) / WIDTH};
    parallel_rows(B * c.n_block, n_threads, (double)B * T * D * 4, NAME(backward_channels), &c);
}

#undef WIDTH
#endif
