// The loops of the second kind for one ISA.
#include "second_kind.h"

#include "../math/second_kind_functions.h"
#include "regions.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

Elementwise second_kind(SecondKindOp op) {
  switch (op) {
    case SecondKindOp::log_kv:
      return loops<LogKvFunction<Scaling::none, false>>();
    case SecondKindOp::log_kv_with_slope:
      return loops<LogKvFunction<Scaling::none, true>>();
    case SecondKindOp::log_kve:
      return loops<LogKvFunction<Scaling::exponential, false>>();
    case SecondKindOp::log_kve_with_slope:
      return loops<LogKvFunction<Scaling::exponential, true>>();
    case SecondKindOp::kve:
      return loops<KveFunction<false>>();
    case SecondKindOp::kve_with_slope:
      return loops<KveFunction<true>>();
    case SecondKindOp::log_kv_order_slope:
      return loops<LogKvOrderSlopeFunction>();
    default:
      return loops<LogKvCurvatureFunction>();
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
