// blocks32.h - the types made of independent blocks of 32: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL,
// and IQ4_XS, whose super-blocks are eight IQ4 blocks.
//
// Q8_0 to Q5_1 need no search, only the extremes of each block.  A maximum does not depend on the
// order (but for the sign of zero and of equal magnitudes, see below), so a block is first reduced
// to one vector in memory order; transposing LANES such vectors then finishes LANES blocks at once
// and their divisions and half-precision roundings run side by side.
#pragma once
#include "formats.h"

namespace {

enum { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
       Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, F32 = 0, F16 = 1, BF16 = 30 };

struct Scales32 {  // of LANES blocks: x is quantised to (x - min) * id + bias
    float d[LANES], min[LANES], id[LANES], bias[LANES];
};

template <class F> INLINE vf across(vf *r, F op) {  // lane k of the result: r[k] reduced
    transpose(r);
    for (int n = LANES / 2; n; n /= 2)
        for (int i = 0; i < n; ++i) r[i] = op(r[i], r[i + n]);
    return r[0];
}

template <int TYPE> INLINE Scales32 scales32(const float *x) {
    vf low[LANES], high[LANES], d, min = vf{}, bias = vf{};
    for (int k = 0; k < LANES; ++k) {
        vf v = load(x + k * 32);
        if (TYPE == Q8_0) v = fabs_(v);
        low[k] = high[k] = v;
        for (int i = LANES; i < 32; i += LANES) {
            v = load(x + k * 32 + i);
            if (TYPE == Q8_0) v = fabs_(v);
            else low[k] = min_(v, low[k]);
            high[k] = max_(v, high[k]);
        }
    }
    vf hi = across(high, [](vf a, vf b) { return max_(a, b); });
    if (TYPE == Q8_0) {
        d = hi / 127.f;
    } else {
        vf lo = across(low, [](vf a, vf b) { return min_(a, b); });
        if (TYPE == Q4_0 || TYPE == Q5_0) {
            // the first element of largest magnitude: only +m and -m together are ambiguous
            vf max = hi > -lo ? hi : lo;
            const vi tie = (hi == -lo) & (hi != 0.f);
            max = ((hi == 0.f) & (lo == 0.f)) ? vf{} : max;  // as if never found: +0
            if (__builtin_expect(any(tie), 0))
                for (int k = 0; k < LANES; ++k)
                    if (tie[k]) max[k] = largest_magnitude(x + k * 32, 32);
            d = max / (TYPE == Q4_0 ? -8.f : -16.f);
            bias = splat(TYPE == Q4_0 ? 8.5f : 16.5f);
        } else {
            // a minimum of zero keeps the sign of the first zero (it is stored in the block); a
            // maximum of zero only counts if all are zero, and is then that same first one
            const vi zero = lo == 0.f;
            if (__builtin_expect(any(zero), 0)) {
                for (int k = 0; k < LANES; ++k) {
                    if (!zero[k]) continue;
                    int i = 0;
                    while (x[k * 32 + i] != 0.f) ++i;
                    lo[k] = x[k * 32 + i];
                    if (hi[k] == 0.f) hi[k] = lo[k];
                }
            }
            min = lo;
            d = (hi - lo) / (TYPE == Q4_1 ? 15.f : 31.f);
            bias = splat(0.5f);
        }
    }
    // For denormal scales 1 / d is infinite.  llama.cpp then converts infinities and NaN to
    // integers; on x86 all of that comes out as a low byte of 0, and so it does here.
    vf id = d != 0.f ? 1.f / d : vf{};
    const vi infinite = (bits(id) & 0x7fffffff) == 0x7f800000;
    id = infinite ? vf{} : id;
    bias = infinite ? vf{} : bias;
    Scales32 s;
    store(s.d, d);
    store(s.min, min);
    store(s.id, id);
    store(s.bias, bias);
    return s;
}

template <int TYPE> static bool tile32(const float *x, int blocks, uint8_t *dst) {
    const bool offset = TYPE == Q4_1 || TYPE == Q5_1;
    const int top = TYPE == Q4_0 || TYPE == Q4_1 ? 15 : 31;
    bool ok = true;
    for (int first = 0; first < blocks; first += LANES) {
        const Scales32 s = scales32<TYPE>(x + first * 32);
        uint16_t d[LANES], m[LANES];
        for (int k = 0; k < LANES; ++k) d[k] = to_half(s.d[k]);
        if (offset) for (int k = 0; k < LANES; ++k) m[k] = to_half(s.min[k]);
        const int n = blocks - first < LANES ? blocks - first : LANES;
        for (int k = 0; k < n; ++k) {
            const float *xb = x + (first + k) * 32;
            ok &= (d[k] & 0x7c00) != 0x7c00;
            memcpy(dst, &d[k], 2);
            dst += 2;
            if (TYPE == Q8_0) {
                // roundf, halves away from zero: add the float below 1/2 and cut off.  (Adding 1/2
                // itself would round 0.49999997 up.)
                const vf id = splat(s.id[k]);
                put_bytes<32>(dst, [&](int i) {
                    const vf v = load(xb + i) * id;
                    const vi half = (bits(v) & (int32_t)0x80000000) | 0x3effffff;
                    return truncate(v + unbits(half));
                });
                dst += 32;
                continue;
            }
            if (offset) {
                ok &= (m[k] & 0x7c00) != 0x7c00;
                memcpy(dst, &m[k], 2);
                dst += 2;
            }
            vi q[32 / LANES];
            uint32_t high = 0;
            for (int i = 0; i < 32 / LANES; ++i) {
                vf v = load(xb + i * LANES);
                if (offset) v = v - s.min[k];
                q[i] = truncate(v * s.id[k] + s.bias[k]);
                q[i] = q[i] > top ? splat(top) : q[i];
                if (top == 31) {
                    high |= sign_mask(q[i] > 15) << (i * LANES);
                    q[i] &= 15;
                }
            }
            if (top == 31) {
                memcpy(dst, &high, 4);
                dst += 4;
            }
            put_bytes<16>(dst, [&](int i) { return q[i / LANES] | q[(i + 16) / LANES] << 4; });
            dst += 16;
        }
    }
    return ok;
}

// ---- IQ4

INLINE void pack_iq4(const float *x, float id, uint8_t *q) {
    put_bytes<16>(q, [&](int i) { return iq4_index(load(x + i) * id) | iq4_index(load(x + 16 + i) * id) << 4; });
}

static void iq4_scales(const float *x, int blocks, float *scale) {
    static_assert(TILE % (G_IQ4 * LANES * 32) == 0, "the last group of a tile would run past its end");
    for (int first = 0; first < blocks; first += G_IQ4 * LANES) {
        vf t[G_IQ4 * 32];
        for (int g = 0; g < G_IQ4; ++g) to_lanes<32>(x + (first + g * LANES) * 32, t + g * 32);
        search_iq4<32, G_IQ4>(t, scale + first);
    }
}

static bool tile_iq4_nl(const float *x, int blocks, uint8_t *dst) {
    float scale[TILE / 32];
    iq4_scales(x, blocks, scale);
    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += 32, dst += 18) {
        ok &= put_half(dst, scale[b]);
        pack_iq4(x, scale[b] != 0.f ? 1 / scale[b] : 0.f, dst + 2);
    }
    return ok;
}

static bool tile_iq4_xs(const float *x, int blocks, uint8_t *dst) {
    float scales[TILE / 32];
    iq4_scales(x, blocks * 8, scales);
    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += SUPER, dst += 136) {
        const float *scale = scales + b * 8;
        const float d = -largest_magnitude(scale, 8) / 32, id = d != 0.f ? 1 / d : 0.f;
        uint16_t scales_h = 0;
        ok &= put_half(dst, d);
        memset(dst + 4, 0, 4);
        for (int j = 0; j < 8; ++j) {
            int l = nearest_int(id * scale[j]);
            l = l < -32 ? -32 : l > 31 ? 31 : l;
            const float dl = d * (float)l;
            pack_iq4(x + j * 32, dl != 0.f ? 1 / dl : 0.f, dst + 8 + j * 16);
            l += 32;
            dst[4 + j / 2] |= (uint8_t)((l & 15) << (j % 2 * 4));
            scales_h = (uint16_t)(scales_h | (l >> 4) << (j * 2));
        }
        memcpy(dst + 2, &scales_h, 2);
    }
    return ok;
}

}  // namespace
