/* Diagonal state space: h_t = a h_{t-1} + b u_t, y_t = Re(w h_t) + skip u_t, summed over the states of each channel.

   A row of work is LANES neighbouring channels of one sequence. Of each of its numbers a block of GROUP states holds
   [2, GROUP, LANES], real parts first: a, b, w are blocks [n_stretch, n_group], without b it is 1. `between` has blocks
   [B, n_stretch, n_kept, n_group]: the states before each chunk of time and the last one, or only the present one. skip
   is [n_stretch, LANES]; u, y are [B, T, D]. */
#ifndef REAL
#define THIS_FILE "diagonal_ssm.c"
#include "both_precisions.h"
#else

#define CHUNK 64 /* steps; as is GROUP, known to native.py */
#define GROUP 4  /* states whose numbers stay in registers for a chunk */
#define PAIR 2   /* the same in the backward pass, which has more numbers */
#ifdef __GNUC__
#define ALIGNED __attribute__((aligned(64))) /* no vector in two lines of the cache */
#else
#define ALIGNED
#endif

typedef REAL NAME(lanes)[LANES];
typedef NAME(lanes) NAME(block)[2 * GROUP];

typedef struct {
    const REAL *u, *grad_y;
    const NAME(lanes) *skip;
    const NAME(block) *a, *b, *w, *grad_state;
    const uint8_t *reset;
    REAL *y, *grad_u;
    NAME(lanes) *grad_skip;
    NAME(block) *between, *grad_a, *grad_b, *grad_w, *grad_initial;
    int64_t T, D, n_group, n_kept, n_stretch;
} NAME(system);

/* One chunk of one row. */
typedef struct {
    int64_t length, width;      /* steps; channels, the other lanes are zero */
    const uint8_t *reset;       /* of the chunk's steps, or NULL */
    int64_t n_next;             /* steps of the chunk that comes next in this pass */
    const REAL *next[2];        /* its rows of u and, backwards, of grad_y */
    REAL *result;               /* the rows to write */
    ALIGNED NAME(lanes) u[CHUNK], y[CHUNK], grad_u[CHUNK]; /* y is grad_y in the backward pass */
} NAME(chunk);

INLINE void NAME(load)(NAME(lanes) * lanes, const REAL *rows, int64_t D, const NAME(chunk) * c) {
    for (int64_t t = 0; t < c->length; t++) {
        if (c->width == LANES)
            memcpy(lanes[t], rows + t * D, sizeof *lanes);
        else
            for (int64_t i = 0; i < LANES; i++)
                lanes[t][i] = i < c->width ? rows[t * D + i] : 0;
    }
}

INLINE void NAME(store)(REAL *rows, const NAME(lanes) * lanes, int64_t D, const NAME(chunk) * c) {
    for (int64_t t = 0; t < c->length; t++)
        memcpy(rows + t * D, lanes[t], c->width * sizeof(REAL));
}

/* A group's share of what is needed soon: starts to load the rows that the next chunk reads and this one writes. */
INLINE void NAME(announce)(const NAME(system) * s, const NAME(chunk) * c, int64_t g) {
    for (int64_t t = g * CHUNK / s->n_group; t < (g + 1) * CHUNK / s->n_group; t++) {
        for (int i = 0; i < 2 && c->next[i] && t < c->n_next; i++)
            PREFETCH(c->next[i] + t * s->D);
        if (t < c->length)
            PREFETCH_OUTPUT(c->result + t * s->D);
    }
}

INLINE int64_t NAME(next_reset)(const NAME(chunk) * c, int64_t t) {
    if (!c->reset)
        return c->length;
    while (t < c->length && !c->reset[t])
        t++;
    return t;
}

/* The states of a group from step `start` to `end`; their outputs are added to y. */
INLINE void NAME(advance)(NAME(lanes) * h, const NAME(lanes) * restrict a, const NAME(lanes) * restrict b,
                          const NAME(lanes) * restrict w, const NAME(lanes) * restrict u, NAME(lanes) * restrict y,
                          int64_t start, int64_t end, int has_b) {
    NAME(lanes) re[GROUP], im[GROUP];
    memcpy(re, h, sizeof re);
    memcpy(im, h + GROUP, sizeof im);
    for (int64_t t = start; t < end; t++)
        for (int64_t i = 0; i < LANES; i++) {
            REAL u_t = u[t][i], sum = y[t][i];
            for (int n = 0; n < GROUP; n++) {
                REAL in_re = has_b ? b[n][i] * u_t : u_t;
                REAL h_re = a[n][i] * re[n][i] + (in_re - a[GROUP + n][i] * im[n][i]);
                REAL h_im = a[n][i] * im[n][i] + a[GROUP + n][i] * re[n][i];
                if (has_b)
                    h_im += b[GROUP + n][i] * u_t;
                sum += w[n][i] * h_re;
                sum -= w[GROUP + n][i] * h_im;
                re[n][i] = h_re;
                im[n][i] = h_im;
            }
            y[t][i] = sum;
        }
    memcpy(h, re, sizeof re);
    memcpy(h + GROUP, im, sizeof im);
}

