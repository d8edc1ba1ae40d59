/* The delta rule; q, y, g [B, T, H, .], k, v, beta [B, T * n, H, .], states [B, H, K, V].

   Nothing in the recurrence mixes the columns of a state: WIDTH of them at a time stay in the cache, as a tile
   [K, WIDTH]. Of these tiles one in STEPS rows is kept, after the decay of its row and before its write; the backward
   pass computes those between again. The formulas stand in delta_rule/README.md. */
#ifndef REAL
#define THIS_FILE "delta_rule.c"
#include <stdlib.h>
#include "both_precisions.h"
#else

#define WIDTH (2 * LANES)
#define PARTS (LANES / 4)

typedef struct {
    const REAL *q, *k, *v, *beta, *g, *initial, *grad_y, *grad_state;
    const uint8_t *reset;
    REAL *y, *state, *kept, *grad_q, *grad_k, *grad_v, *grad_beta, *grad_g, *grad_initial;
    REAL scale;
    int64_t T, n, H, K, V, steps, n_tile, n_kept;
} NAME(memory);

/* One tile's place: batch, head, first column, columns. */
typedef struct {
    int64_t b, h, v, width;
} NAME(place);

INLINE NAME(place) NAME(place_of)(const NAME(memory) * c, int64_t row, int64_t tile) {
    int64_t v = tile * WIDTH;
    return (NAME(place)){row / c->H, row % c->H, v, smaller(WIDTH, c->V - v)};
}

/* Where the line of a row (or token) begins in a tensor of `rows` rows (or tokens) that is `size` wide. */
INLINE int64_t NAME(line)(const NAME(memory) * c, NAME(place) p, int64_t row, int64_t rows, int64_t size) {
    return ((p.b * rows + row) * c->H + p.h) * size;
}

INLINE void NAME(load)(REAL *restrict line, const REAL *restrict from, int64_t width) {
    for (int64_t l = 0; l < WIDTH; l++)
        line[l] = 0;
    for (int64_t l = 0; l < width; l++)
        line[l] = from[l];
}

INLINE void NAME(load_tile)(const NAME(memory) * c, NAME(place) p, REAL *tile, const REAL *states) {
    for (int64_t i = 0; i < c->K; i++)
        NAME(load)(tile + i * WIDTH, states + ((p.b * c->H + p.h) * c->K + i) * c->V + p.v, p.width);
}

INLINE void NAME(store_tile)(const NAME(memory) * c, NAME(place) p, const REAL *tile, REAL *states) {
    for (int64_t i = 0; i < c->K; i++)
        memcpy(states + ((p.b * c->H + p.h) * c->K + i) * c->V + p.v, tile + i * WIDTH, p.width * sizeof(REAL));
}

/* What is left of the state when this row writes; 1 inside a token. */
INLINE REAL NAME(decay)(const NAME(memory) * c, NAME(place) p, int64_t row) {
    return c->g && row % c->n == 0 ? EXP(c->g[NAME(line)(c, p, row / c->n, c->T, 1)]) : 1;
}

INLINE int NAME(clears)(const NAME(memory) * c, NAME(place) p, int64_t row) {
    return c->reset && row % c->n == 0 && c->reset[p.b * c->T + row / c->n];
}

/* `count` rows of a tile: write k u^T, read for q, decay, recall the next key */
INLINE void NAME(step_rows)(int count, const REAL *from, REAL *to, const REAL *k, const REAL *restrict u,
                            const REAL *q, REAL *restrict o, REAL decay, const REAL *next, REAL *restrict recalled) {
    REAL key[4], query[4], next_key[4];
    for (int j = 0; j < count; j++) {
        key[j] = k[j];
        query[j] = q ? q[j] : 0;
        next_key[j] = next[j];
    }
    INDEPENDENT
    for (int64_t l = 0; l < WIDTH; l++) {
        REAL read = 0, recall = 0;
        for (int j = 0; j < count; j++) {
            REAL s = from[j * WIDTH + l] + key[j] * u[l];
            if (q)
                read += query[j] * s;
            s *= decay;
            recall += next_key[j] * s;
            to[j * WIDTH + l] = s;
        }
        if (q)
            o[l] += read;
        recalled[l] += recall;
    }
}

