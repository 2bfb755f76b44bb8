// Sums over pairs without their matrix: S(x_ij) V_j, where x_ij is minus a squared distance or a
// scaled inner product of row i and column j. Forward and backward, one thread per range of work.
//
// Blocks of BLOCK columns are packed once per range: transposed for the products that make x, in
// rows for those that use S. Rows go in strips of STRIP, so that a strip's sums stay in registers.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 16
#define STRIP 8
#else
#define WIDTH 8
#define STRIP 4
#endif
#define BLOCK 64
#define WIDEST 512
// Beyond so many coordinates squared distances come from a product, which costs half as much.
#define DIFFERENCES 32

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4)));
#define AT(p) (*(vec *)(p))
#define FROM(p) (*(const vec *)(p))
#define UNROLL _Pragma("GCC unroll 16")

enum { DISTANCE, SOFTPLUS, RELU, ELU, READOUT, EXPONENTIAL };

// One call. Places are positions in the sequence: row i sees the columns whose place is in
// [first[i], end[i]); own[i] is the row's own place. `list` holds, for each panel of `panel` rows,
// the blocks list[start[p] .. start[p + 1]) to visit; without it all blocks are visited.
typedef struct {
    const float *row, *threshold, *column, *value, *count, *weight;
    const int32_t *first, *end, *own, *place, *start, *list;
    float *sums, *total, *d_row, *d_threshold, *d_column, *d_value;
    int64_t groups, rows, columns, dim, width, value_stride, panel, block, threads;
    int64_t per_group, kind, power, join_self, exclude_self;
    float scale, smoothing, edge_floor;
} Call;

// The packed columns of one range of blocks.
typedef struct {
    long first, blocks, size, dim, width;
    float *across, *down, *value, *value_across, *count, *centre, *norm;
    int32_t *place, *least, *most;
} Pack;

static long padded(long n, long by) { return (n + by - 1) / by * by; }

static void *space(size_t count) {
    void *p = aligned_alloc(64, padded((long)(4 * count) + 64, 64));
    if (p) memset(p, 0, 4 * count);
    return p;
}

