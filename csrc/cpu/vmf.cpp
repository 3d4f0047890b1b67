// The loops of the von Mises-Fisher functions for one ISA.
#include "../math/vmf.h"

#include "kernels.h"
#include "regions.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

// The parts of UniformDivergence that a function gives, in order; the compiler drops the work for the others.
template <auto... parts>
struct VmfUniformLoop : VmfUniform {
  static constexpr int outputs = sizeof...(parts);
  template <int region, class R>
  VMF_HD static void evaluate(PreparedDimension<R> dimension, R kappa, R* out) {
    auto result = VmfUniform::in_region<region>(dimension, kappa);
    int o = 0;
    ((out[o++] = parts(result)), ...);
  }
};
constexpr auto kl = [](auto result) { return result.kl; };
constexpr auto kl_slope = [](auto result) { return result.kl_slope; };
constexpr auto log_f = [](auto result) { return result.log_f; };
constexpr auto log_peak = [](auto result) { return result.log_peak; };
constexpr auto complement = [](auto result) { return result.complement; };
constexpr auto mean_length = [](auto result) { return result.mean_length; };

struct ConcentrationLoop {
  static constexpr int outputs = 1, regions = 1;
  template <class R>
  VMF_HD static R region(R, R) {
    return R(0);
  }
  template <class R>
  VMF_HD static R prepare(R m) {
    return m;
  }
  template <int region, class R>
  VMF_HD static void evaluate(R m, R mean_length, R* out) {
    out[0] = vmf_concentration(m, mean_length);
  }
};

Elementwise vmf(Op op) {
  switch (op) {
    case Op::kl_uniform:
      return loops<VmfUniformLoop<kl>>();
    case Op::kl_uniform_with_slope:
      return loops<VmfUniformLoop<kl, kl_slope>>();
    case Op::log_f:
      return loops<VmfUniformLoop<log_f>>();
    case Op::log_f_with_slope:
      return loops<VmfUniformLoop<log_f, mean_length>>();
    case Op::log_peak:
      return loops<VmfUniformLoop<log_peak>>();
    case Op::log_peak_with_slope:
      return loops<VmfUniformLoop<log_peak, complement>>();
    case Op::concentration:
      return loops<ConcentrationLoop>();
    default:
      return {};
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
