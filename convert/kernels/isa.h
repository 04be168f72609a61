// isa.h - what one compiled instruction-set level (isa.cpp) offers the dispatcher (kernels.cpp).
#pragma once
#include <stdint.h>

typedef int edge_quantize_fn(int type, int src_type, const void *src, void *dst, int64_t n);

extern "C" {
__attribute__((visibility("hidden"))) edge_quantize_fn edge_quantize_base, edge_quantize_avx2, edge_quantize_avx512;
}
