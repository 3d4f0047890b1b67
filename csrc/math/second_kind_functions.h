// The ops of the second kind as function objects, as csrc/math/functions.h has the others; even in v.
#pragma once

#include "second_kind.h"

namespace vmf_ops {

template <int outputs_>
struct SecondKindFunction : LogKv {
  static constexpr int outputs = outputs_, covering[] = {0, 1, 2, 3, 4, 5, 5}, together = 1;
  template <class T>
  VMF_HD static T region(T v, T x) {
    return LogKv::region(abs(v), x);
  }
  template <class T>
  VMF_HD static T prepare(T v) {
    return v;
  }
};

template <Scaling scaling, bool with_slope>
struct LogKvFunction : SecondKindFunction<with_slope ? 2 : 1> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    auto [value, slope] = LogKv::in_region<region, scaling, with_slope>(abs(v), x);
    out[0] = value;
    if constexpr (with_slope) out[1] = slope;
  }
};

template <bool with_slope>
struct KveFunction : SecondKindFunction<with_slope ? 2 : 1> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    auto [value, slope] = LogKv::in_region<region, Scaling::exponential, with_slope>(abs(v), x);
    out[0] = exp(value);
    if constexpr (with_slope) out[1] = select(out[0] == T(0), T(0), out[0] * slope);
  }
};

struct LogKvOrderSlopeFunction : SecondKindFunction<1> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    T y = LogKv::order_slope_in_region<region>(abs(v), x);
    out[0] = select(v < T(0), -y, y);
  }
};

struct LogKvCurvatureFunction : SecondKindFunction<1> {
  template <int region, class T>
  VMF_HD static void evaluate(T v, T x, T* out) {
    out[0] = LogKv::curvature_in_region<region>(abs(v), x);
  }
};

}  // namespace vmf_ops