static inline float exponential(float x) {
    // Cephes' polynomial of the remainder after powers of two; x lies in -83.5 .. 83.5.
    int32_t n = (int32_t)(x * 1.44269504f + (x < 0 ? -0.5f : 0.5f));
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t bits = (n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

static inline float clamped(float y) {
    y = y > 0.0f ? 0.0f : y;
    return y < -83.5f ? -83.5f : y;
}

// A product: a choice of the constant 0 would be followed through the root as a branch.
static inline float positive(float q) { return fabsf(q * (float)(q > 0x1p-120f)); }

// log(1 + t) for t in 0 .. 1, relative error of a few roundings: 2 artanh(t / (2 + t)).
static inline float log_of_one_plus(float t) {
    float s = t / (2.0f + t), z = s * s;
    float p = 1.0f / 15;
    p = p * z + 1.0f / 13;
    p = p * z + 1.0f / 11;
    p = p * z + 1.0f / 9;
    p = p * z + 1.0f / 7;
    p = p * z + 1.0f / 5;
    p = p * z + 1.0f / 3;
    return 2.0f * (s + s * z * p);
}

// x[r][j]: minus the squared distances, or the inner products, of a strip and a block.
static void arguments(const float *row, const float *across, long dim, long size, float *x,
                      int distance, float scale) {
    for (long j = 0; j < size; j += 2 * WIDTH) {
        vec a[STRIP][2] = {{{0}}};
        const float *k = across + j;
        if (distance) {
            for (long d = 0; d < dim; d++, k += size) {
                vec k0 = FROM(k), k1 = FROM(k + WIDTH);
                UNROLL for (int r = 0; r < STRIP; r++) {
                    vec own = row[r * dim + d] - (vec){0};
                    vec t0 = own - k0, t1 = own - k1;
                    a[r][0] -= t0 * t0;
                    a[r][1] -= t1 * t1;
                }
            }
        } else {
            for (long d = 0; d < dim; d++, k += size) {
                vec k0 = FROM(k), k1 = FROM(k + WIDTH);
                UNROLL for (int r = 0; r < STRIP; r++) {
                    vec own = row[r * dim + d] - (vec){0};
                    a[r][0] += own * k0;
                    a[r][1] += own * k1;
                }
            }
        }
        UNROLL for (int r = 0; r < STRIP; r++) {
            AT(x + r * size + j) = a[r][0] * scale;
            AT(x + r * size + j + WIDTH) = a[r][1] * scale;
        }
    }
}

// out[r][:] += sum over j of s[r][j] column[j][:].
static void add_to_rows(const float *s, const float *column, long size, long width, float *out) {
    long c = 0;
    for (; c + 2 * WIDTH <= width; c += 2 * WIDTH) {
        vec a[STRIP][2];
        UNROLL for (int r = 0; r < STRIP; r++) {
            a[r][0] = FROM(out + r * width + c);
            a[r][1] = FROM(out + r * width + c + WIDTH);
        }
        for (long j = 0; j < size; j++) {
            vec v0 = FROM(column + j * width + c), v1 = FROM(column + j * width + c + WIDTH);
            UNROLL for (int r = 0; r < STRIP; r++) {
                a[r][0] += s[r * size + j] * v0;
                a[r][1] += s[r * size + j] * v1;
            }
        }
        UNROLL for (int r = 0; r < STRIP; r++) {
            AT(out + r * width + c) = a[r][0];
            AT(out + r * width + c + WIDTH) = a[r][1];
        }
    }
    for (; c < width; c += WIDTH) {
        vec a[STRIP];
        UNROLL for (int r = 0; r < STRIP; r++) a[r] = FROM(out + r * width + c);
        for (long j = 0; j < size; j++) {
            vec v0 = FROM(column + j * width + c);
            UNROLL for (int r = 0; r < STRIP; r++) a[r] += s[r * size + j] * v0;
        }
        UNROLL for (int r = 0; r < STRIP; r++) AT(out + r * width + c) = a[r];
    }
}

// out[j][:] += sum over r of s[r][j] row[r][:].
static void add_to_columns(const float *s, const float *row, long size, long width, float *out) {
    for (long c = 0; c < width; c += WIDTH) {
        vec y[STRIP];
        UNROLL for (int r = 0; r < STRIP; r++) y[r] = FROM(row + r * width + c);
        for (long j = 0; j < size; j++) {
            vec a = FROM(out + j * width + c);
            UNROLL for (int r = 0; r < STRIP; r++) a += s[r * size + j] * y[r];
            AT(out + j * width + c) = a;
        }
    }
}

static void strength_of_row(const Call *c, float *x, float g, long size) {
    float d = c->smoothing, scale = sqrtf(1 + d * d) + d;
    switch (c->kind) {
    case DISTANCE:
        if (d == 0) {
#pragma omp simd
            for (long j = 0; j < size; j++) {
                float z = clamped(x[j]);
                x[j] = sqrtf(positive(exponential(z) + g * z));
            }
        } else {
#pragma omp simd
            for (long j = 0; j < size; j++) {
                float z = clamped(x[j]);
                float q = positive(exponential(z) + g * z);
                q = q * scale / (sqrtf(q + d * d) + d);
                x[j] = q > 1.0f ? 1.0f : q;
            }
        }
        return;
    case SOFTPLUS:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float y = x[j];
            x[j] = (y > 0 ? y : 0.0f) + log_of_one_plus(exponential(clamped(-fabsf(y))));
        }
        return;
    case RELU:
#pragma omp simd
        for (long j = 0; j < size; j++) x[j] = (x[j] > 0 ? x[j] : 0.0f) + 1e-3f;
        return;
    case ELU:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float y = x[j], e = exponential(clamped(y));
            x[j] = y > 0 ? y + 1.0f : e;
        }
        return;
    case EXPONENTIAL:
#pragma omp simd
        for (long j = 0; j < size; j++) x[j] = exponential(x[j]);
        return;
    default:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float b = 1.0f + x[j];
            b = b > 0 ? b : 0.0f;
            b = c->power == 1 ? b : b * b;
            x[j] = c->power == 4 ? b * b : b;
        }
    }
}

