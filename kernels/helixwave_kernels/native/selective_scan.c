/* Mamba's scan. Formulas of both directions: ../selective_scan/README.md.

   Sixteen neighbouring channels are a block, in the lanes of a register; tensors by channel and state come packed,
   [block, state, LANES], with zeros where there is no channel or state. A row of work is a few blocks of one sequence,
   which share B and C. It goes through time in chunks, and through the states four (or two) at a time: what belongs to a
   chunk stays in the cache. Between chunks the states are kept for the way back. */
#ifndef REAL
#define THIS_FILE "selective_scan.c"
#include "both_precisions.h"
#else

#define CHUNK 32
#define MOST_BLOCKS 4
#define TILE (CHUNK * LANES)
/* A register more: tiles whose distance is a multiple of 4096 bytes would make loads wait for stores to others. */
#define SPACE (TILE + LANES)

typedef struct {
    const REAL *u, *delta, *A, *B, *C, *skip, *z, *bias;
    const uint8_t *reset;
    REAL *between;
    REAL *y;
    const REAL *grad_y;
    REAL *grad_u, *grad_delta, *grad_A, *grad_B, *grad_C, *grad_skip, *grad_z, *grad_bias, *carry;
    int64_t n_batch, T, D, N, G, channels; /* channels of a group; N is padded to a multiple of four */
    int64_t n_state;                       /* N without padding */
    int64_t B_groups, C_groups;            /* 0: constant in time, by channel and packed; else 1 or G */
    int64_t blocks, rows;                  /* of a group */
    int64_t blocks_in_row, softplus, negative, kept;
    REAL lowest, highest;
} NAME(scan);

/* One block of a row in one chunk. */
typedef struct {
    int64_t b, group, row, block; /* row and block of all, in the packed tensors */
    int64_t channel, width;       /* the first channel and how many lanes have one */
    int64_t start, T;
} NAME(place);

/* Steps at which a chunk's stretches between resets start, and its end; a chunk without resets is one stretch. */
typedef struct {
    int n, start[CHUNK + 2];
    int cleared; /* at the chunk's first step */
} NAME(stretches);

INLINE NAME(stretches) NAME(find_stretches)(const NAME(scan) * c, int64_t b, int64_t start, int64_t T) {
    NAME(stretches) found = {1, {0}, c->reset && c->reset[b * c->T + start]};
    for (int t = 1; t < T && c->reset; t++)
        if (c->reset[b * c->T + start + t])
            found.start[found.n++] = t;
    found.start[found.n] = (int)T;
    return found;
}

INLINE void NAME(read_lanes)(REAL *restrict tile, const REAL *restrict from, const NAME(place) * p, int64_t D) {
    from += (p->start) * D;
    for (int64_t t = 0; t < p->T; t++) {
        if (p->width == LANES)
            memcpy(tile + t * LANES, from + t * D, LANES * sizeof(REAL));
        else
            for (int l = 0; l < LANES; l++)
                tile[t * LANES + l] = l < p->width ? from[t * D + l] : 0;
    }
}

INLINE void NAME(write_lanes)(REAL *restrict to, const REAL *restrict tile, const NAME(place) * p, int64_t D) {
    to += p->start * D;
    for (int64_t t = 0; t < p->T; t++) {
        if (p->width == LANES)
            memcpy(to + t * D, tile + t * LANES, LANES * sizeof(REAL));
        else
            for (int l = 0; l < p->width; l++)
                to[t * D + l] = tile[t * LANES + l];
    }
}

/* Where the tensors [B, T, D] hold the place's first channel. */
INLINE int64_t NAME(origin)(const NAME(scan) * c, const NAME(place) * p) { return p->b * c->T * c->D + p->channel; }

/* Starts to load what will be read from a block in another chunk: one part of eight. */
INLINE void NAME(announce)(const NAME(scan) * c, const NAME(place) * p, const REAL *tensor, int64_t chunk,
                           int64_t part) {
    int64_t first = chunk * CHUNK + part * (CHUNK / 8);
    if (!tensor || chunk < 0 || first + CHUNK / 8 > c->T || part >= 8)
        return;
    const REAL *from = tensor + NAME(origin)(c, p) + first * c->D;
    for (int t = 0; t < CHUNK / 8; t++)
        PREFETCH(from + t * c->D);
}

