// The sampler's CPU loops as the bindings see them: one function per scalar type and ISA.
#pragma once

#include "../math/philox.h"

namespace vmf_ops {

// One slice of a call: `rows` draws from each of `shells` shells lying side by side. loc and kappa may have fewer rows,
// a divisor of `rows`; they repeat.
template <class T>
struct SamplingSlice {
  int64_t rows, shells, size;  // size: the sum of dims
  const int64_t* dims;
  const T* loc;
  int64_t loc_rows;
  const T* kappa;
  int64_t kappa_rows;
  T* cosine;  // (2, shells, rows): 1-w, then 1+w
  T* z;       // (rows, size)
};

// loc or kappa null: no gradient, or no tangent, of it.
template <class T>
struct SamplingGradient {
  const T* z_grad;  // backward: (rows, size) in, the gradients out, (rows, size) and (rows, shells)
  T *loc_grad, *kappa_grad;
  const T *loc_tangent, *kappa_tangent;  // forward mode: in like loc and kappa, and (rows, size) out
  T* z_tangent;
  bool implicit;
};

template <class T>
using SampleKernel = void(const SamplingSlice<T>& slice, Key key, int64_t begin, int64_t end);
template <class T>
using SampleGradientKernel = void(const SamplingSlice<T>& slice, const SamplingGradient<T>& gradient, int64_t begin,
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
