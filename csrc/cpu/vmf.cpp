// The loops of the von Mises-Fisher functions for one ISA.
#include "../math/functions.h"
#include "kernels.h"
#include "regions.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

Elementwise vmf(Op op) {
  using enum DivergencePart;
  switch (op) {
    case Op::kl_uniform:
      return loops<DivergenceFunction<kl>>();
    case Op::kl_uniform_with_slope:
      return loops<DivergenceFunction<kl, kl_slope>>();
    case Op::log_f:
      return loops<DivergenceFunction<log_f>>();
    case Op::log_f_with_slope:
      return loops<DivergenceFunction<log_f, mean_length>>();
    case Op::log_f_order_slope:
      return loops<LogFOrderSlopeFunction>();
    case Op::log_peak:
      return loops<DivergenceFunction<log_peak>>();
    case Op::log_peak_with_slope:
      return loops<DivergenceFunction<log_peak, complement>>();
    case Op::log_anchor:
      return loops<DivergenceFunction<log_anchor>>();
    case Op::log_anchor_with_slope:
      return loops<DivergenceFunction<log_anchor, anchor_slope>>();
    case Op::concentration:
      return loops<ConcentrationFunction<false>>();
    case Op::concentration_of_complement:
      return loops<ConcentrationFunction<true>>();
    default:
      return {};
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
