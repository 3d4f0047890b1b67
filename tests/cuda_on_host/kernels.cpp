// The launchers of csrc/cuda as C functions, which return null or what went wrong.
#include "csrc/cuda/sampling.cu"
//
#include "csrc/cuda/elementwise.cuh"
#ifdef CUDA_ON_HOST_CAPTURE
#include "csrc/cuda/special.cu"
#include "csrc/cuda/vmf.cu"
//
#include "csrc/cuda/cosine.cu"
#include "csrc/cuda/divergence.cu"
#include "csrc/cuda/second_kind.cu"
#endif

namespace vmf_ops::cuda {

#ifndef CUDA_ON_HOST_CAPTURE
// Two of them, whose kernels are compiled here: all differ in their mathematics alone.
template <class T>
void elementwise(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, Stream stream,
                 bool v_number) {
  if (op == Op::log_iv_with_slope)
    launch<LogIvFunction<Scaling::none, true>>(shape, v, x, out, stream, v_number);
  else if (op == Op::kl_uniform_with_slope)
    launch<DivergenceFunction<DivergencePart::kl, DivergencePart::kl_slope>>(shape, v, x, out, stream, v_number);
  else
    throw std::invalid_argument("an op that is not compiled for the host");
}
#endif

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
          static_cast<T*>(data[3]),
          {shape[8], shape[9], shape[10]}};
}

template <class T>
void run(int what, const int64_t* shape, const int64_t* dims, void* const* data, bool flag) {
  auto draw = draw_of<T>(shape, dims, data);
  const bool implicit = flag;
  if (what == 0) draw.keep_cosine = flag;
  auto extra = [&](int i) { return static_cast<T*>(data[4 + i]); };
  if (what == 0)
    sample(draw, static_cast<const int64_t*>(data[4]), nullptr);
  else if (what == 1)
    sample_backward(draw, implicit, extra(0), extra(1), extra(2), nullptr);
  else
    sample_forward_ad(draw, implicit, extra(0), extra(1), extra(2), extra(3), nullptr);
}

template <class T>
void run_elementwise(int op, const Broadcast& shape, void* const* data, bool v_number) {
  T* const out[] = {static_cast<T*>(data[2]), static_cast<T*>(data[3])};
  const T *v = static_cast<const T*>(data[0]), *x = static_cast<const T*>(data[1]);
#ifdef CUDA_ON_HOST_CAPTURE
  constexpr int first_of_second_kind = 1000;
  if (op >= first_of_second_kind)
    return second_kind(SecondKindOp(op - first_of_second_kind), shape, v, x, out, nullptr, v_number);
#endif
  elementwise(Op(op), shape, v, x, out, nullptr, v_number);
}

// sizes and strides: of v, then of x, both of `rank` dimensions.
Broadcast broadcast_of(int rank, const int64_t* sizes, const int64_t* strides) {
  auto part = [&](const int64_t* p, int i) { return std::vector<int64_t>(p + i * rank, p + (i + 1) * rank); };
  return {part(sizes, 0), part(strides, 0), part(sizes, 1), part(strides, 1)};
}

