// The von Mises-Fisher distribution on the unit sphere of R^m: the divergence to the uniform law with its derivative
// in kappa, in one pass, and the inverse of the mean length; m >= 2, kappa >= 0.
//
// With v = m/2 - 1, A = I_{v+1}(kappa)/I_v(kappa) the mean length and F = 0F1(; m/2; kappa^2/4), so that
// log C_m(kappa) = log C_m(0) - log F,
//
//   KL(vMF || uniform) = kappa A - log F,   d KL/d kappa = kappa A',   d log F/d kappa = A,
//   log density at the mode, less that of the uniform law = kappa - log F = KL + kappa (1 - A), with slope 1 - A.
//
// KL is about kappa^2/(2m) for small kappa and ((m-1)/2) log kappa for large, when both of its terms are near kappa.
// With mu = v + 1/2, s = sqrt(mu^2 + kappa^2), p = mu/s, d = s - mu and q, h, y of ratio.h (A = kappa/y, y = mu + h):
//
//   series      s <= 32 (float32: 14)            kappa A - log F from the power series of F                DLMF 10.25.2
//   low         above, mu < 20 (float32: 10)     mu log((s+mu)/(2(mu+1))) + 1/2 log(2/(1+p)) - d q/((s+h) y)
//                                                - sum_k l_k(p) s^-k + R(mu)
//   high        above, mu >= 20 (float32: 10)    mu log1p(d/(2mu)) + 1/2 log1p(d/(s+mu)) - p d/(2s)
//                                                + d/s sum_k T_k(p) mu^-k
//
// low: kappa A - d = -d q/((s+h) y) takes kappa out of the difference with log I_v, whose expansion in s gives the sum;
// R(mu) = mu log(mu+1) - mu + 1/2 log 2pi - log Gamma(mu+1/2) is of size 1. high: Stirling's series for the Gamma
// function is merged into the sum, which leaves the factor d and so every digit for kappa << m. The expansions are each
// split once more, where fewer terms do. Measured worst relative errors, m 2..1e5, kappa 1e-8..1e8, in eps: KL 7 and
// KL' 10 in double, 5 and 6 in float arithmetic; the expansions alone 2 and 4.
#pragma once

#include "ratio.h"

namespace vmf_ops {

namespace detail {

// sum_{k=first}^{last} mu^-(k-first) T_k(p).
template <int k, int last, class T>
VMF_HD T kl_sum(T p, T inverse_mu) {
  T row = row_polynomial<coefficients::kl_t, k, 0, 3 * k + 1>(p);
  if constexpr (k == last)
    return row;
  else
    return fma(kl_sum<k + 1, last>(p, inverse_mu), inverse_mu, row);
}

}  // namespace detail

// What is known of a dimension once.
template <class T>
struct PreparedDimension {
  T m, v, mu, constant;
};

template <class T>
struct UniformDivergence {
  T kl, kl_slope;          // KL and kappa A'
  T log_f, mean_length;    // log F and A
  T log_peak, complement;  // kappa - log F and 1 - A

  // The log density, less that of the uniform law, at the equator where kappa <= m/2 and so A < 1/2, at the mode above;
  // and its slope: the smaller of the two, which loses the fewer digits when kappa times a cosine is added.
  VMF_HD T log_anchor(T m, T kappa) const { return select(kappa <= T(0.5) * m, -log_f, log_peak); }
  VMF_HD T anchor_slope(T m, T kappa) const { return select(kappa <= T(0.5) * m, -mean_length, complement); }
};

struct VmfUniform {
  // Regions: 0, 1 the series, short and long; 2, 3 low and 4, 5 high, each long and short.
  static constexpr int regions = 6;

  template <class T>
  VMF_HD static T region(T m, T kappa) {
    T mu = T(0.5) * m - T(0.5), s2 = fma(mu, mu, kappa * kappa);
    T series = select(kappa <= T(by_precision<T>(8, 4)), T(0), T(1));
    T low = select(s2 < T(by_precision<T>(60. * 60, 28. * 28)), T(2), T(3));
    T high = select(mu < T(by_precision<T>(60, 28)), T(4), T(5));
    T expansion = select(mu < T(by_precision<T>(20, 10)), low, high);
    return select(s2 <= T(by_precision<T>(32. * 32, 14. * 14)), series, expansion);
  }

  template <class T>
  VMF_HD static PreparedDimension<T> prepare(T m) {
    T v = T(0.5) * m - T(1), mu = v + T(0.5);
    // 1 + 1/2 log 2pi - P, P the tail of log_gamma1p: log Gamma(mu+1/2) = mu log(mu+1) - (mu+1) + P.
    T tail =
        detail::fitted<coefficients::log_gamma_tail, coefficients::log_gamma_tail_float, 16, 7>(T(1) / (mu + T(1)));
    return {m, v, mu, T(1.9189385332046727) - tail};
  }

