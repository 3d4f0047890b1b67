// log I_v(x), log(e^-x I_v(x)) and their derivatives in x, in one pass; v >= 0, x >= 0.
//
// Branches, with s = sqrt(v^2 + x^2); K terms give a truncation error below 0.1 eps:
//   series   s <= 26 (float32: 12)   (x/2)^v / Gamma(v+1) * sum_k (x^2/4)^k / (k! (v+1)_k)           DLMF 10.25.2
//   debye    above                   e^(s - v asinh(v/x)) / sqrt(2 pi s) * exp(sum_k d_k(v^2/s^2) s^-k)   DLMF 10.41.3
// Each is split once more, where fewer terms do.
//
// The series has positive terms alone. The exponent of the Debye expansion is its logarithm taken term by term, with
// half the coefficients of a form in v + 1/2. The slope of the scaled function is v/x - (1 - r), with 1 - r as ratio.h
// has it, and that of e^-x I_v(x) is it times the function. Measured worst backward error E, |err| / (eps (1 + |f| +
// |v df/dv| + |x df/dx|)): see docs/accuracy.md.
#pragma once

#include "expansions.h"

namespace vmf_ops {

enum class Scaling { none, exponential };  // I_v(x), or e^-x I_v(x)

template <class T>
struct ValueAndSlope {
  T value, slope;
};

// What is known of an order once: a fixed order is prepared once for many x. By Stirling's formula about w = v + 3/2,
//   (x/2)^v / Gamma(v+1) = exp(v log(x/(2w)) + offset),
// which loses less than v log(x/2) - log Gamma(v+1), since x/2 and w are alike where that is largest.
template <class T>
struct PreparedOrder {
  T v, half_over_w, offset;
};
template <class T>
VMF_HD PreparedOrder<T> prepare_order(T v) {
  T w = min(v, T(by_precision<T>(26, 12))) + T(1.5), inverse = quotient(T(1), w);
  T tail = detail::fitted<coefficients::log_gamma_tail, coefficients::log_gamma_tail_float, 16, 7>(inverse);
  T offset = w - fma(T(0.5), log_normal(w), tail);
  return {v, T(0.5) * inverse, select(v == T(0), T(0), offset)};
}

struct LogIv {
  // Regions: 0, 1 the series, short and long; 2, 3 the Debye expansion, long and short.
  static constexpr int regions = 4;

  template <class T>
  VMF_HD static T region(T v, T x) {
    T s2 = fma(v, v, x * x);
    T series = select(x <= T(by_precision<T>(7, 4)), T(0), T(1));
    T debye = select(s2 < T(by_precision<T>(60. * 60, 30. * 30)), T(2), T(3));
    return select(s2 <= T(by_precision<T>(26. * 26, 12. * 12)), series, debye);
  }

  template <int region, Scaling scaling, bool with_slope, class T>
  VMF_HD static ValueAndSlope<T> in_region(PreparedOrder<T> order, T x) {
    if constexpr (region < 2)
      return series<int(by_precision<T>(region == 0 ? 20 : 41, region == 0 ? 11 : 19)),
                    int(by_precision<T>(region == 0 ? 28 : 58, region == 0 ? 16 : 28)), region == 0, scaling,
                    with_slope>(order, x);
    else {
      constexpr int terms = int(by_precision<T>(region == 2 ? 16 : 10, region == 2 ? 6 : 4));
      if (all(detail::moderate(order.v, x))) return debye<terms, scaling, with_slope, true>(order.v, x);
      return debye<terms, scaling, with_slope, false>(order.v, x);
    }
  }

  // d/dx of e^-x I_v(x) from the function, its logarithm and the slope of that; one-sided at x = 0. Where the function
  // is not a normal number or the slope overflows, their product is taken in logarithms.
  template <class T>
  VMF_HD static T ive_slope(T v, T x, T ive, T log_ive, T log_slope) {
    constexpr Scalar<T> smallest = std::numeric_limits<Scalar<T>>::min();
    T slope = ive * log_slope;
    const Mask<T> steep = abs(log_slope) == infinity<T>(), extreme = (ive < T(smallest)) | steep;
    if (any(extreme)) {
      T log_size = log_ive + select(steep, log(v) - log(x), log(abs(log_slope)));
      T size = exp(log_size);
      slope = select(extreme, select(log_slope < T(0), -size, size), slope);
    }
    slope = select((x == infinity<T>()) | (v == infinity<T>()), T(0), slope);
    T at_zero = select(v == T(0), T(-1), select(v < T(1), infinity<T>(), select(v == T(1), T(0.5), T(0))));
    slope = select(x == T(0), at_zero, slope);
    auto outside = ((v == infinity<T>()) & (x == infinity<T>())) | !((v >= T(0)) & (x >= T(0)));
    return select(outside, not_a_number<T>(), slope);
  }

