// The element-wise ops of (v, x) as function objects, which the CPU's loops and the CUDA kernels run alike.
//
// A function F has F::outputs; F::regions, the number of its methods, and F::region(v, x), which of them an element
// takes, as a number in each lane; F::prepare(v), what is known of an order once; and F::evaluate<region>(order, x,
// out), which fills out[F::outputs]. F::covering[r] is a method that is right wherever r is: where elements of
// different regions run in turn, as in a CUDA warp that is not sorted, one long method costs less than a long and a
// short. F::together is the number of elements whose registers a CUDA thread has room for at once.
#pragma once

#include "log_iv.h"
#include "order_derivative.h"
#include "ratio.h"
#include "vmf.h"

namespace vmf_ops {

template <Scaling scaling, bool with_slope>
struct LogIvFunction : LogIv {
  static constexpr int outputs = with_slope ? 2 : 1, covering[] = {1, 1, 2, 2}, together = 2;
  template <class T>
  VMF_HD static PreparedOrder<T> prepare(T v) {
    return prepare_order(v);
  }
  template <int region, class T>
  VMF_HD static void evaluate(PreparedOrder<T> order, T x, T* out) {
    auto [value, slope] = LogIv::in_region<region, scaling, with_slope>(order, x);
    out[0] = value;
    if constexpr (with_slope) out[1] = slope;
  }
};

template <bool with_slope>
struct IveFunction : LogIvFunction<Scaling::exponential, with_slope> {
  template <int region, class T>
  VMF_HD static void evaluate(PreparedOrder<T> order, T x, T* out) {
    auto [log_ive, log_slope] = LogIv::in_region<region, Scaling::exponential, with_slope>(order, x);
    out[0] = exp(log_ive);
    if constexpr (with_slope) out[1] = LogIv::ive_slope(order.v, x, out[0], log_ive, log_slope);
  }
};

struct OrderSlopeFunction : LogIvOrderSlope {
  static constexpr int outputs = 1, covering[] = {0, 1, 2, 2}, together = 1;
  template <class T>
  VMF_HD static T prepare(T v) {
    return v;
  }
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    out[0] = LogIvOrderSlope::in_region<region>(v, x);
  }
};

enum class RatioPart { value, complement, slope, complement_slope, over_x };

// The parts of the ratio that a function gives, in order.
template <RatioPart... parts>
struct RatioFunction : BesselRatio {
  static constexpr int outputs = sizeof...(parts), covering[] = {1, 1, 2, 2}, together = 1;
  static constexpr bool value_only = ((parts == RatioPart::value) && ...);
  template <class T>
  VMF_HD static T prepare(T v) {
    return v;
  }
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    auto ratio = BesselRatio::in_region<region, value_only>(v, x);
    int o = 0;
    ((out[o++] = parts == RatioPart::value        ? ratio.value
                 : parts == RatioPart::complement ? ratio.complement
                 : parts == RatioPart::slope      ? ratio.slope
                 : parts == RatioPart::over_x     ? over(x, ratio)
                                                  : -ratio.slope),
     ...);
  }

 private:
  // r/x; for a small x it is r' to rounding, where r may underflow.
  template <class T>
  VMF_HD static T over(T x, Ratio<T> ratio) {
    return select(x < T(std::numeric_limits<Scalar<T>>::epsilon()), ratio.slope, ratio.value / x);
  }
};

struct RatioCurvatureFunction : RatioFunction<RatioPart::slope> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    out[0] = BesselRatio::curvature_in_region<region>(v, x);
  }
};

struct RatioOrderSlopeFunction : RatioFunction<RatioPart::value> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    out[0] = BesselRatio::order_slope_in_region<region>(v, x);
  }
};

enum class DivergencePart { kl, kl_slope, log_f, mean_length, log_peak, complement, log_anchor, anchor_slope };

// The parts of UniformDivergence that a function gives, in order; the compiler drops the work for the others.
template <DivergencePart... parts>
struct DivergenceFunction : VmfUniform {
  static constexpr int outputs = sizeof...(parts), covering[] = {1, 1, 2, 2, 4, 4}, together = 1;
  template <int region, class T>
  VMF_HD static void evaluate(PreparedDimension<T> dimension, T kappa, T* out) {
    auto result = VmfUniform::in_region<region>(dimension, kappa);
    int o = 0;
    ((out[o++] = parts == DivergencePart::kl            ? result.kl
                 : parts == DivergencePart::kl_slope    ? result.kl_slope
                 : parts == DivergencePart::log_f       ? result.log_f
                 : parts == DivergencePart::mean_length ? result.mean_length
                 : parts == DivergencePart::log_peak    ? result.log_peak
                 : parts == DivergencePart::complement  ? result.complement
                 : parts == DivergencePart::log_anchor  ? result.log_anchor(dimension.m, kappa)
                                                        : result.anchor_slope(dimension.m, kappa)),
     ...);
  }
};

struct LogFOrderSlopeFunction : VmfUniform {
  static constexpr int outputs = 1, covering[] = {1, 1, 2, 2, 4, 4}, together = 1;
  template <class T>
  VMF_HD static T prepare(T m) {
    return m;
  }
  template <int region, class T>
  VMF_HD static void evaluate(T m, T kappa, T* out) {
    out[0] = VmfUniform::log_f_order_slope_in_region<region>(m, kappa);
  }
};

template <bool of_complement>
struct ConcentrationFunction {
  static constexpr int outputs = 1, regions = 1, covering[] = {0}, together = 1;
  template <class T>
  VMF_HD static T region(T, T) {
    return T(0);
  }
  template <class T>
  VMF_HD static T prepare(T m) {
    return m;
  }
  template <int region, class T>
  VMF_HD static void evaluate(T m, T given, T* out) {
    if constexpr (of_complement)
      out[0] = vmf_concentration(m, T(1) - given, given);
    else
      out[0] = vmf_concentration(m, given, T(1) - given);
  }
};

}  // namespace vmf_ops