INLINE void NAME(chunk_forward)(const NAME(system) * s, NAME(chunk) * c, const NAME(block) * before,
                                NAME(block) * after, int64_t stretch) {
    for (int64_t t = 0; t < c->length; t++)
        for (int64_t i = 0; i < LANES; i++)
            c->y[t][i] = s->skip[stretch][i] * c->u[t][i];
    for (int64_t g = 0; g < s->n_group; g++) {
        int64_t at = stretch * s->n_group + g;
        ALIGNED NAME(block) h;
        memcpy(h, before[g], sizeof h);
        NAME(announce)(s, c, g);
        for (int64_t start = 0, end; start < c->length; start = end) {
            if (c->reset && c->reset[start])
                memset(h, 0, sizeof h);
            end = NAME(next_reset)(c, start + 1);
            if (s->b)
                NAME(advance)(h, s->a[at], s->b[at], s->w[at], c->u, c->y, start, end, 1);
            else
                NAME(advance)(h, s->a[at], NULL, s->w[at], c->u, c->y, start, end, 0);
        }
        memcpy(after[g], h, sizeof h);
    }
}

/* Position and size of a row's chunk k; its inputs. */
INLINE int64_t NAME(begin)(const NAME(system) * s, NAME(chunk) * c, int64_t row, int64_t k) {
    int64_t sequence = row / s->n_stretch, d = row % s->n_stretch * LANES, t = sequence * s->T + k * CHUNK;
    c->length = smaller(CHUNK, s->T - k * CHUNK);
    c->width = smaller(LANES, s->D - d);
    c->reset = s->reset ? s->reset + t : NULL;
    NAME(load)(c->u, s->u + t * s->D + d, s->D, c);
    return t * s->D + d;
}

TARGETS static void NAME(forward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(system) *s = context;
    NAME(chunk) c;
    for (int64_t row = first; row < last; row++) {
        NAME(block) *before = s->between + row * s->n_kept * s->n_group;
        for (int64_t k = 0; k * CHUNK < s->T; k++) {
            int64_t at = NAME(begin)(s, &c, row, k);
            c.n_next = smaller(CHUNK, s->T - (k + 1) * CHUNK);
            c.next[0] = c.n_next > 0 ? s->u + at + CHUNK * s->D : NULL;
            c.next[1] = NULL;
            c.result = s->y + at;
            NAME(block) *after = s->n_kept > 1 ? before + s->n_group : before;
            NAME(chunk_forward)(s, &c, before, after, row % s->n_stretch);
            NAME(store)(c.result, c.y, s->D, &c);
            before = after;
        }
    }
}

/* The states before the first chunk stand in `between` already. */
EXPORT(diagonal_ssm_forward, "ppppppppiiiiii")
(REAL *y, REAL *between, const REAL *u, const REAL *a, const REAL *b, const REAL *w, const REAL *skip,
 const uint8_t *reset, int64_t B, int64_t T, int64_t D, int64_t n_group, int64_t n_kept, int64_t n_threads) {
    NAME(system)
    s = {.u = u, .a = (const void *)a, .b = (const void *)b, .w = (const void *)w, .skip = (const void *)skip,
         .reset = reset, .y = y, .between = (void *)between, .T = T, .D = D, .n_group = n_group, .n_kept = n_kept,
         .n_stretch = (D + LANES - 1) / LANES};
    parallel_rows(B * s.n_stretch, n_threads, (double)B * T * D * n_group * 0.5, NAME(forward_rows), &s);
}

