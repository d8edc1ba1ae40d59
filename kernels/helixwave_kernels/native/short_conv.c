/* Causal depthwise convolution; x, y [B, T, D], weight [W, D], state [B, W-1, D]. A row is a stretch of time. */
#ifndef REAL
#define THIS_FILE "short_conv.c"
#include "both_precisions.h"
#else

#define STRETCH 256
#define WIDTH 256 /* channels at a time: their lines stay in the cache */

typedef struct {
    const REAL *x, *weight, *bias, *initial, *grad_y, *grad_state;
    const uint8_t *reset;
    REAL *y, *state, *grad_x, *grad_weight, *grad_bias, *grad_initial;
    int64_t T, D, W, silu, n_stretch;
} NAME(convolution);

/* The input at time s, or one of the state's before the first; s >= 1 - W. */
INLINE int64_t NAME(offset)(const NAME(convolution) * c, int64_t b, int64_t s, int64_t d) {
    return s < 0 ? (b * (c->W - 1) + c->W - 1 + s) * c->D + d : (b * c->T + s) * c->D + d;
}

/* How many taps, the present one included, reach no further back than the last reset. */
INLINE int64_t NAME(visible)(const NAME(convolution) * c, int64_t b, int64_t t) {
    if (!c->reset)
        return c->W;
    int64_t n = 1;
    while (n < c->W && (t - n + 1 < 0 || !c->reset[b * c->T + t - n + 1]))
        n++;
    return n;
}

/* y += the n taps from tap w on */
INLINE void NAME(add_taps)(const NAME(convolution) * c, int64_t b, int64_t t, int64_t d, int64_t width, int64_t w, int n,
                           REAL *restrict y) {
    const REAL *lines[4], *weights[4];
    for (int i = 0; i < n; i++) {
        int64_t s = t - c->W + 1 + w + i;
        lines[i] = (s < 0 ? c->initial : c->x) + NAME(offset)(c, b, s, d);
        weights[i] = c->weight + (w + i) * c->D + d;
    }
    INDEPENDENT
    for (int64_t k = 0; k < width; k++) {
        REAL sum = y[k];
        for (int i = 0; i < n; i++)
            sum += weights[i][k] * lines[i][k];
        y[k] = sum;
    }
}

/* The output before the activation at time t, for the channels from d on. */
INLINE void NAME(before_activation)(const NAME(convolution) * c, int64_t b, int64_t t, int64_t d, int64_t width,
                                    REAL *restrict y) {
    for (int64_t k = 0; k < width; k++)
        y[k] = c->bias ? c->bias[d + k] : 0;
    int64_t w = c->W - NAME(visible)(c, b, t);
    for (; w + 4 <= c->W; w += 4)
        NAME(add_taps)(c, b, t, d, width, w, 4, y);
    if (c->W - w == 3)
        NAME(add_taps)(c, b, t, d, width, w, 3, y);
    else if (c->W - w == 2)
        NAME(add_taps)(c, b, t, d, width, w, 2, y);
    else if (c->W - w == 1)
        NAME(add_taps)(c, b, t, d, width, w, 1, y);
}

/* The inputs that the next call must see. */
INLINE void NAME(keep_state)(const NAME(convolution) * c, int64_t b) {
    int64_t hidden = c->W - NAME(visible)(c, b, c->T - 1);
    for (int64_t w = 1; w < c->W; w++) {
        int64_t s = c->T - c->W + w;
        REAL *line = c->state + (b * (c->W - 1) + w - 1) * c->D;
        if (w < hidden)
            memset(line, 0, c->D * sizeof(REAL));
        else
            memcpy(line, (s < 0 ? c->initial : c->x) + NAME(offset)(c, b, s, 0), c->D * sizeof(REAL));
    }
}

TARGETS static void NAME(convolve_rows)(void *context, int64_t first, int64_t last) {
    const NAME(convolution) *c = context;
    for (int64_t row = first; row < last; row++) {
        int64_t b = row / c->n_stretch, start = row % c->n_stretch * STRETCH, end = smaller(start + STRETCH, c->T);
        for (int64_t d = 0; d < c->D; d += WIDTH) {
            int64_t width = smaller(WIDTH, c->D - d);
            for (int64_t t = start; t < end; t++) {
                REAL line[WIDTH], *y = c->y + (b * c->T + t) * c->D + d;
                NAME(before_activation)(c, b, t, d, width, line);
                for (int64_t k = 0; k < width; k++)
                    y[k] = c->silu ? SILU(line[k]) : line[k];
            }
        }
        if (end == c->T)
            NAME(keep_state)(c, b);
    }
}

EXPORT(short_conv_forward, "pppppppiiiiii")
(REAL *y, REAL *state, const REAL *x, const REAL *weight, const REAL *bias, const REAL *initial, const uint8_t *reset,
 int64_t B, int64_t T, int64_t D, int64_t W, int64_t silu, int64_t n_threads) {
    NAME(convolution)
    c = {.x = x, .weight = weight, .bias = bias, .initial = initial, .reset = reset, .y = y, .state = state,
         .T = T, .D = D, .W = W, .silu = silu, .n_stretch = (T + STRETCH - 1) / STRETCH};
    double work = (double)B * T * D * (W + 4) * 0.1;
    parallel_rows(B * c.n_stretch, n_threads, work, NAME(convolve_rows), &c);
}