template <class F>
const char* guarded(F&& f) {
  static std::string message;
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace vmf_ops::cuda

// flag: whether the cosine is kept, of a draw; whether a derivative is the implicit one.
extern "C" const char* sampling(bool in_double, int what, const int64_t* shape, const int64_t* dims, void* const* data,
                                bool flag) {
  return vmf_ops::cuda::guarded([&] {
    if (in_double)
      vmf_ops::cuda::run<double>(what, shape, dims, data, flag);
    else
      vmf_ops::cuda::run<float>(what, shape, dims, data, flag);
  });
}

extern "C" const char* elementwise(bool in_double, int op, int rank, const int64_t* sizes, const int64_t* strides,
                                   void* const* data, bool v_number) {
  return vmf_ops::cuda::guarded([&] {
    const auto shape = vmf_ops::cuda::broadcast_of(rank, sizes, strides);
    if (in_double)
      vmf_ops::cuda::run_elementwise<double>(op, shape, data, v_number);
    else
      vmf_ops::cuda::run_elementwise<float>(op, shape, data, v_number);
  });
}

#ifdef CUDA_ON_HOST_CAPTURE

namespace vmf_ops::cuda {
template <class T>
void run_cosine(int op, int64_t numel, void* const* data) {
  auto in = [&](int i) { return static_cast<const T*>(data[i]); };
  auto out = [&](int i) { return static_cast<T*>(data[3 + i]); };
  T* const results[] = {out(0), out(1), out(2), out(3)};
  cosine(CosineOp(op), numel, in(0), in(1), in(2), results, nullptr);
}
}  // namespace vmf_ops::cuda

extern "C" const char* cosine(bool in_double, int op, int64_t numel, void* const* data) {
  return vmf_ops::cuda::guarded([&] {
    if (in_double)
      vmf_ops::cuda::run_cosine<double>(op, numel, data);
    else
      vmf_ops::cuda::run_cosine<float>(op, numel, data);
  });
}

namespace vmf_ops::cuda {
template <class T>
void run_divergence(int64_t numel, int64_t dimensions, bool m_number, double same, void* const* data) {
  auto in = [&](int i) { return static_cast<const T*>(data[i]); };
  auto out = [&](int i) { return static_cast<T*>(data[4 + i]); };
  divergence<T>({numel, dimensions, in(0), in(1), in(2), in(3), T(same), {out(0), out(1), out(2), out(3)}}, nullptr,
                m_number);
}
}  // namespace vmf_ops::cuda

extern "C" const char* divergence(bool in_double, int64_t numel, int64_t dimensions, bool m_number, double same,
                                  void* const* data) {
  return vmf_ops::cuda::guarded([&] {
    if (in_double)
      vmf_ops::cuda::run_divergence<double>(numel, dimensions, m_number, same, data);
    else
      vmf_ops::cuda::run_divergence<float>(numel, dimensions, m_number, same, data);
  });
}

extern "C" int64_t launch_count() { return int64_t(cuda_on_host::launches.size()); }
extern "C" void forget_launches() { cuda_on_host::launches.clear(); }
// numbers: grid, threads, shared memory, bytes of parameters.
extern "C" void launch_at(int64_t i, const char** symbol, int64_t* numbers, const char** parameters) {
  const auto& launch = cuda_on_host::launches[size_t(i)];
  *symbol = launch.symbol.c_str(), *parameters = launch.parameters.data();
  numbers[0] = launch.grid, numbers[1] = launch.threads, numbers[2] = int64_t(launch.shared);
  numbers[3] = int64_t(launch.parameters.size());
}

#else

// The index arithmetic alone, where numbers are too large to run: what element i of a pair reads.
extern "C" void layout_at(int rank, const int64_t* sizes, const int64_t* strides, int64_t i, int64_t* offsets) {
  const auto at = vmf_ops::cuda::Layout(vmf_ops::cuda::broadcast_of(rank, sizes, strides)).at(i);
  offsets[0] = at.v, offsets[1] = at.x;
}

extern "C" int64_t divide(int64_t a, int64_t b) { return vmf_ops::cuda::Divisor(b).divide(a); }
extern "C" int small_quotient(int a, int b) { return vmf_ops::cuda::small_quotient(a, b); }

// Shell, row and lane of a thread in a launch over rows of `count` shells.
extern "C" void place(int64_t rows, int count, const int* lanes, int64_t block, int thread, int64_t* out) {
  vmf_ops::cuda::Shells shells;
  shells.rows = rows;
  for (int i = 0; i < count; i++) shells.add(i, 4, 4 * i, lanes[i]);
  const auto at = shells.place(uint32_t(block), uint32_t(thread));
  out[0] = at.shell, out[1] = at.row, out[2] = at.lane, out[3] = shells.blocks();
}

#endif
