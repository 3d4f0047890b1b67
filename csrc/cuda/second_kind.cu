// The kernels of the second kind.
#include "../math/second_kind_functions.h"
#include "elementwise.cuh"

namespace vmf_ops {
namespace cuda {

template <class T>
void second_kind(SecondKindOp op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream,
                 bool v_number) {
  switch (op) {
    case SecondKindOp::log_kv:
      return launch<LogKvFunction<Scaling::none, false>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::log_kv_with_slope:
      return launch<LogKvFunction<Scaling::none, true>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::log_kve:
      return launch<LogKvFunction<Scaling::exponential, false>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::log_kve_with_slope:
      return launch<LogKvFunction<Scaling::exponential, true>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::kve:
      return launch<KveFunction<false>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::kve_with_slope:
      return launch<KveFunction<true>>(shape, v, x, out, stream, v_number);
    case SecondKindOp::log_kv_order_slope:
      return launch<LogKvOrderSlopeFunction>(shape, v, x, out, stream, v_number);
    default:
      return launch<LogKvCurvatureFunction>(shape, v, x, out, stream, v_number);
  }
}

template void second_kind(SecondKindOp, const Broadcast&, const double*, const double*, double* const*, Stream, bool);
template void second_kind(SecondKindOp, const Broadcast&, const float*, const float*, float* const*, Stream, bool);

}  // namespace cuda
}  // namespace vmf_ops