/* The same for what will be written: a line has to be there before a part of it is stored. */
INLINE void NAME(announce_output)(const NAME(scan) * c, const NAME(place) * p, REAL *tensor, int64_t chunk,
                                  int64_t part) {
    int64_t first = chunk * CHUNK + part * (CHUNK / 8);
    if (!tensor || first + CHUNK / 8 > c->T || part >= 8)
        return;
    REAL *to = tensor + NAME(origin)(c, p) + first * c->D;
    for (int t = 0; t < CHUNK / 8; t++)
        PREFETCH_OUTPUT(to + t * c->D);
}

/* The channels of one time step that a packed parameter [block, LANES] covers. */
INLINE void NAME(read_parameter)(REAL *restrict lanes, const REAL *packed, const NAME(place) * p) {
    for (int l = 0; l < LANES; l++)
        lanes[l] = packed ? packed[p->block * LANES + l] : 0;
}

INLINE NAME(place) NAME(find_place)(const NAME(scan) * c, int64_t row, int64_t i, int64_t chunk) {
    int64_t k = row % c->rows * c->blocks_in_row + i; /* the block in its group */
    int64_t group = row / c->rows % c->G;
    NAME(place) p = {.b = row / c->rows / c->G, .group = group, .row = row % c->rows, .block = group * c->blocks + k,
                     .channel = group * c->channels + k * LANES, .width = smaller(LANES, c->channels - k * LANES),
                     .start = chunk * CHUNK, .T = smaller(CHUNK, c->T - chunk * CHUNK)};
    return p;
}

/* Where packed tensors [B, block, N, LANES] hold a state of the place's block. */
INLINE int64_t NAME(packed)(const NAME(scan) * c, const NAME(place) * p, int64_t n) {
    return ((p->b * c->G * c->blocks + p->block) * c->N + n) * LANES;
}

/* The states before a chunk. */
INLINE REAL *NAME(before)(const NAME(scan) * c, const NAME(place) * p, int64_t chunk, int64_t n) {
    int64_t size = c->n_batch * c->G * c->blocks * c->N * LANES;
    return c->between + (c->kept ? chunk * size : 0) + NAME(packed)(c, p, n);
}

/* Steps d and d before softplus. */
INLINE void NAME(read_steps)(const NAME(scan) * c, const NAME(place) * p, REAL *restrict d, REAL *restrict raw) {
    REAL bias[LANES];
    NAME(read_parameter)(bias, c->bias, p);
    NAME(read_lanes)(raw, c->delta + NAME(origin)(c, p), p, c->D);
    for (int64_t t = 0; t < p->T; t++)
        for (int l = 0; l < LANES; l++)
            raw[t * LANES + l] += bias[l];
    if (c->softplus)
        for (int64_t i = 0; i < p->T * LANES; i++)
            d[i] = SOFTPLUS(raw[i]);
    else
        memcpy(d, raw, p->T * LANES * sizeof(REAL));
}

/* A map's values for `count` states from n on, by lane: [state, CHUNK, LANES]. */
INLINE void NAME(spread_map)(const NAME(scan) * c, const NAME(place) * p, const REAL *map, int64_t groups, int64_t n,
                             int count, REAL *restrict values) {
    for (int j = 0; j < count; j++)
        for (int64_t t = 0; t < p->T; t++)
            for (int l = 0; l < LANES; l++) {
                REAL *value = values + (j * CHUNK + t) * LANES + l;
                if (groups == 0)
                    *value = map[(p->block * c->N + n + j) * LANES + l];
                else if (n + j < c->n_state)
                    *value = map[((p->b * c->T + p->start + t) * groups + (groups > 1) * p->group) * c->n_state + n + j];
                else
                    *value = 0;
            }
}

/* A map in the form that the loops read: one value for all lanes, at `[t * stride + j]`, or spread out. */
typedef struct {
    const REAL *values;
    int64_t stride;
} NAME(map);

