// The sums that the Bessel family shares: power series in x^2/4, expansions in 1/s with polynomials as coefficients, and
// the distances s and asinh(v/x) that they are about.
#pragma once

#include "coefficients.h"
#include "elementary.h"

namespace vmf_ops {
namespace detail {

// Where v^2, x^2 and v/x stay within the range of T, and no edge of the domain is.
template <class T>
VMF_HD Mask<T> moderate(T v, T x) {
  constexpr double huge = is_double<T> ? 0x1p500 : 0x1p60;
  return (v >= T(0)) & (x > T(1 / huge)) & (v < T(huge)) & (x < T(huge));
}

// sqrt(v^2 + x^2) where neither square may overflow.
template <class T>
VMF_HD T hypotenuse(T v, T x) {
  constexpr double huge = is_double<T> ? 0x1p500 : 0x1p60;
  auto large = max(v, x) > T(huge);
  T scale = select(large, T(1 / huge / huge), T(1));
  T a = v * scale, b = x * scale;
  T s = root(fma(a, a, b * b)) * select(large, T(huge * huge), T(1));
  return min(s, T(std::numeric_limits<Scalar<T>>::max()));
}

// v/(s + x), the sum scaled to be finite and within the domain of quotient.
template <class T>
VMF_HD T slant(T v, T x, T s) {
  return quotient(T(0.125) * v, fma(T(0.125), s, T(0.125) * x));
}

// log((v + s)/x) = asinh(v/x) from slant. Its argument less 1 has no cancellation; where v/x may be infinite, x alone is
// no part of the sum v + s, and either has a logarithm.
template <class T>
VMF_HD T asinh_ratio(T v, T x, T slant) {
  auto steep = x < v * T(is_double<T> ? 0x1p-600 : 0x1p-90);
  T eighth = T(0.125) * v;
  T y = log1p_normal(quotient(fma(eighth, slant, eighth), T(0.125) * x));
  if (any(steep)) y = select(steep, log(v) - log(x) + T(0.6931471805599453), y);
  return y;
}

// sum_{k=first}^{last} s^-(k-first) row_k(p^2) for the triangular tables.
template <const auto& table, int k, int last, class T>
VMF_HD T debye_sum(T p2, T inverse_s) {
  T row = row_polynomial<table, k, 0, k>(p2);
  if constexpr (k == last)
    return row;
  else
    return fma(debye_sum<table, k + 1, last>(p2, inverse_s), inverse_s, row);
}

// 2^-round(log2 n), by which Horner's steps are scaled to keep their products in range: exact, unlike 1/n.
constexpr double power_of_two_over(double n) {
  double scale = 1;
  while (n * scale > 1.5) scale *= 0.5;
  return scale;
}

// P/Q = sum_{k>=0} t^k / (k! (v+1)_k) and D/P its logarithmic derivative in t, by Horner without a division or a
// rounded constant: Q <- k (v + k) Q, P <- Q + t P. In float the terms beyond the 11th are scaled by powers of two, and
// the others, where v < 15, may be as large as they are.
template <class T>
struct PowerSeries {
  T numerator, derivative, first, denominator;
};
template <int terms, bool with_slope, class T>
VMF_HD PowerSeries<T> power_series(T v, T t) {
  constexpr int unscaled = is_double<T> ? terms : 11;
  T q = T(1), p = T(1), d = T(0);
  VMF_UNROLL
  for (int k = terms; k > 1; k--) {
    const double scale = k <= unscaled ? 1 : power_of_two_over(double(k) * k);
    T tk = k <= unscaled ? t : t * T(scale);
    if constexpr (with_slope) d = tk * (p + d);
    q = q * fma(v, T(k * scale), T(k * k * scale));
    p = fma(tk, p, q);
  }
  // The term k = 1 is left out of the numerators: P = Q + t first, D = t derivative.
  T first = p, derivative = p + d;
  q = fma(v, q, q);
  return {fma(t, p, q), derivative, first, q};
}

// sum_{j=first}^{last} s^-(j-first) row_j(p), row_j of degree degree(j).
template <const auto& table, int j, int last, int degree_step, int degree_offset, class T>
VMF_HD T expansion_sum(T p, T inverse_s) {
  T row = row_polynomial<table, j, 0, degree_step * j + degree_offset>(p);
  if constexpr (j == last)
    return row;
  else
    return fma(expansion_sum<table, j + 1, last, degree_step, degree_offset>(p, inverse_s), inverse_s, row);
}

// 1F2(v+1/2; v+2, 2v+2; x^2) as P/Q: Q <- (v+1+k)(2mu+k) k Q, P <- Q + x^2 (mu+k-1) P, scaled as power_series.
template <int terms, class T>
VMF_HD T ratio_series_numerator(T v, T x) {
  T mu = v + T(0.5), x2 = x * x, q = T(1), p = T(1);
  VMF_UNROLL
  for (int k = terms; k > 0; k--) {
    const double scale = power_of_two_over(double(k) * k * k);
    q = q * ((v + T(k + 1)) * fma(T(2) * mu, T(k * scale), T(k * k * scale)));
    p = fma(x2 * T(scale) * (mu + T(k - 1)), p, q);
  }
  return p / q;
}

// q of ratio.h, from f = power_series<., true>(v, x^2/4): 0F1(; v+2; t) = (v+1) F'.
template <int terms, class T>
VMF_HD T series_q(T v, T x, PowerSeries<T> f) {
  T next = (v + T(1)) * f.derivative / f.denominator;
  return T(2) * (v + T(1)) * ratio_series_numerator<terms>(v, x) / (next * next);
}

// 1 - r from mu, h and q of ratio.h.
template <class T>
VMF_HD T ratio_complement(T mu, T x, T h, T q) {
  T y = (mu + mu * (mu / (h + x)) + q / (h + x)) / (h + mu);
  if (any(mu == T(0))) {  // 1 - tanh x, where all of it is q
    T e = exp(T(-2) * x);
    y = select(mu == T(0), T(2) * e / (T(1) + e), y);
  }
  return min(y, T(1));
}

// The same for x within reach of the series, from f = power_series<., true>(v, x^2/4).
template <int terms, class T>
VMF_HD T series_complement(T v, T x, PowerSeries<T> f) {
  T q = series_q<terms>(v, x, f), mu = v + T(0.5);
  return ratio_complement(mu, x, sqrt(fma(mu, mu, fma(x, x, q))), q);
}

}  // namespace detail
}  // namespace vmf_ops
