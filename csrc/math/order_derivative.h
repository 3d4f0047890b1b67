// d/dv log I_v(x), which is d/dv log(e^-x I_v(x)) too; v >= 0, x >= 0.
//
// Branches, with s = sqrt(v^2 + x^2):
//   integral  s <= 26, v <= 1/2, x > 1/2   Schlaefli's integral and its derivative, 32 Gauss nodes each   DLMF 10.32.4
//             There the series cancels; the value goes over to -K_0(x)/I_0(x) at v = 0.
//   series    s <= 26 otherwise            log(x/2) - digamma(v+1) + dF/dv / F, F = 0F1(; v+1; x^2/4)     DLMF 10.38.1
//   debye     above                        the expansion of log_iv.h, term by term
// (float32: s <= 12.) Measured worst errors: see docs/accuracy.md.
#pragma once

#include "log_iv.h"

namespace vmf_ops {

namespace detail {

// Term by term, d/dv of d_k(p^2) s^-k is p s^-(k+1) (2 (1-p^2) d_k' - k d_k)(p^2).
struct DebyeOrderSlope {
  double row[17][18] = {};
  constexpr const double* operator[](int k) const { return row[k]; }
  constexpr DebyeOrderSlope() {
    for (int k = 1; k <= 16; k++)
      for (int i = 0; i <= k; i++)
        row[k][i] =
            2. * (i + 1) * (i < k ? coefficients::debye[k][i + 1] : 0.) - (2. * i + k) * coefficients::debye[k][i];
  }
};
inline constexpr DebyeOrderSlope debye_order_slope;

}  // namespace detail

struct LogIvOrderSlope {
  static constexpr int regions = 4;

  template <class T>
  VMF_HD static T region(T v, T x) {
    T s2 = fma(v, v, x * x);
    T small = select((v <= T(0.5)) & (x > T(0.5)), T(0), T(1));
    T debye = select(s2 < T(by_precision<T>(60. * 60, 30. * 30)), T(2), T(3));
    return select(s2 <= T(by_precision<T>(26. * 26, 12. * 12)), small, debye);
  }

  template <int region, class T>
  VMF_HD static T in_region(T v, T x) {
    T y;
    if constexpr (region == 0)
      y = integral(v, x);
    else if constexpr (region == 1)
      y = series(v, x);
    else
      y = debye<int(by_precision<T>(region == 2 ? 16 : 10, region == 2 ? 6 : 4))>(v, x);
    y = select(x == T(0), -infinity<T>(), select(x == infinity<T>(), T(0), y));
    y = select(v == infinity<T>(), select(x == infinity<T>(), not_a_number<T>(), -infinity<T>()), y);
    return select((v >= T(0)) & (x >= T(0)), y, not_a_number<T>());
  }

 private:
  template <class T>
  VMF_HD static T integral(T v, T x) {
    constexpr double pi = 3.141592653589793;
    static constexpr Table<T, coefficients::gauss_nodes> nodes{};
    static constexpr Table<T, coefficients::gauss_weights> weights{};
    // The integrands are below eps beyond these ends; x is at most 26 here.
    T top = T(pi) * min(T(1), sqrt(T(20) / x)), cut = T(38) / x;
    T end = log1p(cut + sqrt(cut * (cut + T(2))));  // acosh(1 + cut)
    T cos_v = cos(T(pi) * v), sin_v = sin(T(pi) * v) * T(1 / pi);
    T theta_sin = T(0), cosine = T(0), tail = T(0), tail_slope = T(0);
    for (int i = 0; i < 32; i++) {
      T theta = top * T(nodes.at[i]), half = sin(T(0.5) * theta);
      T weight = T(weights.at[i]) * exp(T(-2) * x * half * half);
      theta_sin = fma(weight * theta, sin(v * theta), theta_sin);
      cosine = fma(weight, cos(v * theta), cosine);
      T u = end * T(nodes.at[i]), growth = exp(u);
      weight = T(weights.at[i]) * exp(-x * fma(T(0.5), growth + T(1) / growth, T(1)) - v * u);
      tail = tail + weight;
      tail_slope = fma(weight, cos_v - u * sin_v, tail_slope);
    }
    T scale = top * T(1 / pi);
    return -(scale * theta_sin + end * tail_slope) / (scale * cosine - sin_v * end * tail);
  }

  template <class T>
  VMF_HD static T series(T v, T x) {
    T t = T(0.25) * x * x, f = T(1), slope = T(0);
    VMF_UNROLL
    for (int k = int(by_precision<T>(42, 20)); k > 0; k--) {
      T inverse = T(1) / (v + T(k)), factor = t * inverse * T(1.0 / k);
      slope = factor * (slope - f * inverse);
      f = fma(factor, f, T(1));
    }
    T w = v + T(1.5), y = T(1) / w;
    T digamma_tail = detail::fitted<coefficients::digamma_tail, coefficients::digamma_tail_float, 16, 7>(y);
    return log(x) - T(0.6931471805599453) - fma(y, digamma_tail, log_normal(w)) + slope / f;
  }

  template <int terms, class T>
  VMF_HD static T debye(T v, T x) {
    T s = detail::hypotenuse(v, x), inverse_s = T(1) / s, p = v * inverse_s;
    T sum = inverse_s * detail::debye_sum<detail::debye_order_slope, 1, terms>(p * p, inverse_s);
    return fma(p * inverse_s, sum - T(0.5), -detail::asinh_ratio(v, x, detail::slant(v, x, s)));
  }
};

}  // namespace vmf_ops