INLINE REAL NAME(value)(NAME(map) map, int spread, int64_t t, int j, int l) {
    return spread ? map.values[(j * CHUNK + t) * LANES + l] : map.values[t * map.stride + j];
}

INLINE NAME(map) NAME(read_map)(const NAME(scan) * c, const NAME(place) * p, const REAL *map, int64_t groups, int64_t n,
                                int count, int spread, REAL *restrict buffer) {
    if (spread) {
        NAME(spread_map)(c, p, map, groups, n, count, buffer);
        return (NAME(map)){buffer, 0};
    }
    int64_t first = ((p->b * c->T + p->start) * groups + (groups > 1) * p->group) * c->n_state + n;
    return (NAME(map)){map + first, groups * c->n_state};
}

/* y += C h over a stretch of time, for four states from n on. */
INLINE void NAME(forward_stretch)(const NAME(scan) * c, int64_t first, int64_t last, int spread,
                                  const REAL *restrict d, const REAL *restrict x, const REAL *restrict A,
                                  NAME(map) B, NAME(map) C, REAL *restrict h, REAL *restrict y) {
    REAL lowest = c->lowest, highest = c->highest, factor = c->negative ? 2 : 1, shift = c->negative ? -1 : 0;
    for (int64_t t = first; t < last; t++)
        for (int l = 0; l < LANES; l++) {
            REAL d_t = d[t * LANES + l], x_t = x[t * LANES + l], sum = y[t * LANES + l];
            for (int j = 0; j < 4; j++) {
                REAL a = EXP2_BETWEEN(d_t * A[j * LANES + l], lowest, highest);
                if (spread)
                    a = factor * a + shift;
                REAL state = a * h[j * LANES + l] + x_t * NAME(value)(B, spread, t, j, l);
                h[j * LANES + l] = state;
                sum += state * NAME(value)(C, spread, t, j, l);
            }
            y[t * LANES + l] = sum;
        }
}

INLINE void NAME(forward_block)(const NAME(scan) * c, const NAME(place) * p, const NAME(stretches) * stretches,
                                int64_t chunk, int spread) {
    REAL d[SPACE], u[SPACE], x[SPACE], y[SPACE], z[SPACE], skip[LANES], buffer_B[4 * TILE], buffer_C[4 * TILE];
    NAME(read_steps)(c, p, d, y);
    NAME(read_lanes)(u, c->u + NAME(origin)(c, p), p, c->D);
    NAME(read_parameter)(skip, c->skip, p);
    for (int64_t i = 0; i < p->T * LANES; i++)
        x[i] = d[i] * u[i];
    for (int64_t t = 0; t < p->T; t++)
        for (int l = 0; l < LANES; l++)
            y[t * LANES + l] = skip[l] * u[t * LANES + l];
    for (int64_t n = 0; n < c->N; n += 4) {
        for (int64_t part = n / 2; part < n / 2 + 2; part++) {
            NAME(announce)(c, p, c->u, chunk + 1, part);
            NAME(announce)(c, p, c->delta, chunk + 1, part);
            NAME(announce)(c, p, c->z, chunk + 1, part);
            NAME(announce_output)(c, p, c->y, chunk, part);
        }
        REAL h[4 * LANES], A[4 * LANES];
        for (int l = 0; l < 4 * LANES; l++) {
            A[l] = c->A[(p->block * c->N + n) * LANES + l] * LOG2E;
            h[l] = stretches->cleared ? 0 : NAME(before)(c, p, chunk, n)[l];
        }
        NAME(map) B = NAME(read_map)(c, p, c->B, c->B_groups, n, 4, spread, buffer_B);
        NAME(map) C = NAME(read_map)(c, p, c->C, c->C_groups, n, 4, spread, buffer_C);
        for (int i = 0; i < stretches->n; i++) {
            for (int l = 0; l < 4 * LANES && i > 0; l++)
                h[l] = 0;
            NAME(forward_stretch)(c, stretches->start[i], stretches->start[i + 1], spread, d, x, A, B, C, h, y);
        }
        memcpy(NAME(before)(c, p, chunk + 1, n), h, sizeof h);
    }
    if (c->z) {
        NAME(read_lanes)(z, c->z + NAME(origin)(c, p), p, c->D);
        for (int64_t i = 0; i < p->T * LANES; i++)
            y[i] *= SILU(z[i]);
    }
    NAME(write_lanes)(c->y + NAME(origin)(c, p), y, p, c->D);
}