// Turns the gradient of the strengths into that of x, in place, and returns its sum; for distances
// the gradient is that of half the squared distance, and the threshold's is added to *moment.
static float slope_of_row(const Call *c, const float *x, const float *s, float *gradient, float g,
                          long size, float *moment) {
    float sum = 0, first = 0, d = c->smoothing, scale = sqrtf(1 + d * d) - d;
    switch (c->kind) {
    case DISTANCE:
#pragma omp simd reduction(+ : sum, first)
        for (long j = 0; j < size; j++) {
            float z = clamped(x[j]);
            float sharp = s[j] < c->edge_floor ? c->edge_floor : s[j];
            float by = d == 0 ? sharp : (s[j] * scale + d) * scale;
            float w = (s[j] > 0.0f) & (s[j] < 1.0f) ? gradient[j] / by : 0.0f;
            first += w * z;
            w *= exponential(z) + g;
            sum += w;
            gradient[j] = w;
        }
        *moment += 0.5f * first;
        return sum;
    case SOFTPLUS:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float t = exponential(clamped(-fabsf(x[j])));
            float w = gradient[j] * ((x[j] >= 0 ? 1.0f : t) / (1.0f + t));
            gradient[j] = s[j] > 0 ? w : 0.0f;
        }
        return 0;
    case RELU:
#pragma omp simd
        for (long j = 0; j < size; j++)
            gradient[j] = (s[j] > 0) & (x[j] > 0) ? gradient[j] : 0.0f;
        return 0;
    case ELU:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float e = exponential(clamped(x[j]));
            float w = gradient[j] * (x[j] > 0 ? 1.0f : e);
            gradient[j] = s[j] > 0 ? w : 0.0f;
        }
        return 0;
    case EXPONENTIAL:
#pragma omp simd
        for (long j = 0; j < size; j++) gradient[j] *= s[j];
        return 0;
    default:
#pragma omp simd
        for (long j = 0; j < size; j++) {
            float b = 1.0f + x[j];
            b = b > 0 ? b : 0.0f;
            float by = c->power == 1 ? 1.0f : c->power == 2 ? 2 * b : 4 * b * b * b;
            gradient[j] = s[j] > 0 ? gradient[j] * by : 0.0f;
        }
        return 0;
    }
}

static int packed(const Call *c, Pack *p, long group, long first, long blocks, int backward) {
    long size = padded(c->block, 2 * WIDTH), dim = padded(c->dim, WIDTH);
    long width = padded(c->width, WIDTH), all = blocks * size;
    memset(p, 0, sizeof *p);
    p->first = first, p->blocks = blocks, p->size = size, p->dim = dim, p->width = width;
    p->across = space(all * c->dim);
    p->value = space(all * width);
    p->count = space(all);
    p->place = space(all);
    p->least = space(blocks);
    p->most = space(blocks);
    p->down = backward ? space(all * dim) : NULL;
    p->value_across = backward ? space(all * c->width) : NULL;
    p->centre = space(blocks * dim);
    p->norm = space(all);
    if (!p->across || !p->value || !p->count || !p->place || !p->least || !p->most) return 0;
    if (!p->centre || !p->norm) return 0;
    if (backward && (!p->down || !p->value_across)) return 0;
    int product = c->kind == DISTANCE && c->dim > DIFFERENCES;
    const float *column = c->column + group * c->columns * c->dim;
    const float *value = c->value + group * c->columns * c->value_stride;
    for (long b = 0; b < blocks; b++) {
        long from = (first + b) * c->block;
        long real = c->columns - from < c->block ? c->columns - from : c->block;
        int32_t least = INT32_MAX, most = -1;
        // Points relative to their block's mean, so that far tokens do not cancel.
        float *centre = p->centre + b * dim;
        for (long d = 0; d < c->dim && c->kind == DISTANCE; d++) {
            double mean = 0;
            for (long j = 0; j < real; j++) mean += column[(from + j) * c->dim + d];
            centre[d] = (float)(mean / real);
        }
        for (long j = 0; j < size; j++) {
            long at = b * size + j, source = from + j;
            // Padding has a place that no row sees.
            int32_t place = -1;
            if (j < real) {
                place = c->place ? c->place[group * c->columns + source] : (int32_t)source;
                least = place < least ? place : least;
                most = place > most ? place : most;
            }
            p->place[at] = place;
            if (j >= real) continue;
            p->count[at] = c->count ? c->count[group * c->columns + source] : 1.0f;
            for (long d = 0; d < c->dim; d++) {
                float x = column[source * c->dim + d] - (product ? centre[d] : 0.0f);
                p->across[(b * c->dim + d) * size + j] = x;
                p->norm[at] += x * x;
            }
            memcpy(p->value + at * width, value + source * c->value_stride, 4 * c->width);
            if (!backward) continue;
            for (long d = 0; d < c->width; d++)
                p->value_across[(b * c->width + d) * size + j] = value[source * c->value_stride + d];
        }
        p->least[b] = real < size ? -1 : least;
        p->most[b] = most;
        if (!backward) continue;
        for (long j = 0; j < real; j++)
            for (long d = 0; d < c->dim; d++)
                p->down[(b * size + j) * dim + d] = column[(from + j) * c->dim + d] - centre[d];
    }
    return 1;
}

