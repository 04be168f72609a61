// search.h - llama.cpp's searches for the scale of a sub-block, LANES sub-blocks side by side.
//
// llama.cpp runs these searches on one sub-block at a time, and most of their time goes into
// chains of dependent float additions that no compiler may reorder.  Here every lane of a vector
// holds a different sub-block and does the very same float operations in the very same order, so
// each lane's result is bit-identical; branches become selects.  G vectors are interleaved to keep
// the adders busy while one chain waits for its own last sum.
//
// All searches take elements in lane-major order (see to_lanes): element i of group g is
// x[g * N + i].  They return per lane the scale and whatever is needed to recompute the quants;
// those are only wanted for sub-blocks whose quantised scale is zero, so storing them in the inner
// loops would be a waste.
#pragma once
#include "vec.h"

namespace {

const float EPS = 1e-15f;      // a sub-block whose largest magnitude is below this counts as zero
const float BIG = 2097152.f;   // 2^21, a safe bound for nearest_fast

// How to round and clamp: bit by bit; on floats; on floats known to stay below the upper end.
enum Rounding { EXACT, FAST, FAST_BELOW };

template <Rounding HOW> INLINE vf rounded(vf v, int32_t lo, int32_t hi) {
    if (HOW == EXACT) return to_float(clamp(nearest_bits(v), lo, hi));
    const vf r = max_(nearest_fast(v), splat((float)lo));
    return HOW == FAST ? min_(r, splat((float)hi)) : r;
}

// ---- scale and minimum: x ~ scale * l + min, l in [0, NMAX], min <= 0  (Q2_K, Q4_K, Q5_K)

template <int N, int NMAX, int G, Rounding HOW>
INLINE void quantise_and_sum(const vf *x, const vf *w, const vf *iscale, const vf *low, vf *L,
                             vf *sum_l, vf *sum_l2, vf *sum_xl) {
    for (int g = 0; g < G; ++g) sum_l[g] = sum_l2[g] = sum_xl[g] = vf{};
    for (int i = 0; i < N; ++i) {
        for (int g = 0; g < G; ++g) {
            const int k = g * N + i;
            const vf l = rounded<HOW>(iscale[g] * (x[k] - low[g]), 0, NMAX);
            const vf wl = w[k] * l;
            L[k] = l;
            sum_l[g] += wl;
            sum_l2[g] += wl * l;
            sum_xl[g] += wl * x[k];
        }
    }
}

template <int N, int G, bool MAD>
INLINE void fit_error(const vf *x, const vf *w, const vf *L, const vf *scale, const vf *low, vf *error) {
    for (int g = 0; g < G; ++g) error[g] = vf{};
    for (int i = 0; i < N; ++i) {
        for (int g = 0; g < G; ++g) {
            const int k = g * N + i;
            const vf diff = scale[g] * L[k] + low[g] - x[k];
            error[g] += w[k] * (MAD ? fabs_(diff) : diff * diff);
        }
    }
}

struct MinFit {       // one entry per sub-block, in memory order
    float *scale;     // the scale found
    float *min;       // minus the minimum found
    float *iscale;    // with base, the best quants: clamp(nearest_int(iscale * (x - base)), 0, NMAX)
    float *base;
};

template <int N, int NMAX, int STEPS, bool MAD, int G>
static void search_scale_min(const vf *x, const vf *w, float rmin, float rdelta, const MinFit &out) {
    vf low[G], high[G], bottom[G], sum_w[G], sum_x[G];
    for (int g = 0; g < G; ++g) {
        low[g] = high[g] = x[g * N];
        sum_w[g] = w[g * N];
        sum_x[g] = sum_w[g] * x[g * N];
    }
    for (int i = 1; i < N; ++i) {
        for (int g = 0; g < G; ++g) {
            const vf v = x[g * N + i], wi = w[g * N + i];
            low[g] = min_(v, low[g]);
            high[g] = max_(v, high[g]);
            sum_w[g] += wi;
            sum_x[g] += wi * v;
        }
    }

    vf L[G * N], scale[G], error[G], iscale[G], sum_l[G], sum_l2[G], sum_xl[G];
    vf best_iscale[G], best_base[G], best_error[G], best_scale[G];
    vi flat[G];
    for (int g = 0; g < G; ++g) {
        bottom[g] = low[g];
        low[g] = low[g] > 0.f ? vf{} : low[g];
        flat[g] = high[g] == low[g];
    }

    // Step -1 is the plain quantisation from minimum to maximum, with the scale taken as it is;
    // the others refit scale and minimum by least squares.  A better fit replaces `low`, from
    // which the following steps start: the steps cannot be reordered or run side by side.
    for (int step = -1; step <= STEPS; ++step) {
        const float range = step < 0 ? (float)NMAX : rmin + rdelta * (float)step + (float)NMAX;
        vi odd = vi{}, top = vi{};
        for (int g = 0; g < G; ++g) {
            iscale[g] = range / (high[g] - low[g]);
            // nearest_fast is right if the smallest and the largest argument are small: every
            // other one is between them.  Else (denormal or overflowing ranges) go bit by bit.
            const vf first = fabs_(iscale[g] * (bottom[g] - low[g]));
            const vf last = fabs_(iscale[g] * (high[g] - low[g]));
            const vf limit = splat(NMAX + 0.49f);  // below it everything rounds to NMAX at most
            odd |= ~(((first < BIG) & (last < BIG)) | flat[g]);
            top |= ~((first < limit) & (last < limit));
        }
        if (__builtin_expect(any(odd), 0))
            quantise_and_sum<N, NMAX, G, EXACT>(x, w, iscale, low, L, sum_l, sum_l2, sum_xl);
        else if (any(top))
            quantise_and_sum<N, NMAX, G, FAST>(x, w, iscale, low, L, sum_l, sum_l2, sum_xl);
        else
            quantise_and_sum<N, NMAX, G, FAST_BELOW>(x, w, iscale, low, L, sum_l, sum_l2, sum_xl);

        if (step < 0) {
            for (int g = 0; g < G; ++g) {
                best_iscale[g] = iscale[g];
                best_base[g] = low[g];
                best_scale[g] = 1.f / iscale[g];
            }
            fit_error<N, G, MAD>(x, w, L, best_scale, low, best_error);
            continue;
        }
        vf min[G], D[G];
        for (int g = 0; g < G; ++g) {
            D[g] = sum_w[g] * sum_l2[g] - sum_l[g] * sum_l[g];
            scale[g] = (sum_w[g] * sum_xl[g] - sum_x[g] * sum_l[g]) / D[g];
            min[g] = (sum_l2[g] * sum_x[g] - sum_l[g] * sum_xl[g]) / D[g];
            const vi positive = min[g] > 0.f;
            if (any(positive)) {  // worth a branch: it saves a division
                scale[g] = positive ? sum_xl[g] / sum_l2[g] : scale[g];
                min[g] = positive ? vf{} : min[g];
            }
        }
        fit_error<N, G, MAD>(x, w, L, scale, min, error);
        for (int g = 0; g < G; ++g) {
            const vi better = (D[g] > 0.f) & (error[g] < best_error[g]);
            best_error[g] = better ? error[g] : best_error[g];
            best_iscale[g] = better ? iscale[g] : best_iscale[g];
            best_base[g] = better ? low[g] : best_base[g];
            best_scale[g] = better ? scale[g] : best_scale[g];
            low[g] = better ? min[g] : low[g];
        }
    }

    for (int g = 0; g < G; ++g) {
        // flat: no scale, quants all zero (iscale 0 recomputes those).  Their low was never changed:
        // iscale is infinite and x - low zero, the NaN quantises to 0, and D is not above 0.
        store(out.scale + g * LANES, flat[g] ? vf{} : best_scale[g]);
        store(out.min + g * LANES, -low[g]);
        store(out.iscale + g * LANES, flat[g] ? vf{} : best_iscale[g]);
        store(out.base + g * LANES, flat[g] ? vf{} : best_base[g]);
    }
}

// ---- scale only, weighted by x^2: x ~ scale * l, l in [-NMAX, NMAX - 1]  (Q6_K)

// The element of largest magnitude, the first of them if several are equal, sign kept.
template <int N> INLINE vf signed_max(const vf *x, vf &amax) {
    vf best = vf{};
    amax = vf{};
    for (int i = 0; i < N; ++i) {
        const vf a = fabs_(x[i]);
        best = a > amax ? x[i] : best;
        amax = max_(a, amax);
    }
    return best;
}

// LO, HI: whether the clamp to that end can matter.  |iscale * x| never exceeds the numerator of
// iscale (+ 3 ulp), so steps that scale down need no clamp, and all of them may use nearest_fast.
template <int N, int NMAX, int G, bool LO, bool HI>
INLINE void sums_of_products(const vf *x, const vf *w, const vf *wx, const vf *iscale, vf *sumlx, vf *suml2) {
    for (int g = 0; g < G; ++g) sumlx[g] = suml2[g] = vf{};
    for (int i = 0; i < N; ++i) {
        for (int g = 0; g < G; ++g) {
            const int k = g * N + i;
            vf l = nearest_fast(iscale[g] * x[k]);
            if (HI) l = min_(l, splat(NMAX - 1.f));
            if (LO) l = max_(l, splat(-(float)NMAX));
            sumlx[g] += wx[k] * l;
            suml2[g] += w[k] * l * l;
        }
    }
}

struct ScaleFit {
    float *scale;
    float *iscale;  // 0 for a zero sub-block (its quants are then the raw 0, not 0 + NMAX)
};

template <int N, int NMAX, int G> static void search_scale(const vf *x, const ScaleFit &out) {
    vf w[G * N], wx[G * N], max[G], iscale[G], sumlx[G], suml2[G], scale[G], best[G], best_iscale[G];
    vi zero[G];
    for (int g = 0; g < G; ++g) {
        vf amax;
        max[g] = signed_max<N>(x + g * N, amax);
        zero[g] = amax < EPS;
        for (int i = g * N; i < (g + 1) * N; ++i) {
            w[i] = x[i] * x[i];
            wx[i] = w[i] * x[i];
        }
        best_iscale[g] = -(float)NMAX / max[g];
    }
    sums_of_products<N, NMAX, G, true, true>(x, w, wx, best_iscale, sumlx, suml2);
    for (int g = 0; g < G; ++g) {
        scale[g] = suml2[g] != 0.f ? sumlx[g] / suml2[g] : vf{};
        best[g] = scale[g] * sumlx[g];
    }
    for (int step = -9; step <= 9; ++step) {
        if (step == 0) continue;
        for (int g = 0; g < G; ++g) iscale[g] = -((float)NMAX + 0.1f * (float)step) / max[g];
        if (step <= -6)  // up to NMAX - 0.6
            sums_of_products<N, NMAX, G, false, false>(x, w, wx, iscale, sumlx, suml2);
        else if (step <= 4)  // up to NMAX + 0.4
            sums_of_products<N, NMAX, G, false, true>(x, w, wx, iscale, sumlx, suml2);
        else
            sums_of_products<N, NMAX, G, true, true>(x, w, wx, iscale, sumlx, suml2);
        for (int g = 0; g < G; ++g) {
            const vi better = (suml2[g] > 0.f) & (sumlx[g] * sumlx[g] > best[g] * suml2[g]);
            if (any(better)) {
                scale[g] = better ? sumlx[g] / suml2[g] : scale[g];
                best[g] = better ? scale[g] * sumlx[g] : best[g];
                best_iscale[g] = better ? iscale[g] : best_iscale[g];
            }
        }
    }
    for (int g = 0; g < G; ++g) {
        store(out.scale + g * LANES, zero[g] ? vf{} : scale[g]);
        store(out.iscale + g * LANES, zero[g] ? vf{} : best_iscale[g]);
    }
}

}  // namespace