/* PAIR states again from `start` to `end`, kept: before the first step, and after each. */
INLINE void NAME(recompute)(NAME(lanes) (*restrict kept)[2 * PAIR], const NAME(lanes) * restrict a,
                            const NAME(lanes) * restrict b, const NAME(lanes) * restrict u, int64_t start, int64_t end,
                            int has_b) {
    NAME(lanes) re[PAIR], im[PAIR];
    memcpy(re, kept[0], sizeof re);
    memcpy(im, kept[0] + PAIR, sizeof im);
    for (int64_t t = start; t < end; t++)
        for (int64_t i = 0; i < LANES; i++)
            for (int n = 0; n < PAIR; n++) {
                REAL u_t = u[t][i], in_re = has_b ? b[n][i] * u_t : u_t;
                REAL h_re = a[n][i] * re[n][i] + (in_re - a[GROUP + n][i] * im[n][i]);
                REAL h_im = a[n][i] * im[n][i] + a[GROUP + n][i] * re[n][i];
                if (has_b)
                    h_im += b[GROUP + n][i] * u_t;
                kept[t - start + 1][n][i] = re[n][i] = h_re;
                kept[t - start + 1][PAIR + n][i] = im[n][i] = h_im;
            }
}

/* The gradients g of PAIR states from `end` back to `start`, and what follows from them for a, b, w and u. */
INLINE void NAME(retreat)(NAME(lanes) * g, NAME(lanes) * grad_a, NAME(lanes) * grad_b, NAME(lanes) * grad_w,
                          const NAME(lanes) * restrict a, const NAME(lanes) * restrict b,
                          const NAME(lanes) * restrict w, NAME(lanes) (*restrict kept)[2 * PAIR],
                          const NAME(lanes) * restrict u, const NAME(lanes) * restrict grad_y,
                          NAME(lanes) * restrict grad_u, int64_t start, int64_t end, int has_b) {
    NAME(lanes) re[PAIR], im[PAIR], a_re[PAIR] = {{0}}, a_im[PAIR] = {{0}}, w_re[PAIR] = {{0}}, w_im[PAIR] = {{0}};
    NAME(lanes) b_re[PAIR] = {{0}}, b_im[PAIR] = {{0}};
    memcpy(re, g, sizeof re);
    memcpy(im, g + GROUP, sizeof im);
    for (int64_t t = end - 1; t >= start; t--)
        for (int64_t i = 0; i < LANES; i++) {
            REAL dy = grad_y[t][i], du = grad_u[t][i];
            for (int n = 0; n < PAIR; n++) {
                REAL before_re = kept[t - start][n][i], before_im = kept[t - start][PAIR + n][i];
                REAL g_re = re[n][i] + w[n][i] * dy, g_im = im[n][i] - w[GROUP + n][i] * dy;
                w_re[n][i] += kept[t - start + 1][n][i] * dy;
                w_im[n][i] -= kept[t - start + 1][PAIR + n][i] * dy;
                a_re[n][i] += g_re * before_re;
                a_re[n][i] += g_im * before_im;
                a_im[n][i] += g_im * before_re;
                a_im[n][i] -= g_re * before_im;
                if (has_b) {
                    b_re[n][i] += g_re * u[t][i];
                    b_im[n][i] += g_im * u[t][i];
                    du += b[n][i] * g_re;
                    du += b[GROUP + n][i] * g_im;
                } else
                    du += g_re;
                re[n][i] = a[n][i] * g_re + a[GROUP + n][i] * g_im;
                im[n][i] = a[n][i] * g_im - a[GROUP + n][i] * g_re;
            }
            grad_u[t][i] = du;
        }
    memcpy(g, re, sizeof re);
    memcpy(g + GROUP, im, sizeof im);
    for (int n = 0; n < PAIR; n++)
        for (int64_t i = 0; i < LANES; i++) {
            grad_a[n][i] += a_re[n][i];
            grad_a[GROUP + n][i] += a_im[n][i];
            grad_w[n][i] += w_re[n][i];
            grad_w[GROUP + n][i] += w_im[n][i];
            if (has_b) {
                grad_b[n][i] += b_re[n][i];
                grad_b[GROUP + n][i] += b_im[n][i];
            }
        }
}