static void release(Pack *p) {
    free(p->across), free(p->down), free(p->value), free(p->value_across), free(p->count);
    free(p->centre), free(p->norm), free(p->place), free(p->least), free(p->most);
}

// A strip of rows, padded with rows that see nothing, and what is summed up for it.
typedef struct {
    float row[STRIP * WIDEST], threshold[STRIP], total[STRIP];
    int32_t first[STRIP], end[STRIP], own[STRIP];
    int32_t latest_first, earliest_end, earliest_first, latest_end;
    // Forward: the sums. Backward: the gradient of the rows.
    float sums[STRIP * WIDEST];
    // The gradients of the sums in padded and in tight rows, and of the totals.
    float weight[STRIP * WIDEST], tight[STRIP * WIDEST], last[STRIP];
} Strip;

static void load_strip(const Call *c, Strip *t, long group, long from, long real, long width) {
    long at = c->per_group ? group * c->rows : 0;
    memset(t->sums, 0, 4 * STRIP * width);
    memset(t->total, 0, sizeof t->total);
    t->latest_first = -1, t->latest_end = -1;
    t->earliest_end = t->earliest_first = INT32_MAX;
    for (long r = 0; r < STRIP; r++) {
        long i = from + (r < real ? r : 0);
        memcpy(t->row + r * c->dim, c->row + (group * c->rows + i) * c->dim, 4 * c->dim);
        t->threshold[r] = c->threshold ? c->threshold[group * c->rows + i] : 0.0f;
        t->first[r] = r < real ? c->first[at + i] : 0;
        t->end[r] = r < real ? c->end[at + i] : 0;
        t->own[r] = c->own[at + i];
        if (r >= real) continue;
        t->latest_first = t->first[r] > t->latest_first ? t->first[r] : t->latest_first;
        t->earliest_first = t->first[r] < t->earliest_first ? t->first[r] : t->earliest_first;
        t->earliest_end = t->end[r] < t->earliest_end ? t->end[r] : t->earliest_end;
        t->latest_end = t->end[r] > t->latest_end ? t->end[r] : t->latest_end;
    }
}

static int apart(const Strip *t, const Pack *p, long b) {
    return t->latest_end <= (p->least[b] < 0 ? 0 : p->least[b]) || t->earliest_first > p->most[b];
}

