// log K_v(x), log(e^x K_v(x)), their derivatives in x and in v; v >= 0 here, since K_v = K_-v, x >= 0.
//
// Branches, with s = sqrt(v^2 + x^2):
//   series    s <= 8, x <= 1/2            K_mu and K_{mu+1}, mu = v - n in [-1/2, 1/2], by Temme's series; n steps of the
//                                         recurrence for (x/2)^j K_{mu+j}, which is stable upwards        DLMF 10.31, 10.29.1
//   integral  s <= 26 (float32: 12)       1/2 e^(v t - s) int exp(-s (cosh u - 1) - v (sinh u - u)) du, t = asinh(v/x),
//                                         by the trapezoidal rule, which converges geometrically          DLMF 10.32.9
//   debye     above                       log_iv.h's expansion with (-s)^-k in place of s^-k, and 1/2 log(pi/(2s)) - s + v t
//                                         before it                                                       DLMF 10.41.4
// The integral is split where s = 4, 8 and 14, the expansion as log_iv.h's.
//
// In the series all is even in mu but for p, so that nothing cancels at whole and half orders and d/dv keeps its digits
// to v = 0: with l = log(2/x), sigma = mu l, D and M the odd and even parts of Gamma(1+mu),
//   f_0 = D cosh sigma + l M sinh sigma / sigma,   P_0 = M cosh sigma + mu^2 l D sinh sigma / sigma,   p_0 = Gamma(1+mu) e^sigma / 2,
//   f_k = (k f + P)/(k^2 - mu^2),  P_k = (k P + mu^2 f)/(k^2 - mu^2),  p_k = p (k+mu)/(k^2 - mu^2),
//   K_mu = sum c_k f_k,  (x/2) K_{mu+1} = sum c_k (p_k - k f_k),  c_k = (x^2/4)^k / k!           Temme, J. Comp. Phys. 19 (1975) 324
// In the integral every derivative is a moment of a positive weight: with c = cosh(t+u) = (s cosh u + v sinh u)/x,
//   d/dx log K = -E[c],   d2/dx2 log K = Var[c],   d/dv log K = t + E[u].
//
// Measured worst errors, AVX-512, on tests/data's certified points: E 1.34 of log K and 2.18 of log(e^x K) (float32: 0.88
// and 0.98), d/dx 3.2 and 5.4 eps (3.9, 5.4), d2/dx2 16.7 eps (7.9), d/dv 2.5e-13 relative (6.4e-6). For 1/2 <= x, s <= 26
// this rule has 40 to 65 nodes (float32: 22 to 26) of one exponential each, and no branch. Others were weighed by their
// operations and not timed: Temme's continued fraction, a division a step and of no fixed length, and the Debye
// expansion shifted up in order, from which there is no stable way down, since K falls downwards.
#pragma once

#include "dual.h"
#include "log_iv.h"
#include "order_derivative.h"
#include "second_kind_coefficients.h"

