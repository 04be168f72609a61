// vec.h - the vector layer: one float/int32 vector type of LANES lanes, plus the handful of
// operations that plain vector extensions (GCC, Clang) express badly.
//
// This header is compiled once per instruction-set level (see isa.cpp).  Everything lives in an
// unnamed namespace and no library header with inline functions is used: if two levels emitted
// the same symbol, the linker would keep one of them, and an SSE2 machine could end up running
// the AVX-512 copy.
#pragma once

#if !defined(__GNUC__)
#error "edge-llama kernels need GCC or Clang (vector extensions); the package falls back to ggml"
#endif
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "edge-llama kernels write GGUF blocks in memory order and need a little-endian machine"
#endif
#if defined(__FAST_MATH__)
#error "bit-identical results are impossible with -ffast-math"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "needs float arithmetic in float precision (x87 builds: use -msse2 -mfpmath=sse)"
#endif

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <immintrin.h>
#define LANES 16
#define EDGE_LEVEL avx512
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define EDGE_LEVEL avx2
#else
#define LANES 4
#define EDGE_LEVEL base
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#endif

#define INLINE static inline __attribute__((always_inline))

namespace {

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));

INLINE vf splat(float s) { return s - vf{}; }  // s - 0 is s for every s, -0.0 included
INLINE vi splat(int32_t s) { return s - vi{}; }
INLINE vf load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
INLINE vi load(const int32_t *p) { vi v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE void store(int32_t *p, vi v) { memcpy(p, &v, sizeof v); }
INLINE vi bits(vf v) { return (vi)v; }
INLINE vf unbits(vi v) { return (vf)v; }
INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }
INLINE vi truncate(vf v) { return __builtin_convertvector(v, vi); }
INLINE vf fabs_(vf v) { return unbits(bits(v) & 0x7fffffff); }

// min_/max_ are exactly `a < b ? a : b` and `a > b ? a : b`: NaN or equal zeros give b.
// x86's instructions are defined that way; elsewhere the compiler makes compare + select.
INLINE vf min_(vf a, vf b) {
#if LANES == 16
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return a < b ? a : b;
#endif
}
INLINE vf max_(vf a, vf b) {
#if LANES == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return a > b ? a : b;
#endif
}
INLINE vi clamp(vi v, int32_t lo, int32_t hi) {
    v = v < lo ? splat(lo) : v;
    return v > hi ? splat(hi) : v;
}
INLINE vf sqrt_(vf v) {  // correctly rounded everywhere, like sqrtf
#if LANES == 16
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif LANES == 8
    return (vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__SSE2__)
    return (vf)_mm_sqrt_ps((__m128)v);
#elif defined(__aarch64__)
    return (vf)vsqrtq_f32((float32x4_t)v);
#else
    for (int i = 0; i < LANES; ++i) v[i] = __builtin_sqrtf(v[i]);
    return v;
#endif
}

// Does any lane of a comparison's result (all ones or all zeros) hold?
INLINE bool any(vi m) {
#if LANES == 16
    return _mm512_movepi32_mask((__m512i)m) != 0;
#elif LANES == 8
    return _mm256_movemask_ps((__m256)m) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)m) != 0;
#elif defined(__aarch64__)
    return vmaxvq_u32((uint32x4_t)m) != 0;
#else
    int32_t r = 0;
    for (int i = 0; i < LANES; ++i) r |= m[i];
    return r != 0;
#endif
}

// Round to nearest even the way llama.cpp does it: adding 1.5 * 2^23 pushes the fraction out of
// the mantissa.  nearest_bits is its exact bit arithmetic, garbage included (|v| > 2^22, infinities
// and NaN, which scales of denormal blocks produce); nearest_fast is the same number as a float and
// needs |v| <= 2^22.
const float MAGIC = 12582912.f;
INLINE vi nearest_bits(vf v) { return (bits(v + MAGIC) & 0x007fffff) - 0x00400000; }
INLINE vf nearest_fast(vf v) { return (v + MAGIC) - MAGIC; }
INLINE int32_t nearest_int(float v) {
    float m = v + MAGIC;
    int32_t i;
    memcpy(&i, &m, 4);
    return (i & 0x007fffff) - 0x00400000;
}

