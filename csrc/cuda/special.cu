// The kernels of the Bessel family, and the dispatch of all element-wise ops.
#include "elementwise.cuh"

namespace vmf_ops {
namespace cuda {

template <class T>
void vmf(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream,
         bool v_number);  // vmf.cu

template <class T>
void elementwise(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream, bool v_number) {
  using enum RatioPart;
  switch (op) {
    case Op::log_iv:
      return launch<LogIvFunction<Scaling::none, false>>(shape, v, x, out, stream, v_number);
    case Op::log_iv_with_slope:
      return launch<LogIvFunction<Scaling::none, true>>(shape, v, x, out, stream, v_number);
    case Op::log_ive:
      return launch<LogIvFunction<Scaling::exponential, false>>(shape, v, x, out, stream, v_number);
    case Op::log_ive_with_slope:
      return launch<LogIvFunction<Scaling::exponential, true>>(shape, v, x, out, stream, v_number);
    case Op::ive:
      return launch<IveFunction<false>>(shape, v, x, out, stream, v_number);
    case Op::ive_with_slope:
      return launch<IveFunction<true>>(shape, v, x, out, stream, v_number);
    case Op::log_iv_order_slope:
      return launch<OrderSlopeFunction>(shape, v, x, out, stream, v_number);
    case Op::ratio:
      return launch<RatioFunction<value>>(shape, v, x, out, stream, v_number);
    case Op::ratio_with_slope:
      return launch<RatioFunction<value, slope>>(shape, v, x, out, stream, v_number);
    case Op::ratio_complement:
      return launch<RatioFunction<complement>>(shape, v, x, out, stream, v_number);
    case Op::ratio_complement_with_slope:
      return launch<RatioFunction<complement, complement_slope>>(shape, v, x, out, stream, v_number);
    case Op::ratio_slope:
      return launch<RatioFunction<slope>>(shape, v, x, out, stream, v_number);
    case Op::ratio_curvature:
      return launch<RatioCurvatureFunction>(shape, v, x, out, stream, v_number);
    case Op::ratio_order_slope:
      return launch<RatioOrderSlopeFunction>(shape, v, x, out, stream, v_number);
    case Op::ratio_moments:
      return launch<RatioFunction<over_x, slope>>(shape, v, x, out, stream, v_number);
    default:
      return vmf(op, shape, v, x, out, stream, v_number);
  }
}

template void elementwise(Op, const Broadcast&, const double*, const double*, double* const*, Stream, bool);
template void elementwise(Op, const Broadcast&, const float*, const float*, float* const*, Stream, bool);

}  // namespace cuda
}  // namespace vmf_ops
