// The kernels of the von Mises-Fisher functions.
#include "elementwise.cuh"

namespace vmf_ops {
namespace cuda {

template <class T>
void vmf(Op op, const Broadcast& shape, const T* m, const T* x, T* const* out, Stream stream, bool v_number) {
  using enum DivergencePart;
  switch (op) {
    case Op::kl_uniform:
      return launch<DivergenceFunction<kl>>(shape, m, x, out, stream, v_number);
    case Op::kl_uniform_with_slope:
      return launch<DivergenceFunction<kl, kl_slope>>(shape, m, x, out, stream, v_number);
    case Op::log_f:
      return launch<DivergenceFunction<log_f>>(shape, m, x, out, stream, v_number);
    case Op::log_f_with_slope:
      return launch<DivergenceFunction<log_f, mean_length>>(shape, m, x, out, stream, v_number);
    case Op::log_f_order_slope:
      return launch<LogFOrderSlopeFunction>(shape, m, x, out, stream, v_number);
    case Op::log_peak:
      return launch<DivergenceFunction<log_peak>>(shape, m, x, out, stream, v_number);
    case Op::log_peak_with_slope:
      return launch<DivergenceFunction<log_peak, complement>>(shape, m, x, out, stream, v_number);
    case Op::log_anchor:
      return launch<DivergenceFunction<log_anchor>>(shape, m, x, out, stream, v_number);
    case Op::log_anchor_with_slope:
      return launch<DivergenceFunction<log_anchor, anchor_slope>>(shape, m, x, out, stream, v_number);
    case Op::concentration:
      return launch<ConcentrationFunction<false>>(shape, m, x, out, stream, v_number);
    case Op::concentration_of_complement:
      return launch<ConcentrationFunction<true>>(shape, m, x, out, stream, v_number);
    default:
      throw std::logic_error("an op without a CUDA kernel");
  }
}

template void vmf(Op, const Broadcast&, const double*, const double*, double* const*, Stream, bool);
template void vmf(Op, const Broadcast&, const float*, const float*, float* const*, Stream, bool);

}  // namespace cuda
}  // namespace vmf_ops