namespace vmf_ops {

namespace detail {

// Term by term, d^2/dx^2 of d_k(p^2) s^-k is s^-(k+2) (grow_k - p^2 fall_k)(p^2), their coefficients n (n + 1 or 2) those of
// d_k, n = k + 2i.
template <int more>
struct DebyeCurvature {
  double row[19][20] = {};
  constexpr DebyeCurvature() {
    for (int k = 1; k <= 18; k++)
      for (int i = 0; i <= k; i++) row[k][i] = (k + 2. * i) * (k + 2. * i + more) * coefficients::debye[k][i];
  }
  constexpr const double* operator[](int k) const { return row[k]; }
};
inline constexpr DebyeCurvature<1> debye_curvature_grow;
inline constexpr DebyeCurvature<2> debye_curvature_fall;

// 1/(2k)!, 1/(2k+1)! and (k+1)/(2k+3)!.
struct HyperbolicSeries {
  double at[12] = {};
  constexpr explicit HyperbolicSeries(int kind) {
    double factorial = 1;
    for (int k = 0; k < 12; k++) {
      const double odd = factorial * (2 * k + 1), next = odd * (2 * k + 2) * (2 * k + 3);
      at[k] = kind == 0 ? 1 / factorial : kind == 1 ? 1 / odd : (k + 1) / next;
      factorial = odd * (2 * k + 2);
    }
  }
  constexpr double operator[](int k) const { return at[k]; }
};
inline constexpr HyperbolicSeries cosh_series(0), sinh_series(1), sinh_slope_series(2);

// cosh sqrt(w) and sinh sqrt(w) / sqrt(w), w >= 0, even and smooth at 0.
template <class T>
struct Hyperbolics {
  T cosine, sine;
};
template <class T>
VMF_HD Hyperbolics<T> hyperbolics(T w) {
  constexpr int terms = int(by_precision<T>(9, 5));
  T inner = min(w, T(1)), root = sqrt(max(w, T(1))), power = exp(root), inverse = T(1) / power;
  auto near = w < T(1);
  return {select(near, polynomial<cosh_series, 0, terms>(inner), T(0.5) * (power + inverse)),
          select(near, polynomial<sinh_series, 0, terms>(inner), T(0.5) * (power - inverse) / root)};
}
template <class T>
VMF_HD Hyperbolics<Dual<T>> hyperbolics(Dual<T> w) {
  auto [cosine, sine] = hyperbolics(w.value);
  constexpr int terms = int(by_precision<T>(9, 5));
  T outer = max(w.value, T(1));
  T slope = select(w.value < T(1), polynomial<sinh_slope_series, 0, terms>(min(w.value, T(1))),
                   T(0.5) * (cosine - sine) / outer);
  return {{cosine, T(0.5) * sine * w.slope}, {sine, slope * w.slope}};
}

// ---- The trapezoidal rules ----

template <int region, bool in_double>
struct Trapezoid;
#define VMF_OPS_TRAPEZOID(region, in_double, name, suffix)            \
  template <>                                                         \
  struct Trapezoid<region, in_double> {                               \
    static constexpr double step = coefficients::name##_step##suffix; \
    static constexpr int pairs = coefficients::name##_pairs##suffix;  \
    template <class T>                                                \
    using U = Table<T, coefficients::name##_u##suffix>;               \
    template <class T>                                                \
    using A = Table<T, coefficients::name##_a##suffix>;               \
    template <class T>                                                \
    using B = Table<T, coefficients::name##_b##suffix>;               \
  }
VMF_OPS_TRAPEZOID(1, true, near, );
VMF_OPS_TRAPEZOID(2, true, middle, );
VMF_OPS_TRAPEZOID(3, true, far, );
VMF_OPS_TRAPEZOID(4, true, farthest, );
VMF_OPS_TRAPEZOID(1, false, near, _float);
VMF_OPS_TRAPEZOID(2, false, middle, _float);
VMF_OPS_TRAPEZOID(3, false, far, _float);
VMF_OPS_TRAPEZOID(4, false, far, _float);  // not reached
#undef VMF_OPS_TRAPEZOID

// The sum of the weights, and the means of d = s a + v sinh u, which is x cosh(t+u) - s, of d^2 and of u.
template <class T>
struct Moments {
  T total, first, second, shift;
};
template <int region, bool with_first, bool with_second, bool with_shift, class T>
VMF_HD Moments<T> trapezoid(T v, T s) {
  using Rule = Trapezoid<region, is_double<T>>;
  static constexpr typename Rule::template U<T> u{};
  static constexpr typename Rule::template A<T> a{};
  static constexpr typename Rule::template B<T> b{};
  T total = T(1), first = T(0), second = T(0), shift = T(0);
  auto add = [&](T weight, T d) {
    total = total + weight;
    if constexpr (with_first) first = fma(weight, d, first);
    if constexpr (with_second) second = fma(weight * d, d, second);
  };
  for (int j = 0; j < u.size; j++) {
    T even = s * T(a.at[j]), odd = v * T(b.at[j]), sinh = fma(v, T(u.at[j]), odd);
    T left = exp_normal(max(odd - even, T(-80)));
    add(left, even - sinh);
    if (j < Rule::pairs) {
      T right;
      if constexpr (with_shift) {  // the difference of the two, without cancellation
        T less = left * expm1_normal(max(T(-2) * odd, T(-80)));
        shift = fma(less, T(u.at[j]), shift);
        right = left + less;
      } else {
        right = exp_normal(max(-odd - even, T(-80)));
      }
      add(right, even + sinh);
    } else if constexpr (with_shift) {
      shift = fma(left, T(-u.at[j]), shift);
    }
  }
  T inverse = T(1) / total;
  return {total, first * inverse, second * inverse, shift * inverse};
}

// ---- Temme's series ----

// (x/2)^j K_{mu+j} for j = n and the order next below, n = round(v), mu = v - n. At n = 0 that is -(1-v): its
// neighbour is x/2 K_{1-v}.
template <class T>
struct TemmePair {
  T value, neighbour;
};

template <class T>
VMF_HD T whole_part(T v) {
  return (v + T(rounder<T>)) - T(rounder<T>);
}
template <class T>
VMF_HD Dual<T> whole_part(Dual<T> v) {
  return whole_part(v.value);
}

template <class T>
VMF_HD TemmePair<T> temme(T v, T x, T log_2_over_x) {
  constexpr int terms = int(by_precision<T>(9, 5)), most = 8;
  T n = whole_part(v), mu = v - n, y = mu * mu, z = T(0.25) * x * x, l = log_2_over_x, sigma = mu * l;
  T even = fitted<coefficients::gamma_even, coefficients::gamma_even_float, 13, 6>(y);
  T odd = fitted<coefficients::gamma_odd, coefficients::gamma_odd_float, 13, 6>(y);
  auto [cosine, sine] = hyperbolics(sigma * sigma);
  T grown = exp(sigma);
  T f = fma(l * sine, even, odd * cosine), pair = fma(even, cosine, y * l * odd * sine);
  T p = T(0.5) * grown * fma(mu, odd, even), q = T(0.5) / grown * fma(-mu, odd, even);
  T first = f, next = p, before = q, c = T(1);
  VMF_UNROLL
  for (int k = 1; k <= terms; k++) {
    T inverse = T(1) / (T(double(k) * k) - y), f_next = fma(T(k), f, pair) * inverse;
    pair = fma(T(k), pair, y * f) * inverse;
    f = f_next;
    p = p * (T(k) + mu) * inverse, q = q * (T(k) - mu) * inverse;
    c = c * z * T(1. / k);
    first = fma(c, f, first);
    next = fma(c, p - T(k) * f, next), before = fma(c, q - T(k) * f, before);
  }
  T value = first, below = before, above = next, order = mu;
  VMF_UNROLL
  for (int j = 0; j < most; j++) {
    auto going = T(double(j)) < n;
    T after = fma(z, value, (order + T(1)) * above);
    below = select(going, value, below), value = select(going, above, value), above = after;
    order = order + T(1);
  }
  return {value, below};
}

}  // namespace detail

struct LogKv {
  // Regions: 0 the series; 1 to 4 the integral, the longer the less s; 5, 6 the expansion, long and short.
  static constexpr int regions = 7;