/* Gradient by the output before the activation. */
INLINE void NAME(grad_before)(const NAME(convolution) * c, int64_t b, int64_t t, int64_t d, int64_t width,
                              REAL *restrict g) {
    const REAL *grad = c->grad_y + (b * c->T + t) * c->D + d;
    if (!c->silu) {
        memcpy(g, grad, width * sizeof(REAL));
        return;
    }
    REAL line[WIDTH];
    NAME(before_activation)(c, b, t, d, width, line);
    for (int64_t k = 0; k < width; k++) {
        REAL sigmoid = SIGMOID(line[k]);
        g[k] = grad[k] * sigmoid * (1 + line[k] * (1 - sigmoid));
    }
}

/* grad += weight g, for one tap and one input */
INLINE void NAME(add_product)(REAL *restrict grad, const REAL *restrict weight, const REAL *restrict g, int64_t width) {
    INDEPENDENT
    for (int64_t k = 0; k < width; k++)
        grad[k] += weight[k] * g[k];
}

/* What the state handed on adds to the gradients of the inputs from start to end. */
INLINE void NAME(add_state_gradient)(const NAME(convolution) * c, int64_t b, int64_t start, int64_t end) {
    for (int64_t w = c->W - NAME(visible)(c, b, c->T - 1); w < c->W; w++) {
        int64_t s = c->T - c->W + w;
        if (w == 0 || s >= end || (s < start && (s >= 0 || start > 0)))
            continue;
        REAL *grad = (s < 0 ? c->grad_initial : c->grad_x) + NAME(offset)(c, b, s, 0);
        const REAL *g = c->grad_state + (b * (c->W - 1) + w - 1) * c->D;
        for (int64_t k = 0; k < c->D; k++)
            grad[k] += g[k];
    }
}

/* One row's gradients of its inputs, and its share of those of weight and bias. Outputs after the row that see its
   inputs are computed once more. */
INLINE void NAME(row_gradients)(const NAME(convolution) * c, int64_t row, int64_t d, int64_t width) {
    int64_t b = row / c->n_stretch, start = row % c->n_stretch * STRETCH, end = smaller(start + STRETCH, c->T);
    int64_t lowest = start ? start : 1 - c->W;
    REAL *grad_bias = c->grad_bias + row * c->D + d, g[WIDTH];
    for (int64_t t = start; t < smaller(end + c->W - 1, c->T); t++) {
        NAME(grad_before)(c, b, t, d, width, g);
        for (int64_t k = 0; t < end && k < width; k++)
            grad_bias[k] += g[k];
        for (int64_t w = c->W - NAME(visible)(c, b, t); w < c->W; w++) {
            int64_t s = t - c->W + 1 + w, at = NAME(offset)(c, b, s, d);
            if (s >= lowest && s < end)
                NAME(add_product)((s < 0 ? c->grad_initial : c->grad_x) + at, c->weight + w * c->D + d, g, width);
            if (t < end)
                NAME(add_product)
            (c->grad_weight + (row * c->W + w) * c->D + d, (s < 0 ? c->initial : c->x) + at, g, width);
        }
    }
}

TARGETS static void NAME(gradient_rows)(void *context, int64_t first, int64_t last) {
    const NAME(convolution) *c = context;
    for (int64_t row = first; row < last; row++) {
        int64_t b = row / c->n_stretch, start = row % c->n_stretch * STRETCH, end = smaller(start + STRETCH, c->T);
        NAME(add_state_gradient)(c, b, start, end);
        for (int64_t d = 0; d < c->D; d += WIDTH)
            NAME(row_gradients)(c, row, d, smaller(WIDTH, c->D - d));
    }
}

/* All gradients come in as zeros; those of weight and bias have one part for each row, [rows, W, D] and [rows, D]. */
EXPORT(short_conv_backward, "pppppppppppiiiiii")
(REAL *grad_x, REAL *grad_weight, REAL *grad_bias, REAL *grad_initial, const REAL *grad_y, const REAL *grad_state,
 const REAL *x, const REAL *weight, const REAL *bias, const REAL *initial, const uint8_t *reset, int64_t B, int64_t T,
 int64_t D, int64_t W, int64_t silu, int64_t n_threads) {
    NAME(convolution)
    c = {.x = x, .weight = weight, .bias = bias, .initial = initial, .grad_y = grad_y, .grad_state = grad_state,
         .reset = reset, .grad_x = grad_x, .grad_weight = grad_weight, .grad_bias = grad_bias,
         .grad_initial = grad_initial, .T = T, .D = D, .W = W, .silu = silu,
         .n_stretch = (T + STRETCH - 1) / STRETCH};
    double work = (double)B * T * D * (W + 4) * 0.3;
    parallel_rows(B * c.n_stretch, n_threads, work, NAME(gradient_rows), &c);
}

#undef STRETCH
#undef WIDTH
#endif
