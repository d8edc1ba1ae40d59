/* h_t = decay_t h_{t-1} + x_t, element by element; tensors [B, T, D], complex ones as pairs (real, imaginary). A row of
   work is a strip of neighbouring channels of one sequence. */
#ifndef REAL
#define THIS_FILE "linear_scan.c"
#include "both_precisions.h"
#else

#define STRIP (8 * LANES)

typedef struct {
    const REAL *x, *decay, *h, *initial, *grad_state;
    const uint8_t *reset;
    REAL *y, *grad_x, *grad_decay, *grad_initial;
    int64_t T, D, strips;
} NAME(recurrence);

/* Where tensors hold a strip of the channels, and how wide it is. */
typedef struct {
    int64_t b, d, width, origin, state;
} NAME(strip);

INLINE NAME(strip) NAME(find_strip)(const NAME(recurrence) * c, int64_t row) {
    int64_t b = row / c->strips, d = row % c->strips * STRIP;
    return (NAME(strip)){b, d, smaller(STRIP, c->D - d), b * c->T * c->D + d, b * c->D + d};
}

INLINE int NAME(cleared)(const NAME(recurrence) * c, int64_t b, int64_t t) { return c->reset && c->reset[b * c->T + t]; }

/* before = the state that step t starts from */
INLINE void NAME(read_before)(const NAME(recurrence) * c, const NAME(strip) * s, const REAL *h, int64_t t, int parts,
                              REAL *restrict before) {
    if (NAME(cleared)(c, s->b, t) || (t == 0 && !c->initial))
        memset(before, 0, parts * s->width * sizeof(REAL));
    else if (t == 0)
        memcpy(before, c->initial + parts * s->state, parts * s->width * sizeof(REAL));
    else
        memcpy(before, h + parts * (s->origin + (t - 1) * c->D), parts * s->width * sizeof(REAL));
}

INLINE void NAME(scan_strip)(const NAME(recurrence) * c, int64_t row, int parts) {
    NAME(strip) s = NAME(find_strip)(c, row);
    REAL before[2 * STRIP];
    for (int64_t t = 0; t < c->T; t++) {
        int64_t at = parts * (s.origin + t * c->D);
        const REAL *restrict x = c->x + at, *restrict decay = c->decay + at;
        REAL *restrict y = c->y + at;
        NAME(read_before)(c, &s, c->y, t, parts, before);
        if (parts == 1)
            for (int64_t k = 0; k < s.width; k++)
                y[k] = decay[k] * before[k] + x[k];
        else
            for (int64_t k = 0; k < s.width; k++) {
                REAL re = decay[2 * k], im = decay[2 * k + 1], h_re = before[2 * k], h_im = before[2 * k + 1];
                y[2 * k] = re * h_re - im * h_im + x[2 * k];
                y[2 * k + 1] = re * h_im + im * h_re + x[2 * k + 1];
            }
    }
}

/* grad_x_t = g_t = grad_h_t + conj(decay_{t+1}) g_{t+1}; the gradient of decay_t is g_t conj(h_{t-1}). */
INLINE void NAME(gradient_strip)(const NAME(recurrence) * c, int64_t row, int parts) {
    NAME(strip) s = NAME(find_strip)(c, row);
    REAL before[2 * STRIP], carry[2 * STRIP];
    memcpy(carry, c->grad_state + parts * s.state, parts * s.width * sizeof(REAL));
    for (int64_t t = c->T - 1; t >= 0; t--) {
        int64_t at = parts * (s.origin + t * c->D);
        const REAL *restrict grad = c->x + at, *restrict decay = c->decay + at;
        REAL *restrict grad_x = c->grad_x + at, *restrict grad_decay = c->grad_decay + at;
        NAME(read_before)(c, &s, c->h, t, parts, before);
        if (parts == 1)
            for (int64_t k = 0; k < s.width; k++) {
                REAL g = grad[k] + carry[k];
                grad_x[k] = g;
                grad_decay[k] = g * before[k];
                carry[k] = decay[k] * g;
            }
        else
            for (int64_t k = 0; k < s.width; k++) {
                REAL g_re = grad[2 * k] + carry[2 * k], g_im = grad[2 * k + 1] + carry[2 * k + 1];
                REAL h_re = before[2 * k], h_im = before[2 * k + 1], re = decay[2 * k], im = decay[2 * k + 1];
                grad_x[2 * k] = g_re;
                grad_x[2 * k + 1] = g_im;
                grad_decay[2 * k] = g_re * h_re + g_im * h_im;
                grad_decay[2 * k + 1] = g_im * h_re - g_re * h_im;
                carry[2 * k] = re * g_re + im * g_im;
                carry[2 * k + 1] = re * g_im - im * g_re;
            }
        if (NAME(cleared)(c, s.b, t))
            memset(carry, 0, sizeof carry);
    }
    memcpy(c->grad_initial + parts * s.state, carry, parts * s.width * sizeof(REAL));
}

TARGETS static void NAME(scan_real)(void *context, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        NAME(scan_strip)(context, row, 1);
}

TARGETS static void NAME(scan_complex)(void *context, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        NAME(scan_strip)(context, row, 2);
}

TARGETS static void NAME(gradients_real)(void *context, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        NAME(gradient_strip)(context, row, 1);
}

TARGETS static void NAME(gradients_complex)(void *context, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        NAME(gradient_strip)(context, row, 2);
}

EXPORT(linear_scan_forward, "pppppiiiii")
(REAL *y, const REAL *x, const REAL *decay, const REAL *initial, const uint8_t *reset, int64_t B, int64_t T, int64_t D,
 int64_t parts, int64_t n_threads) {
    NAME(recurrence)
    c = {.x = x, .decay = decay, .initial = initial, .reset = reset, .y = y, .T = T, .D = D,
         .strips = (D + STRIP - 1) / STRIP};
    parallel_rows(B * c.strips, n_threads, (double)B * T * D * parts, parts == 1 ? NAME(scan_real) : NAME(scan_complex),
                  &c);
}

/* h are all states; the gradient of the last one beside that of all of them is in grad_state. */
EXPORT(linear_scan_backward, "pppppppppiiiii")
(REAL *grad_x, REAL *grad_decay, REAL *grad_initial, const REAL *grad_h, const REAL *grad_state, const REAL *decay,
 const REAL *h, const REAL *initial, const uint8_t *reset, int64_t B, int64_t T, int64_t D, int64_t parts,
 int64_t n_threads) {
    NAME(recurrence)
    c = {.x = grad_h, .decay = decay, .h = h, .initial = initial, .grad_state = grad_state, .reset = reset,
         .grad_x = grad_x, .grad_decay = grad_decay, .grad_initial = grad_initial, .T = T, .D = D,
         .strips = (D + STRIP - 1) / STRIP};
    parallel_rows(B * c.strips, n_threads, 2.0 * B * T * D * parts,
                  parts == 1 ? NAME(gradients_real) : NAME(gradients_complex), &c);
}

#undef STRIP
#endif
