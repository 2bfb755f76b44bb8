// Phases to the operands of attention and back: gated and drifted cosines and sines as queries and
// keys, harmonics folded with a complex kernel as values, and the mean rotated to increments.
//
// Each pass reads a token once. Of `first` (0 or 1) leading tokens no query is made, and of as many
// last ones no key and no value: what is strictly before t is then what is not after t.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIMD _Pragma("omp simd")
// A long sum in one float loses digits; so many tokens are summed before they join it.
#define FEW 32

// One call. Strides are those of batch, heads and length; coordinates lie side by side.
typedef struct {
    const float *cosine, *sine, *query_gate, *key_gate, *turn_cosine, *turn_sine;
    const float *real, *imaginary, *mean, *d_query, *d_key, *d_value, *d_out;
    const uint8_t *hidden;
    float *query, *key, *value, *out;
    float *d_phase, *d_query_gate, *d_key_gate, *d_real, *d_imaginary, *d_mean;
    int64_t batch, heads, length, dim, harmonics, delays, first;
    int64_t score_width, value_width, threads;
    int64_t phase_stride[3], query_gate_stride[3], key_gate_stride[3], mean_stride[3];
    int64_t out_stride[3];
} Phases;

static inline long at(const int64_t stride[3], long b, long h, long t) {
    return b * stride[0] + h * stride[1] + t * stride[2];
}

// Cosines then sines of m times the angle, m = 1 .. count, by Chebyshev's recurrence.
static void harmonics(const float *c, const float *s, long count, long dim, float *to) {
    float *cos_m = to, *sin_m = to + count * dim;
    memcpy(cos_m, c, 4 * dim);
    memcpy(sin_m, s, 4 * dim);
    for (long m = 1; m < count; m++) {
        float *x = cos_m + m * dim, *y = sin_m + m * dim;
        if (m == 1) {
            SIMD for (long d = 0; d < dim; d++) {
                x[d] = c[d] * c[d] - s[d] * s[d];
                y[d] = 2 * c[d] * s[d];
            }
        } else {
            const float *x1 = x - dim, *y1 = y - dim, *x2 = x1 - dim, *y2 = y1 - dim;
            SIMD for (long d = 0; d < dim; d++) {
                x[d] = 2 * c[d] * x1[d] - x2[d];
                y[d] = 2 * c[d] * y1[d] - y2[d];
            }
        }
    }
}

// The harmonics of token t as others see it: none of a hidden one or beyond the end.
static void seen(const Phases *p, long b, long h, long t, float *to) {
    if (t >= p->length || (p->hidden && p->hidden[b * p->length + t])) {
        memset(to, 0, 8 * p->harmonics * p->dim);
        return;
    }
    long place = at(p->phase_stride, b, h, t);
    harmonics(p->cosine + place, p->sine + place, p->harmonics, p->dim, to);
}

static void turned(const Phases *p, long t, const float *c, const float *s, float *x, float *y) {
    long dim = p->dim;
    if (!p->turn_cosine) {
        memcpy(x, c, 4 * dim);
        memcpy(y, s, 4 * dim);
        return;
    }
    const float *tc = p->turn_cosine + t * dim, *ts = p->turn_sine + t * dim;
    SIMD for (long d = 0; d < dim; d++) {
        x[d] = c[d] * tc[d] - s[d] * ts[d];
        y[d] = s[d] * tc[d] + c[d] * ts[d];
    }
}

static void gated(const float *gate, const float *x, const float *y, long dim, long width,
                  float *to) {
    SIMD for (long d = 0; d < dim; d++) {
        to[d] = gate[d] * x[d];
        to[dim + d] = gate[d] * y[d];
    }
    memset(to + 2 * dim, 0, 4 * (width - 2 * dim));
}