 private:
  template <int terms, int ratio_terms, bool short_series, Scaling scaling, bool with_slope, class T>
  VMF_HD static ValueAndSlope<T> series(PreparedOrder<T> order, T x) {
    T v = order.v, t = T(0.25) * x * x;
    auto f = detail::power_series<terms, with_slope>(v, t);
    T log_sum, slope = T(0);
    if constexpr (with_slope && scaling == Scaling::exponential)
      slope = v / x - detail::series_complement<ratio_terms>(v, x, f);
    else if constexpr (with_slope)
      slope = v / x + T(0.5) * x * f.derivative / f.numerator;
    if constexpr (scaling == Scaling::none || short_series)
      log_sum = log1p_normal(quotient(t * f.first, f.denominator));
    else  // log F - x would keep the rounding of a larger log F
      log_sum = log(exp(-x) * (f.numerator / f.denominator));
    if constexpr (scaling == Scaling::exponential && short_series) log_sum -= x;
    // A tiny x is scaled, so that x/(2w) is a normal number.
    auto small = x < T(is_double<T> ? 0x1p-900 : 0x1p-96);
    T log_x = log_normal(x * select(small, T(is_double<T> ? 0x1p512 : 0x1p64), T(1)) * order.half_over_w) -
              select(small, T((is_double<T> ? 512 : 64) * 0.6931471805599453), T(0));
    T value = fma(v, log_x, log_sum + order.offset);
    return finish<scaling>(v, x, value, slope);
  }

  // Where all is moderate, nothing is scaled.
  template <int terms, Scaling scaling, bool with_slope, bool moderate, class T>
  VMF_HD static ValueAndSlope<T> debye(T v, T x) {
    T s = moderate ? root(fma(v, v, x * x)) : detail::hypotenuse(v, x);
    T inverse_s = quotient(T(1), s), p = v * inverse_s, p2 = p * p;
    T slant = moderate ? quotient(v, s + x) : detail::slant(v, x, s), excess = v * slant;  // s - x
    T head = scaling == Scaling::exponential ? excess : s;
    T log_s = scaling == Scaling::none ? coarse_log(s) : log_normal(s);  // beside s, or alone
    T tail = fma(T(-0.5), log_s, T(-0.9189385332046727)) +
             inverse_s * detail::debye_sum<coefficients::debye, 1, terms>(p2, inverse_s);
    T asinh = moderate ? log1p_normal(quotient(fma(v, slant, v), x)) : detail::asinh_ratio(v, x, slant);
    // v asinh alone may overflow where the value does not.
    constexpr double half = moderate ? 1 : 0.5;
    T value = fma(T(-half) * v, asinh, T(half) * head) * T(1 / half) + tail;
    T slope = T(0);
    if constexpr (with_slope) {
      // Two terms more where this is all there is of the slope, for large x.
      constexpr int slope_terms = scaling == Scaling::exponential ? terms + 2 : terms;
      T correction =
          fma(inverse_s, detail::debye_sum<coefficients::debye_slope, 1, slope_terms>(p2, inverse_s), T(-0.5));
      slope = (moderate ? quotient(head, x) : head / x) + x * inverse_s * inverse_s * correction;
    }
    if (moderate) return {value, slope};
    return finish<scaling>(v, x, value, slope);
  }

  // The edges of the domain, one-sided limits in the slope; NaN outside.
  template <Scaling scaling, class T>
  VMF_HD static ValueAndSlope<T> finish(T v, T x, T value, T slope) {
    auto inside = (v >= T(0)) & (x > T(0)) & (v < infinity<T>()) & (x < infinity<T>());
    if (all(inside)) return {value, slope};
    constexpr bool scaled = scaling == Scaling::exponential;
    auto x_zero = x == T(0), v_zero = v == T(0), x_infinite = x == infinity<T>(), v_infinite = v == infinity<T>();
    T origin = scaled ? T(-1) : T(0);
    value = select(x_zero, select(v_zero, T(0), -infinity<T>()), value);
    slope = select(x_zero, select(v_zero, origin, infinity<T>()), slope);
    value = select(x_infinite, scaled ? -infinity<T>() : infinity<T>(), value);
    slope = select(x_infinite, scaled ? T(0) : T(1), slope);
    value = select(v_infinite, -infinity<T>(), value);
    slope = select(v_infinite, infinity<T>(), slope);
    auto outside = (v_infinite & x_infinite) | !((v >= T(0)) & (x >= T(0)));
    return {select(outside, not_a_number<T>(), value), select(outside, not_a_number<T>(), slope)};
  }
};

}  // namespace vmf_ops
