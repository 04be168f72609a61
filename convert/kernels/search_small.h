// search_small.h - the searches for Q3_K and the non-linear 4-bit types (see search.h for the idea).
#pragma once
#include "search.h"

namespace {

// ---- Q3_K: x ~ scale * l, l in [-NMAX, NMAX - 1], improved one element at a time, up to 5 rounds

// quants: lane-major, already shifted to [0, 2 * NMAX); a zero sub-block has 0, unshifted.
template <int N, int NMAX, int G> static void search_coordinate(const vf *x, float *scale, vf *quants) {
    vf w[G * N], wx[G * N], sumlx[G], suml2[G], *L = quants;
    vi zero[G];
    for (int g = 0; g < G; ++g) {
        vf amax;
        const vf max = signed_max<N>(x + g * N, amax);
        const vf iscale = -(float)NMAX / max;
        zero[g] = amax < EPS;
        sumlx[g] = suml2[g] = vf{};
        for (int i = g * N; i < (g + 1) * N; ++i) {
            w[i] = x[i] * x[i];
            wx[i] = w[i] * x[i];
            L[i] = rounded<FAST>(iscale * x[i], -NMAX, NMAX - 1);  // |iscale * x| <= NMAX
            sumlx[g] += wx[i] * L[i];
            suml2[g] += w[i] * L[i] * L[i];
        }
    }
    // llama.cpp stops a sub-block's rounds when one changes nothing; going on until no lane changes
    // is the same, as the next round of an unchanged lane would do nothing again.
    for (int round = 0; round < 5; ++round) {
        vi changed = vi{};
        for (int i = 0; i < N; ++i) {
            for (int g = 0; g < G; ++g) {
                const int k = g * N + i;
                vf slx = sumlx[g] - wx[k] * L[k];
                vf sl2 = suml2[g] - w[k] * L[k] * L[k];
                const vi positive = slx > 0.f;
                // the quotient has no bound, so this needs the exact bits
                const vf l = rounded<EXACT>(x[k] * sl2 / slx, -NMAX, NMAX - 1);
                slx += wx[k] * l;
                sl2 += w[k] * l * l;
                const vi better = positive & (l != L[k]) & (sl2 > 0.f) &
                                  (slx * slx * suml2[g] > sumlx[g] * sumlx[g] * sl2);
                L[k] = better ? l : L[k];
                sumlx[g] = better ? slx : sumlx[g];
                suml2[g] = better ? sl2 : suml2[g];
                changed |= better & ~zero[g];
            }
        }
        if (!any(changed)) break;
    }
    for (int g = 0; g < G; ++g) {
        const vf s = suml2[g] > 0.f ? sumlx[g] / suml2[g] : vf{};
        store(scale + g * LANES, zero[g] ? vf{} : s);
        for (int i = g * N; i < (g + 1) * N; ++i) L[i] = zero[g] ? vf{} : L[i] + (float)NMAX;
    }
}

// ---- IQ4_NL, IQ4_XS: x ~ scale * (one of 16 values)

constexpr float IQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// llama.cpp compares x - lower with upper - x.  Both are exact in the neighbourhood of the middle
// (a multiple of 1/2 far enough from 0) and monotone elsewhere, so comparing with the middle is
// the same; x in the middle goes up.
constexpr float iq4_middle(int i) { return (IQ4[i] + IQ4[i + 1]) * 0.5f; }

INLINE vi iq4_index(vf v) {
    vi n = splat(15);  // counted down: llama.cpp's bisection sends a NaN (of a scale that overflowed) to 15
    for (int i = 0; i < 15; ++i) n += v < iq4_middle(i);
    return n;
}

#if LANES == 16
// Bins of width 8 hold at most one middle each; two-register permutes look up 32 bins.
struct Iq4Bins { float middle[32], below[32], above[32]; };
constexpr Iq4Bins iq4_bins() {
    Iq4Bins t{};
    for (int b = -16; b < 16; ++b) {
        int n = 0;  // middles below this bin, which spans [8b - 4, 8b + 4]
        while (n < 15 && iq4_middle(n) < 8 * b - 4) ++n;
        const bool inside = n < 15 && iq4_middle(n) <= 8 * b + 4;
        t.middle[b & 31] = inside ? iq4_middle(n) : 1000.f;
        t.below[b & 31] = IQ4[n];
        t.above[b & 31] = IQ4[inside ? n + 1 : n];
    }
    return t;
}
static constexpr Iq4Bins BINS = iq4_bins();
INLINE vf iq4_lookup(const float *table, vi bin) {
    return (vf)_mm512_permutex2var_ps((__m512)load(table), (__m512i)bin, (__m512)load(table + 16));
}
INLINE vf iq4_value(vf v) {
    v = min_(max_(v, splat(-120.f)), splat(120.f));
    const vi bin = bits(v + 100663296.f);  // 1.5 * 2^26: the last bits count multiples of 8
    return v >= iq4_lookup(BINS.middle, bin) ? iq4_lookup(BINS.above, bin) : iq4_lookup(BINS.below, bin);
}
#elif LANES == 8
// A binary search: two levels of selects, two of 8-entry permutes.
INLINE vf iq4_pick(const float *table, vi i) {
    return (vf)_mm256_permutevar8x32_ps((__m256)load(table), (__m256i)i);
}
INLINE vf iq4_value(vf v) {
    static const float third[8] = {iq4_middle(1), iq4_middle(5), iq4_middle(9), iq4_middle(13)};
    static const float fourth[8] = {iq4_middle(0), iq4_middle(2), iq4_middle(4), iq4_middle(6),
                                    iq4_middle(8), iq4_middle(10), iq4_middle(12), iq4_middle(14)};
    static const float even[8] = {IQ4[0], IQ4[2], IQ4[4], IQ4[6], IQ4[8], IQ4[10], IQ4[12], IQ4[14]};
    static const float odd[8] = {IQ4[1], IQ4[3], IQ4[5], IQ4[7], IQ4[9], IQ4[11], IQ4[13], IQ4[15]};
    const vi a = v >= iq4_middle(7);
    const vi b = v >= (a ? splat(iq4_middle(11)) : splat(iq4_middle(3)));
    vi n = -(a + a + b);
    n = n + n - (v >= iq4_pick(third, n));
    return v >= iq4_pick(fourth, n) ? iq4_pick(odd, n) : iq4_pick(even, n);
}
#else
// Without permutes: every middle is a multiple of 1/2, so one table entry per half decides.
struct Iq4Halves { float value[512]; };
constexpr Iq4Halves iq4_halves() {
    Iq4Halves t{};
    for (int i = 0; i < 512; ++i) {
        int n = 0;
        while (n < 15 && (float)(i - 256) * 0.5f >= iq4_middle(n)) ++n;
        t.value[i] = IQ4[n];
    }
    return t;
}
static constexpr Iq4Halves HALVES = iq4_halves();
INLINE vf iq4_value(vf v) {
    v = min_(max_(v, splat(-127.f)), splat(127.f)) * 2.f;
    vi i = truncate(v);
    i += v < to_float(i);  // floor
    i += 256;
    vf r;
    for (int k = 0; k < LANES; ++k) r[k] = HALVES.value[i[k]];
    return r;
}
#endif

template <int N, int G>
INLINE void iq4_sums(const vf *x, const vf *id, vf *sumqx, vf *sumq2) {
    for (int g = 0; g < G; ++g) sumqx[g] = sumq2[g] = vf{};
    for (int i = 0; i < N; ++i) {
        for (int g = 0; g < G; ++g) {
            const vf v = x[g * N + i], q = iq4_value(id[g] * v), wq = (v * v) * q;
            sumqx[g] += wq * v;
            sumq2[g] += wq * q;
        }
    }
}

template <int N, int G> static void search_iq4(const vf *x, float *scale_out) {
    vf max[G], id[G], scale[G], best[G], sumqx[G], sumq2[G];
    vi zero[G];
    for (int g = 0; g < G; ++g) {
        vf amax;
        max[g] = signed_max<N>(x + g * N, amax);
        zero[g] = amax < EPS;
        max[g] = zero[g] ? splat(1.f) : max[g];  // no NaN may reach a table index
        id[g] = 1.f / (-max[g] / IQ4[0]);
    }
    iq4_sums<N, G>(x, id, sumqx, sumq2);
    for (int g = 0; g < G; ++g) {
        scale[g] = sumq2[g] > 0.f ? sumqx[g] / sumq2[g] : vf{};
        best[g] = scale[g] * sumqx[g];
    }
    for (int step = -7; step <= 7; ++step) {
        for (int g = 0; g < G; ++g) id[g] = ((float)step + IQ4[0]) / max[g];
        iq4_sums<N, G>(x, id, sumqx, sumq2);
        for (int g = 0; g < G; ++g) {
            const vi better = (sumq2[g] > 0.f) & (sumqx[g] * sumqx[g] > best[g] * sumq2[g]);
            scale[g] = better ? sumqx[g] / sumq2[g] : scale[g];
            best[g] = better ? scale[g] * sumqx[g] : best[g];
        }
    }
    for (int g = 0; g < G; ++g) store(scale_out + g * LANES, zero[g] ? vf{} : scale[g]);
}

}  // namespace
