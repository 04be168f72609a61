// kernels.cpp - the C interface of the edge-llama kernels, and the choice of instruction set.
//
// edge_quantize_rows writes what llama.cpp's ggml_quantize_chunk(type, ..., imatrix = NULL) writes,
// byte for byte, for every finite input, only several times faster.  Results do not depend on the
// instruction-set level.  Everything is reentrant: call it from as many threads as you like, on
// disjoint rows.
#include "isa.h"
#include <stdlib.h>
#include <string.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Level {
    const char *name;
    edge_quantize_fn *quantize;
};

#if defined(__x86_64__) || defined(__i386__)
const Level BASE = {"sse2", edge_quantize_base};
#elif defined(__aarch64__)
const Level BASE = {"neon", edge_quantize_base};
#else
const Level BASE = {"generic", edge_quantize_base};
#endif
#if defined(EDGE_HAVE_AVX2)
const Level AVX2 = {"avx2", edge_quantize_avx2};
#endif
#if defined(EDGE_HAVE_AVX512)
const Level AVX512 = {"avx512", edge_quantize_avx512};
#endif

// EDGE_KERNELS_ISA forces a lower level (for tests); a level this machine lacks is never chosen.
const Level *choose() {
    const char *want = getenv("EDGE_KERNELS_ISA");
    if (want && !*want) want = nullptr;
    if (want && (!strcmp(want, BASE.name) || !strcmp(want, "generic"))) return &BASE;
#if defined(EDGE_HAVE_AVX2) || defined(EDGE_HAVE_AVX512)
    __builtin_cpu_init();
#endif
#if defined(EDGE_HAVE_AVX512)
    if (!(want && !strcmp(want, "avx2")) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &AVX512;
#endif
#if defined(EDGE_HAVE_AVX2)
    if (__builtin_cpu_supports("avx2")) return &AVX2;
#endif
    return &BASE;
}

// Two threads may both run choose() the first time; they find the same.
const Level *level() {
    static const Level *chosen = nullptr;
    const Level *l = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    if (!l) {
        l = choose();
        __atomic_store_n(&chosen, l, __ATOMIC_RELEASE);
    }
    return l;
}

int block_size(int type) {
    switch (type) {
    case 0: case 1: case 30: return 1;                                // F32, F16, BF16
    case 2: case 3: case 6: case 7: case 8: case 20: return 32;       // Q4_0 .. Q8_0, IQ4_NL
    case 10: case 11: case 12: case 13: case 14: case 23: return 256; // Q2_K .. Q6_K, IQ4_XS
    default: return 0;
    }
}

}  // namespace

EXPORT int edge_kernels_abi(void) { return 1; }
EXPORT const char *edge_kernels_isa(void) { return level()->name; }
EXPORT int edge_supports(int ggml_type) { return block_size(ggml_type) != 0; }

// 0: done; 1: unsupported type, source type or row length; 2: the source holds a NaN or an
// infinity; 3: a value or a block's scale overflowed its format.  After 2 and 3 dst is unspecified
// (but never written past its end).
EXPORT int edge_quantize_rows(int ggml_type, int src_type, const void *src, void *dst, int64_t n_rows, int64_t n_per_row) {
    const int block = block_size(ggml_type);
    if (!block || (src_type != 0 && src_type != 1 && src_type != 30)) return 1;
    if (n_rows < 0 || n_per_row < 0 || n_per_row % block) return 1;
    // no block spans two rows, so the rows are one long row
    return level()->quantize(ggml_type, src_type, src, dst, n_rows * n_per_row);
}
