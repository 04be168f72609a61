// formats.h - from a tile of floats to the blocks of each ggml type: the lane-wise search for the
// scales, then scales and quants rounded and packed in memory order.
//
// A tile is TILE elements, i.e. 4 super-blocks of 256 or 32 blocks of 32; rows follow each other in
// memory, so blocks of several rows share a tile.  A short tile is padded with zeros: the padding
// only fills lanes whose results are dropped.  Each tile function returns false if a scale it wrote
// is infinite or NaN in half precision.
#pragma once
#include "search_small.h"

namespace {

const int TILE = 1024;
const int SUPER = 256;

INLINE bool put_half(uint8_t *p, float f) {
    const uint16_t h = to_half(f);
    memcpy(p, &h, 2);
    return (h & 0x7c00) != 0x7c00;
}
INLINE float get_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return from_half(h);
}
// The low byte of each of 16 lanes.  (Compilers know this as a conversion of vectors, but GCC's code
// for it is slow below AVX-512.)
INLINE void put16(uint8_t *p, const vi *v) {
#if LANES == 16
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v[0]));
#elif LANES == 8
    const __m256i words = _mm256_packs_epi32((__m256i)(v[0] & 255), (__m256i)(v[1] & 255));
    const __m256i inorder = _mm256_permute4x64_epi64(words, 0xd8);  // the pack works per half
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi16(_mm256_castsi256_si128(inorder), _mm256_extracti128_si256(inorder, 1)));
#elif defined(__SSE2__)
    const __m128i lo = _mm_packs_epi32((__m128i)(v[0] & 255), (__m128i)(v[1] & 255));
    const __m128i hi = _mm_packs_epi32((__m128i)(v[2] & 255), (__m128i)(v[3] & 255));
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi16(lo, hi));
#else
    typedef uint8_t vb __attribute__((vector_size(LANES)));
    for (int i = 0; i < 16 / LANES; ++i) {
        const vb b = __builtin_convertvector(v[i], vb);
        memcpy(p + i * LANES, &b, sizeof b);
    }
#endif
}
template <int N, class F> INLINE void put_bytes(uint8_t *p, F element) {  // element(i): lanes i, i + 1, ...
    for (int j = 0; j < N; j += 16) {
        vi v[16 / LANES];
        for (int i = 0; i < 16; i += LANES) v[i / LANES] = element(j + i);
        put16(p + j, v);
    }
}
INLINE uint32_t sign_mask(vi m) {  // one bit per lane, lane 0 lowest
#if LANES == 16
    return (uint32_t)_mm512_movepi32_mask((__m512i)m);
#elif LANES == 8
    return (uint32_t)_mm256_movemask_ps((__m256)m);
#elif defined(__SSE2__)
    return (uint32_t)_mm_movemask_ps((__m128)m);
#else
    uint32_t r = 0;
    for (int i = 0; i < LANES; ++i) r |= (uint32_t)(m[i] < 0) << i;
    return r;
#endif
}

// Final quants of one sub-block: clamp(nearest_int((x + add) / d)) + shift.  Always with the exact
// bits: d comes from a rounded half, so nothing bounds the quotient.
template <int N>
INLINE void quantise(const float *x, float add, float d, int lo, int hi, int shift, uint8_t *L) {
    put_bytes<N>(L, [&](int i) { return clamp(nearest_bits((load(x + i) + add) / d), lo, hi) + shift; });
}
// The quants the search had found, for sub-blocks whose rounded scale is zero.
template <int N>
INLINE void requantise(const float *x, float base, float iscale, int lo, int hi, int shift, uint8_t *L) {
    put_bytes<N>(L, [&](int i) { return clamp(nearest_bits(iscale * (load(x + i) - base)), lo, hi) + shift; });
}

// The sub-block searches of a whole tile, G * LANES sub-blocks of N elements at a time.
template <int N, int G, class F> INLINE void for_groups(const float *x, int blocks, F search) {
    static_assert(TILE % (G * LANES * N) == 0, "the last group of a tile would run past its end");
    for (int sub = 0; sub < blocks * (SUPER / N); sub += G * LANES) {
        vf t[G * N];
        for (int g = 0; g < G; ++g) to_lanes<N>(x + (sub + g * LANES) * N, t + g * N);
        search(t, sub);
    }
}

struct MinScales {
    float scale[TILE / 16], min[TILE / 16], iscale[TILE / 16], base[TILE / 16];
    MinFit at(int sub) { return {scale + sub, min + sub, iscale + sub, base + sub}; }
};

INLINE float largest(const float *v, int n) {
    float m = 0.f;
    for (int i = 0; i < n; ++i) m = v[i] > m ? v[i] : m;
    return m;
}
INLINE float largest_magnitude(const float *v, int n) {  // the first of several, sign kept
    float amax = 0.f, m = 0.f;
    for (int i = 0; i < n; ++i) {
        const float a = __builtin_fabsf(v[i]);
        m = a > amax ? v[i] : m;
        amax = a > amax ? a : amax;
    }
    return m;
}

