// psi(w) = (dw/dkappa)/(1-w^2), the gradient of a vMF draw's cosine in kappa: dz/dkappa = psi sqrt(dc)(sqrt(dc) mu - w t),
// t the unit tangent of the draw. N = m-1, S = sqrt(N^2+4 kappa^2), A = A_m(kappa), d = 1-w, c = 1+w.
//
// implicit: w moves with its distribution function held (Figurnov, Mohamed, Mnih 2018), so that gradients of means are
// unbiased. psi = |int (cos f - A) (sin f/sin th)^(N-1) e^{kappa(cos f - w)} df| / sin th, over [0, th] or [th, pi].
//   m = 3        closed: [g(kappa c) - e^{-kappa c} g(kappa d)] / (1 - e^{-2 kappa}), g(x) = (1 - e^-x)/x, for
//                kappa >= 1; below, the integral over t in [0, 1] of
//                e^{-kappa c (1-t)} expm1(-2 kappa t)/expm1(-2 kappa), by Gauss
//   m >= 24      (double: 160) the solution in powers of 1/S of (1-w^2) psi' = A - w + psi (N w - kappa (1-w^2)); with
//                p = N/S, x0 = 2 kappa/(N+S) and rho = 2/((1+p)(1+x0 w)), polynomials in rho and p. Not where
//                1 + x0 w < 0.3, which is next to never drawn.
//   other m      Gauss-Legendre on the side of th where cos f - A keeps its sign, cut off where the integrand has fallen
//                by e^-27 (float32: e^-14.5); all in f - th and the half angle, where nothing cancels
//   w -> +-1     there (1 -+ A)/N, where d or c times kappa + N is below the error aimed at
// pathwise ("rsvi"): the accepted proposal's own derivative, psi = 1/S (Davidson et al. 2018); not the whole gradient.
//
// Measured relative error, over m to 1e5, kappa to 1e8 and all of (-1, 1): 3.2e-10, at m = 2, kappa = 12.7 (5e-11 from
// m = 4 on); float32 2.0e-5.
#pragma once

#include "psi_coefficients.h"
#include "ratio.h"
#include "sampling.h"

