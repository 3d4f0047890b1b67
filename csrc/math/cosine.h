// The law of the cosine w = mu.z of a von Mises-Fisher draw in R^m: distribution function, its complement, its inverse
// and their first derivatives; m >= 2, kappa >= 0. In double arithmetic, float32 too, since an exponent of 100 has not the
// digits in float; but the integral, whose exponent begins at 0, is in the precision of the result.
//
// With w = cos th, v = m/2 - 1, s = sqrt(v^2 + kappa^2) and g(f) = 2v log sin f + kappa cos f, the density of the angle is
// e^g / Z, Z = sqrt(pi) Gamma(v+1/2) (2/kappa)^v I_v(kappa)  (DLMF 10.32.2), and each tail
//
//   P = e^(g(th) - g*) / (Z e^-g*) int e^(g(f) - g(th)) df     over [0, th] or [th, pi], the side where P < 1/2 or so
//
// by g* = v log(2v/(v+s)) + s - v at the mode c* = kappa/(v+s), so that no factor holds what the next takes away:
//   log(Z e^-g*)   1/2 log(pi/s) + R(v) + sum_k d_k(v^2/s^2) s^-k, the Debye expansion, R(v) = log(Gamma(v+1/2) e^v v^-v) -
//                  1/2 log 2pi; for s <= 20 (float32: 8) the power series of I_v in its place
//   g(th) - g*     v (log(1+u) - u) - (w-c*)^2 (v+s)/2 with 1 + u = sin^2 th / (1 - c*^2)
//   the integral   in f - th and the half angle, where nothing cancels, to where the integrand has fallen by e^-33
//                  (float32: e^-16), by the Gauss rule of a weight that falls too: 20 nodes (float32: 10)
// The same sum with the factor cos f - A gives dP/dkappa, and e^(g-g*) alone dP/dw. (Where m is no integer the integrand
// has a branch point at the poles: a rule that crowds there takes over.)
//
// The inverse is Halley's iteration for log P in the angle, where log P is concave, from the normal law of the angle
// about its mode; safeguarded by a bracket.
#pragma once

#include "cosine_coefficients.h"
#include "narrow.h"
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

