// The Bessel family's loops for one ISA.
#include "../math/log_iv.h"
#include "../math/order_derivative.h"
#include "../math/ratio.h"
#include "kernels.h"
#include "regions.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

template <Scaling scaling, bool with_slope>
struct LogIvLoop : LogIv {
  static constexpr int outputs = with_slope ? 2 : 1;
  template <class R>
  VMF_HD static PreparedOrder<R> prepare(R v) {
    return prepare_order(v);
  }
  template <int region, class R>
  VMF_HD static void evaluate(PreparedOrder<R> order, R x, R* out) {
    auto [value, slope] = LogIv::in_region<region, scaling, with_slope>(order, x);
    out[0] = value;
    if constexpr (with_slope) out[1] = slope;
  }
};

template <bool with_slope>
struct IveLoop : LogIvLoop<Scaling::exponential, with_slope> {
  template <int region, class R>
  VMF_HD static void evaluate(PreparedOrder<R> order, R x, R* out) {
    LogIvLoop<Scaling::exponential, with_slope>::template evaluate<region>(order, x, out);
    out[0] = exp(out[0]);
    if constexpr (with_slope) out[1] = LogIv::ive_slope(order.v, x, out[0], out[1]);
  }
};

struct OrderSlopeLoop : LogIvOrderSlope {
  static constexpr int outputs = 1;
  template <class R>
  VMF_HD static R prepare(R v) {
    return v;
  }
  template <int region, class R>
  VMF_HD static void evaluate(R v, R x, R* out) {
    out[0] = LogIvOrderSlope::in_region<region>(v, x);
  }
};

// The parts of the ratio that a function gives, in order.
template <bool value_only, auto... parts>
struct RatioLoop : BesselRatio {
  static constexpr int outputs = sizeof...(parts);
  template <class R>
  VMF_HD static R prepare(R v) {
    return v;
  }
  template <int region, class R>
  VMF_HD static void evaluate(R v, R x, R* out) {
    auto ratio = BesselRatio::in_region<region, value_only>(v, x);
    int o = 0;
    ((out[o++] = parts(ratio)), ...);
  }
};
constexpr auto value = [](auto ratio) { return ratio.value; };
constexpr auto complement = [](auto ratio) { return ratio.complement; };
constexpr auto slope = [](auto ratio) { return ratio.slope; };
constexpr auto complement_slope = [](auto ratio) { return -ratio.slope; };

struct RatioCurvatureLoop : RatioLoop<false, slope> {
  template <int region, class R>
  VMF_HD static void evaluate(R v, R x, R* out) {
    out[0] = BesselRatio::curvature_in_region<region>(v, x);
  }
};

Elementwise special(Op op) {
  switch (op) {
    case Op::log_iv:
      return loops<LogIvLoop<Scaling::none, false>>();
    case Op::log_iv_with_slope:
      return loops<LogIvLoop<Scaling::none, true>>();
    case Op::log_ive:
      return loops<LogIvLoop<Scaling::exponential, false>>();
    case Op::log_ive_with_slope:
      return loops<LogIvLoop<Scaling::exponential, true>>();
    case Op::ive:
      return loops<IveLoop<false>>();
    case Op::ive_with_slope:
      return loops<IveLoop<true>>();
    case Op::log_iv_order_slope:
      return loops<OrderSlopeLoop>();
    case Op::ratio:
      return loops<RatioLoop<true, value>>();
    case Op::ratio_with_slope:
      return loops<RatioLoop<false, value, slope>>();
    case Op::ratio_complement:
      return loops<RatioLoop<false, complement>>();
    case Op::ratio_complement_with_slope:
      return loops<RatioLoop<false, complement, complement_slope>>();
    case Op::ratio_slope:
      return loops<RatioLoop<false, slope>>();
    case Op::ratio_curvature:
      return loops<RatioCurvatureLoop>();
    default:
      return vmf(op);
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
