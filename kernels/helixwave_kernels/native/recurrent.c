/* Recurrent cells with independent heads. A row is one head of a group of sequences, which go through time together in
   blocks: a line of the recurrent weights is loaded once for all sequences of a block.

   x, dx [B, T, J, H, P]; bias [J, H, P]; start, last [S, B, H, P]; y [B, T, H, P]; memory [S-1, B, T, H, P];
   weights [H, P, width], the gates side by side, width = J P rounded up to LANES; weights_back [H, J P, P rounded up]. */
#ifndef REAL
#define THIS_FILE "recurrent.c"
#include "both_precisions.h"
#else

#define SLSTM 0
#define LSTM 1
#define GRU 2
#define ELMAN 3
#define BLOCK 4 /* sequences, or rows of a product, worked on together */
#define HIGHEST_FINITE ((REAL)(IS_DOUBLE ? 1.7976931348623157e308 : 3.40282346638528859e38))

typedef struct {
    const REAL *x, *weights, *weights_back, *bias, *start, *grad_y, *grad_last;
    const uint8_t *reset;
    REAL *y, *last, *memory, *dx, *dweights, *dbias, *dstart, *workspace;
    int64_t cell, B, T, J, H, P, S, width, back_width, n_group, chunk, workspace_size;
} NAME(recurrence);

/* sum[r, j] += sum_k a[r, k] b[k, j] for a few r and k, numbers that are constants where this is inlined: a line of b is
   loaded once for all r, one of sum once for all k. */
INLINE void NAME(add_lines)(int n_rows, int n_k, REAL *restrict sum, int64_t sum_stride, const REAL *restrict a,
                            int64_t a_row, int64_t a_k, const REAL *restrict b, int64_t b_stride, int64_t width) {
    INDEPENDENT
    for (int64_t j = 0; j < width; j++)
        for (int r = 0; r < n_rows; r++) {
            REAL total = sum[r * sum_stride + j];
            for (int k = 0; k < n_k; k++)
                total += a[r * a_row + k * a_k] * b[k * b_stride + j];
            sum[r * sum_stride + j] = total;
        }
}

INLINE void NAME(add_rows)(int n_rows, int n_k, REAL *sum, int64_t sum_stride, const REAL *a, int64_t a_row, int64_t a_k,
                           const REAL *b, int64_t b_stride, int64_t all_k, int64_t width) {
    int64_t k = 0;
    for (; k + n_k <= all_k; k += n_k)
        NAME(add_lines)(n_rows, n_k, sum, sum_stride, a + k * a_k, a_row, a_k, b + k * b_stride, b_stride, width);
    for (; k < all_k; k++)
        NAME(add_lines)(n_rows, 1, sum, sum_stride, a + k * a_k, a_row, a_k, b + k * b_stride, b_stride, width);
}

/* sum[r, j] += sum_k a[r, k] b[k, j]; a has any two strides */
TARGETS static void NAME(add_product)(REAL *sum, int64_t sum_stride, const REAL *a, int64_t a_row, int64_t a_k,
                                      const REAL *b, int64_t b_stride, int64_t n_rows, int64_t n_k, int64_t width) {
    int64_t r = 0;
    for (; r + 4 <= n_rows; r += 4)
        NAME(add_rows)(4, 4, sum + r * sum_stride, sum_stride, a + r * a_row, a_row, a_k, b, b_stride, n_k, width);
    for (; r + 2 <= n_rows; r += 2)
        NAME(add_rows)(2, 8, sum + r * sum_stride, sum_stride, a + r * a_row, a_row, a_k, b, b_stride, n_k, width);
    if (r < n_rows)
        NAME(add_rows)(1, 8, sum + r * sum_stride, sum_stride, a + r * a_row, a_row, a_k, b, b_stride, n_k, width);
}

INLINE int64_t NAME(place)(const NAME(recurrence) * c, int64_t b, int64_t t, int64_t h) {
    return ((b * c->T + t) * c->H + h) * c->P;
}

/* Part s of the state before step t: h is 0, then c, n, m. */
INLINE const REAL *NAME(before)(const NAME(recurrence) * c, int s, int64_t b, int64_t t, int64_t h, const REAL *empty) {
    if (c->reset && c->reset[b * c->T + t])
        return empty + (s == 3 ? c->P : 0);
    if (t == 0)
        return c->start + ((s * c->B + b) * c->H + h) * c->P;
    const REAL *all = s == 0 ? c->y : c->memory + (s - 1) * c->B * c->T * c->H * c->P;
    return all + NAME(place)(c, b, t - 1, h);
}

