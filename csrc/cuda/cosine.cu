// The kernel of the cosine's law: a thread an element, in double arithmetic, but for the integral of float32.
#include "../math/cosine.h"
#include "indexing.h"
#include "kernels.h"
#include "launch.cuh"

namespace vmf_ops {
namespace cuda {

template <class F, class T>
__global__ void __launch_bounds__(block_threads, 1)
    cosine_kernel(int64_t numel, const T* __restrict__ m, const T* __restrict__ kappa, const T* __restrict__ w,
                  T* __restrict__ out0, T* __restrict__ out1, T* __restrict__ out2, T* __restrict__ out3) {
  constexpr Digits digits = is_double<T> ? Digits::in_double : Digits::in_float;
  T* const out[] = {out0, out1, out2, out3};
  for_packs<1>(numel, int64_t(blockIdx.x) * blockDim.x + threadIdx.x, int64_t(gridDim.x) * blockDim.x, [&](int64_t i) {
    double result[F::outputs];
    F::template evaluate<digits>(double(m[i]), double(kappa[i]), double(w[i]), result);
#pragma unroll
    for (int o = 0; o < F::outputs; o++) out[o][i] = T(result[o]);
  });
}

template <class F, class T>
void launch_cosine(int64_t numel, const T* m, const T* kappa, const T* w, T* const* out, Stream stream) {
  if (numel == 0) return;
  auto at = [&](int o) { return o < F::outputs ? out[o] : nullptr; };
  const int64_t most = resident<cosine_kernel<F, T>>(block_threads, 0);
  cosine_kernel<F>
      <<<grid(grid_blocks(numel, most)), block_threads, 0, stream>>>(numel, m, kappa, w, at(0), at(1), at(2), at(3));
  check(cudaGetLastError());
}

template <class T>
void cosine(CosineOp op, int64_t numel, const T* m, const T* kappa, const T* w, T* const* out, Stream stream) {
  switch (op) {
    case CosineOp::tails:
      return launch_cosine<CosineTailsFunction>(numel, m, kappa, w, out, stream);
    case CosineOp::law:
      return launch_cosine<CosineLawFunction>(numel, m, kappa, w, out, stream);
    default:
      return launch_cosine<CosineQuantileFunction>(numel, m, kappa, w, out, stream);
  }
}

template void cosine(CosineOp, int64_t, const double*, const double*, const double*, double* const*, Stream);
template void cosine(CosineOp, int64_t, const float*, const float*, const float*, float* const*, Stream);

}  // namespace cuda
}  // namespace vmf_ops
