// The sampler's CPU loops as the bindings see them, over rows [begin, end) of a draw of one slice: one function per
// scalar type and ISA.
#pragma once

#include "../draw.h"
#include "../math/philox.h"

namespace vmf_ops {

// The derivatives of one slice; loc or kappa null: no gradient, or no tangent, of it.
template <class T>
struct SamplingGradient {
  const T* z_grad;  // backward: (rows, size) in, the gradients out, (rows, size) and (rows, shells)
  T *loc_grad, *kappa_grad;
  const T *loc_tangent, *kappa_tangent;  // forward mode: in like loc and kappa, and (rows, size) out
  T* z_tangent;
  bool implicit;
};

template <class T>
using SampleKernel = void(const Draw<T>& slice, Key key, int64_t begin, int64_t end);
template <class T>
using SampleGradientKernel = void(const Draw<T>& slice, const SamplingGradient<T>& gradient, int64_t begin,
                                  int64_t end);

template <class T>
struct SamplingLoops {
  SampleKernel<T>* sample;
  SampleGradientKernel<T>*backward, *forward_ad;
};
struct Sampling {
  SamplingLoops<double> in_double;
  SamplingLoops<float> in_float;
};

namespace cpu_default {
Sampling sampling();
}
namespace cpu_avx2 {
Sampling sampling();
}
namespace cpu_avx512 {
Sampling sampling();
}

}  // namespace vmf_ops
