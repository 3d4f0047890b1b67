// The law of the cosine w = mu.z of a von Mises-Fisher draw in R^m: distribution function, its complement, its inverse
// and their first derivatives; m >= 2, kappa >= 0. In double arithmetic, float32 too: an exponent of 100 has not the
// digits in float.
//
// With w = cos th, v = m/2 - 1, s = sqrt(v^2 + kappa^2) and g(f) = 2v log sin f + kappa cos f, the density of the angle is
// e^g / Z, Z = sqrt(pi) Gamma(v+1/2) (2/kappa)^v I_v(kappa)  (DLMF 10.32.2), and each tail
//
//   P = e^(g(th) - g*) / (Z e^-g*) int e^(g(f) - g(th)) df     over [0, th] or [th, pi], the side where P < 1/2 or so
//
// by g* = v log(2v/(v+s)) + s - v at the mode c* = kappa/(v+s), so that no factor holds what the next takes away:
//   log(Z e^-g*)   1/2 log(pi/s) + R(v) + sum_k d_k(v^2/s^2) s^-k, the Debye expansion, R(v) = log(Gamma(v+1/2) e^v v^-v) -
//                  1/2 log 2pi; for s <= 20 the power series of I_v in its place
//   g(th) - g*     v (log(1+u) - u) - (w-c*)^2 (v+s)/2 with 1 + u = sin^2 th / (1 - c*^2)
//   the integral   Gauss-Legendre in f - th and the half angle, where nothing cancels, to where the integrand has fallen
//                  by e^-33 (float32: e^-17)
// The same sum with the factor cos f - A gives dP/dkappa, and e^(g-g*) alone dP/dw. (Where m is no integer the integrand
// has a branch point at the poles: a rule that crowds there takes over.)
//
// The inverse is Halley's iteration for log P in the angle, where log P is concave, from the normal law of the angle
// about its mode; safeguarded by a bracket.
#pragma once

#include "cosine_coefficients.h"
#include "psi.h"