// Interleave two vectors; LANES of them, log2(LANES) times, is a transposition.
#if defined(__clang__)
#define ZIP(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ZIP(T, a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif
#if LANES == 16
INLINE vf zip_lo(vf a, vf b) { return ZIP(vf, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
INLINE vf zip_hi(vf a, vf b) { return ZIP(vf, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
#elif LANES == 8
INLINE vf zip_lo(vf a, vf b) { return ZIP(vf, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE vf zip_hi(vf a, vf b) { return ZIP(vf, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
INLINE vf zip_lo(vf a, vf b) { return ZIP(vf, a, b, 0, 4, 1, 5); }
INLINE vf zip_hi(vf a, vf b) { return ZIP(vf, a, b, 2, 6, 3, 7); }
#endif

// LANES x LANES transposition, in place.  Each round is one perfect shuffle of the whole square;
// it rotates the bits of the element's index by one, so log2(LANES) rounds swap row and column.
INLINE void transpose(vf *r) {
    for (int n = 1; n < LANES; n *= 2) {
        vf t[LANES];
        for (int i = 0; i < LANES / 2; ++i) {
            t[2 * i] = zip_lo(r[i], r[i + LANES / 2]);
            t[2 * i + 1] = zip_hi(r[i], r[i + LANES / 2]);
        }
        for (int i = 0; i < LANES; ++i) r[i] = t[i];
    }
}

// LANES sub-blocks of N elements, one after the other in memory, to lane-major order:
// lane k of out[i] is element i of sub-block k.
template <int N> INLINE void to_lanes(const float *x, vf *out) {
    for (int c = 0; c < N; c += LANES) {
        vf r[LANES];
        for (int k = 0; k < LANES; ++k) r[k] = load(x + k * N + c);
        transpose(r);
        for (int k = 0; k < LANES; ++k) out[c + k] = r[k];
    }
}

// ---- half precision and bfloat16, round to nearest even (integer arithmetic: no F16C needed,
// ---- and plain loops over these vectorise)

INLINE uint16_t to_half(float f) {
    uint32_t u, s;
    memcpy(&u, &f, 4);
    const uint32_t a = u & 0x7fffffff;
    uint32_t normal = (a + 0xfff + ((a >> 13) & 1)) >> 13;  // rounds; a carry bumps the exponent
    normal -= 112u << 10;                                   // exponent bias 127 -> 15
    normal = a >= 0x477ff000 ? 0x7c00 : normal;             // 65520 and above round to infinity
    float tiny;                                             // below 2^-14: let the adder round to
    memcpy(&tiny, &a, 4);                                   // multiples of 2^-24, a half's smallest
    tiny += 0.5f;                                           // step and that of floats in [0.5, 1)
    memcpy(&s, &tiny, 4);
    uint32_t h = a < 0x38800000 ? s - 0x3f000000 : normal;
    h = a > 0x7f800000 ? 0x7e00 : h;
    return (uint16_t)(h | ((u >> 16) & 0x8000));
}

INLINE float from_half(uint16_t h) {
    const uint32_t em = h & 0x7fff;
    uint32_t normal = (em << 13) + (112u << 23), s;
    normal = em >= 0x7c00 ? normal + (112u << 23) : normal;  // infinity and NaN keep theirs
    const float sub = (float)(int32_t)em * 0x1p-24f;         // exact
    memcpy(&s, &sub, 4);
    const uint32_t u = (em < 0x400 ? s : normal) | ((uint32_t)(h & 0x8000) << 16);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

INLINE uint16_t to_bf16(float f) {  // finite values only: the source is checked beforehand
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

}  // namespace
