// The launchers of csrc/cuda, with the launches rewritten by tests/test_cuda_on_host.py, as C functions.
#include "sampling.inc"
//
#include "elementwise.inc"

namespace vmf_ops::cuda {
namespace {
alignas(16) double shared[6 * 1024];  // what the kernels of a draw declare
}

template <class T>
Draw<T> draw_of(const int64_t* shape, const int64_t* dims, void* const* data) {
  return {shape[0],
          shape[1],
          shape[2],
          {dims, size_t(shape[3])},
          static_cast<const T*>(data[0]),
          static_cast<const T*>(data[1]),
          shape[4],
          shape[5],
          shape[6],
          shape[7],
          static_cast<T*>(data[2]),
          static_cast<T*>(data[3])};
}

template <class T>
void run(int what, const int64_t* shape, const int64_t* dims, void* const* data, bool implicit) {
  const auto draw = draw_of<T>(shape, dims, data);
  auto extra = [&](int i) { return static_cast<T*>(data[4 + i]); };
  if (what == 0)
    sample(draw, static_cast<const int64_t*>(data[4]), nullptr);
  else if (what == 1)
    sample_backward(draw, implicit, extra(0), extra(1), extra(2), nullptr);
  else
    sample_forward_ad(draw, implicit, extra(0), extra(1), extra(2), extra(3), nullptr);
}

template <class T>
void run_elementwise(int what, const Broadcast& shape, void* const* data) {
  const T *v = static_cast<const T*>(data[0]), *x = static_cast<const T*>(data[1]);
  T* const out[] = {static_cast<T*>(data[2]), static_cast<T*>(data[3])};
  if (what == 0)
    launch<LogIvFunction<Scaling::none, true>>(shape, v, x, out, nullptr);
  else
    launch<DivergenceFunction<DivergencePart::kl, DivergencePart::kl_slope>>(shape, v, x, out, nullptr);
}

}  // namespace vmf_ops::cuda

extern "C" void sampling(bool in_double, int what, const int64_t* shape, const int64_t* dims, void* const* data,
                         bool implicit) {
  if (in_double)
    vmf_ops::cuda::run<double>(what, shape, dims, data, implicit);
  else
    vmf_ops::cuda::run<float>(what, shape, dims, data, implicit);
}

// sizes and strides: of v, then of x, both of `rank` dimensions.
extern "C" void elementwise(bool in_double, int what, int rank, const int64_t* sizes, const int64_t* strides,
                            void* const* data) {
  auto part = [&](const int64_t* p, int i) { return std::vector<int64_t>(p + i * rank, p + (i + 1) * rank); };
  const vmf_ops::Broadcast shape(part(sizes, 0), part(strides, 0), part(sizes, 1), part(strides, 1));
  if (in_double)
    vmf_ops::cuda::run_elementwise<double>(what, shape, data);
  else
    vmf_ops::cuda::run_elementwise<float>(what, shape, data);
}

// The index arithmetic alone, where numbers are too large to run: what element i of a pair reads.
extern "C" void layout_at(int rank, const int64_t* sizes, const int64_t* strides, int64_t i, int64_t* offsets) {
  auto part = [&](const int64_t* p, int k) { return std::vector<int64_t>(p + k * rank, p + (k + 1) * rank); };
  const vmf_ops::Broadcast shape(part(sizes, 0), part(strides, 0), part(sizes, 1), part(strides, 1));
  const auto at = vmf_ops::cuda::Layout(shape).at(i);
  offsets[0] = at.v, offsets[1] = at.x;
}

extern "C" int64_t divide(int64_t a, int64_t b) { return vmf_ops::cuda::Divisor(b).divide(a); }
extern "C" int small_quotient(int a, int b) { return vmf_ops::cuda::small_quotient(a, b); }

// Shell, row and lane of a thread in a launch over rows of `count` shells.
extern "C" void place(int64_t rows, int count, const int* lanes, int64_t block, int thread, int64_t* out) {
  vmf_ops::cuda::Shells shells;
  shells.rows = rows;
  for (int i = 0; i < count; i++) shells.add(i, 4, 4 * i, lanes[i]);
  const auto at = shells.place(block, thread);
  out[0] = at.shell, out[1] = at.row, out[2] = at.lane, out[3] = shells.blocks();
}