  template <int region, class T>
  VMF_HD static UniformDivergence<T> in_region(PreparedDimension<T> dimension, T kappa) {
    UniformDivergence<T> result;
    if constexpr (region < 2)
      result = series<int(by_precision<T>(region == 0 ? 22 : 46, region == 0 ? 11 : 21)),
                      int(by_precision<T>(region == 0 ? 30 : 70, region == 0 ? 16 : 31))>(dimension, kappa);
    else
      result = expansion<region >= 4, region % 2 == 0>(dimension, kappa);
    T m = dimension.m;
    auto inside = (m >= T(2)) & (kappa > T(0)) & (m < infinity<T>()) & (kappa < infinity<T>());
    return all(inside) ? result : edges(m, kappa, result);
  }

  // d log F/dm, by dual numbers.
  template <int region, class T>
  VMF_HD static T log_f_order_slope_in_region(T m, T kappa) {
    T y = in_region<region>(prepare(Dual<T>(m, T(1))), Dual<T>(kappa)).log_f.slope;
    y = select((kappa == T(0)) | (m == infinity<T>()), T(0), select(kappa == infinity<T>(), -infinity<T>(), y));
    auto outside = ((m == infinity<T>()) & (kappa == infinity<T>())) | !((m >= T(2)) & (kappa >= T(0)));
    return select(outside, not_a_number<T>(), y);
  }

 private:
  template <int terms, int numerator_terms, class T>
  VMF_HD static UniformDivergence<T> series(PreparedDimension<T> dimension, T kappa) {
    T v = dimension.v, t = T(0.25) * kappa * kappa;
    auto f = detail::power_series<terms, true>(v, t);
    T log_f = log1p(t * f.first / f.denominator);
    T mean_length = T(0.5) * kappa * (f.derivative / f.numerator);
    // A' = q (A/kappa)^2.
    T q = detail::series_q<numerator_terms>(v, kappa, f);
    T slope = q * mean_length * (T(0.5) * f.derivative / f.numerator);
    T h = sqrt(fma(dimension.mu, dimension.mu, fma(kappa, kappa, q)));
    T complement = detail::ratio_complement(dimension.mu, kappa, h, q), log_peak = kappa - log_f;
    // A rounding of A costs kappa A, of 1 - A the smaller kappa (1 - A).
    T kl = select(mean_length < T(0.5), fma(kappa, mean_length, -log_f), fma(-kappa, complement, log_peak));
    return {kl, slope, log_f, mean_length, log_peak, complement};
  }

  template <bool high, bool is_long, class T>
  VMF_HD static UniformDivergence<T> expansion(PreparedDimension<T> dimension, T kappa) {
    constexpr int q_terms = int(by_precision<T>(is_long ? 20 : 14, is_long ? 11 : 7));
    // Of a mu so large that s + mu may overflow, KL is to rounding mu times a function of kappa/mu; a smaller one is
    // below the rounding of an s that large.
    constexpr double huge = is_double<T> ? 0x1p970 : 0x1p103, down = 0x1p-8;
    T mu = dimension.mu, scale = select(mu > T(huge), T(down), T(1));
    mu = mu * scale, kappa = kappa * scale;
    T s = detail::hypotenuse(mu, kappa), inverse_s = T(1) / s, p = mu * inverse_s;
    T sum = min(s + mu, T(std::numeric_limits<Scalar<T>>::max())), d = kappa * (kappa / sum);
    T q = mu * (T(1) + p) * detail::expansion_sum<coefficients::ratio_q, 0, q_terms, 2, 0>(p, inverse_s);
    T h = s * sqrt(fma(q * inverse_s, inverse_s, T(1))), inverse_y = T(1) / (mu + h), mean_length = kappa * inverse_y;
    T kl;
    if constexpr (high) {
      constexpr int terms = int(by_precision<T>(is_long ? 14 : 10, is_long ? 6 : 4));
      T inverse_mu = T(1) / mu;
      T tail = inverse_mu * detail::kl_sum<1, terms>(p, inverse_mu) - T(0.5) * p;
      T u = T(0.5) * d * inverse_mu;  // a tiny one may underflow
      T main = select(u < T(by_precision<T>(0x1p-100, 0x1p-60)), T(0.5) * d, mu * log1p(u));
      kl = main + fma(T(0.5), log1p(d / sum), d * inverse_s * tail);
    } else {
      constexpr int terms = int(by_precision<T>(is_long ? 15 : 10, is_long ? 7 : 4));
      T tail = inverse_s * detail::expansion_sum<coefficients::log_l, 1, terms, 2, 0>(p, inverse_s);
      kl = fma(mu, log(T(0.5) * sum / (mu + T(1))), fma(T(0.5), log(T(2) / (T(1) + p)), dimension.constant));
      kl = kl - fma(d * (q / (s + h)), inverse_y, tail);
    }
    T complement = detail::ratio_complement(mu, kappa, h, q);
    T log_f = fma(kappa, mean_length, -kl) / scale, log_peak = fma(kappa, complement, kl) / scale;
    return {kl / scale, mean_length * (q * inverse_y), log_f, mean_length, log_peak, complement};
  }