INLINE void NAME(forward_row)(const NAME(scan) * c, int64_t row, int spread) {
    for (int64_t chunk = 0; chunk * CHUNK < c->T; chunk++) {
        NAME(place) first = NAME(find_place)(c, row, 0, chunk);
        NAME(stretches) stretches = NAME(find_stretches)(c, first.b, first.start, first.T);
        for (int64_t i = 0; i < c->blocks_in_row && first.row * c->blocks_in_row + i < c->blocks; i++) {
            NAME(place) p = NAME(find_place)(c, row, i, chunk);
            NAME(forward_block)(c, &p, &stretches, chunk, spread);
        }
    }
}

/* Whether maps must be spread out: constant by channel, or a number of states that is no multiple of four. In float64 they
   always are, which halves the code. */
INLINE int NAME(must_spread)(const NAME(scan) * c) {
    return IS_DOUBLE || !c->B_groups || !c->C_groups || c->negative || c->N != c->n_state;
}

#if !IS_DOUBLE
TARGETS static void NAME(scan_rows)(void *context, int64_t first, int64_t last) {
    const NAME(scan) *c = context;
    for (int64_t row = first; row < last; row++)
        NAME(forward_row)(c, row, 0);
}
#endif

TARGETS static void NAME(scan_rows_of_any_kind)(void *context, int64_t first, int64_t last) {
    const NAME(scan) *c = context;
    for (int64_t row = first; row < last; row++)
        NAME(forward_row)(c, row, 1);
}

/* `between` holds the first states and gets those after each chunk, or the last ones in their place if not `kept`. */
EXPORT(selective_scan_forward, "pppppppppppiiiiiiiiiiii")
(REAL *y, REAL *between, const REAL *u, const REAL *delta, const REAL *A, const REAL *B, const REAL *C, const REAL *skip,
 const REAL *z, const REAL *bias, const uint8_t *reset, int64_t n_batch, int64_t T, int64_t D, int64_t n_state,
 int64_t G, int64_t B_groups, int64_t C_groups, int64_t blocks_in_row, int64_t softplus, int64_t negative, int64_t kept,
 int64_t n_threads) {
    NAME(scan)
    c = {.u = u, .delta = delta, .A = A, .B = B, .C = C, .skip = skip, .z = z, .bias = bias, .reset = reset,
         .between = between, .y = y, .n_batch = n_batch, .T = T, .D = D, .N = (n_state + 3) / 4 * 4, .n_state = n_state,
         .G = G, .B_groups = B_groups, .C_groups = C_groups, .channels = D / G,
         .blocks = (D / G + LANES - 1) / LANES, .blocks_in_row = blocks_in_row, .softplus = softplus,
         .negative = negative, .kept = kept, .lowest = EXP2_LOWEST, .highest = EXP2_HIGHEST};
    c.rows = (c.blocks + blocks_in_row - 1) / blocks_in_row;
    double work = (double)n_batch * T * D * (n_state + 4) * 0.3;
    rows_function function = NAME(scan_rows_of_any_kind);
#if !IS_DOUBLE
    if (!NAME(must_spread)(&c))
        function = NAME(scan_rows);
#endif
    parallel_rows(n_batch * G * c.rows, n_threads, work, function, &c);
}

/* What a block needs of one chunk, and gathers over its states, on the way back. */
typedef struct {
    REAL d[SPACE], x[SPACE], grad[SPACE]; /* the gradient by C h + skip u */
    REAL y[SPACE], grad_x[SPACE], grad_d[SPACE];
} NAME(tiles);

