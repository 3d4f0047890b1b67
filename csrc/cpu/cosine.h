// The loops of the cosine's law that every ISA offers: plain functions over contiguous arrays.
#pragma once

#include <cstdint>

#include "../cosine_op.h"

namespace vmf_ops {

template <class T>
using CosineLoop = void(const T* m, const T* kappa, const T* w, T* const* out, int64_t n);

// out[o][i] = f(m[i], kappa[i], w[i])[o] for i < n.
struct CosineLoops {
  CosineLoop<double>* in_double;
  CosineLoop<float>* in_float;
};

namespace cpu_default {
CosineLoops cosine(CosineOp op);
}  // namespace cpu_default
namespace cpu_avx2 {
CosineLoops cosine(CosineOp op);
}  // namespace cpu_avx2
namespace cpu_avx512 {
CosineLoops cosine(CosineOp op);
}  // namespace cpu_avx512

}  // namespace vmf_ops