  // The uniform law at kappa = 0 and where m is infinite; a point mass where kappa is; NaN outside.
  template <class T>
  VMF_HD static UniformDivergence<T> edges(T m, T kappa, UniformDivergence<T> result) {
    auto none = (kappa == T(0)) | (m == infinity<T>());
    auto infinite = kappa == infinity<T>();
    auto outside = ((m == infinity<T>()) & infinite) | !((m >= T(2)) & (kappa >= T(0)));
    auto edge = [&](T inner, T at_infinity) {
      return select(outside, not_a_number<T>(), select(none, T(0), select(infinite, at_infinity, inner)));
    };
    return {edge(result.kl, infinity<T>()),
            edge(result.kl_slope, T(0)),
            edge(result.log_f, infinity<T>()),
            edge(result.mean_length, T(1)),
            select(none & !outside, kappa, edge(result.log_peak, infinity<T>())),
            select(none & !outside, T(1), edge(result.complement, T(0)))};
  }
};

// In every lane, whatever its region: for kernels that need it beside other things.
template <class T>
VMF_HD UniformDivergence<T> uniform_divergence(PreparedDimension<T> dimension, T kappa) {
  T region = VmfUniform::region(dimension.m, kappa);
  UniformDivergence<T> result{T(0), T(0), T(0), T(0), T(0), T(0)};
  auto choose = [&](auto here, UniformDivergence<T> other) {
    auto one = [&](T a, T b) { return select(here, a, b); };
    result = {one(other.kl, result.kl),
              one(other.kl_slope, result.kl_slope),
              one(other.log_f, result.log_f),
              one(other.mean_length, result.mean_length),
              one(other.log_peak, result.log_peak),
              one(other.complement, result.complement)};
  };
  const Mask<T> series = region < T(2), high = region >= T(4), low = !(series | high);
  if (any(series)) choose(series, VmfUniform::in_region<1>(dimension, kappa));
  if (any(low)) choose(low, VmfUniform::in_region<2>(dimension, kappa));
  if (any(high)) choose(high, VmfUniform::in_region<4>(dimension, kappa));
  return result;
}

// The kappa with A_m(kappa) = a, 0 <= a <= 1, a_c = 1 - a, of which the smaller is to be exact: Newton's method for A/(1 - A^2), which is nearly linear in kappa
// (Banerjee et al., JMLR 6 (2005) 1345). It starts from the root of the quadratic that A' = q A^2/kappa^2 gives with
// the estimate q = mu + (mu+1)(1 - a^2), right at both ends and within 2 % between; 3 steps in double and 2 in float
// reach rounding.
template <class T>
VMF_HD T vmf_concentration(T m, T a, T a_c) {
  constexpr int steps = int(by_precision<T>(3, 2));
  T v = T(0.5) * m - T(1), mu = v + T(0.5);
  auto inside = (m >= T(2)) & (m < infinity<T>()) & (a > T(0)) & (a_c > T(0));
  T mean = select(inside, a, T(0.5)), mean_c = select(inside, a_c, T(0.5)), one_less_square = mean_c * (T(1) + mean);
  T q_over_mu = fma(T(1) + T(1) / mu, one_less_square, T(1));  // mu^2 may overflow
  T kappa = mean * mu * (T(1) + sqrt(fma(q_over_mu / mu, one_less_square, T(1)))) / one_less_square;
  // The start is right to rounding there, and A' may underflow.
  auto tight = one_less_square < T(std::numeric_limits<Scalar<T>>::epsilon() / 8);
  for (int i = 0; i < steps; i++) {
    Ratio<T> at = bessel_ratio(v, kappa);
    T miss = select(mean < T(0.5), mean - at.value, at.complement - mean_c);
    T shape = fma(mean, at.value, T(1)) / fma(at.value, at.value, T(1));
    T change = miss / at.slope * (shape * (at.complement * (T(1) + at.value) / one_less_square));
    kappa = kappa + select(tight, T(0), change);
  }
  kappa = select(inside, kappa, select(a == T(0), T(0), select(a_c == T(0), infinity<T>(), not_a_number<T>())));
  return select((m >= T(2)) & (m < infinity<T>()), kappa, not_a_number<T>());
}

}  // namespace vmf_ops
