// The loops that every ISA offers: plain functions over contiguous arrays, found by name at run time.
#pragma once

#include <cstdint>

#include "../op.h"

namespace vmf_ops {

template <class T>
using ElementwiseLoop = void(const T* v, bool v_fixed, const T* x, T* const* out, int64_t n);

// out[o][i] = f(v[i], x[i]) for i < n and o < outputs; where v_fixed, v points to one number.
struct Elementwise {
  int outputs;
  ElementwiseLoop<double>* in_double;
  ElementwiseLoop<float>* in_float;
};

namespace cpu_default {
Elementwise special(Op op);
Elementwise vmf(Op op);
}  // namespace cpu_default
namespace cpu_avx2 {
Elementwise special(Op op);
Elementwise vmf(Op op);
}  // namespace cpu_avx2
namespace cpu_avx512 {
Elementwise special(Op op);
Elementwise vmf(Op op);
}  // namespace cpu_avx512

}  // namespace vmf_ops