/* PAIR states, from the n-th of group g, through a chunk forwards and back. */
INLINE void NAME(pair_backward)(const NAME(system) * s, NAME(chunk) * c, const NAME(block) * before, int64_t row,
                                int64_t g, int64_t n, int has_b) {
    int64_t at = row % s->n_stretch * s->n_group + g, mine = row * s->n_group + g;
    const NAME(lanes) *a = s->a[at] + n, *b = has_b ? s->b[at] + n : NULL, *w = s->w[at] + n;
    /* a document that starts within the chunk has its own state before the first step */
    ALIGNED NAME(lanes) kept[2 * CHUNK + 1][2 * PAIR];
    int64_t starts[CHUNK + 1], n_run = 0;
    memcpy(kept[0], before[g] + n, sizeof(NAME(lanes)) * PAIR);
    memcpy(kept[0] + PAIR, before[g] + GROUP + n, sizeof(NAME(lanes)) * PAIR);
    for (int64_t start = 0, end; start < c->length; start = end) {
        if (c->reset && c->reset[start])
            memset(kept[start + n_run], 0, sizeof *kept);
        end = NAME(next_reset)(c, start + 1);
        NAME(recompute)(kept + start + n_run, a, b, c->u, start, end, has_b);
        starts[n_run++] = start;
    }
    starts[n_run] = c->length;
    while (n_run-- > 0) {
        int64_t start = starts[n_run], end = starts[n_run + 1];
        NAME(lanes) *grad = s->grad_initial[mine] + n, *grad_b = has_b ? s->grad_b[mine] + n : NULL;
        NAME(retreat)(grad, s->grad_a[mine] + n, grad_b, s->grad_w[mine] + n, a, b, w, kept + start + n_run, c->u,
                      c->y, c->grad_u, start, end, has_b);
        if (c->reset && c->reset[start]) {
            memset(grad, 0, sizeof(NAME(lanes)) * PAIR);
            memset(grad + GROUP, 0, sizeof(NAME(lanes)) * PAIR);
        }
    }
}

/* Starts the gradient of u with what comes past the states. */
INLINE void NAME(direct_backward)(NAME(chunk) * c, const REAL *skip, REAL *grad_skip) {
    NAME(lanes) sum = {0};
    for (int64_t t = 0; t < c->length; t++)
        for (int64_t i = 0; i < LANES; i++) {
            c->grad_u[t][i] = skip[i] * c->y[t][i];
            sum[i] += c->u[t][i] * c->y[t][i];
        }
    for (int64_t i = 0; i < LANES; i++)
        grad_skip[i] += sum[i];
}

TARGETS static void NAME(backward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(system) *s = context;
    NAME(chunk) c;
    for (int64_t row = first; row < last; row++)
        for (int64_t k = s->n_kept - 2; k >= 0; k--) {
            int64_t at = NAME(begin)(s, &c, row, k);
            c.n_next = CHUNK;
            c.next[0] = k > 0 ? s->u + at - CHUNK * s->D : NULL;
            c.next[1] = k > 0 ? s->grad_y + at - CHUNK * s->D : NULL;
            c.result = s->grad_u + at;
            const NAME(block) *before = s->between + (row * s->n_kept + k) * s->n_group;
            NAME(load)(c.y, s->grad_y + at, s->D, &c);
            NAME(direct_backward)(&c, s->skip[row % s->n_stretch], s->grad_skip[row]);
            for (int64_t g = 0; g < s->n_group; g++) {
                NAME(announce)(s, &c, g);
                for (int64_t n = 0; n < GROUP; n += PAIR) {
                    if (s->b)
                        NAME(pair_backward)(s, &c, before, row, g, n, 1);
                    else
                        NAME(pair_backward)(s, &c, before, row, g, n, 0);
                }
            }
            NAME(store)(c.result, c.grad_u, s->D, &c);
        }
}

/* grad_a, grad_b, grad_w, grad_skip have one part for each sequence and come in as zeros, grad_initial as the last
   state's. */
EXPORT(diagonal_ssm_backward, "ppppppppppppppiiiiii")
(REAL *grad_u, REAL *grad_a, REAL *grad_b, REAL *grad_w, REAL *grad_skip, REAL *grad_initial, const REAL *grad_y,
 REAL *between, const REAL *u, const REAL *a, const REAL *b, const REAL *w, const REAL *skip, const uint8_t *reset,
 int64_t B, int64_t T, int64_t D, int64_t n_group, int64_t n_kept, int64_t n_threads) {
    NAME(system)
    s = {.u = u, .a = (const void *)a, .b = (const void *)b, .w = (const void *)w, .skip = (const void *)skip,
         .grad_y = grad_y, .reset = reset, .between = (void *)between, .grad_u = grad_u, .grad_a = (void *)grad_a,
         .grad_b = (void *)grad_b, .grad_w = (void *)grad_w, .grad_skip = (void *)grad_skip,
         .grad_initial = (void *)grad_initial, .T = T, .D = D, .n_group = n_group, .n_kept = n_kept,
         .n_stretch = (D + LANES - 1) / LANES};
    parallel_rows(B * s.n_stretch, n_threads, (double)B * T * D * n_group * 1.5, NAME(backward_rows), &s);
}

#undef CHUNK
#undef GROUP
#undef PAIR
#undef ALIGNED
#endif