// ---- Q4_K: d, dmin, 12 bytes of 6-bit scales, 128 of nibbles.  Q5_K: 32 bytes of fifth bits too.

template <int BITS> static bool tile_q45_K(const float *x, int blocks, uint8_t *dst) {
    const int NMAX = (1 << BITS) - 1, G = BITS == 4 ? G_Q4_K : G_Q5_K;
    MinScales f;
    for_groups<32, G>(x, blocks, [&](const vf *t, int sub) {
        vf w[G * 32];
        for (int g = 0; g < G; ++g) {
            vf sum = vf{};
            for (int i = g * 32; i < (g + 1) * 32; ++i) sum += t[i] * t[i];
            const vf av = sqrt_(sum / 32.f);
            for (int i = g * 32; i < (g + 1) * 32; ++i) w[i] = av + fabs_(t[i]);
        }
        search_scale_min<32, NMAX, BITS == 4 ? 20 : 15, false, G>(t, w, BITS == 4 ? -1.f : -0.5f, 0.1f, f.at(sub));
    });

    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += SUPER, dst += BITS == 4 ? 144 : 176) {
        const float *scale = f.scale + b * 8, *min = f.min + b * 8;
        const float max_scale = largest(scale, 8), max_min = largest(min, 8);
        const float inv_scale = max_scale > 0 ? 63.f / max_scale : 0.f;
        const float inv_min = max_min > 0 ? 63.f / max_min : 0.f;
        ok &= put_half(dst, max_scale / 63.f);
        ok &= put_half(dst + 2, max_min / 63.f);
        const float d = get_half(dst), dmin = get_half(dst + 2);

        uint8_t *s = dst + 4, L[SUPER];
        for (int j = 0; j < 8; ++j) {
            uint8_t ls = (uint8_t)nearest_int(inv_scale * scale[j]);  // wraps first, is clamped then
            uint8_t lm = (uint8_t)nearest_int(inv_min * min[j]);
            ls = ls > 63 ? 63 : ls;
            lm = lm > 63 ? 63 : lm;
            if (j < 4) {
                s[j] = ls;
                s[j + 4] = lm;
            } else {
                s[j + 4] = (uint8_t)((ls & 15) | (lm << 4));
                s[j - 4] |= (uint8_t)((ls >> 4) << 6);
                s[j] |= (uint8_t)((lm >> 4) << 6);
            }
            const float dj = d * (float)ls;
            if (dj != 0.f)
                quantise<32>(x + j * 32, dmin * (float)lm, dj, 0, NMAX, 0, L + j * 32);
            else
                requantise<32>(x + j * 32, f.base[b * 8 + j], f.iscale[b * 8 + j], 0, NMAX, 0, L + j * 32);
        }

        uint8_t *q = s + 12;
        if (BITS == 5) {
            for (int i = 0; i < 32; ++i) {
                uint8_t h = 0;
                for (int j = 0; j < 8; ++j) h |= (uint8_t)((L[j * 32 + i] >> 4) << j);
                q[i] = h;
            }
            q += 32;
        }
        for (int j = 0; j < SUPER; j += 64, q += 32)
            for (int i = 0; i < 32; ++i) q[i] = (uint8_t)((L[j + i] & 15) | (L[j + i + 32] << 4));
    }
    return ok;
}

// 2-bit fields of Q2_K and Q3_K: byte i of each half holds elements i, i + 32, i + 64, i + 96
INLINE void pack_2bit(const uint8_t *L, uint8_t *q) {
    for (int j = 0; j < SUPER; j += 128, q += 32, L += 128)
        for (int i = 0; i < 32; ++i)
            q[i] = (uint8_t)((L[i] & 3) | (L[i + 32] & 3) << 2 | (L[i + 64] & 3) << 4 | (L[i + 96] & 3) << 6);
}

// ---- Q2_K: 16 bytes of 4-bit scale and minimum, 64 of 2-bit quants, d, dmin

static bool tile_q2_K(const float *x, int blocks, uint8_t *dst) {
    MinScales f;
    for_groups<16, G_Q2_K>(x, blocks, [&](const vf *t, int sub) {
        vf w[G_Q2_K * 16];
        for (int i = 0; i < G_Q2_K * 16; ++i) w[i] = fabs_(t[i]);
        search_scale_min<16, 3, 15, true, G_Q2_K>(t, w, -0.5f, 0.1f, f.at(sub));
    });

    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += SUPER, dst += 84) {
        const float *scale = f.scale + b * 16, *min = f.min + b * 16;
        const float max_scale = largest(scale, 16), max_min = largest(min, 16);
        const float inv_scale = max_scale > 0 ? 15.f / max_scale : 0.f;
        const float inv_min = max_min > 0 ? 15.f / max_min : 0.f;
        ok &= put_half(dst + 80, max_scale > 0 ? max_scale / 15.f : 0.f);
        ok &= put_half(dst + 82, max_min > 0 ? max_min / 15.f : 0.f);
        const float d = get_half(dst + 80), dmin = get_half(dst + 82);
        uint8_t L[SUPER];
        for (int j = 0; j < 16; ++j) {
            int s = max_scale > 0 ? nearest_int(inv_scale * scale[j]) : 0;
            if (max_min > 0) s |= nearest_int(inv_min * min[j]) * 16;
            dst[j] = (uint8_t)s;
            const float dj = d * (float)(dst[j] & 15);
            if (dj != 0.f)
                quantise<16>(x + j * 16, dmin * (float)(dst[j] >> 4), dj, 0, 3, 0, L + j * 16);
            else
                requantise<16>(x + j * 16, f.base[b * 16 + j], f.iscale[b * 16 + j], 0, 3, 0, L + j * 16);
        }
        pack_2bit(L, dst + 16);
    }
    return ok;
}