/* Sums over the lanes of [CHUNK, LANES]. */
INLINE void NAME(sum_lanes)(const REAL *restrict tile, REAL *restrict sums) {
    REAL half[TILE / 2], quarter[TILE / 4], eighth[TILE / 8];
    for (int i = 0; i < TILE / 2; i++)
        half[i] = tile[2 * i] + tile[2 * i + 1];
    for (int i = 0; i < TILE / 4; i++)
        quarter[i] = half[2 * i] + half[2 * i + 1];
    for (int i = 0; i < TILE / 8; i++)
        eighth[i] = quarter[2 * i] + quarter[2 * i + 1];
    for (int i = 0; i < CHUNK; i++)
        sums[i] = eighth[2 * i] + eighth[2 * i + 1];
}

/* The states of a stretch once more, for two states from n on; keeps the transitions and the states before each step.
   Adds to y and to the gradient of C, by lane. */
INLINE void NAME(states_stretch)(const NAME(scan) * c, int64_t first, int64_t last, int spread,
                                 const REAL *restrict d, const REAL *restrict x, const REAL *restrict grad,
                                 const REAL *restrict A, NAME(map) B, NAME(map) C, REAL *restrict h, REAL *restrict a,
                                 REAL *restrict before, REAL *restrict y, REAL *restrict grad_C) {
    REAL lowest = c->lowest, highest = c->highest, factor = c->negative ? 2 : 1, shift = c->negative ? -1 : 0;
    for (int64_t t = first; t < last; t++)
        for (int l = 0; l < LANES; l++) {
            int64_t i = t * LANES + l;
            REAL d_t = d[i], x_t = x[i], grad_t = grad[i], sum = y[i];
            for (int j = 0; j < 2; j++) {
                REAL a_t = EXP2_BETWEEN(d_t * A[j * LANES + l], lowest, highest);
                if (spread)
                    a_t = factor * a_t + shift;
                a[j * TILE + i] = a_t;
                before[j * TILE + i] = h[j * LANES + l];
                REAL state = a_t * h[j * LANES + l] + x_t * NAME(value)(B, spread, t, j, l);
                h[j * LANES + l] = state;
                sum += state * NAME(value)(C, spread, t, j, l);
                grad_C[j * TILE + i] += state * grad_t;
            }
            y[i] = sum;
        }
}

/* The gradients of a stretch, from its end; `carry` is that of the state after the stretch, then of the one before. */
INLINE void NAME(gradients_stretch)(const NAME(scan) * c, int64_t first, int64_t last, int spread,
                                    const REAL *restrict d, const REAL *restrict x, const REAL *restrict grad,
                                    const REAL *restrict A, NAME(map) B, NAME(map) C, const REAL *restrict a,
                                    const REAL *restrict before, REAL *restrict carry, REAL *restrict grad_x,
                                    REAL *restrict grad_d, REAL *restrict grad_A, REAL *restrict grad_B) {
    REAL shift = c->negative ? -1 : 0;
    for (int64_t t = last - 1; t >= first; t--)
        for (int l = 0; l < LANES; l++) {
            int64_t i = t * LANES + l;
            REAL d_t = d[i], x_t = x[i], grad_t = grad[i], sum_x = grad_x[i], sum_d = grad_d[i];
            for (int j = 0; j < 2; j++) {
                REAL a_t = a[j * TILE + i];
                REAL g = carry[j * LANES + l] + grad_t * NAME(value)(C, spread, t, j, l);
                grad_B[j * TILE + i] += g * x_t;
                sum_x += g * NAME(value)(B, spread, t, j, l);
                REAL after = a_t * g;
                carry[j * LANES + l] = after;
                REAL exponent = (spread ? (a_t - shift) * g : after) * before[j * TILE + i];
                sum_d += exponent * A[j * LANES + l];
                grad_A[j * LANES + l] += exponent * d_t;
            }
            grad_x[i] = sum_x;
            grad_d[i] = sum_d;
        }
}

