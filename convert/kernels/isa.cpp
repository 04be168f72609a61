// isa.cpp - one instruction-set level of the kernels.  build.py compiles this file once per level,
// with -mavx2 or the -mavx512* flags or none; vec.h tells from the compiler's macros which it is.
// Never compile it with FMA contraction (-ffp-contract=off): ggml's own quantisers are built
// without, and one fused multiply-add changes the last bit of a sum.

// How many vectors each search interleaves: enough to hide the adders' latency, few enough to stay
// in registers.  Measured with 1 to 4; the best is nearly the same at all levels.
#define G_Q4_K 2
#define G_Q5_K 2
#define G_Q2_K 2
#define G_Q3_K 4
#define G_Q6_K 2
#define G_IQ4 2

#include "blocks32.h"
#include "isa.h"

namespace {

// Source elements to floats, padded with zeros to a whole tile; false if one is not finite.
static bool load_tile(int src_type, const uint8_t *src, int n, float *tile) {
    if (src_type == F32) {
        memcpy(tile, src, (size_t)n * 4);
    } else {
        uint16_t raw[TILE];
        memcpy(raw, src, (size_t)n * 2);
        if (src_type == F16) {
            for (int i = 0; i < n; ++i) tile[i] = from_half(raw[i]);
        } else {
            for (int i = 0; i < n; ++i) {
                const uint32_t u = (uint32_t)raw[i] << 16;
                memcpy(tile + i, &u, 4);
            }
        }
    }
    if (n < TILE) memset(tile + n, 0, (size_t)(TILE - n) * 4);
    vi bad = vi{};
    for (int i = 0; i < TILE; i += LANES) bad |= (bits(load(tile + i)) & 0x7f800000) == 0x7f800000;
    return !any(bad);
}

static bool tile_half(const float *x, int n, uint8_t *dst) {
    uint16_t h[TILE];
    uint32_t bad = 0;
    for (int i = 0; i < n; ++i) h[i] = to_half(x[i]);
    for (int i = 0; i < n; ++i) bad |= (h[i] & 0x7c00) == 0x7c00;
    memcpy(dst, h, (size_t)n * 2);
    return !bad;
}

static bool tile_bf16(const float *x, int n, uint8_t *dst) {
    uint16_t h[TILE];
    uint32_t bad = 0;
    for (int i = 0; i < n; ++i) h[i] = to_bf16(x[i]);
    for (int i = 0; i < n; ++i) bad |= (h[i] & 0x7f80) == 0x7f80;
    memcpy(dst, h, (size_t)n * 2);
    return !bad;
}

static bool tile_f32(const float *x, int n, uint8_t *dst) {
    memcpy(dst, x, (size_t)n * 4);
    return true;
}

struct Kernel {
    bool (*run)(const float *x, int blocks, uint8_t *dst);
    int block, bytes;  // elements and bytes of one block
};

static Kernel kernel_for(int type) {
    switch (type) {
    case F32: return {tile_f32, 1, 4};
    case F16: return {tile_half, 1, 2};
    case BF16: return {tile_bf16, 1, 2};
    case Q4_0: return {tile32<Q4_0>, 32, 18};
    case Q4_1: return {tile32<Q4_1>, 32, 20};
    case Q5_0: return {tile32<Q5_0>, 32, 22};
    case Q5_1: return {tile32<Q5_1>, 32, 24};
    case Q8_0: return {tile32<Q8_0>, 32, 34};
    case Q2_K: return {tile_q2_K, SUPER, 84};
    case Q3_K: return {tile_q3_K, SUPER, 110};
    case Q4_K: return {tile_q45_K<4>, SUPER, 144};
    case Q5_K: return {tile_q45_K<5>, SUPER, 176};
    case Q6_K: return {tile_q6_K, SUPER, 210};
    case IQ4_NL: return {tile_iq4_nl, 32, 18};
    case IQ4_XS: return {tile_iq4_xs, SUPER, 136};
    default: return {nullptr, 0, 0};
    }
}

#define NAME2(level) edge_quantize_##level
#define NAME(level) NAME2(level)

}  // namespace

extern "C" int NAME(EDGE_LEVEL)(int type, int src_type, const void *src, void *dst, int64_t n) {
    const Kernel k = kernel_for(type);
    const int size = src_type == F32 ? 4 : 2;
    const uint8_t *from = (const uint8_t *)src;
    uint8_t *to = (uint8_t *)dst;
    float tile[TILE] __attribute__((aligned(64)));
    bool ok = true;
    while (n > 0) {
        const int count = n < TILE ? (int)n : TILE;
        if (!load_tile(src_type, from, count, tile)) return 2;
        const int blocks = count / k.block;
        ok &= k.run(tile, blocks, to);
        from += (size_t)count * size;
        to += (size_t)blocks * k.bytes;
        n -= count;
    }
    return ok ? 0 : 3;
}