static void fold(const Phases *p, long h, const float *now, const float *next, float *to) {
    long dim = p->dim, M = p->harmonics, used = 2 * M * dim;
    for (long m = 0; m < M; m++) {
        const float *a = p->real + (h * p->delays * M + m) * dim;
        const float *b = p->imaginary + (h * p->delays * M + m) * dim;
        const float *c = now + m * dim, *s = c + M * dim;
        float *re = to + 2 * m * dim, *im = re + dim;
        if (p->delays == 1) {
            SIMD for (long d = 0; d < dim; d++) {
                re[d] = a[d] * c[d] - b[d] * s[d];
                im[d] = a[d] * s[d] + b[d] * c[d];
            }
            continue;
        }
        const float *a1 = a + M * dim, *b1 = b + M * dim, *c1 = next + m * dim, *s1 = c1 + M * dim;
        SIMD for (long d = 0; d < dim; d++) {
            re[d] = a[d] * c[d] - b[d] * s[d] + a1[d] * c1[d] - b1[d] * s1[d];
            im[d] = a[d] * s[d] + b[d] * c[d] + a1[d] * s1[d] + b1[d] * c1[d];
        }
    }
    memset(to + used, 0, 4 * (p->value_width - used));
}

static int encode_one(const Phases *p, long b, long h) {
    long dim = p->dim, size = 2 * p->harmonics * dim, rows = p->length - p->first;
    float *room = malloc(4 * (2 * size + 2 * dim));
    if (!room) return 1;
    float *now = room, *next = room + size, *x = next + size, *y = x + dim;
    long group = (b * p->heads + h) * rows;
    seen(p, b, h, 0, now);
    for (long t = 0; t < p->length; t++) {
        long place = at(p->phase_stride, b, h, t);
        turned(p, t, p->cosine + place, p->sine + place, x, y);
        if (t >= p->first)
            gated(p->query_gate + at(p->query_gate_stride, b, h, t), x, y, dim, p->score_width,
                  p->query + (group + t - p->first) * p->score_width);
        if (t >= rows) continue;
        gated(p->key_gate + at(p->key_gate_stride, b, h, t), x, y, dim, p->score_width,
              p->key + (group + t) * p->score_width);
        if (p->delays > 1) seen(p, b, h, t + 1, next);
        fold(p, h, now, next, p->value + (group + t) * p->value_width);
        if (p->delays > 1) {
            float *swap = now;
            now = next, next = swap;
        } else {
            seen(p, b, h, t + 1, now);
        }
    }
    free(room);
    return 0;
}

// Adds what one row of value gradients says of the token it reads and of the kernel's entries.
static void fold_gradient(const Phases *p, long h, long n, const float *from,
                          const float *seen_now, float *d_phase, float *sums) {
    long dim = p->dim, M = p->harmonics;
    for (long m = 0; m < M; m++) {
        long entry = ((h * p->delays + n) * M + m) * dim;
        long sum = (n * M + m) * dim;
        const float *a = p->real + entry, *b = p->imaginary + entry;
        float *da = sums + sum, *db = da + p->delays * M * dim;
        const float *re = from + 2 * m * dim, *im = re + dim;
        const float *c = seen_now + m * dim, *s = c + M * dim;
        float order = (float)(m + 1);
        SIMD for (long d = 0; d < dim; d++) {
            float dc = a[d] * re[d] + b[d] * im[d], ds = a[d] * im[d] - b[d] * re[d];
            d_phase[d] += order * (c[d] * ds - s[d] * dc);
            da[d] += re[d] * c[d] + im[d] * s[d];
            db[d] += im[d] * c[d] - re[d] * s[d];
        }
    }
}

static int encode_gradient_one(const Phases *p, long b, long h) {
    long dim = p->dim, size = 2 * p->harmonics * dim, rows = p->length - p->first;
    long entries = p->delays * p->harmonics * dim;
    float *room = malloc(4 * (size + 2 * dim + 2 * entries));
    if (!room) return 1;
    float *now = room, *x = room + size, *y = x + dim, *sums = y + dim;
    long number = b * p->heads + h, group = number * rows;
    float *d_real = p->d_real + number * entries, *d_imaginary = p->d_imaginary + number * entries;
    for (long t = 0; t < p->length; t++) {
        if (t % FEW == 0) memset(sums, 0, 8 * entries);
        long place = at(p->phase_stride, b, h, t);
        float *d_phase = p->d_phase + place;
        memset(d_phase, 0, 4 * dim);
        turned(p, t, p->cosine + place, p->sine + place, x, y);
        float *d_gate[2] = {p->d_query_gate + (number * p->length + t) * dim,
                            p->d_key_gate + (number * p->length + t) * dim};
        const float *gate[2] = {p->query_gate + at(p->query_gate_stride, b, h, t),
                                p->key_gate + at(p->key_gate_stride, b, h, t)};
        const float *given[2] = {
            t >= p->first ? p->d_query + (group + t - p->first) * p->score_width : 0,
            t < rows ? p->d_key + (group + t) * p->score_width : 0};
        for (int side = 0; side < 2; side++) {
            if (!given[side]) {
                memset(d_gate[side], 0, 4 * dim);
                continue;
            }
            const float *gx = given[side], *gy = gx + dim, *g = gate[side];
            float *dg = d_gate[side];
            SIMD for (long d = 0; d < dim; d++) {
                dg[d] = gx[d] * x[d] + gy[d] * y[d];
                d_phase[d] += g[d] * (gy[d] * x[d] - gx[d] * y[d]);
            }
        }
        if (!p->hidden || !p->hidden[b * p->length + t]) {
            seen(p, b, h, t, now);
            const float *row = p->d_value + (group + t) * p->value_width;
            if (t < rows) fold_gradient(p, h, 0, row, now, d_phase, sums);
            if (p->delays > 1 && t > 0)
                fold_gradient(p, h, 1, row - p->value_width, now, d_phase, sums);
        }
        if (t % FEW < FEW - 1 && t < p->length - 1) continue;
        SIMD for (long i = 0; i < entries; i++) {
            d_real[i] += sums[i];
            d_imaginary[i] += sums[entries + i];
        }
    }
    free(room);
    return 0;
}

