// The ratio r = I_{v+1}(x)/I_v(x), its complement 1 - r and its derivatives in x; base order v >= -1/2, x >= 0.
//
// One primitive holds them all without a subtraction. With mu = v + 1/2 and s = sqrt(x^2 + mu^2),
//
//   q = x^2 r' / r^2 > 0,   y = x/r = mu + h,   h = sqrt(s^2 + q),
//   r = x/y,   1 - r = (mu + (mu^2 + q)/(h + x)) / y,   r' = q / y^2,
//
// from the Riccati equation r' = 1 - (2v+1) r/x - r^2 (DLMF 10.29.2).
//
// Branches:
//   series     s <= 32 (float32: 14)   r = (x/2) F'/F with F = 0F1(; v+1; x^2/4), t = x^2/4           DLMF 10.25.2
//                                      q = 2(v+1) 1F2(v+1/2; v+2, 2v+2; x^2) / 0F1(; v+2; x^2/4)^2, positive terms
//   expansion  above                   h = s + sum_j h_j(p) s^(1-j), q = mu (1+p) sum_j Q_j(p) s^-j, p = mu/s, uniform
//                                      in p, plus the exponentially small part of q, which is all of it at v = -1/2
// Each is split once more, where fewer terms do. Measured worst errors: see docs/accuracy.md.
#pragma once

#include "dual.h"
#include "expansions.h"

namespace vmf_ops {

template <class T>
struct Ratio {
  T value, complement, slope;
};

struct BesselRatio {
  // Regions: 0, 1 the series, short and long; 2, 3 the expansion, long and short.
  static constexpr int regions = 4;

  template <class T>
  VMF_HD static T region(T v, T x) {
    T mu = v + T(0.5), s2 = fma(mu, mu, x * x);
    T series = select(x <= T(by_precision<T>(8, 4)), T(0), T(1));
    T expansion = select(s2 < T(by_precision<T>(60. * 60, 28. * 28)), T(2), T(3));
    return select(s2 <= T(by_precision<T>(32. * 32, 14. * 14)), series, expansion);
  }

  // The value alone, or all three: the value is the same.
  template <int region, bool value_only, class T>
  VMF_HD static Ratio<T> in_region(T v, T x) {
    Ratio<T> ratio;
    if constexpr (region < 2)
      ratio = series<int(by_precision<T>(region == 0 ? 22 : 46, region == 0 ? 11 : 21)),
                     int(by_precision<T>(region == 0 ? 30 : 70, region == 0 ? 16 : 31)), value_only>(v, x);
    else
      ratio = expansion<int(by_precision<T>(region == 2 ? 15 : 11, region == 2 ? 7 : 5)),
                        int(by_precision<T>(region == 2 ? 20 : 14, region == 2 ? 11 : 7)), value_only>(v, x);
    ratio.value = at_most_one(ratio.value);
    auto inside = (v >= T(-0.5)) & (x > T(0)) & (v < infinity<T>()) & (x < infinity<T>());
    return all(inside) ? ratio : edges(v, x, ratio);
  }

  // d^2 r/dx^2, by dual numbers.
  template <int region, class T>
  VMF_HD static T curvature_in_region(T v, T x) {
    T y = in_region<region, false>(Dual<T>(v), Dual<T>(x, T(1))).slope.slope;
    y = select((x == T(0)) | (x == infinity<T>()) | (v == infinity<T>()), T(0), y);
    auto outside = ((v == infinity<T>()) & (x == infinity<T>())) | !((v >= T(-0.5)) & (x >= T(0)));
    return select(outside, not_a_number<T>(), y);
  }

  // dr/dv, by dual numbers.
  template <int region, class T>
  VMF_HD static T order_slope_in_region(T v, T x) {
    T y = in_region<region, true>(Dual<T>(v, T(1)), Dual<T>(x)).value.slope;
    y = select((x == T(0)) | (x == infinity<T>()) | (v == infinity<T>()), T(0), y);
    auto outside = ((v == infinity<T>()) & (x == infinity<T>())) | !((v >= T(-0.5)) & (x >= T(0)));
    return select(outside, not_a_number<T>(), y);
  }

 private:
  template <int terms, int numerator_terms, bool value_only, class T>
  VMF_HD static Ratio<T> series(T v, T x) {
    auto f = detail::power_series<terms, true>(v, T(0.25) * x * x);
    T r_over_x = T(0.5) * f.derivative / f.numerator;
    if constexpr (value_only) return {x * r_over_x, T(0), T(0)};
    T mu = v + T(0.5);
    T q = detail::series_q<numerator_terms>(v, x, f);
    T h = sqrt(fma(mu, mu, fma(x, x, q)));
    return {x * r_over_x, detail::ratio_complement(mu, x, h, q), q * r_over_x * r_over_x};
  }