// Minus the squared distances as twice the product less the norms, all relative to the block.
static void expanded(const Call *c, const Strip *t, const Pack *p, long b, float *x) {
    float near[STRIP * WIDEST];
    const float *centre = p->centre + b * p->dim, *norm = p->norm + b * p->size;
    float own[STRIP] = {0};
    for (long r = 0; r < STRIP; r++)
        for (long d = 0; d < c->dim; d++) {
            float y = t->row[r * c->dim + d] - centre[d];
            near[r * c->dim + d] = 2 * y;
            own[r] += y * y;
        }
    arguments(near, p->across + b * c->dim * p->size, c->dim, p->size, x, 0, 1.0f);
    for (long r = 0; r < STRIP; r++)
#pragma omp simd
        for (long j = 0; j < p->size; j++) x[r * p->size + j] -= own[r] + norm[j];
}

// Fills x and the strengths s of a strip and a block; returns whether any strength is above 0.
static int strengths(const Call *c, const Strip *t, const Pack *p, long b, float *x, float *s) {
    long size = p->size;
    const int32_t *place = p->place + b * size;
    const float *across = p->across + b * c->dim * size;
    if (c->kind == DISTANCE && c->dim > DIFFERENCES)
        expanded(c, t, p, b, x);
    else if (c->kind == DISTANCE)
        arguments(t->row, across, c->dim, size, x, 1, 1.0f);
    else
        arguments(t->row, across, c->dim, size, x, 0, c->scale);
    int whole = p->least[b] >= t->latest_first && p->most[b] < t->earliest_end;
    float most = 0;
    for (long r = 0; r < STRIP; r++) {
        float *row = x + r * size, *out = s + r * size;
        int32_t own = t->own[r], first = t->first[r], end = t->end[r];
        int holds_own = own >= p->least[b] && own <= p->most[b];
        if (c->join_self && holds_own)
            for (long j = 0; j < size; j++) row[j] = place[j] == own ? 0.0f : row[j];
        if (out != row) memcpy(out, row, 4 * size);
        strength_of_row(c, out, t->threshold[r], size);
        if (!whole || end == 0)
#pragma omp simd
            for (long j = 0; j < size; j++)
                out[j] = (place[j] >= first) & (place[j] < end) ? out[j] : 0.0f;
        if (c->exclude_self && holds_own)
            for (long j = 0; j < size; j++) out[j] = place[j] == own ? 0.0f : out[j];
#pragma omp simd reduction(max : most)
        for (long j = 0; j < size; j++) most = out[j] > most ? out[j] : most;
    }
    return most > 0;
}

// Loads the strips of a panel and returns how many there are.
static long load_panel(const Call *c, Strip *strips, long group, long panel, long width) {
    long from = panel * c->panel, to = from + c->panel < c->rows ? from + c->panel : c->rows;
    long n = 0;
    for (long i = from; i < to; i += STRIP, n++)
        load_strip(c, strips + n, group, i, to - i < STRIP ? to - i : STRIP, width);
    return n;
}

// The blocks that a panel visits: list[*n .. end), or *n .. end themselves without a list.
static long visits(const Call *c, long group, long panel, long blocks, long *n) {
    long panels = (c->rows + c->panel - 1) / c->panel, at = group * panels + panel;
    *n = c->list ? c->start[at] : 0;
    return c->list ? c->start[at + 1] : blocks;
}

static void forward_range(const Call *c, long group, long from, long to, const Pack *p,
                          Strip *strips) {
    float s[STRIP * BLOCK];
    for (long panel = from; panel < to; panel++) {
        long count = load_panel(c, strips, group, panel, p->width), n;
        long end = visits(c, group, panel, p->blocks, &n);
        for (; n < end; n++) {
            long b = c->list ? c->list[n] : n;
            const float *multiple = p->count + b * p->size;
            for (Strip *t = strips; t < strips + count; t++) {
                if (apart(t, p, b) || !strengths(c, t, p, b, s, s)) continue;
                for (long r = 0; r < STRIP; r++) {
                    float sum = 0;
#pragma omp simd reduction(+ : sum)
                    for (long j = 0; j < p->size; j++) sum += s[r * p->size + j] * multiple[j];
                    t->total[r] += sum;
                }
                add_to_rows(s, p->value + b * p->size * p->width, p->size, p->width, t->sums);
            }
        }
        long edge = (panel + 1) * c->panel < c->rows ? (panel + 1) * c->panel : c->rows;
        for (long i = panel * c->panel; i < edge; i++) {
            long at = group * c->rows + i, r = (i - panel * c->panel) % STRIP;
            const Strip *t = strips + (i - panel * c->panel) / STRIP;
            c->total[at] = t->total[r];
            memcpy(c->sums + at * c->width, t->sums + r * p->width, 4 * c->width);
        }
    }
}

