// The kernel of the divergence between two laws: a thread an element.
#include "../math/divergence.h"
#include "indexing.h"
#include "kernels.h"
#include "launch.cuh"

namespace vmf_ops {
namespace cuda {

// number: the dimension of all elements, where call.m is null.
template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    divergence_kernel(const __grid_constant__ DivergenceCall<T> call, T number) {
  for_packs<1>(call.numel, int64_t(blockIdx.x) * blockDim.x + threadIdx.x, int64_t(gridDim.x) * blockDim.x,
               [&](int64_t i) {
                 const T m = call.m ? call.m[i % call.dimensions] : number;
                 const auto result = vmf_divergence(m, call.p[i], call.q[i], call.distance[i], call.same);
                 call.out[0][i] = result.kl, call.out[1][i] = result.p_slope;
                 call.out[2][i] = result.q_slope, call.out[3][i] = result.distance_slope;
               });
}

template <class T>
void divergence(DivergenceCall<T> call, Stream stream, bool m_number) {
  if (call.numel == 0) return;
  const T number = m_number ? *call.m : T(0);
  if (m_number) call.m = nullptr;
  const int64_t most = resident<divergence_kernel<T>>(block_threads, 0);
  divergence_kernel<<<grid(grid_blocks(call.numel, most)), block_threads, 0, stream>>>(call, number);
  check(cudaGetLastError());
}

template void divergence(DivergenceCall<double>, Stream, bool);
template void divergence(DivergenceCall<float>, Stream, bool);

}  // namespace cuda
}  // namespace vmf_ops