  // Near the largest number, where x + s would overflow, the ratio depends on v/x alone: both are scaled.
  template <int h_terms, int q_terms, bool value_only, class T>
  VMF_HD static Ratio<T> expansion(T v, T x) {
    constexpr double huge = is_double<T> ? 0x1p1000 : 0x1p110, down = 0x1p-8;
    T mu = v + T(0.5), scale = select(max(mu, x) > T(huge), T(down), T(1));
    mu = mu * scale, x = x * scale;
    T s = detail::hypotenuse(mu, x), inverse_s = T(1) / s, p = mu * inverse_s;
    T h = fma(p * (T(1) + p), detail::expansion_sum<coefficients::ratio_h, 1, h_terms, 2, -2>(p, inverse_s), s);
    T y = h + mu;
    if constexpr (value_only) return {x / y, T(0), T(0)};
    T q = mu * (T(1) + p) * detail::expansion_sum<coefficients::ratio_q, 0, q_terms, 2, 0>(p, inverse_s);
    if (any(mu < T(0.5))) q = q + exponentially_small(mu, x);
    return {x / y, detail::ratio_complement(mu, x, h, q), q / y / y * scale};
  }

  // Rounding may lift r above 1. The slope of a dual number stays what it is.
  template <class T>
  VMF_HD static T at_most_one(T r) {
    return select(r > T(1), T(1), r);
  }
  template <class T>
  VMF_HD static Dual<T> at_most_one(Dual<T> r) {
    return {at_most_one(r.value), r.slope};
  }

  // 4 x^2 e^-2x cos(pi mu) for mu < 1/2, zero else.
  template <class T>
  VMF_HD static T exponentially_small(T mu, T x) {
    return select(mu < T(0.5), T(4) * x * exp(T(-2) * x) * x * cosine(mu), T(0));
  }
  template <class T>
  VMF_HD static T cosine(T mu) {
    return cos(min(T(3.141592653589793) * mu, T(1.5707963267948966)));
  }
  template <class T>
  VMF_HD static Dual<T> cosine(Dual<T> mu) {  // constant in x
    return cosine(mu.value);
  }

  // r is 0 at x = 0 and where v is infinite, 1 where x is; slopes are the one-sided limits; NaN outside.
  template <class T>
  VMF_HD static Ratio<T> edges(T v, T x, Ratio<T> ratio) {
    auto x_zero = x == T(0), x_infinite = x == infinity<T>(), v_infinite = v == infinity<T>();
    auto none = x_zero | v_infinite, outside = (v_infinite & x_infinite) | !((v >= T(-0.5)) & (x >= T(0)));
    T value = select(none, T(0), select(x_infinite, T(1), ratio.value));
    T other = select(none, T(1), select(x_infinite, T(0), ratio.complement));
    T slope = select(x_zero, T(0.5) / (v + T(1)), select(x_infinite | v_infinite, T(0), ratio.slope));
    T nan = not_a_number<T>();
    return {select(outside, nan, value), select(outside, nan, other), select(outside, nan, slope)};
  }
  template <class T>
  VMF_HD static Ratio<Dual<T>> edges(Dual<T> v, Dual<T> x, Ratio<Dual<T>> ratio) {
    return ratio;
  }
};

// All three in every lane, whatever its region: for kernels that need the ratio beside other things.
template <class T>
VMF_HD Ratio<T> bessel_ratio(T v, T x) {
  T region = BesselRatio::region(v, x);
  Ratio<T> ratio{T(0), T(0), T(0)};
  auto choose = [&](auto mask, Ratio<T> other) {
    ratio = {select(mask, other.value, ratio.value), select(mask, other.complement, ratio.complement),
             select(mask, other.slope, ratio.slope)};
  };
  if (any(region == T(0))) choose(region == T(0), BesselRatio::in_region<0, false>(v, x));
  if (any(region == T(1))) choose(region == T(1), BesselRatio::in_region<1, false>(v, x));
  if (any(region == T(2))) choose(region == T(2), BesselRatio::in_region<2, false>(v, x));
  if (any(region == T(3))) choose(region == T(3), BesselRatio::in_region<3, false>(v, x));
  return ratio;
}

}  // namespace vmf_ops