int pairwise_forward(const Call *c) {
    long units = (c->rows + c->panel - 1) / c->panel;
    long blocks = (c->columns + c->block - 1) / c->block;
    long splits = (4 * c->threads + c->groups - 1) / c->groups;
    splits = splits > units ? units : splits < 1 ? 1 : splits;
    int failed = 0;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic) if (c->threads > 1)
    for (long w = 0; w < c->groups * splits; w++) {
        long group = w / splits, n = w % splits;
        Pack p;
        Strip *strips = malloc((c->panel + STRIP - 1) / STRIP * sizeof(Strip));
        if (packed(c, &p, group, 0, blocks, 0) && strips)
            forward_range(c, group, units * n / splits, units * (n + 1) / splits, &p, strips);
        else
            failed = 1;
        release(&p);
        free(strips);
    }
    return failed;
}

// The gradients that the columns of a range receive, in the layout of the pack.
typedef struct {
    float *column, *value, *sum;
} Columns;

static void load_weights(const Call *c, Strip *strips, long group, long panel, long width) {
    long from = panel * c->panel, to = from + c->panel < c->rows ? from + c->panel : c->rows;
    for (long i = from; i < from + padded(to - from, STRIP); i++) {
        Strip *t = strips + (i - from) / STRIP;
        long r = (i - from) % STRIP;
        const float *w = c->weight + (group * c->rows + i) * (c->width + 1);
        memset(t->weight + r * width, 0, 4 * width);
        memset(t->tight + r * c->width, 0, 4 * c->width);
        t->last[r] = 0;
        if (i >= to) continue;
        memcpy(t->weight + r * width, w, 4 * c->width);
        memcpy(t->tight + r * c->width, w, 4 * c->width);
        t->last[r] = w[c->width];
    }
}

// Adds the gradients of a strip and a block.
static void backward_pair(const Call *c, Strip *t, const Pack *p, long b, const Columns *to) {
    long size = p->size, dim = p->dim, distance = c->kind == DISTANCE;
    float x[STRIP * BLOCK], s[STRIP * BLOCK], u[STRIP * BLOCK], near[STRIP * WIDEST];
    if (apart(t, p, b) || !strengths(c, t, p, b, x, s)) return;
    if (c->d_value) add_to_columns(s, t->weight, size, p->width, to->value + b * size * p->width);
    if (!c->d_row && !c->d_threshold) return;
    arguments(t->tight, p->value_across + b * c->width * size, c->width, size, u, 0, 1.0f);
    const float *count = p->count + b * size, *centre = p->centre + b * dim;
    float *column_sum = to->sum + b * size;
    for (long r = 0; r < STRIP; r++) {
        float *row = u + r * size, own = t->last[r];
#pragma omp simd
        for (long j = 0; j < size; j++) row[j] += own * count[j];
        float sum = slope_of_row(c, x + r * size, s + r * size, row, t->threshold[r], size,
                                 t->total + r);
        for (long d = 0; d < dim; d++) {
            float point = d < c->dim ? t->row[r * c->dim + d] - centre[d] : 0.0f;
            near[r * dim + d] = point;
            if (distance) t->sums[r * dim + d] -= point * sum;
        }
        if (distance)
#pragma omp simd
            for (long j = 0; j < size; j++) column_sum[j] += row[j];
    }
    if (!c->d_row) return;
    add_to_rows(u, p->down + b * size * dim, size, dim, t->sums);
    add_to_columns(u, near, size, dim, to->column + b * size * dim);
}