// ---- Q3_K: 32 bytes of third bits, 64 of 2-bit quants, 12 of 6-bit scales, d

static bool tile_q3_K(const float *x, int blocks, uint8_t *dst) {
    float scales[TILE / 16];
    vf found[TILE / LANES];  // the search's quants cannot be recomputed from a scale: keep them
    for_groups<16, G_Q3_K>(x, blocks, [&](const vf *t, int sub) {
        search_coordinate<16, 4, G_Q3_K>(t, scales + sub, found + sub / LANES * 16);
    });

    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += SUPER, dst += 110) {
        const float *scale = scales + b * 16, max_scale = largest_magnitude(scale, 16);
        const float iscale = -32.f / max_scale;
        uint8_t *s = dst + 96, L[SUPER];
        ok &= put_half(dst + 108, max_scale != 0.f ? 1 / iscale : 0.f);
        const float d = get_half(dst + 108);
        memset(s, 0, 12);
        for (int j = 0; j < 16; ++j) {
            int sc = -32;  // what a block without any scale reads back from its zero bytes
            if (max_scale != 0.f) {
                sc = (int8_t)nearest_int(iscale * scale[j]);  // wraps first, is clamped then
                sc = sc < -32 ? -32 : sc > 31 ? 31 : sc;
                s[j % 8] |= (uint8_t)(((sc + 32) & 15) << (j / 8 * 4));
                s[8 + j % 4] |= (uint8_t)(((sc + 32) >> 4) << (j / 4 * 2));
            }
            const float dj = d * (float)sc;
            if (dj != 0.f) {
                quantise<16>(x + j * 16, 0.f, dj, -4, 3, 4, L + j * 16);
            } else {
                const int sub = b * 16 + j;
                for (int i = 0; i < 16; ++i) L[j * 16 + i] = (uint8_t)found[sub / LANES * 16 + i][sub % LANES];
            }
        }
        for (int i = 0; i < 32; ++i) {
            uint8_t h = 0;
            for (int j = 0; j < 8; ++j) h |= (uint8_t)((L[j * 32 + i] >> 2) << j);
            dst[i] = h;
        }
        pack_2bit(L, dst + 32);
    }
    return ok;
}

// ---- Q6_K: 128 bytes of low nibbles, 64 of high 2-bit fields, 16 signed scales, d

static bool tile_q6_K(const float *x, int blocks, uint8_t *dst) {
    float scales[TILE / 16], iscales[TILE / 16];
    for_groups<16, G_Q6_K>(x, blocks, [&](const vf *t, int sub) {
        search_scale<16, 32, G_Q6_K>(t, {scales + sub, iscales + sub});
    });

    bool ok = true;
    for (int b = 0; b < blocks; ++b, x += SUPER, dst += 210) {
        const float *scale = scales + b * 16, max_scale = largest_magnitude(scale, 16);
        if (__builtin_fabsf(max_scale) < EPS) {
            memset(dst, 0, 210);
            continue;
        }
        const float iscale = -128.f / max_scale;
        ok &= put_half(dst + 208, 1 / iscale);
        const float d = get_half(dst + 208);
        uint8_t L[SUPER];
        for (int j = 0; j < 16; ++j) {
            const int n = nearest_int(iscale * scale[j]);
            const int8_t sc = (int8_t)(n > 127 ? 127 : n);
            dst[192 + j] = (uint8_t)sc;
            const float dj = d * (float)sc, found = iscales[b * 16 + j];
            if (dj != 0.f)
                quantise<16>(x + j * 16, 0.f, dj, -32, 31, 32, L + j * 16);
            else if (found != 0.f)
                requantise<16>(x + j * 16, 0.f, found, -32, 31, 32, L + j * 16);
            else
                memset(L + j * 16, 0, 16);
        }
        uint8_t *ql = dst, *qh = dst + 128;
        for (const uint8_t *l = L; l < L + SUPER; l += 128, ql += 64, qh += 32) {
            for (int i = 0; i < 64; ++i) ql[i] = (uint8_t)((l[i] & 15) | (l[i + 64] << 4));
            for (int i = 0; i < 32; ++i)
                qh[i] = (uint8_t)(l[i] >> 4 | (l[i + 32] >> 4) << 2 | (l[i + 64] >> 4) << 4 | (l[i + 96] >> 4) << 6);
        }
    }
    return ok;
}

}  // namespace
