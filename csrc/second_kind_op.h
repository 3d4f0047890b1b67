// The element-wise ops of (v, x) of the second kind, by name.
#pragma once

namespace vmf_ops {

enum class SecondKindOp {
  log_kv,
  log_kv_with_slope,
  log_kve,
  log_kve_with_slope,
  kve,
  kve_with_slope,
  log_kv_order_slope,
  log_kv_curvature,
};

}  // namespace vmf_ops
