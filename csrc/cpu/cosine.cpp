// The loops of the cosine's law for one ISA: in double registers, but for the integral of float32.
#include "cosine.h"

#include "../math/cosine.h"
#include "narrow.h"

namespace vmf_ops {
namespace VMF_OPS_ISA {

template <class F, class T>
void evaluate_cosine(const T* m, const T* kappa, const T* w, T* const* out, int64_t n) {
  using R = Register<double>;
  constexpr int lanes = Number<R>::lanes;
  constexpr Digits digits = is_double<T> ? Digits::in_double : Digits::in_float;
  auto load = [&](const T* p, int64_t count) {
    double wide[lanes];
    for (int i = 0; i < lanes; i++) wide[i] = p[i < count ? i : count - 1];
    return R::load(wide);
  };
  for (int64_t i = 0; i < n; i += lanes) {
    R result[F::outputs];
    F::template evaluate<digits>(load(m + i, n - i), load(kappa + i, n - i), load(w + i, n - i), result);
    for (int o = 0; o < F::outputs; o++) {
      double wide[lanes];
      result[o].store(wide);
      for (int k = 0; k < lanes && i + k < n; k++) out[o][i + k] = T(wide[k]);
    }
  }
}

template <class F>
CosineLoops cosine_loops() {
  return {evaluate_cosine<F, double>, evaluate_cosine<F, float>};
}

CosineLoops cosine(CosineOp op) {
  switch (op) {
    case CosineOp::tails:
      return cosine_loops<CosineTailsFunction>();
    case CosineOp::law:
      return cosine_loops<CosineLawFunction>();
    default:
      return cosine_loops<CosineQuantileFunction>();
  }
}

}  // namespace VMF_OPS_ISA
}  // namespace vmf_ops