INLINE REAL *NAME(memory_at)(const NAME(recurrence) * c, int s, int64_t b, int64_t t, int64_t h) {
    return c->memory + (s - 1) * c->B * c->T * c->H * c->P + NAME(place)(c, b, t, h);
}

/* The gates but for the recurrence; a GRU's input of n stays outside. */
INLINE void NAME(start_gates)(const NAME(recurrence) * c, int64_t b, int64_t t, int64_t h, REAL *restrict raw) {
    for (int64_t j = 0; j < c->J; j++) {
        const REAL *x = c->x + (((b * c->T + t) * c->J + j) * c->H + h) * c->P, *bias = c->bias + (j * c->H + h) * c->P;
        REAL used = c->cell == GRU && j == 2 ? 0 : 1;
        for (int64_t p = 0; p < c->P; p++)
            raw[j * c->P + p] = bias[p] + (used ? x[p] : 0);
    }
    for (int64_t k = c->J * c->P; k < c->width; k++)
        raw[k] = 0;
}

INLINE void NAME(slstm)(int64_t P, const REAL *restrict raw, const REAL *restrict c, const REAL *restrict n,
                        const REAL *restrict m, REAL *restrict next_h, REAL *restrict next_c, REAL *restrict next_n,
                        REAL *restrict next_m) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL log_f = LOG_SIGMOID(raw[P + p]) + m[p];
        REAL highest = raw[p] > log_f ? raw[p] : log_f;
        REAL finite = highest < -HIGHEST_FINITE ? -HIGHEST_FINITE : highest;
        REAL i = EXP(raw[p] - finite), f = EXP(log_f - finite);
        REAL c_t = f * c[p] + i * TANH(raw[2 * P + p]), n_t = f * n[p] + i;
        next_h[p] = SIGMOID(raw[3 * P + p]) * (c_t / (n_t == 0 ? 1 : n_t));
        next_c[p] = c_t;
        next_n[p] = n_t;
        next_m[p] = highest;
    }
}

INLINE void NAME(lstm)(int64_t P, const REAL *restrict raw, const REAL *restrict c, REAL *restrict next_h,
                       REAL *restrict next_c) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL c_t = SIGMOID(raw[P + p]) * c[p] + SIGMOID(raw[p]) * TANH(raw[2 * P + p]);
        next_h[p] = SIGMOID(raw[3 * P + p]) * TANH(c_t);
        next_c[p] = c_t;
    }
}

INLINE void NAME(gru)(int64_t P, const REAL *restrict raw, const REAL *restrict x_n, const REAL *restrict h,
                      REAL *restrict next_h) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL z = SIGMOID(raw[P + p]), n = TANH(x_n[p] + SIGMOID(raw[p]) * raw[2 * P + p]);
        next_h[p] = (1 - z) * n + z * h[p];
    }
}

INLINE void NAME(elman)(int64_t P, const REAL *restrict raw, REAL *restrict next_h) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++)
        next_h[p] = TANH(raw[p]);
}

INLINE const REAL *NAME(input_n)(const NAME(recurrence) * c, int64_t b, int64_t t, int64_t h) {
    return c->x + (((b * c->T + t) * c->J + 2) * c->H + h) * c->P;
}

INLINE void NAME(step)(const NAME(recurrence) * c, int64_t b, int64_t t, int64_t h, const REAL *raw, const REAL *empty) {
    REAL *next = c->y + NAME(place)(c, b, t, h);
    if (c->cell == SLSTM)
        NAME(slstm)
    (c->P, raw, NAME(before)(c, 1, b, t, h, empty), NAME(before)(c, 2, b, t, h, empty),
     NAME(before)(c, 3, b, t, h, empty), next, NAME(memory_at)(c, 1, b, t, h), NAME(memory_at)(c, 2, b, t, h),
     NAME(memory_at)(c, 3, b, t, h));
    else if (c->cell == LSTM)
        NAME(lstm)(c->P, raw, NAME(before)(c, 1, b, t, h, empty), next, NAME(memory_at)(c, 1, b, t, h));
    else if (c->cell == GRU)
        NAME(gru)(c->P, raw, NAME(input_n)(c, b, t, h), NAME(before)(c, 0, b, t, h, empty), next);
    else
        NAME(elman)(c->P, raw, next);
}

/* The empty state, zeros and then -inf, at the start of a row's workspace. */
INLINE void NAME(fill_empty)(REAL *empty, int64_t P) {
    for (int64_t p = 0; p < P; p++)
        empty[p] = 0, empty[P + p] = -INFINITE;
}