static void backward_range(const Call *c, long group, const Pack *p, Strip *strips,
                           const Columns *to, float *d_row, float *d_threshold) {
    long dim = p->dim, distance = c->kind == DISTANCE, panels = (c->rows + c->panel - 1) / c->panel;
    for (long panel = 0; panel < panels; panel++) {
        long count = load_panel(c, strips, group, panel, dim), n;
        load_weights(c, strips, group, panel, p->width);
        long end = visits(c, group, panel, p->blocks, &n);
        for (; n < end; n++) {
            long b = c->list ? c->list[n] - p->first : n;
            if (b < 0 || b >= p->blocks) continue;
            for (Strip *t = strips; t < strips + count; t++) backward_pair(c, t, p, b, to);
        }
        long edge = (panel + 1) * c->panel < c->rows ? (panel + 1) * c->panel : c->rows;
        for (long i = panel * c->panel; i < edge; i++) {
            long r = (i - panel * c->panel) % STRIP;
            const Strip *t = strips + (i - panel * c->panel) / STRIP;
            if (d_threshold) d_threshold[i] += t->total[r];
            for (long d = 0; d < c->dim && d_row; d++)
                d_row[i * c->dim + d] += (distance ? 1.0f : c->scale) * t->sums[r * dim + d];
        }
    }
    for (long b = 0; b < p->blocks; b++) {
        long from = (p->first + b) * c->block;
        long real = c->columns - from < c->block ? c->columns - from : c->block;
        for (long j = 0; j < real; j++) {
            long at = group * c->columns + from + j, in = b * p->size + j;
            if (c->d_value)
                memcpy(c->d_value + at * c->width, to->value + in * p->width, 4 * c->width);
            for (long d = 0; d < c->dim && c->d_row; d++) {
                float g = to->column[in * dim + d];
                if (distance) g -= p->down[in * dim + d] * to->sum[in];
                c->d_column[at * c->dim + d] = distance ? g : c->scale * g;
            }
        }
    }
}

int pairwise_backward(const Call *c) {
    long blocks = (c->columns + c->block - 1) / c->block;
    long splits = (2 * c->threads + c->groups - 1) / c->groups;
    splits = splits > blocks ? blocks : splits < 1 ? 1 : splits;
    long points = c->groups * c->rows * c->dim, rows = c->groups * c->rows;
    int failed = 0;
    // Ranges of columns share their rows, so each has sums of its own there.
    float *d_row = c->d_row && splits > 1 ? space((splits - 1) * points) : NULL;
    float *d_threshold = c->d_threshold && splits > 1 ? space((splits - 1) * rows) : NULL;
    if (splits > 1 && ((c->d_row && !d_row) || (c->d_threshold && !d_threshold))) return 1;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic) if (c->threads > 1)
    for (long w = 0; w < c->groups * splits; w++) {
        long group = w / splits, n = w % splits;
        long from = blocks * n / splits, to = blocks * (n + 1) / splits;
        float *own_row = n ? d_row + (n - 1) * points : c->d_row;
        float *own_threshold = n ? d_threshold + (n - 1) * rows : c->d_threshold;
        if (!c->d_row) own_row = NULL;
        if (!c->d_threshold) own_threshold = NULL;
        Pack p;
        Strip *strips = malloc((c->panel + STRIP - 1) / STRIP * sizeof(Strip));
        int done = packed(c, &p, group, from, to - from, 1) && strips;
        long all = p.blocks * p.size;
        Columns columns = {space(all * p.dim), space(all * p.width), space(all)};
        done = done && columns.column && columns.value && columns.sum;
        if (done)
            backward_range(c, group, &p, strips, &columns,
                           own_row ? own_row + group * c->rows * c->dim : NULL,
                           own_threshold ? own_threshold + group * c->rows : NULL);
        else
            failed = 1;
        release(&p);
        free(strips), free(columns.column), free(columns.value), free(columns.sum);
    }
    for (long n = 1; n < splits; n++) {
        for (long i = 0; i < points && c->d_row; i++) c->d_row[i] += d_row[(n - 1) * points + i];
        for (long i = 0; i < rows && c->d_threshold; i++)
            c->d_threshold[i] += d_threshold[(n - 1) * rows + i];
    }
    free(d_row), free(d_threshold);
    return failed;
}
