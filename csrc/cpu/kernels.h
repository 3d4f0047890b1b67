// The loops that every ISA offers: plain functions over contiguous arrays, found by name at run time.
#pragma once

#include <cstdint>

namespace vmf_ops {

// Element-wise functions of an order v (or a dimension) and an argument x; base order for the ratio's.
enum class Op {
  log_iv,
  log_iv_with_slope,
  log_ive,
  log_ive_with_slope,
  ive,
  ive_with_slope,
  log_iv_order_slope,
  ratio,
  ratio_with_slope,
  ratio_complement,
  ratio_complement_with_slope,
  ratio_slope,
  ratio_curvature,
  // of a dimension m and kappa, or for concentration a mean length
  kl_uniform,
  kl_uniform_with_slope,
  log_f,
  log_f_with_slope,
  log_peak,
  log_peak_with_slope,
  concentration,
};

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
