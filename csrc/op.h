// The element-wise ops by name, as the bindings ask the loops for them.
#pragma once

namespace vmf_ops {

// Functions of an order v (or a dimension) and an argument x; base order for the ratio's.
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
  ratio_order_slope,
  ratio_moments,
  // of a dimension m and kappa, or for concentration a mean length or its complement
  kl_uniform,
  kl_uniform_with_slope,
  log_f,
  log_f_with_slope,
  log_f_order_slope,
  log_peak,
  log_peak_with_slope,
  log_anchor,
  log_anchor_with_slope,
  concentration,
  concentration_of_complement,
};

}  // namespace vmf_ops