  template <class T>
  VMF_HD static T region(T v, T x) {
    T s2 = fma(v, v, x * x);
    T near = select(s2 < T(16), T(1), T(2)), far = select(s2 < T(by_precision<T>(14. * 14, 12. * 12)), T(3), T(4));
    T integral = select(s2 < T(64), select(x <= T(0.5), T(0), near), far);
    T debye = select(s2 < T(by_precision<T>(60. * 60, 30. * 30)), T(5), T(6));
    return select(s2 < T(by_precision<T>(26. * 26, 12. * 12)), integral, debye);
  }

  template <int region, Scaling scaling, bool with_slope, class T>
  VMF_HD static ValueAndSlope<T> in_region(T v, T x) {
    ValueAndSlope<T> result;
    if constexpr (region == 0)
      result = series<scaling>(v, x);
    else if constexpr (region <= 4)
      result = integral<region, scaling, with_slope>(v, x);
    else
      result = debye<debye_terms<T>(region), scaling, with_slope>(v, x);
    return edges<scaling>(v, x, result);
  }

  template <int region, class T>
  VMF_HD static T curvature_in_region(T v, T x) {
    T y;
    if constexpr (region == 0) {
      T l = T(0.6931471805599453) - log(x), ratio = ratio_below(v, x, detail::temme(v, x, l)) / x;
      T inverse = T(1) / x;
      y = fma(v * inverse, inverse, fma(ratio * inverse, T(1) - T(2) * v, fma(-ratio, ratio, T(1))));
    } else if constexpr (region <= 4) {
      auto mean = detail::trapezoid<region, true, true, false>(v, detail::hypotenuse(v, x));
      y = fma(-mean.first, mean.first, mean.second) / x / x;
    } else {
      constexpr int terms = debye_terms<T>(region) + 2;
      T s = detail::hypotenuse(v, x), inverse = T(1) / s, p = v * inverse, p2 = p * p;
      T grow = detail::debye_sum<detail::debye_curvature_grow, 1, terms>(p2, -inverse);
      T fall = detail::debye_sum<detail::debye_curvature_fall, 1, terms>(p2, -inverse);
      T tail = T(0.5) - p2 - inverse * fma(-p2, fall, grow);
      y = fma(inverse * inverse, tail, v / x * (p / x));
    }
    y = select(x == T(0), infinity<T>(),
               select(x == infinity<T>(), T(0), select(v == infinity<T>(), infinity<T>(), y)));
    return select(outside(v, x), not_a_number<T>(), y);
  }