namespace vmf_ops {

// S from N and 2 kappa, whose square may overflow.
template <class T>
VMF_HD T envelope_root(T n, T k2) {
  return select(k2 < T(by_precision<T>(0x1p500, 0x1p60)), root(fma(k2, k2, n * n)), k2);
}

template <class T>
VMF_HD T pathwise_psi(T n, T kappa) {
  return quotient(T(1), envelope_root(n, T(2) * kappa));
}

namespace detail {

// sum_i weight_i f(node_i).
template <const auto& nodes, const auto& weights, class T, class F>
VMF_HD T gauss_sum(F&& f) {
  static constexpr Table<T, nodes> node{};
  static constexpr Table<T, weights> weight{};
  T sum = T(0);
  for (int i = 0; i < node.size; i++) sum = fma(T(weight.at[i]), f(T(node.at[i])), sum);
  return sum;
}

template <class T>
VMF_HD T exponential_mean(T x) {  // (1 - e^-x)/x
  return select(x < T(std::numeric_limits<Scalar<T>>::min()), T(1), -expm1(-x) / x);
}

template <class T>
VMF_HD T sphere_psi(T kappa, Cosine<T> cosine) {
  T kc = kappa * cosine.c, kd = kappa * cosine.d, whole = expm1(T(-2) * kappa);
  T psi = (exp(-kc) * exponential_mean(kd) - exponential_mean(kc)) / whole;
  auto flat = kappa < T(1);
  if (any(flat)) {
    auto uniform = kappa < T(std::numeric_limits<Scalar<T>>::min());
    auto integrand = [&](T t) { return exp(kc * (t - T(1))) * select(uniform, t, expm1(T(-2) * kappa * t) / whole); };
    T integral;
    if constexpr (is_double<T>)
      integral = gauss_sum<coefficients::gauss_nodes_10, coefficients::gauss_weights_10, T>(integrand);
    else
      integral = gauss_sum<coefficients::gauss_nodes_4, coefficients::gauss_weights_4, T>(integrand);
    psi = select(flat, integral, psi);
  }
  return psi;
}

// asin(s), s <= sqrt(1/2), from s and its cosine: a start of 1e-4, then the sine of what is left.
template <class T>
VMF_HD T arcsine(T s, T cosine) {
  T start = s * polynomial<coefficients::arcsine_start, 0, 3>(s * s);
  T rest = fma(s, cos(start), -(cosine * sin(start)));
  return fma(rest * rest * rest, T(1. / 6), start + rest);
}

template <bool circle, class T>
VMF_HD T quadrature_psi(T n, T kappa, Cosine<T> cosine) {
  constexpr double lowest = std::numeric_limits<Scalar<T>>::epsilon();
  constexpr int corrections = is_double<T> || circle ? 4 : 2;
  const T cut = T(by_precision<T>(27, 14.5)), power = n - T(1);
  auto [mean, mean_complement, slope_unused] = bessel_ratio(T(0.5) * n - T(0.5), kappa);
  // The nearer pole serves as zero of the angle th <= pi/2; f = th + sign u, u >= 0.
  T d = cosine.d, c = cosine.c;
  auto front = d <= c, above = d <= mean_complement;
  T near = min(d, c), far = max(d, c);
  T k = select(front, kappa, -kappa), pole = select(front, mean_complement, T(1) + mean);
  T sign = select(front, T(1), T(-1)) * select(above, T(-1), T(1));
  T sine = root(near * far), cosine_th = T(1) - near, cotangent = quotient(cosine_th, sine);
  T half_sine = root(T(0.5) * near), half_cosine = root(T(0.5) * far), th = T(2) * arcsine(half_sine, half_cosine);
  T room = select(sign < T(0), th, T(3.141592653589793) - th);
  // log of the integrand's fall from th to f, and 1 - |cos f| measured from the pole.
  struct Point {
    T log_density, from_pole;
  };
  auto at = [&](T u) {
    T sh = sin(T(0.5) * u), ch = cos(T(0.5) * u);
    T change = T(-2) * sign * sh * fma(sine, ch, sign * cosine_th * sh);
    T log_density = k * change;
    if constexpr (!circle) {
      T relative = T(2) * sh * fma(sign * cotangent, ch, -sh);
      log_density = log_density + scaled_log1p(power, max(relative, T(lowest - 1)));
    }
    T half = fma(half_sine, ch, sign * half_cosine * sh);
    return Point{log_density, T(2) * half * half};
  };
  // The width: from slope and curvature at th, then corrected where the fall there is short of the cut.
  T slope = max(-sign * fma(power, cotangent, -(k * sine)), T(0));
  T curvature = quotient(power, sine * sine) + max(k * cosine_th, T(0));
  T width = min(quotient(T(2) * cut, slope + root(fma(slope, slope, T(2) * curvature * cut)) + T(1e-30)), room);
  VMF_UNROLL
  for (int i = 0; i < corrections; i++) {
    T fall = max(-at(width).log_density, T(0.0625) * cut), ratio = quotient(cut, fall);
    T widen = min(select(slope * width > T(0.5) * fall, ratio, root(ratio)), T(4));
    width = select(fall < cut, min(width * widen, room), width);
  }
  auto integrand = [&](T node) {
    auto p = at(width * node);
    return abs(pole - p.from_pole) * coarse_exp(max(p.log_density, T(-80)));
  };
  T sum;
  if constexpr (is_double<T>)
    sum = gauss_sum<coefficients::gauss_nodes_20, coefficients::gauss_weights_20, T>(integrand);
  else if constexpr (circle)
    sum = gauss_sum<coefficients::gauss_nodes_10, coefficients::gauss_weights_10, T>(integrand);
  else
    sum = gauss_sum<coefficients::gauss_nodes_9, coefficients::gauss_weights_9, T>(integrand);
  T psi = quotient(sum * width, sine);
  // A draw so near has a kappa so large that psi is 1/(2 kappa) there too; powers of a smaller one would underflow.
  auto tiny = near < T(by_precision<T>(0x1p-200, 0x1p-60));
  auto at_pole = tiny | (near * (kappa + n) < T(by_precision<T>(1e-13, 1e-7)));
  return select(at_pole, quotient(pole, n), psi);
}

// sum_{k=first}^{last} s^-(k-first) sum_{i=0}^{2k-1} rho^i psi_rows[k(k-1)+i](p).
template <int k, int i, class T>
VMF_HD T psi_row(T rho, T p) {
  T row = row_polynomial<coefficients::psi_rows, k*(k - 1) + i, 0, 2 * k - 1>(p);
  if constexpr (i == 2 * k - 1)
    return row;
  else
    return fma(psi_row<k, i + 1>(rho, p), rho, row);
}
template <int k, int last, class T>
VMF_HD T psi_sum(T rho, T p, T inverse_s) {
  T row = psi_row<k, 0>(rho, p);
  if constexpr (k == last)
    return row;
  else
    return fma(psi_sum<k + 1, last>(rho, p, inverse_s), inverse_s, row);
}

template <class T>
VMF_HD T expanded_psi(T n, T kappa, Cosine<T> cosine) {
  T k2 = T(2) * kappa, s = envelope_root(n, k2), inverse_s = quotient(T(1), s), inverse_sum = quotient(T(1), n + s);
  T p = n * inverse_s, x0 = k2 * inverse_sum;
  T slant = fma(x0, cosine.c, fma(n, quotient(n, s + k2), n) * inverse_sum);  // 1 + x0 w
  T base = quotient(T(1), slant), rho = quotient(T(2), T(1) + p) * base;
  T psi = rho * inverse_s * fma(base * inverse_s, psi_sum<1, int(by_precision<T>(4, 3))>(rho, p, inverse_s), T(1));
  auto behind = slant < T(0.3);
  if (any(behind)) psi = select(behind, quadrature_psi<false>(n, kappa, cosine), psi);
  return psi;
}

}  // namespace detail

template <class T>
VMF_HD T implicit_psi(int64_t m, T kappa, Cosine<T> cosine) {
  // At infinity d is 0, and so is psi to rounding.
  kappa = min(T(std::numeric_limits<Scalar<T>>::max() / 16), kappa);
  if (m == 2) return detail::quadrature_psi<true>(T(1), kappa, cosine);
  if (m == 3) return detail::sphere_psi(kappa, cosine);
  if (m >= int64_t(by_precision<T>(160, 24))) return detail::expanded_psi(T(Scalar<T>(m - 1)), kappa, cosine);
  return detail::quadrature_psi<false>(T(Scalar<T>(m - 1)), kappa, cosine);
}

}  // namespace vmf_ops
