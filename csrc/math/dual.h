// Dual numbers a + b e, e^2 = 0: a function written for every T of generic.h, evaluated at Dual<T>{x, 1}, gives its
// value and its exact derivative.
#pragma once

#include "elementary.h"

namespace vmf_ops {

template <class T>
struct Dual {
  T value, slope;

  Dual() = default;
  template <class U>
  VMF_HD Dual(U a) : value(a), slope(T(0)) {}
  VMF_HD Dual(T a, T b) : value(a), slope(b) {}

  VMF_HD friend Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
  VMF_HD friend Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
  VMF_HD friend Dual operator-(Dual a) { return {-a.value, -a.slope}; }
  VMF_HD friend Dual operator*(Dual a, Dual b) { return {a.value * b.value, fma(a.value, b.slope, a.slope * b.value)}; }
  VMF_HD friend Dual operator/(Dual a, Dual b) {
    T quotient = a.value / b.value;
    return {quotient, (a.slope - quotient * b.slope) / b.value};
  }
  VMF_HD friend auto operator<(Dual a, Dual b) { return a.value < b.value; }
  VMF_HD friend auto operator>=(Dual a, Dual b) { return a.value >= b.value; }
  VMF_HD friend auto operator>(Dual a, Dual b) { return a.value > b.value; }

  VMF_HD friend auto operator==(Dual a, Dual b) { return a.value == b.value; }

  VMF_HD friend Dual fma(Dual a, Dual b, Dual c) { return a * b + c; }
  VMF_HD friend Dual max(Dual a, Dual b) { return select(a.value > b.value, a, b); }
  VMF_HD friend Dual min(Dual a, Dual b) { return select(a.value < b.value, a, b); }
  VMF_HD friend Dual sqrt(Dual a) {
    T root = sqrt(a.value);
    return {root, T(0.5) * a.slope / root};
  }
  VMF_HD friend Dual exp(Dual a) {
    T y = exp(a.value);
    return {y, y * a.slope};
  }
  VMF_HD friend Dual log(Dual a) { return {log(a.value), a.slope / a.value}; }
  VMF_HD friend Dual log1p(Dual a) { return {log1p(a.value), a.slope / (T(1) + a.value)}; }
};

template <class M, class T>
VMF_HD Dual<T> select(M mask, Dual<T> a, Dual<T> b) {
  return {select(mask, a.value, b.value), select(mask, a.slope, b.slope)};
}

template <class T>
struct Number<Dual<T>> {
  using Scalar = typename Number<T>::Scalar;
  using Mask = typename Number<T>::Mask;
  static constexpr int lanes = Number<T>::lanes;
};

}  // namespace vmf_ops