/* `to` (which may be `from`) is the state that the next row writes to, `recalled` what it recalls there. */
INLINE void NAME(step)(int64_t K, const REAL *from, REAL *to, const REAL *k, const REAL *u, const REAL *q, REAL *o,
                       REAL decay, const REAL *next, REAL *recalled) {
    for (int64_t l = 0; l < WIDTH; l++)
        o[l] = recalled[l] = 0;
    int64_t i = 0;
    for (; i + 4 <= K; i += 4)
        NAME(step_rows)(4, from + i * WIDTH, to + i * WIDTH, k + i, u, q ? q + i : NULL, o, decay, next + i, recalled);
    for (; i < K; i++)
        NAME(step_rows)(1, from + i * WIDTH, to + i * WIDTH, k + i, u, q ? q + i : NULL, o, decay, next + i, recalled);
}

/* u = beta e, e = v - what was recalled */
INLINE void NAME(correct)(const NAME(memory) * c, NAME(place) p, int64_t row, const REAL *recalled, REAL *e, REAL *u) {
    const REAL beta = c->beta[NAME(line)(c, p, row, c->T * c->n, 1)];
    REAL v[WIDTH];
    NAME(load)(v, c->v + NAME(line)(c, p, row, c->T * c->n, c->V) + p.v, p.width);
    for (int64_t l = 0; l < WIDTH; l++) {
        e[l] = v[l] - recalled[l];
        u[l] = beta * e[l];
    }
}

INLINE REAL *NAME(aligned)(void *memory) { return (REAL *)(((uintptr_t)memory + 63) / 64 * 64); }

INLINE void *NAME(allocate)(int64_t n) {
    void *memory = malloc(n * sizeof(REAL) + 64);
    if (!memory)
        abort();
    return memory;
}

INLINE void NAME(run)(const NAME(memory) * c, NAME(place) p, int64_t row_tile, REAL *S) {
    const int64_t R = c->T * c->n, K = c->K;
    REAL o[WIDTH], recalled[WIDTH], e[WIDTH], u[WIDTH] = {0};
    const REAL *key = c->k + NAME(line)(c, p, 0, R, K);
    NAME(load_tile)(c, p, S, c->initial);
    if (NAME(clears)(c, p, 0))
        memset(S, 0, K * WIDTH * sizeof(REAL));
    NAME(step)(K, S, S, key, u, NULL, o, NAME(decay)(c, p, 0), key, recalled);
    for (int64_t r = 0; r < R; r++) {
        if (r % c->steps == 0)
            memcpy(c->kept + (row_tile * c->n_kept + r / c->steps) * K * WIDTH, S, K * WIDTH * sizeof(REAL));
        NAME(correct)(c, p, r, recalled, e, u);
        const int64_t later = r + 1 < R ? r + 1 : r, t = r / c->n;
        const REAL *next = c->k + NAME(line)(c, p, later, R, K);
        const REAL decay = r + 1 < R ? NAME(decay)(c, p, later) : 1;
        if ((r + 1) % c->n == 0) {
            NAME(step)(K, S, S, key, u, c->q + NAME(line)(c, p, t, c->T, K), o, decay, next, recalled);
            REAL *y = c->y + NAME(line)(c, p, t, c->T, c->V) + p.v;
            for (int64_t l = 0; l < p.width; l++)
                y[l] = c->scale * o[l];
        } else {
            NAME(step)(K, S, S, key, u, NULL, o, decay, next, recalled);
        }
        if (r + 1 < R && NAME(clears)(c, p, later)) {
            memset(S, 0, K * WIDTH * sizeof(REAL));
            memset(recalled, 0, sizeof recalled);
        }
        key = next;
    }
    NAME(store_tile)(c, p, S, c->state);
}