  template <int region, class T>
  VMF_HD static T order_slope_in_region(T v, T x) {
    T y;
    if constexpr (region == 0) {
      T l = T(0.6931471805599453) - log(x);
      auto pair = detail::temme(Dual<T>(v, T(1)), Dual<T>(x), Dual<T>(l));
      y = pair.value.slope / pair.value.value;
    } else {
      T s = detail::hypotenuse(v, x), t = detail::asinh_ratio(v, x, detail::slant(v, x, s));
      if constexpr (region <= 4) {
        y = t + detail::trapezoid<region, false, false, true>(v, s).shift;
      } else {
        T inverse = T(1) / s, p = v * inverse;
        T sum = inverse * detail::debye_sum<detail::debye_order_slope, 1, debye_terms<T>(region)>(p * p, -inverse);
        y = fma(p * inverse, -sum - T(0.5), t);
      }
    }
    y = select((v == T(0)) | (x == infinity<T>()), T(0), select((x == T(0)) | (v == infinity<T>()), infinity<T>(), y));
    return select(outside(v, x), not_a_number<T>(), y);
  }

 private:
  template <class T>
  static constexpr int debye_terms(int region) {
    return int(by_precision<T>(region == 5 ? 16 : 10, region == 5 ? 6 : 4));
  }

  // x K_{v-1}/K_v.
  template <class T>
  VMF_HD static T ratio_below(T v, T x, detail::TemmePair<T> pair) {
    return select(detail::whole_part(v) == T(0), T(2), T(0.5) * x * x) * pair.neighbour / pair.value;
  }

  template <Scaling scaling, class T>
  VMF_HD static ValueAndSlope<T> series(T v, T x) {
    T l = T(0.6931471805599453) - log(x);
    auto pair = detail::temme(v, x, l);
    T value = fma(detail::whole_part(v), l, log(pair.value)), drop = v + ratio_below(v, x, pair);
    if constexpr (scaling == Scaling::exponential) value = value + x, drop = drop - x;
    return {value, -drop / x};
  }

  template <int region, Scaling scaling, bool with_slope, class T>
  VMF_HD static ValueAndSlope<T> integral(T v, T x) {
    T s = detail::hypotenuse(v, x), slant = detail::slant(v, x, s), t = detail::asinh_ratio(v, x, slant);
    T head = scaling == Scaling::exponential ? v * slant : s;  // s - x or s
    auto mean = detail::trapezoid<region, with_slope, false, false>(v, s);
    constexpr double half_step = 0.5 * detail::Trapezoid<region, is_double<T>>::step;
    return {fma(v, t, log_normal(T(half_step) * mean.total) - head), -(head + mean.first) / x};
  }

  template <int terms, Scaling scaling, bool with_slope, class T>
  VMF_HD static ValueAndSlope<T> debye(T v, T x) {
    T s = detail::hypotenuse(v, x), inverse_s = T(1) / s, p = v * inverse_s, p2 = p * p;
    T slant = detail::slant(v, x, s), head = scaling == Scaling::exponential ? v * slant : s;
    T tail = fma(T(-0.5), log_normal(s), T(0.22579135264472744)) -
             inverse_s * detail::debye_sum<coefficients::debye, 1, terms>(p2, -inverse_s);
    // v asinh alone may overflow where the value does not.
    T value = T(2) * fma(T(0.5) * v, detail::asinh_ratio(v, x, slant), T(-0.5) * head) + tail;
    T slope = T(0);
    if constexpr (with_slope) {
      constexpr int slope_terms = scaling == Scaling::exponential ? terms + 2 : terms;
      T correction =
          fma(inverse_s, detail::debye_sum<coefficients::debye_slope, 1, slope_terms>(p2, -inverse_s), T(0.5));
      slope = -fma(x * inverse_s, inverse_s * correction, head / x);
    }
    return {value, slope};
  }

  template <class T>
  VMF_HD static Mask<T> outside(T v, T x) {
    return ((v == infinity<T>()) & (x == infinity<T>())) | !((v >= T(0)) & (x >= T(0)));
  }

  // The limits, one-sided at x = 0; NaN outside.
  template <Scaling scaling, class T>
  VMF_HD static ValueAndSlope<T> edges(T v, T x, ValueAndSlope<T> inner) {
    auto inside = (v >= T(0)) & (x > T(0)) & (v < infinity<T>()) & (x < infinity<T>());
    if (all(inside)) return inner;
    const Mask<T> infinite = x == infinity<T>(), pole = (x == T(0)) | (v == infinity<T>());
    T flat = scaling == Scaling::exponential ? T(0) : T(-1);
    T value = select(pole, infinity<T>(), select(infinite, -infinity<T>(), inner.value));
    T slope = select(pole, -infinity<T>(), select(infinite, flat, inner.slope));
    return {select(outside(v, x), not_a_number<T>(), value), select(outside(v, x), not_a_number<T>(), slope)};
  }
};

}  // namespace vmf_ops