INLINE void NAME(block_forward)(const NAME(recurrence) * c, int64_t b, int64_t n, int64_t h, REAL *workspace) {
    int64_t P = c->P;
    REAL *empty = workspace, *hs = empty + 2 * P, *raw = hs + BLOCK * P;
    for (int64_t t = 0; t < c->T; t++) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(hs + i * P, NAME(before)(c, 0, b + i, t, h, empty), P * sizeof(REAL));
            NAME(start_gates)(c, b + i, t, h, raw + i * c->width);
        }
        NAME(add_product)(raw, c->width, hs, P, 1, c->weights + h * P * c->width, c->width, n, P, c->width);
        for (int64_t i = 0; i < n; i++)
            NAME(step)(c, b + i, t, h, raw + i * c->width, empty);
    }
    for (int64_t i = b; i < b + n; i++)
        for (int s = 0; s < c->S; s++) {
            const REAL *from = s == 0 ? c->y + NAME(place)(c, i, c->T - 1, h) : NAME(memory_at)(c, s, i, c->T - 1, h);
            memcpy(c->last + ((s * c->B + i) * c->H + h) * P, from, P * sizeof(REAL));
        }
}

TARGETS static void NAME(forward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(recurrence) *c = context;
    REAL *workspace = c->workspace + first * c->workspace_size;
    NAME(fill_empty)(workspace, c->P);
    for (int64_t row = first; row < last; row++) {
        int64_t group = row / c->H, end = c->B * (group + 1) / c->n_group;
        for (int64_t b = c->B * group / c->n_group; b < end; b += BLOCK)
            NAME(block_forward)(c, b, smaller(BLOCK, end - b), row % c->H, workspace);
    }
}

EXPORT(recurrent_forward, "pppppppppiiiiiiiiii")
(REAL *y, REAL *last, REAL *memory, const REAL *x, const REAL *weights, const REAL *bias, const REAL *start,
 const uint8_t *reset, REAL *workspace, int64_t cell, int64_t B, int64_t T, int64_t J, int64_t H, int64_t P, int64_t S,
 int64_t n_group, int64_t workspace_size, int64_t n_threads) {
    NAME(recurrence)
    c = {.x = x, .weights = weights, .bias = bias, .start = start, .reset = reset, .y = y, .last = last,
         .memory = memory, .workspace = workspace, .cell = cell, .B = B, .T = T, .J = J, .H = H, .P = P, .S = S,
         .width = (J * P + LANES - 1) / LANES * LANES, .n_group = n_group, .workspace_size = workspace_size};
    double work = (double)B * T * J * H * P * (P * 0.05 + 1);
    parallel_rows(H * n_group, n_threads, work, NAME(forward_rows), &c);
}

/* In the place of the raw gates their gradients, from that of h (dh holds what comes from later, grad_y the rest) and
   of the memory; dh, dc and dn then hold what goes to the step before but for the recurrence. */
INLINE void NAME(slstm_back)(int64_t P, REAL *restrict raw, const REAL *restrict c, const REAL *restrict n,
                             const REAL *restrict m, const REAL *restrict next_c, const REAL *restrict next_n,
                             const REAL *restrict next_m, const REAL *restrict grad_y, REAL *restrict dh,
                             REAL *restrict dc, REAL *restrict dn) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL raw_f = raw[P + p], small = EXP(raw_f < 0 ? raw_f : -raw_f);
        REAL log_f = (raw_f < 0 ? raw_f : 0) - LOG1P(small) + m[p];
        REAL closed = (raw_f < 0 ? 1 : small) / (1 + small);
        REAL finite = next_m[p] < -HIGHEST_FINITE ? -HIGHEST_FINITE : next_m[p];
        REAL i = EXP(raw[p] - finite), f = EXP(log_f - finite), z = TANH(raw[2 * P + p]), o = SIGMOID(raw[3 * P + p]);
        REAL scale = next_n[p] == 0 ? 0 : 1 / (next_n[p] == 0 ? 1 : next_n[p]), ratio = next_c[p] * scale;
        REAL g = dh[p] + grad_y[p], into_c = g * o * scale, dc_t = dc[p] + into_c, dn_t = dn[p] - into_c * ratio;
        raw[p] = (dc_t * z + dn_t) * i;
        raw[P + p] = (dc_t * c[p] + dn_t * n[p]) * f * closed;
        raw[2 * P + p] = dc_t * i * (1 - z * z);
        raw[3 * P + p] = g * ratio * o * (1 - o);
        dh[p] = 0;
        dc[p] = dc_t * f;
        dn[p] = dn_t * f;
    }
}