TARGETS static void NAME(forward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(memory) *c = context;
    void *memory = NAME(allocate)(c->K * WIDTH);
    for (int64_t i = first; i < last; i++)
        NAME(run)(c, NAME(place_of)(c, i / c->n_tile, i % c->n_tile), i, NAME(aligned)(memory));
    free(memory);
}

/* `kept` is [B * H, tiles, ceil(T n / steps), K, WIDTH]. */
EXPORT(delta_rule_forward, "ppppppppppdiiiiiiii")
(REAL *y, REAL *state, REAL *kept, const REAL *q, const REAL *k, const REAL *v, const REAL *beta, const REAL *g,
 const REAL *initial, const uint8_t *reset, double scale, int64_t B, int64_t T, int64_t H, int64_t K, int64_t V,
 int64_t n, int64_t steps, int64_t n_threads) {
    NAME(memory)
    c = {.q = q, .k = k, .v = v, .beta = beta, .g = g, .initial = initial, .reset = reset, .y = y, .state = state,
         .kept = kept, .scale = (REAL)scale, .T = T, .n = n, .H = H, .K = K, .V = V, .steps = steps,
         .n_tile = (V + WIDTH - 1) / WIDTH, .n_kept = (T * n + steps - 1) / steps};
    parallel_rows(B * H * c.n_tile, n_threads, (double)B * H * T * n * K * V * 0.1, NAME(forward_rows), &c);
}

/* The states that `count` rows from `first` on write to, and their errors. */
INLINE void NAME(run_again)(const NAME(memory) * c, NAME(place) p, int64_t first, int64_t count, REAL *states,
                            REAL *errors) {
    const int64_t R = c->T * c->n, K = c->K;
    REAL o[WIDTH], recalled[WIDTH], u[WIDTH] = {0};
    const REAL *key = c->k + NAME(line)(c, p, first, R, K);
    NAME(step)(K, states, states, key, u, NULL, o, 1, key, recalled);
    for (int64_t i = 0; i < count; i++) {
        NAME(correct)(c, p, first + i, recalled, errors + i * WIDTH, u);
        if (i + 1 == count)
            break;
        const REAL *next = c->k + NAME(line)(c, p, first + i + 1, R, K);
        REAL *S = states + i * K * WIDTH, *S_next = S + K * WIDTH;
        NAME(step)(K, S, S_next, key, u, NULL, o, NAME(decay)(c, p, first + i + 1), next, recalled);
        if (NAME(clears)(c, p, first + i + 1)) {
            memset(S_next, 0, K * WIDTH * sizeof(REAL));
            memset(recalled, 0, sizeof recalled);
        }
        key = next;
    }
}

/* `count` rows of a tile: dS += q do^T, du += k dS */
INLINE void NAME(gather_rows)(int count, REAL *dS, const REAL *k, REAL *restrict du, const REAL *q,
                              const REAL *restrict d_o) {
    REAL key[4], query[4];
    for (int j = 0; j < count; j++) {
        key[j] = k[j];
        query[j] = q ? q[j] : 0;
    }
    INDEPENDENT
    for (int64_t l = 0; l < WIDTH; l++) {
        REAL sum = 0;
        for (int j = 0; j < count; j++) {
            REAL s = dS[j * WIDTH + l];
            if (q) {
                s += query[j] * d_o[l];
                dS[j * WIDTH + l] = s;
            }
            sum += key[j] * s;
        }
        du[l] += sum;
    }
}

INLINE void NAME(gather)(int64_t K, REAL *dS, const REAL *k, REAL *du, const REAL *q, const REAL *d_o) {
    for (int64_t l = 0; l < WIDTH; l++)
        du[l] = 0;
    int64_t i = 0;
    for (; i + 4 <= K; i += 4)
        NAME(gather_rows)(4, dS + i * WIDTH, k + i, du, q ? q + i : NULL, d_o);
    for (; i < K; i++)
        NAME(gather_rows)(1, dS + i * WIDTH, k + i, du, q ? q + i : NULL, d_o);
}

