// The Bessel family's loops for one ISA.
#include "../math/functions.h"
#include "kernels.h"
#include "regions.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

Elementwise special(Op op) {
  using enum RatioPart;
  switch (op) {
    case Op::log_iv:
      return loops<LogIvFunction<Scaling::none, false>>();
    case Op::log_iv_with_slope:
      return loops<LogIvFunction<Scaling::none, true>>();
    case Op::log_ive:
      return loops<LogIvFunction<Scaling::exponential, false>>();
    case Op::log_ive_with_slope:
      return loops<LogIvFunction<Scaling::exponential, true>>();
    case Op::ive:
      return loops<IveFunction<false>>();
    case Op::ive_with_slope:
      return loops<IveFunction<true>>();
    case Op::log_iv_order_slope:
      return loops<OrderSlopeFunction>();
    case Op::ratio:
      return loops<RatioFunction<value>>();
    case Op::ratio_with_slope:
      return loops<RatioFunction<value, slope>>();
    case Op::ratio_complement:
      return loops<RatioFunction<complement>>();
    case Op::ratio_complement_with_slope:
      return loops<RatioFunction<complement, complement_slope>>();
    case Op::ratio_slope:
      return loops<RatioFunction<slope>>();
    case Op::ratio_curvature:
      return loops<RatioCurvatureFunction>();
    case Op::ratio_order_slope:
      return loops<RatioOrderSlopeFunction>();
    case Op::ratio_moments:
      return loops<RatioFunction<over_x, slope>>();
    default:
      return vmf(op);
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
