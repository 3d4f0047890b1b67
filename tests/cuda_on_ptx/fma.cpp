// What NumPy lacks: a*b + c rounded once.
#include <cmath>
#include <cstdint>

template <class T>
static void fma_all(int64_t n, const T* a, const T* b, const T* c, T* out) {
  for (int64_t i = 0; i < n; i++) out[i] = std::fma(a[i], b[i], c[i]);
}
extern "C" void fma_float32(int64_t n, const float* a, const float* b, const float* c, float* out) {
  fma_all(n, a, b, c, out);
}
extern "C" void fma_float64(int64_t n, const double* a, const double* b, const double* c, double* out) {
  fma_all(n, a, b, c, out);
}