INLINE void NAME(fill_tiles)(const NAME(scan) * c, const NAME(place) * p, NAME(tiles) * tiles) {
    REAL z[TILE], u[TILE], skip[LANES];
    int64_t origin = NAME(origin)(c, p);
    NAME(read_steps)(c, p, tiles->d, tiles->y);
    NAME(read_lanes)(u, c->u + origin, p, c->D);
    NAME(read_lanes)(tiles->grad, c->grad_y + origin, p, c->D);
    NAME(read_parameter)(skip, c->skip, p);
    for (int64_t i = 0; i < p->T * LANES; i++)
        tiles->x[i] = tiles->d[i] * u[i];
    for (int64_t t = 0; t < p->T; t++)
        for (int l = 0; l < LANES; l++)
            tiles->y[t * LANES + l] = skip[l] * u[t * LANES + l];
    if (c->z) {
        NAME(read_lanes)(z, c->z + origin, p, c->D);
        for (int64_t i = 0; i < p->T * LANES; i++)
            tiles->grad[i] *= SILU(z[i]);
    }
    memset(tiles->grad_x, 0, sizeof tiles->grad_x);
    memset(tiles->grad_d, 0, sizeof tiles->grad_d);
}

/* From the tiles the gradients of u, delta, z, skip and bias. */
INLINE void NAME(empty_tiles)(const NAME(scan) * c, const NAME(place) * p, NAME(tiles) * tiles) {
    REAL other[TILE], result[TILE], skip[LANES], sum[2 * LANES] = {0};
    int64_t origin = NAME(origin)(c, p), parameter = (p->b * c->G * c->blocks + p->block) * LANES;
    if (c->z) {
        REAL grad_y[TILE];
        NAME(read_lanes)(other, c->z + origin, p, c->D);
        NAME(read_lanes)(grad_y, c->grad_y + origin, p, c->D);
        for (int64_t i = 0; i < p->T * LANES; i++) {
            REAL sigmoid = SIGMOID(other[i]);
            result[i] = grad_y[i] * tiles->y[i] * sigmoid * (1 + other[i] * (1 - sigmoid));
        }
        NAME(write_lanes)(c->grad_z + origin, result, p, c->D);
    }
    NAME(read_parameter)(skip, c->skip, p);
    NAME(read_lanes)(other, c->u + origin, p, c->D);
    for (int64_t t = 0; t < p->T; t++)
        for (int l = 0; l < LANES; l++) {
            int64_t i = t * LANES + l;
            result[i] = tiles->grad_x[i] * tiles->d[i] + skip[l] * tiles->grad[i];
            sum[l] += tiles->grad[i] * other[i];
        }
    NAME(write_lanes)(c->grad_u + origin, result, p, c->D);
    for (int64_t t = 0; t < p->T; t++)
        for (int l = 0; l < LANES; l++) {
            int64_t i = t * LANES + l;
            REAL grad_d = tiles->grad_d[i] + tiles->grad_x[i] * other[i];
            /* the derivative of softplus is 1 - exp(-d) */
            result[i] = c->softplus ? -grad_d * EXPM1(-tiles->d[i]) : grad_d;
            sum[LANES + l] += result[i];
        }
    NAME(write_lanes)(c->grad_delta + origin, result, p, c->D);
    for (int l = 0; l < LANES; l++) {
        c->grad_skip[parameter + l] += sum[l];
        c->grad_bias[parameter + l] += sum[LANES + l];
    }
}

/* Adds a chunk's gradient of a map that is constant in time, [2, CHUNK, LANES], and clears it for the next block. */
INLINE void NAME(add_over_time)(const NAME(scan) * c, const NAME(place) * p, int64_t n, REAL *restrict by_lane,
                                REAL *restrict grad_map) {
    for (int j = 0; j < 2; j++)
        for (int64_t t = 0; t < p->T; t++)
            for (int l = 0; l < LANES; l++)
                grad_map[NAME(packed)(c, p, n + j) + l] += by_lane[(j * CHUNK + t) * LANES + l];
    memset(by_lane, 0, 2 * TILE * sizeof(REAL));
}

/* Writes a row's gradient of a map, the sum over its channels, into the row's part of [row, B, T, G, N]. */
INLINE void NAME(add_over_channels)(const NAME(scan) * c, const NAME(place) * p, int64_t n,
                                    const REAL *restrict by_lane, REAL *restrict grad_map) {
    for (int j = 0; j < 2 && n + j < c->n_state; j++) {
        REAL sums[CHUNK];
        NAME(sum_lanes)(by_lane + j * TILE, sums);
        int64_t first = (((p->row * c->n_batch + p->b) * c->T + p->start) * c->G + p->group) * c->n_state + n + j;
        for (int64_t t = 0; t < p->T; t++)
            grad_map[first + t * c->G * c->n_state] = sums[t];
    }
}