INLINE void NAME(lstm_back)(int64_t P, REAL *restrict raw, const REAL *restrict c, const REAL *restrict next_c,
                            const REAL *restrict grad_y, REAL *restrict dh, REAL *restrict dc) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL i = SIGMOID(raw[p]), f = SIGMOID(raw[P + p]), z = TANH(raw[2 * P + p]), o = SIGMOID(raw[3 * P + p]);
        REAL output = TANH(next_c[p]), g = dh[p] + grad_y[p], dc_t = dc[p] + g * o * (1 - output * output);
        raw[p] = dc_t * z * i * (1 - i);
        raw[P + p] = dc_t * c[p] * f * (1 - f);
        raw[2 * P + p] = dc_t * i * (1 - z * z);
        raw[3 * P + p] = g * output * o * (1 - o);
        dh[p] = 0;
        dc[p] = dc_t * f;
    }
}

INLINE void NAME(gru_back)(int64_t P, REAL *restrict raw, const REAL *restrict x_n, const REAL *restrict h,
                           const REAL *restrict grad_y, REAL *restrict dh, REAL *restrict dx_n) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        REAL r = SIGMOID(raw[p]), z = SIGMOID(raw[P + p]), from_h = raw[2 * P + p], n = TANH(x_n[p] + r * from_h);
        REAL g = dh[p] + grad_y[p], of_n = g * (1 - z) * (1 - n * n);
        raw[p] = of_n * from_h * r * (1 - r);
        raw[P + p] = g * (h[p] - n) * z * (1 - z);
        raw[2 * P + p] = of_n * r;
        dx_n[p] = of_n;
        dh[p] = g * z;
    }
}

INLINE void NAME(elman_back)(int64_t P, REAL *restrict raw, const REAL *restrict next_h, const REAL *restrict grad_y,
                             REAL *restrict dh) {
    INDEPENDENT
    for (int64_t p = 0; p < P; p++) {
        raw[p] = (dh[p] + grad_y[p]) * (1 - next_h[p] * next_h[p]);
        dh[p] = 0;
    }
}

/* One step back for one sequence; carry holds dh, dc and dn, each back_width long. */
INLINE void NAME(step_back)(const NAME(recurrence) * c, int64_t b, int64_t t, int64_t h, REAL *raw, REAL *carry,
                            const REAL *empty) {
    int64_t at = NAME(place)(c, b, t, h), P = c->P;
    REAL *dx = c->dx + (((b * c->T + t) * c->J) * c->H + h) * P;
    if (c->cell == SLSTM)
        NAME(slstm_back)
    (P, raw, NAME(before)(c, 1, b, t, h, empty), NAME(before)(c, 2, b, t, h, empty), NAME(before)(c, 3, b, t, h, empty),
     NAME(memory_at)(c, 1, b, t, h), NAME(memory_at)(c, 2, b, t, h), NAME(memory_at)(c, 3, b, t, h), c->grad_y + at,
     carry, carry + c->back_width, carry + 2 * c->back_width);
    else if (c->cell == LSTM)
        NAME(lstm_back)
    (P, raw, NAME(before)(c, 1, b, t, h, empty), NAME(memory_at)(c, 1, b, t, h), c->grad_y + at, carry,
     carry + c->back_width);
    else if (c->cell == GRU)
        NAME(gru_back)
    (P, raw, NAME(input_n)(c, b, t, h), NAME(before)(c, 0, b, t, h, empty), c->grad_y + at, carry, dx + 2 * c->H * P);
    else
        NAME(elman_back)(P, raw, c->y + at, c->grad_y + at, carry);
    for (int64_t j = 0; j < (c->cell == GRU ? 2 : c->J); j++)
        memcpy(dx + j * c->H * P, raw + j * P, P * sizeof(REAL));
}

/* The gates of steps t .. t + length of n sequences, and the h before each. */
INLINE void NAME(gates_again)(const NAME(recurrence) * c, int64_t b, int64_t n, int64_t t, int64_t length, int64_t h,
                              REAL *hs, REAL *raw, const REAL *empty) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < length; k++) {
            memcpy(hs + (i * length + k) * c->P, NAME(before)(c, 0, b + i, t + k, h, empty), c->P * sizeof(REAL));
            NAME(start_gates)(c, b + i, t + k, h, raw + (i * length + k) * c->width);
        }
    NAME(add_product)
    (raw, c->width, hs, c->P, 1, c->weights + h * c->P * c->width, c->width, n * length, c->P, c->width);
}

