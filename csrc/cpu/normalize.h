// Vectors side by side brought to unit length, and the gradient of that: passes over memory, with sums in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace vmf_ops {

template <class T>
double dot(const T* a, const T* b, int64_t m) {
  constexpr int lanes = 8;  // as no compiler reorders one sum
  double sum[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= m; i += lanes)
    for (int lane = 0; lane < lanes; lane++) sum[lane] += double(a[i + lane]) * double(b[i + lane]);
  for (; i < m; i++) sum[0] += double(a[i]) * double(b[i]);
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

// A power of two that brings x to where no square overflows or vanishes; squares of floats don't, in double.
inline double scale_of(const float*, int64_t) { return 1; }
inline double scale_of(const double* x, int64_t m) {
  double largest = 0;
  for (int64_t i = 0; i < m; i++) largest = std::max(largest, std::abs(x[i]));
  if (largest > 1e-100 && largest < 1e100) return 1;
  return largest > 0 && std::isfinite(largest) ? std::ldexp(1.0, -std::ilogb(largest)) : 1;
}

// unit = x/|x| and the length, and whether there is such a vector; else NaN.
template <class T>
bool normalize(const T* x, int64_t m, T* unit, T* length) {
  const double scale = scale_of(x, m);
  double total = 0;
  if (scale == 1) {
    total = std::sqrt(dot(x, x, m));
  } else {
    for (int64_t i = 0; i < m; i++) total += (double(x[i]) * scale) * (double(x[i]) * scale);
    total = std::sqrt(total);
  }
  const bool valid = total > 0 && total <= std::numeric_limits<double>::max();
  if (!valid) {
    std::fill_n(unit, m, std::numeric_limits<T>::quiet_NaN());
  } else if constexpr (sizeof(T) == 4) {
    const double inverse = 1 / total;
    for (int64_t i = 0; i < m; i++) unit[i] = T(double(x[i]) * inverse);
  } else {
    for (int64_t i = 0; i < m; i++) unit[i] = (x[i] * scale) / total;
  }
  *length = T(total / scale);
  return valid;
}

// The gradient of x from that of unit: (g - (g.u) u) / |x|.
template <class T>
void normalize_backward(const T* grad, const T* unit, T length, int64_t m, T* x_grad) {
  const T along = T(dot(grad, unit, m));
  for (int64_t i = 0; i < m; i++) x_grad[i] = (grad[i] - along * unit[i]) / length;
}

}  // namespace vmf_ops