namespace vmf_ops {

// What a result is good for: the digits of double or of float.
enum class Digits { in_double, in_float };

template <class T>
struct CosineLaw {
  T lower, upper;          // P(w' < w), P(w' > w)
  T density, kappa_slope;  // of the lower one, in w and in kappa
};

namespace detail {

// log(1+u) - u for |u| <= 0.29.
template <class T>
VMF_HD T log1p_less_linear(T u) {
  T s = u / (T(2) + u), z = s * s;
  return s * (z * fitted<coefficients::log_tail, coefficients::log_tail_float, 6, 3>(z) - u);
}

// What a law is, whatever w.
template <class T>
struct CosineScale {
  T v, kappa, s, mode, mode_complement, log_mass;  // log_mass: log(Z e^-g*)
};

template <class T>
VMF_HD CosineScale<T> cosine_scale(T m, T kappa) {
  T v = T(0.5) * m - T(1), s = hypotenuse(v, kappa), sum = v + s;
  T inverse_s = T(1) / s, p = v * inverse_s;
  // R(v), by Stirling's formula about v + 1.
  T half_gamma = polynomial<coefficients::half_gamma_tail, 0, 18>(T(1) / (v + T(1))) +
                 select(v > T(0), v * log1p(T(1) / v), T(0)) - T(1);
  T log_mass = fma(T(0.5), log(T(3.141592653589793) * inverse_s),
                   half_gamma + inverse_s * debye_sum<coefficients::debye, 1, 16>(p * p, inverse_s));
  auto small = s <= T(20);
  if (any(small)) {
    T inside = min(v, T(20)), t = T(0.25) * min(kappa, T(20)) * min(kappa, T(20));
    auto f = power_series<36, false>(inside, t);
    T series = half_gamma + fma(inside, log(max(T(0.5) * sum, T(1e-300))), T(1.4913034761293728) - s) -
               log_gamma1p(inside) + log(f.numerator / f.denominator);
    log_mass = select(small, series, log_mass);
  }
  return {v,
          kappa,
          s,
          select(sum > T(0), kappa / sum, T(0)),
          select(sum > T(0), v / sum * (T(1) + v / (s + kappa)), T(1)),
          log_mass};
}

// g(th) - g*.
template <class T>
VMF_HD T cosine_deviance(CosineScale<T> scale, Cosine<T> at) {
  T v = scale.v, sum = v + scale.s;
  T from_mode = select(scale.mode < T(0.5), (T(1) - at.d) - scale.mode, scale.mode_complement - at.d);
  T square = from_mode * from_mode, u = -fma(scale.kappa, from_mode, T(0.5) * square * sum) / v;
  auto near = (abs(u) < T(0.29)) & (v > T(0));
  u = select(near, u, T(0));
  T x = at.c * at.d * sum / (T(2) * v);
  T far = fma(scale.kappa, from_mode, select(v > T(0), v * log(x), T(0)));
  return select(near, fma(v, log1p_less_linear(u), T(-0.5) * square * sum), far);
}

// One tail of the angle's law beyond th: log of e^(g(th)-g*) / (Z e^-g*), the integral of e^(g(f)-g(th)) and that of it
// times cos f - A, its slope g'(th) away from th, and sin th.
template <class T>
struct CosineTail {
  T log_density, integral, moment, growth, sine;
};

template <Digits digits, bool with_moment, class T>
VMF_HD CosineTail<T> cosine_tail(CosineScale<T> scale, Cosine<T> at_w, Mask<T> upper, T mean, T mean_complement) {
  const T cut = T(digits == Digits::in_double ? 33 : 17), power = T(2) * scale.v;
  // The nearer pole serves as zero of the angle th <= pi/2; f = th + sign u, u >= 0.
  T d = at_w.d, c = at_w.c;
  auto front = d <= c;
  T near = min(d, c), far = max(d, c);
  T k = select(front, scale.kappa, -scale.kappa), pole = select(front, mean_complement, T(1) + mean);
  T sign = select(front, T(1), T(-1)) * select(upper, T(-1), T(1));
  T sine = sqrt(near * far), cosine_th = T(1) - near, cotangent = cosine_th / sine;
  T half_sine = sqrt(T(0.5) * near), half_cosine = sqrt(T(0.5) * far), th = T(2) * arcsine(half_sine, half_cosine);
  T room = select(sign < T(0), th, T(3.141592653589793) - th);
  struct Point {
    T log_density, from_pole;
  };
  auto at = [&](T u) __attribute__((always_inline)) {
    T sh = sin(T(0.5) * u), ch = cos(T(0.5) * u);
    T change = T(-2) * sign * sh * fma(sine, ch, sign * cosine_th * sh);
    T relative = T(2) * sh * fma(sign * cotangent, ch, -sh);
    T log_density = fma(k, change, select(power > T(0), power * log1p_normal(max(relative, T(-1 + 0x1p-53))), T(0)));
    T half = fma(half_sine, ch, sign * half_cosine * sh);
    return Point{log_density, T(2) * half * half};
  };
  // The width: from slope and curvature at th, then corrected where the fall there is short of the cut.
  T growth = sign * fma(power, cotangent, -(k * sine)), slope = max(-growth, T(0));
  T curvature = power / (sine * sine) + max(k * cosine_th, T(0));
  T width = min(T(2) * cut / (slope + sqrt(fma(slope, slope, T(2) * curvature * cut)) + T(1e-30)), room);
  for (int i = 0; i < 4; i++) {
    T fall = max(-at(width).log_density, T(0.0625) * cut), ratio = cut / fall;
    T widen = min(select(slope * width > T(0.5) * fall, ratio, sqrt(ratio)), T(4));
    auto short_of = (fall < cut) & (width < room);
    if (!any(short_of)) break;
    width = select(short_of, min(width * widen, room), width);
  }
  T integral = T(0), moment = T(0);
  auto sum = [&](const auto& nodes, const auto& weights, T& total, T& total_moment) __attribute__((always_inline)) {
    for (int i = 0; i < nodes.size; i++) {
      auto p = at(width * T(nodes.at[i]));
      T y = T(weights.at[i]) * exp_normal(max(p.log_density, T(-80)));
      total = total + y;
      if constexpr (with_moment) total_moment = fma(pole - p.from_pole, y, total_moment);
    }
  };
  using namespace coefficients;
  if constexpr (digits == Digits::in_double) {
    static constexpr Table<T, tail_nodes> nodes{};
    static constexpr Table<T, tail_weights> weights{};
    sum(nodes, weights, integral, moment);
  } else {
    static constexpr Table<T, tail_nodes_float> nodes{};
    static constexpr Table<T, tail_weights_float> weights{};
    sum(nodes, weights, integral, moment);
  }
  // To the branch point at the pole.
  const Mask<T> whole = (power + T(rounder<T>)) - T(rounder<T>) == power;
  const Mask<T> branched = !whole & (width >= room) & (power < T(24));
  if (any(branched)) {
    static constexpr Table<T, crowded_nodes> nodes{};
    static constexpr Table<T, crowded_weights> weights{};
    T crowded = T(0), crowded_moment = T(0);
    sum(nodes, weights, crowded, crowded_moment);
    integral = select(branched, crowded, integral), moment = select(branched, crowded_moment, moment);
  }
  if constexpr (with_moment) moment = select(front, moment, -moment);
  return {cosine_deviance(scale, at_w) - scale.log_mass, integral * width, moment * width, growth, sine};
}

// log x - Phi^-1, roughly: z > 0 with the normal law's tail beyond it about p <= 1/2 (Abramowitz and Stegun 26.2.23).
template <class T>
VMF_HD T normal_quantile(T log_p) {
  T t = sqrt(max(T(-2) * log_p, T(1)));
  T above = fma(fma(T(0.010328), t, T(0.802853)), t, T(2.515517));
  return max(t - above / fma(fma(fma(T(0.001308), t, T(0.189269)), t, T(1.432788)), t, T(1)), T(0));
}

// The angle from its sine and cosine over two: th in [0, pi] to rounding, at both ends.
template <class T>
VMF_HD Cosine<T> cosine_of(T angle) {
  auto back = angle > T(1.5707963267948966);
  T half = T(0.5) * select(back, T(3.141592653589793) - angle, angle), sh = sin(half), ch = cos(half);
  T near = T(2) * sh * sh, far = T(2) * ch * ch;
  return {select(back, far, near), select(back, near, far)};
}

}  // namespace detail

namespace detail {

// The law at 1 -+ w as given, within (-1, 1).
template <Digits digits, bool with_slopes, class T>
VMF_HD CosineLaw<T> cosine_law_at(CosineScale<T> scale, Cosine<T> at) {
  T mu = scale.v + T(0.5);
  auto upper = T(1) - at.d > scale.kappa / (mu + hypotenuse(mu, scale.kappa));  // about the mean
  Ratio<T> mean{T(0), T(1), T(0)};
  if constexpr (with_slopes) mean = bessel_ratio(scale.v, scale.kappa);
  auto tail = cosine_tail<digits, with_slopes>(scale, at, upper, mean.value, mean.complement);
  T density = exp(tail.log_density), p = min(density * tail.integral, T(1));
  CosineLaw<T> law{select(upper, T(1) - p, p), select(upper, p, T(1) - p), density / tail.sine, T(0)};
  if constexpr (with_slopes) law.kappa_slope = select(upper, -density, density) * tail.moment;
  return law;
}

}  // namespace detail

// A distribution function is 0 below -1 and 1 above 1.
template <Digits digits, bool with_slopes, class T>
VMF_HD CosineLaw<T> cosine_law(T m, T kappa, T w) {
  T inside = min(max(w, T(-1)), T(1));
  auto law = detail::cosine_law_at<digits, with_slopes>(detail::cosine_scale(m, kappa), {T(1) - inside, T(1) + inside});
  const Mask<T> above = w >= T(1), below = (w <= T(-1)) | ((kappa == infinity<T>()) & !above);
  auto outside = !((m >= T(2)) & (m < infinity<T>()) & (kappa >= T(0)) & (w == w));
  auto edge = [&](T y, T at_lower, T at_upper) {
    y = select(above, at_upper, select(below, at_lower, y));
    return select(outside, not_a_number<T>(), y);
  };
  return {edge(law.lower, T(0), T(1)), edge(law.upper, T(1), T(0)), edge(law.density, T(0), T(0)),
          edge(law.kappa_slope, T(0), T(0))};
}

template <class T>
struct CosineQuantile {
  T w, slope, kappa_slope;  // and dw/dq, dw/dkappa
};

// The w with P(w' < w) = q.
template <Digits digits, class T>
VMF_HD CosineQuantile<T> cosine_quantile(T m, T kappa, T q) {
  constexpr int most = 40;
  auto inside = (m >= T(2)) & (m < infinity<T>()) & (kappa >= T(0)) & (kappa < infinity<T>()) & (q > T(0)) & (q < T(1));
  T m_in = select(inside, m, T(3)), kappa_in = select(inside, kappa, T(0)), q_in = select(inside, q, T(0.5));
  auto scale = detail::cosine_scale(m_in, kappa_in);
  auto upper = q_in > T(0.5);
  T target = log(select(upper, T(1) - q_in, q_in));
  // A step away from the bulk makes the tail less: th grows on the lower side.
  T out = select(upper, T(-1), T(1));
  T half_mode = sqrt(T(0.5) * scale.mode_complement);
  half_mode = min(half_mode, T(0.7071067811865476));
  T mode = T(2) * detail::arcsine(half_mode, sqrt(T(1) - half_mode * half_mode));
  T z = detail::normal_quantile(target), spread = T(1) / sqrt(T(2) * scale.s + T(0.3));
  T angle = fma(out * z, spread, mode), low = T(0), high = T(3.141592653589793);
  angle = min(max(angle, max(T(0.25) * mode, T(0.25) * spread * exp(target))), T(0.5) * (mode + high));
  auto going = inside;
  for (int i = 0; i < most && any(going); i++) {
    auto tail = detail::cosine_tail<digits, false>(scale, detail::cosine_of(angle), upper, T(0), T(1));
    // Of log P outwards: its slope -1/J, and its curvature over its slope.
    T miss = tail.log_density + log(tail.integral) - target, step = miss * tail.integral;
    T bend = (tail.growth + T(1) / tail.integral) * step;
    step = step / max(fma(T(0.5), bend, T(1)), T(0.5));
    auto beyond = miss < T(0);
    auto up = (upper & beyond) | (!upper & !beyond);
    low = select(up, max(low, angle), low);
    high = select(up, high, min(high, angle));
    T next = fma(out, step, angle);
    next = select((next >= low) & (next <= high), next, T(0.5) * (low + high));
    angle = select(going, next, angle);
    going = going & !(abs(miss) < T(digits == Digits::in_double ? 1e-5 : 1e-3));  // the step was good for its cube
  }
  auto at = detail::cosine_of(angle);
  auto law = detail::cosine_law_at<digits, true>(scale, at);
  auto outside = !((m >= T(2)) & (m < infinity<T>()) & (kappa >= T(0)) & (q >= T(0)) & (q <= T(1)));
  auto edge = [&](T y, T at_lower, T at_upper, T at_point) {
    y = select(kappa == infinity<T>(), at_point, select(q == T(0), at_lower, select(q == T(1), at_upper, y)));
    return select(outside, not_a_number<T>(), y);
  };
  T w = select(at.d < at.c, T(1) - at.d, at.c - T(1)), slope = T(1) / law.density;
  return {edge(w, T(-1), T(1), T(1)), edge(slope, infinity<T>(), infinity<T>(), T(0)),
          edge(-law.kappa_slope * slope, T(0), T(0), T(0))};
}

// ---- The ops, as csrc/math/functions.h has those of two arguments: evaluate<digits>(m, kappa, w or q, out) ----

struct CosineTailsFunction {
  static constexpr int outputs = 2;
  template <Digits digits, class T>
  VMF_HD static void evaluate(T m, T kappa, T w, T* out) {
    auto law = cosine_law<digits, false>(m, kappa, w);
    out[0] = law.lower, out[1] = law.upper;
  }
};

struct CosineLawFunction {
  static constexpr int outputs = 4;
  template <Digits digits, class T>
  VMF_HD static void evaluate(T m, T kappa, T w, T* out) {
    auto law = cosine_law<digits, true>(m, kappa, w);
    out[0] = law.lower, out[1] = law.upper, out[2] = law.density, out[3] = law.kappa_slope;
  }
};

struct CosineQuantileFunction {
  static constexpr int outputs = 3;
  template <Digits digits, class T>
  VMF_HD static void evaluate(T m, T kappa, T q, T* out) {
    auto quantile = cosine_quantile<digits>(m, kappa, q);
    out[0] = quantile.w, out[1] = quantile.slope, out[2] = quantile.kappa_slope;
  }
};

}  // namespace vmf_ops