INLINE void NAME(block_backward)(const NAME(recurrence) * c, int64_t b, int64_t n, int64_t row, REAL *workspace) {
    int64_t P = c->P, W = c->width, h = row % c->H, carried = 3 * c->back_width;
    REAL *empty = workspace, *carry = empty + 2 * P, *hs = carry + BLOCK * carried, *raw = hs + BLOCK * c->chunk * P;
    const REAL *back = c->weights_back + h * c->J * P * c->back_width;
    memset(carry, 0, BLOCK * carried * sizeof(REAL));
    for (int64_t i = 0; i < n; i++)
        for (int s = 0; s < smaller(c->S, 3); s++)
            memcpy(carry + i * carried + s * c->back_width, c->grad_last + ((s * c->B + b + i) * c->H + h) * P,
                   P * sizeof(REAL));
    for (int64_t end = c->T; end > 0;) {
        int64_t start = (end - 1) / c->chunk * c->chunk, length = end - start;
        NAME(gates_again)(c, b, n, start, length, h, hs, raw, empty);
        for (int64_t k = length - 1; k >= 0; k--) {
            for (int64_t i = 0; i < n; i++)
                NAME(step_back)(c, b + i, start + k, h, raw + (i * length + k) * W, carry + i * carried, empty);
            NAME(add_product)
            (carry, carried, raw + k * W, length * W, 1, back, c->back_width, n, c->J * P, c->back_width);
            for (int64_t i = 0; i < n; i++)
                if (c->reset && c->reset[(b + i) * c->T + start + k])
                    memset(carry + i * carried, 0, carried * sizeof(REAL));
        }
        NAME(add_product)(c->dweights + row * P * W, W, hs, 1, P, raw, W, P, n * length, W);
        for (int64_t k = 0; k < n * length; k++)
            for (int64_t j = 0; j < W; j++)
                c->dbias[row * W + j] += raw[k * W + j];
        end = start;
    }
    for (int64_t i = 0; i < n; i++)
        for (int s = 0; s < smaller(c->S, 3); s++)
            memcpy(c->dstart + ((s * c->B + b + i) * c->H + h) * P, carry + i * carried + s * c->back_width,
                   P * sizeof(REAL));
}

TARGETS static void NAME(backward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(recurrence) *c = context;
    REAL *workspace = c->workspace + first * c->workspace_size;
    NAME(fill_empty)(workspace, c->P);
    for (int64_t row = first; row < last; row++) {
        int64_t group = row / c->H, end = c->B * (group + 1) / c->n_group;
        for (int64_t b = c->B * group / c->n_group; b < end; b += BLOCK)
            NAME(block_backward)(c, b, smaller(BLOCK, end - b), row, workspace);
    }
}

/* dweights [n_group, H, P, width] and dbias [n_group, H, width] come in as zeros. */
EXPORT(recurrent_backward, "pppppppppppppppiiiiiiiiiii")
(REAL *dx, REAL *dweights, REAL *dbias, REAL *dstart, const REAL *grad_y, const REAL *grad_last, const REAL *x,
 const REAL *weights, const REAL *weights_back, const REAL *bias, const REAL *start, const uint8_t *reset, REAL *y,
 REAL *memory, REAL *workspace, int64_t cell, int64_t B, int64_t T, int64_t J, int64_t H, int64_t P, int64_t S,
 int64_t n_group, int64_t chunk, int64_t workspace_size, int64_t n_threads) {
    NAME(recurrence)
    c = {.x = x, .weights = weights, .weights_back = weights_back, .bias = bias, .start = start, .grad_y = grad_y,
         .grad_last = grad_last, .reset = reset, .y = y, .memory = memory, .dx = dx, .dweights = dweights,
         .dbias = dbias, .dstart = dstart, .workspace = workspace, .cell = cell, .B = B, .T = T, .J = J, .H = H,
         .P = P, .S = S, .width = (J * P + LANES - 1) / LANES * LANES, .back_width = (P + LANES - 1) / LANES * LANES,
         .n_group = n_group, .chunk = chunk, .workspace_size = workspace_size};
    double work = (double)B * T * J * H * P * (P * 0.15 + 2);
    parallel_rows(H * n_group, n_threads, work, NAME(backward_rows), &c);
}

#undef SLSTM
#undef LSTM
#undef GRU
#undef ELMAN
#undef BLOCK
#undef HIGHEST_FINITE
#endif