/* Sixteen lanes' sum in four parts: the rest of it is done for all rows of a tile at once. */
INLINE void NAME(fold)(const REAL *restrict lanes, REAL *restrict parts) {
    REAL half[LANES / 2];
    for (int l = 0; l < LANES / 2; l++)
        half[l] = lanes[l] + lanes[l + LANES / 2];
    for (int l = 0; l < PARTS; l++)
        parts[l] = half[l] + half[l + PARTS];
}

INLINE REAL NAME(sum)(const REAL *parts) { return (parts[0] + parts[2]) + (parts[1] + parts[3]); }

INLINE REAL NAME(product)(const REAL *a, const REAL *b) {
    REAL lanes[LANES], parts[PARTS];
    for (int l = 0; l < LANES; l++)
        lanes[l] = a[l] * b[l] + a[l + LANES] * b[l + LANES];
    NAME(fold)(lanes, parts);
    return NAME(sum)(parts);
}

/* Gradients of one row's key, and of the query if it has one; dS goes from after the write to before the decay, and
   `gates` gains its product with S. */
INLINE void NAME(spread)(int64_t K, const REAL *restrict S, REAL *restrict dS, const REAL *restrict k,
                         const REAL *restrict u, const REAL *restrict de, const REAL *restrict d_o, REAL decay,
                         REAL *restrict grad_k, REAL *restrict grad_q, REAL *restrict gates, REAL *restrict parts) {
    REAL *restrict parts_q = parts + K * PARTS;
    for (int64_t i = 0; i < K; i++) {
        const REAL key = k[i], *restrict s = S + i * WIDTH;
        REAL *restrict ds = dS + i * WIDTH, lanes[LANES], lanes_q[LANES];
        for (int l = 0; l < LANES; l++) {
            lanes[l] = ds[l] * u[l] + ds[l + LANES] * u[l + LANES] - s[l] * de[l] - s[l + LANES] * de[l + LANES];
            if (grad_q)
                lanes_q[l] = s[l] * d_o[l] + s[l + LANES] * d_o[l + LANES];
        }
        for (int l = 0; l < WIDTH; l++) {
            REAL before = ds[l] - key * de[l];
            gates[l] += before * s[l];
            ds[l] = decay * before;
        }
        NAME(fold)(lanes, parts + i * PARTS);
        if (grad_q)
            NAME(fold)(lanes_q, parts_q + i * PARTS);
    }
    for (int64_t i = 0; i < K; i++)
        grad_k[i] += NAME(sum)(parts + i * PARTS);
    if (grad_q) {
        const REAL u_do = NAME(product)(u, d_o);
        for (int64_t i = 0; i < K; i++)
            grad_q[i] += NAME(sum)(parts_q + i * PARTS) + k[i] * u_do;
    }
}