static int unfold_one(const Phases *p, long b, long h) {
    long dim = p->dim, M = p->harmonics;
    float *now = malloc(8 * M * dim);
    if (!now) return 1;
    for (long t = 0; t < p->length; t++) {
        float *out = p->out + at(p->out_stride, b, h, t);
        memset(out, 0, 4 * dim);
        if (t < p->first) continue;
        long place = at(p->phase_stride, b, h, t);
        harmonics(p->cosine + place, p->sine + place, M, dim, now);
        const float *mean = p->mean + at(p->mean_stride, b, h, t - p->first);
        for (long m = 0; m < M; m++) {
            const float *c = now + m * dim, *s = c + M * dim;
            const float *re = mean + 2 * m * dim, *im = re + dim;
            SIMD for (long d = 0; d < dim; d++) out[d] += c[d] * im[d] - s[d] * re[d];
        }
    }
    free(now);
    return 0;
}

static int unfold_gradient_one(const Phases *p, long b, long h) {
    long dim = p->dim, M = p->harmonics, used = 2 * M * dim;
    float *now = malloc(8 * M * dim);
    if (!now) return 1;
    for (long t = 0; t < p->length; t++) {
        long place = at(p->phase_stride, b, h, t);
        float *d_phase = p->d_phase + place;
        memset(d_phase, 0, 4 * dim);
        if (t < p->first) continue;
        harmonics(p->cosine + place, p->sine + place, M, dim, now);
        const float *given = p->d_out + at(p->out_stride, b, h, t);
        const float *mean = p->mean + at(p->mean_stride, b, h, t - p->first);
        float *d_mean = p->d_mean + at(p->mean_stride, b, h, t - p->first);
        for (long m = 0; m < M; m++) {
            const float *c = now + m * dim, *s = c + M * dim;
            const float *re = mean + 2 * m * dim, *im = re + dim;
            float *d_re = d_mean + 2 * m * dim, *d_im = d_re + dim, order = (float)(m + 1);
            SIMD for (long d = 0; d < dim; d++) {
                d_im[d] = c[d] * given[d];
                d_re[d] = -s[d] * given[d];
                d_phase[d] -= order * given[d] * (s[d] * im[d] + c[d] * re[d]);
            }
        }
        memset(d_mean + used, 0, 4 * (p->value_width - used));
    }
    free(now);
    return 0;
}

// Runs a pass for every sequence and head; returns 1 when there was no memory.
static int each(const Phases *p, int (*pass)(const Phases *, long, long)) {
    int failed = 0;
    long count = p->batch * p->heads;
#pragma omp parallel for num_threads((int)p->threads) reduction(| : failed)
    for (long i = 0; i < count; i++) failed |= pass(p, i / p->heads, i % p->heads);
    return failed;
}

int phases_encode(const Phases *p) { return each(p, encode_one); }
int phases_encode_gradient(const Phases *p) { return each(p, encode_gradient_one); }
int phases_unfold(const Phases *p) { return each(p, unfold_one); }
int phases_unfold_gradient(const Phases *p) { return each(p, unfold_gradient_one); }