INLINE void NAME(backward_states)(const NAME(scan) * c, const NAME(place) * p, const NAME(stretches) * stretches,
                                  int64_t chunk, int64_t n, int spread, NAME(tiles) * tiles, REAL *restrict grad_B,
                                  REAL *restrict grad_C) {
    REAL a[2 * TILE], before[2 * TILE], buffer_B[2 * TILE], buffer_C[2 * TILE];
    REAL h[2 * LANES], A[2 * LANES], exponents[2 * LANES], carry[2 * LANES], grad_A[2 * LANES];
    int64_t packed = NAME(packed)(c, p, n);
    for (int l = 0; l < 2 * LANES; l++) {
        A[l] = c->A[(p->block * c->N + n) * LANES + l];
        exponents[l] = A[l] * LOG2E;
        h[l] = stretches->cleared ? 0 : NAME(before)(c, p, chunk, n)[l];
        carry[l] = c->carry[packed + l];
        grad_A[l] = c->grad_A[packed + l];
    }
    NAME(map) B = NAME(read_map)(c, p, c->B, c->B_groups, n, 2, spread, buffer_B);
    NAME(map) C = NAME(read_map)(c, p, c->C, c->C_groups, n, 2, spread, buffer_C);
    for (int i = 0; i < stretches->n; i++) {
        for (int l = 0; l < 2 * LANES && i > 0; l++)
            h[l] = 0;
        NAME(states_stretch)(c, stretches->start[i], stretches->start[i + 1], spread, tiles->d, tiles->x, tiles->grad,
                             exponents, B, C, h, a, before, tiles->y, grad_C);
    }
    for (int i = stretches->n - 1; i >= 0; i--) {
        NAME(gradients_stretch)(c, stretches->start[i], stretches->start[i + 1], spread, tiles->d, tiles->x,
                                tiles->grad, A, B, C, a, before, carry, tiles->grad_x, tiles->grad_d, grad_A, grad_B);
        for (int l = 0; l < 2 * LANES && (i > 0 || stretches->cleared); l++)
            carry[l] = 0;
    }
    memcpy(c->carry + packed, carry, sizeof carry);
    memcpy(c->grad_A + packed, grad_A, sizeof grad_A);
}

INLINE void NAME(backward_chunk)(const NAME(scan) * c, int64_t row, int64_t chunk, int spread) {
    NAME(tiles) tiles[MOST_BLOCKS];
    NAME(place) places[MOST_BLOCKS];
    REAL grad_B[2 * TILE], grad_C[2 * TILE];
    int64_t n_block = smaller(c->blocks_in_row, c->blocks - row % c->rows * c->blocks_in_row);
    for (int64_t i = 0; i < n_block; i++) {
        places[i] = NAME(find_place)(c, row, i, chunk);
        NAME(fill_tiles)(c, &places[i], &tiles[i]);
    }
    NAME(stretches) stretches = NAME(find_stretches)(c, places[0].b, places[0].start, places[0].T);
    for (int64_t n = 0; n < c->N; n += 2) {
        memset(grad_B, 0, sizeof grad_B);
        memset(grad_C, 0, sizeof grad_C);
        for (int64_t i = 0; i < n_block; i++) {
            NAME(announce)(c, &places[i], c->u, chunk - 1, n / 2);
            NAME(announce)(c, &places[i], c->delta, chunk - 1, n / 2);
            NAME(announce)(c, &places[i], c->grad_y, chunk - 1, n / 2);
            NAME(announce)(c, &places[i], c->z, chunk - 1, n / 2);
            NAME(announce_output)(c, &places[i], c->grad_u, chunk, n / 2);
            NAME(announce_output)(c, &places[i], c->grad_delta, chunk, n / 2);
            NAME(announce_output)(c, &places[i], c->grad_z, chunk, n / 2);
            for (int j = 0; j < 2 && chunk > 0; j++)
                PREFETCH(NAME(before)(c, &places[i], chunk - 1, n + j));
            NAME(backward_states)(c, &places[i], &stretches, chunk, n, spread, &tiles[i], grad_B, grad_C);
            if (spread && !c->B_groups)
                NAME(add_over_time)(c, &places[i], n, grad_B, c->grad_B);
            if (spread && !c->C_groups)
                NAME(add_over_time)(c, &places[i], n, grad_C, c->grad_C);
        }
        if (!spread || c->B_groups)
            NAME(add_over_channels)(c, &places[0], n, grad_B, c->grad_B);
        if (!spread || c->C_groups)
            NAME(add_over_channels)(c, &places[0], n, grad_C, c->grad_C);
    }
    for (int64_t i = 0; i < n_block; i++)
        NAME(empty_tiles)(c, &places[i], &tiles[i]);
}