INLINE void NAME(row_gradients)(const NAME(memory) * c, NAME(place) p, int64_t r, const REAL *S, const REAL *e,
                                REAL *dS, REAL *parts) {
    const int64_t R = c->T * c->n, K = c->K, t = r / c->n, at = NAME(line)(c, p, r, R, 1);
    const REAL *k = c->k + NAME(line)(c, p, r, R, K), *q = c->q + NAME(line)(c, p, t, c->T, K);
    REAL du[WIDTH], de[WIDTH], u[WIDTH], d_o[WIDTH] = {0}, gates[WIDTH] = {0};
    const int last = (r + 1) % c->n == 0;
    if (last) {
        NAME(load)(d_o, c->grad_y + NAME(line)(c, p, t, c->T, c->V) + p.v, p.width);
        for (int64_t l = 0; l < WIDTH; l++)
            d_o[l] *= c->scale;
        NAME(gather)(K, dS, k, du, q, d_o);
    } else {
        NAME(gather)(K, dS, k, du, NULL, d_o);
    }
    for (int64_t l = 0; l < WIDTH; l++) {
        de[l] = c->beta[at] * du[l];
        u[l] = c->beta[at] * e[l];
    }
    c->grad_beta[at] += NAME(product)(du, e);
    memcpy(c->grad_v + NAME(line)(c, p, r, R, c->V) + p.v, de, p.width * sizeof(REAL));
    REAL *grad_k = c->grad_k + NAME(line)(c, p, r, R, K);
    if (last)
        NAME(spread)(K, S, dS, k, u, de, d_o, NAME(decay)(c, p, r), grad_k, c->grad_q + (q - c->q), gates, parts);
    else
        NAME(spread)(K, S, dS, k, u, de, d_o, NAME(decay)(c, p, r), grad_k, NULL, gates, parts);
    if (c->g && r % c->n == 0)
        for (int l = 0; l < WIDTH; l++)
            c->grad_g[NAME(line)(c, p, t, c->T, 1)] += gates[l];
    if (NAME(clears)(c, p, r))
        memset(dS, 0, K * WIDTH * sizeof(REAL));
}

TARGETS static void NAME(backward_rows)(void *context, int64_t first, int64_t last) {
    const NAME(memory) *c = context;
    const int64_t R = c->T * c->n, size = c->K * WIDTH;
    void *memory = NAME(allocate)((c->steps + 1) * size + c->steps * WIDTH + 2 * c->K * PARTS);
    REAL *dS = NAME(aligned)(memory), *states = dS + size, *errors = states + c->steps * size;
    REAL *parts = errors + c->steps * WIDTH;
    for (int64_t i = first * c->n_tile; i < last * c->n_tile; i++) {
        NAME(place) p = NAME(place_of)(c, i / c->n_tile, i % c->n_tile);
        NAME(load_tile)(c, p, dS, c->grad_state);
        for (int64_t start = (c->n_kept - 1) * c->steps; start >= 0; start -= c->steps) {
            int64_t count = smaller(c->steps, R - start);
            memcpy(states, c->kept + (i * c->n_kept + start / c->steps) * size, size * sizeof(REAL));
            NAME(run_again)(c, p, start, count, states, errors);
            for (int64_t r = count - 1; r >= 0; r--)
                NAME(row_gradients)(c, p, start + r, states + r * size, errors + r * WIDTH, dS, parts);
        }
        NAME(store_tile)(c, p, dS, c->grad_initial);
    }
    free(memory);
}

/* Gradients of q, k, beta and g come in as zeros; a head's tiles add to them one after the other. */
EXPORT(delta_rule_backward, "pppppppppppppppdiiiiiiii")
(REAL *grad_q, REAL *grad_k, REAL *grad_v, REAL *grad_beta, REAL *grad_g, REAL *grad_initial, const REAL *grad_y,
 const REAL *grad_state, const REAL *q, const REAL *k, const REAL *v, const REAL *beta, const REAL *g,
 const REAL *kept, const uint8_t *reset, double scale, int64_t B, int64_t T, int64_t H, int64_t K, int64_t V,
 int64_t n, int64_t steps, int64_t n_threads) {
    NAME(memory)
    c = {.q = q, .k = k, .v = v, .beta = beta, .g = g, .reset = reset, .grad_y = grad_y, .grad_state = grad_state,
         .kept = (REAL *)kept, .grad_q = grad_q, .grad_k = grad_k, .grad_v = grad_v, .grad_beta = grad_beta,
         .grad_g = grad_g, .grad_initial = grad_initial, .scale = (REAL)scale, .T = T, .n = n, .H = H, .K = K, .V = V,
         .steps = steps, .n_tile = (V + WIDTH - 1) / WIDTH, .n_kept = (T * n + steps - 1) / steps};
    parallel_rows(B * H, n_threads, (double)B * H * T * n * K * V * 0.5, NAME(backward_rows), &c);
}

#undef WIDTH
#undef PARTS
#endif