template <Digits digits, class T>
VMF_HD CosineScale<T> cosine_scale(T m, T kappa) {
  constexpr bool fine = digits == Digits::in_double;
  const T series_end = T(fine ? 20 : 8);
  T v = T(0.5) * m - T(1), s = hypotenuse(v, kappa), sum = v + s;
  T inverse_s = T(1) / s, p = v * inverse_s;
  // R(v), by Stirling's formula about v + 1.
  T half_gamma = polynomial<coefficients::half_gamma_tail, 0, 18>(T(1) / (v + T(1))) +
                 select(v > T(0), v * log1p_normal(T(1) / v), T(0)) - T(1);
  T log_mass = fma(T(0.5), log_normal(T(3.141592653589793) * inverse_s),
                   half_gamma + inverse_s * debye_sum<coefficients::debye, 1, fine ? 16 : 6>(p * p, inverse_s));
  auto small = s <= series_end;
  if (any(small)) {
    T inside = min(v, series_end), t = T(0.25) * min(kappa, series_end) * min(kappa, series_end);
    auto f = power_series<fine ? 36 : 13, false>(inside, t);
    T series = half_gamma + fma(inside, log_normal(max(T(0.5) * sum, T(1e-300))), T(1.4913034761293728) - s) -
               log_gamma1p(inside) + log_normal(f.numerator / f.denominator);
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

// f = th + sign u, u = width t: the log of the integrand's fall from th to f, sinc = sin(u/2)/(u/2), y = t sinc, as
//   y (g' width cos(u/2) - y (2v + k cos th) width^2/2) + 2v (log(1+r) - r)     r = y (tilt cos(u/2) - y half_square),
// where nothing cancels for small r, or as k (cos f - cos th) + 2v log(1+r).
template <class T>
struct CosineFall {
  T power, quarter;                 // 2v, (width/2)^2
  T tilt, half_square;              // of r
  T growth, bend, pull, pull_bend;  // of the linear part in either form
  T offset, shift, shift_bend;      // (cos f - A)/width = offset + y (shift cos(u/2) - y shift_bend)
  struct Point {
    T log_density, from_mean;
  };
  VMF_HD Point at(T t) const {
    using F = Ieee<T>;
    using I = Integer<T>;
    T z = quarter * (t * t);
    T ch = fma(z, fitted<coefficients::cos_tail, coefficients::cos_tail_float, 9, 5>(z), T(1));
    T y = t * fma(z, fitted<coefficients::sin_tail, coefficients::sin_tail_float, 8, 4>(z), T(1));
    T r = max(y * fma(tilt, ch, -(y * half_square)), T(std::numeric_limits<Scalar<T>>::epsilon() / 2 - 1));
    // log_normal(1 + r) with r for what is beyond the 1 where no power of two is.
    I i = wrapping_sum(bits(T(1) + r), I(typename F::I(F::one - F::sqrt_half)));
    T two = from_bits((i >> F::mantissa_bits) | I(F::unit_spacing_bits)) - T(F::unit_spacing + Scalar<T>(F::bias));
    auto near = two == T(0);
    T f = select(near, r, from_bits((i & I(F::mantissa_mask)) + I(F::sqrt_half)) - T(1));
    T q = quotient(f, f + T(2)), q2 = q * q;
    T bent = q * fma(q2, fitted<coefficients::log_tail, coefficients::log_tail_float, 6, 3>(q2), -f);
    T logarithm = select(near, bent, fma(two, T(0.6931471805599453), f + bent));
    T linear = y * fma(select(near, growth, pull), ch, -(y * select(near, bend, pull_bend)));
    return {fma(power, logarithm, linear), fma(y, fma(shift, ch, -(y * shift_bend)), offset)};
  }
};

template <Digits digits, bool with_moment, class T>
VMF_HD CosineTail<T> cosine_tail(CosineScale<T> scale, Cosine<T> at_w, Mask<T> upper, T mean, T mean_complement) {
  using Short = Narrow<T>;
  using Sum = std::conditional_t<digits == Digits::in_double, T, Short>;
  constexpr int corrections = digits == Digits::in_double ? 4 : 3;
  const T cut = T(digits == Digits::in_double ? 33 : 16), power = T(2) * scale.v;
  // The nearer pole serves as zero of the angle th <= pi/2; f = th + sign u, u >= 0.
  T d = at_w.d, c = at_w.c;
  auto front = d <= c;
  T near = min(d, c), far = max(d, c);
  T k = select(front, scale.kappa, -scale.kappa), pole = select(front, mean_complement, T(1) + mean);
  T sign = select(front, T(1), T(-1)) * select(upper, T(-1), T(1));
  T sine = sqrt(near * far), cosine_th = T(1) - near, cotangent = cosine_th / sine;
  T th = T(2) * arcsine(sqrt(T(0.5) * near), sqrt(T(0.5) * far));
  T room = select(sign < T(0), th, T(3.141592653589793) - th);
  T pull = -(sign * k * sine), growth = fma(sign * power, cotangent, pull), pull_bend = k * cosine_th;
  auto fall = [&]<class S>(T width) {
    auto as = [](T a) __attribute__((always_inline)) {
      if constexpr (std::is_same_v<S, T>)
        return a;
      else
        return narrow(min(max(a, T(-1e30)), T(1e30)));
    };
    T half_square = T(0.5) * width * width;
    return CosineFall<S>{as(power),
                         as(T(0.5) * half_square),
                         as(sign * cotangent * width),
                         as(half_square),
                         as(growth * width),
                         as((power + pull_bend) * half_square),
                         as(pull * width),
                         as(pull_bend * half_square),
                         as((pole - near) / width),
                         as(-(sign * sine)),
                         as(T(0.5) * cosine_th * width)};
  };
  // The width: from slope and curvature at th, then corrected where the fall there is short of the cut.
  T slope = max(-growth, T(0)), curvature = power / (sine * sine) + max(pull_bend, T(0));
  T width = min(T(2) * cut / (slope + sqrt(fma(slope, slope, T(2) * curvature * cut)) + T(1e-30)), room);
  {
    auto first = fall.template operator()<Short>(width);
    const Short goal = narrow(cut), end = narrow(min(room / width, T(1e30))), steep = narrow(slope * width);
    Short t = Short(1);
    for (int i = 0; i < corrections; i++) {
      Short reached = max(-first.at(t).log_density, Short(0.0625) * goal), ratio = quotient(goal, reached);
      auto short_of = (reached < goal) & (t < end) & (first.power < Short(1e30));
      if (!any(short_of)) break;
      Short widen = min(select(steep * t > Short(0.5) * reached, ratio, root(ratio)), Short(4));
      t = select(short_of, min(t * widen, end), t);
    }
    T wide = widen(t);
    width = select(wide < widen(end), width * wide, room);
  }
  auto along = fall.template operator()<Sum>(width);
  Sum integral = Sum(0), moment = Sum(0);
  auto sum = [&](const auto& nodes, const auto& weights, Sum& total, Sum& total_moment) __attribute__((always_inline)) {
    for (int i = 0; i < nodes.size; i++) {
      auto p = along.at(Sum(nodes.at[i]));
      Sum y = Sum(weights.at[i]) * coarse_exp(max(p.log_density, Sum(-80)));
      total = total + y;
      if constexpr (with_moment) total_moment = fma(p.from_mean, y, total_moment);
    }
  };
  using namespace coefficients;
  if constexpr (digits == Digits::in_double) {
    static constexpr Table<Sum, tail_nodes> nodes{};
    static constexpr Table<Sum, tail_weights> weights{};
    sum(nodes, weights, integral, moment);
  } else {
    static constexpr Table<Sum, tail_nodes_float> nodes{};
    static constexpr Table<Sum, tail_weights_float> weights{};
    sum(nodes, weights, integral, moment);
  }
  T whole_integral = widen(integral), whole_moment = widen(moment);
  // To the branch point at the pole.
  const Mask<T> whole = (power + T(rounder<T>)) - T(rounder<T>) == power;
  const Mask<T> branched = !whole & (width >= room) & (power < T(24));
  if (any(branched)) {
    static constexpr Table<Sum, crowded_nodes> nodes{};
    static constexpr Table<Sum, crowded_weights> weights{};
    Sum crowded = Sum(0), crowded_moment = Sum(0);
    sum(nodes, weights, crowded, crowded_moment);
    whole_integral = select(branched, widen(crowded), whole_integral);
    whole_moment = select(branched, widen(crowded_moment), whole_moment);
  }
  if constexpr (with_moment) whole_moment = select(front, whole_moment, -whole_moment);
  return {cosine_deviance(scale, at_w) - scale.log_mass, whole_integral * width, whole_moment * width * width, growth,
          sine};
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
  auto law = detail::cosine_law_at<digits, with_slopes>(detail::cosine_scale<digits>(m, kappa),
                                                        {T(1) - inside, T(1) + inside});
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
  auto scale = detail::cosine_scale<digits>(m_in, kappa_in);
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