#if !IS_DOUBLE
TARGETS static void NAME(gradient_rows)(void *context, int64_t first, int64_t last) {
    const NAME(scan) *c = context;
    for (int64_t row = first; row < last; row++)
        for (int64_t chunk = (c->T - 1) / CHUNK; chunk >= 0; chunk--)
            NAME(backward_chunk)(c, row, chunk, 0);
}
#endif

TARGETS static void NAME(gradient_rows_of_any_kind)(void *context, int64_t first, int64_t last) {
    const NAME(scan) *c = context;
    for (int64_t row = first; row < last; row++)
        for (int64_t chunk = (c->T - 1) / CHUNK; chunk >= 0; chunk--)
            NAME(backward_chunk)(c, row, chunk, 1);
}

/* `carry` holds the gradient of the last states and gets that of the first. Gradients of A, skip and bias come as zeros,
   one part for each sequence; those of maps that are constant in time as well, of others one for each row of a group. */
EXPORT(selective_scan_backward, "ppppppppppppppppppppiiiiiiiiiii")
(REAL *grad_u, REAL *grad_delta, REAL *grad_A, REAL *grad_B, REAL *grad_C, REAL *grad_skip, REAL *grad_z,
 REAL *grad_bias, REAL *carry, const REAL *grad_y, const REAL *between, const REAL *u, const REAL *delta, const REAL *A,
 const REAL *B, const REAL *C, const REAL *skip, const REAL *z, const REAL *bias, const uint8_t *reset, int64_t n_batch,
 int64_t T, int64_t D, int64_t n_state, int64_t G, int64_t B_groups, int64_t C_groups, int64_t blocks_in_row,
 int64_t softplus, int64_t negative, int64_t n_threads) {
    NAME(scan)
    c = {.u = u, .delta = delta, .A = A, .B = B, .C = C, .skip = skip, .z = z, .bias = bias, .reset = reset,
         .between = (REAL *)between, .grad_y = grad_y, .grad_u = grad_u, .grad_delta = grad_delta, .grad_A = grad_A,
         .grad_B = grad_B, .grad_C = grad_C, .grad_skip = grad_skip, .grad_z = grad_z, .grad_bias = grad_bias,
         .carry = carry, .n_batch = n_batch, .T = T, .D = D, .N = (n_state + 3) / 4 * 4, .n_state = n_state, .G = G,
         .B_groups = B_groups, .C_groups = C_groups, .channels = D / G, .blocks = (D / G + LANES - 1) / LANES,
         .blocks_in_row = blocks_in_row, .softplus = softplus, .negative = negative, .kept = 1, .lowest = EXP2_LOWEST,
         .highest = EXP2_HIGHEST};
    c.rows = (c.blocks + blocks_in_row - 1) / blocks_in_row;
    double work = (double)n_batch * T * D * (n_state + 4);
    rows_function function = NAME(gradient_rows_of_any_kind);
#if !IS_DOUBLE
    if (!NAME(must_spread)(&c))
        function = NAME(gradient_rows);
#endif
    parallel_rows(n_batch * G * c.rows, n_threads, work, function, &c);
}

#undef CHUNK
#undef MOST_BLOCKS
#undef TILE
#undef SPACE
#endif
