// The only C++ file that knows torch: schemas, checks and dispatch. LibTorch's stable ABI, so one build serves every
// torch from 2.11 on; the kernels take raw pointers.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>

#include "cpu/elementwise.h"
#include "cpu/isa.h"
#include "cpu/normalize.h"

#ifdef VMF_OPS_CUDA_ARCHS
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "cuda/kernels.h"
#endif

namespace vmf_ops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// ---- Dtypes and devices ----

// run(T()) for the scalar type of t, which has been checked.
template <class F>
void by_dtype(const Tensor& t, F run) {
  if (t.scalar_type() == ScalarType::Double)
    run(double());
  else
    run(float());
}

// The part for T of what an ISA offers.
template <class T, class Loops>
auto loops_for(const Loops& loops) {
  if constexpr (sizeof(T) == 8)
    return loops.in_double;
  else
    return loops.in_float;
}

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// What every op asks of torch, by its C functions: through the dispatcher each costs a microsecond.
Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d-- > 0; step *= std::max<int64_t>(sizes[d], 1)) strides[d] = step;
  int32_t dtype, device, index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  AtenTensorHandle result;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(), strides.data(), dtype, device, index, &result));
  return Tensor(result);
}

constexpr int64_t grain = 2048;  // elements a thread takes at least, some 50 us of work

// t, contiguous.
Tensor in_order(const Tensor& t) {
  if (t.is_contiguous()) return t;
  const ScalarType dtype = t.scalar_type();
  if (!t.is_cpu() || t.numel() > grain || (dtype != ScalarType::Double && dtype != ScalarType::Float))
    return torch::stable::contiguous(t);
  const Broadcast shape(t.sizes(), t.strides(), t.sizes(), t.strides());
  Tensor copy = empty(t, shape.sizes);
  by_dtype(t, [&]<class T>(T) {
    T* out = mutable_data<T>(copy);
    const T* in = data<T>(t);
    shape.runs(0, shape.numel, [&](int64_t at, int64_t, int64_t count, int64_t step, int64_t) {
      for (int64_t i = 0; i < count; i++) *out++ = in[at + i * step];
    });
  });
  return copy;
}

}  // namespace

template <class T>
void elementwise_on_cpu(const Broadcast& shape, const Elementwise& loops, const T* v, const T* x, T* const* out,
                        int outputs) {
  const auto loop = loops_for<T>(loops);
  torch::stable::parallel_for(0, shape.numel, grain, [&](int64_t begin, int64_t end) {
    run_broadcast(shape, loop, v, x, out, outputs, begin, end);
  });
}
template void elementwise_on_cpu(const Broadcast&, const Elementwise&, const double*, const double*, double* const*,
                                 int);
template void elementwise_on_cpu(const Broadcast&, const Elementwise&, const float*, const float*, float* const*, int);

namespace {

std::string device_name(const Tensor& t) {
  return t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : t.is_cpu() ? "cpu" : "another device";
}

[[noreturn]] void refuse_devices(const Tensor& a, const Tensor& b) {
  STD_TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, ",
                  device_name(a), " and ", device_name(b), "!");
}

// Where ops run: made from the tensors of a call, alive as long as it. Cpu and Cuda have the same members.
struct Cpu {
  template <class... Others>
  explicit Cpu(const Tensor& first, const Others&... others) {
    (check(first, first), ..., check(first, others));
  }

  template <class T>
  void elementwise(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, int outputs, bool) const {
    elementwise_on_cpu(shape, isa().special(op), v, x, out, outputs);
  }
  template <class T>
  void elementwise(SecondKindOp op, const Broadcast& shape, const T* v, const T* x, T* const* out, int outputs,
                   bool) const {
    elementwise_on_cpu(shape, isa().second_kind(op), v, x, out, outputs);
  }

  template <class T>
  void cosine(CosineOp op, int64_t numel, const T* m, const T* kappa, const T* w, T* const* out, int outputs) const {
    const auto loop = loops_for<T>(isa().cosine(op));
    torch::stable::parallel_for(0, numel, grain / 8, [&](int64_t begin, int64_t end) {
      T* at[4];
      for (int o = 0; o < outputs; o++) at[o] = out[o] + begin;
      loop(m + begin, kappa + begin, w + begin, at, end - begin);
    });
  }
  template <class T>
  void divergence(const DivergenceCall<T>& call, bool) const {
    const auto loop = loops_for<T>(isa().divergence());
    torch::stable::parallel_for(0, call.numel, grain / 16, [&](int64_t begin, int64_t end) { loop(call, begin, end); });
  }
  static bool takes_number(const Tensor&) { return false; }

  template <class T>
  void sample(const Draw<T>& draw, const int64_t* keys) const {
    for_rows(draw, [&](int64_t slice, int64_t begin, int64_t end) {
      const uint64_t key = keys[slice];
      loops<T>().sample(draw.slice(slice), {uint32_t(key), uint32_t(key >> 32)}, begin, end);
    });
  }

  template <class T>
  void sample_backward(const Draw<T>& draw, bool implicit, const T* z_grad, T* loc_grad, T* kappa_grad) const {
    for_rows(draw, [&](int64_t slice, int64_t begin, int64_t end) {
      const int64_t at = slice * draw.rows;
      SamplingGradient<T> gradient{.implicit = implicit};
      gradient.z_grad = z_grad + at * draw.size;
      if (loc_grad) gradient.loc_grad = loc_grad + at * draw.size;
      if (kappa_grad) gradient.kappa_grad = kappa_grad + at * draw.shells();
      loops<T>().backward(draw.slice(slice), gradient, begin, end);
    });
  }

  template <class T>
  void sample_forward_ad(const Draw<T>& draw, bool implicit, const T* loc_tangent, const T* kappa_tangent,
                         const Tensor& z_tangent) const {
    for_rows(draw, [&](int64_t slice, int64_t begin, int64_t end) {
      SamplingGradient<T> gradient{.implicit = implicit};
      gradient.loc_tangent = loc_tangent + draw.loc_start(slice);
      gradient.kappa_tangent = kappa_tangent + draw.kappa_start(slice);
      gradient.z_tangent = mutable_data<T>(z_tangent) + slice * draw.rows * draw.size;
      loops<T>().forward_ad(draw.slice(slice), gradient, begin, end);
    });
  }

 private:
  static void check(const Tensor& a, const Tensor& b) {
    if (!a.is_cpu() || !b.is_cpu()) refuse_devices(a, b);
  }

  template <class T>
  static SamplingLoops<T> loops() {
    return loops_for<T>(isa().sampling());
  }

  // body(slice, first row, last row) over all rows of all slices, some 50 us of work or more at a time.
  template <class T, class F>
  static void for_rows(const Draw<T>& draw, F body) {
    const int64_t rows = std::max<int64_t>(1, 8192 / std::max<int64_t>(draw.size, 1));
    torch::stable::parallel_for(0, draw.slices * draw.rows, rows, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t slice = begin / draw.rows, stop = std::min(end, (slice + 1) * draw.rows);
        body(slice, begin - slice * draw.rows, stop - slice * draw.rows);
        begin = stop;
      }
    });
  }
};

#ifdef VMF_OPS_CUDA_ARCHS
// Its tensors' device is the current one for as long as this lives; they must be on one.
class Cuda {
 public:
  template <class... Others>
  explicit Cuda(const Tensor& first, const Others&... others)
      : guard_((check(first, others), ..., first.get_device_index())), stream_(stream(first.get_device_index())) {}

  template <class T>
  void elementwise(Op op, const Broadcast& shape, const T* v, const T* x, T* const* out, int, bool v_number) const {
    cuda::elementwise(op, shape, v, x, out, stream_, v_number);
  }
  // A number on the CPU goes to a kernel by value: no launch fills a tensor with it.
  static bool takes_number(const Tensor& v) { return v.is_cpu() && v.dim() == 0; }
  template <class T>
  void elementwise(SecondKindOp op, const Broadcast& shape, const T* v, const T* x, T* const* out, int,
                   bool v_number) const {
    cuda::second_kind(op, shape, v, x, out, stream_, v_number);
  }
  template <class T>
  void cosine(CosineOp op, int64_t numel, const T* m, const T* kappa, const T* w, T* const* out, int) const {
    cuda::cosine(op, numel, m, kappa, w, out, stream_);
  }
  template <class T>
  void divergence(const DivergenceCall<T>& call, bool m_number) const {
    cuda::divergence(call, stream_, m_number);
  }
  template <class T>
  void sample(const Draw<T>& draw, const int64_t* keys) const {
    cuda::sample(draw, keys, stream_);
  }
  template <class T>
  void sample_backward(const Draw<T>& draw, bool implicit, const T* z_grad, T* loc_grad, T* kappa_grad) const {
    cuda::sample_backward(draw, implicit, z_grad, loc_grad, kappa_grad, stream_);
  }
  template <class T>
  void sample_forward_ad(const Draw<T>& draw, bool implicit, const T* loc_tangent, const T* kappa_tangent,
                         const Tensor& z_tangent) const {
    const Tensor psi = empty(z_tangent, {draw.slices, draw.rows, draw.shells()});
    cuda::sample_forward_ad(draw, implicit, loc_tangent, kappa_tangent, mutable_data<T>(psi),
                            mutable_data<T>(z_tangent), stream_);
  }

 private:
  static void check(const Tensor& a, const Tensor& b) {
    if (!a.is_cuda() || !b.is_cuda() || a.get_device_index() != b.get_device_index()) refuse_devices(a, b);
  }
  static cuda::Stream stream(int32_t device) {
    // libtorch_cuda is there where CUDA tensors are, but must not be linked to: a CPU build of torch lacks it. (From
    // torch 2.13 on the stable ABI has it as torch::stable::accelerator::Stream::nativeHandle.)
    using Get = AOTITorchError(int32_t device, void** stream);
    static Get* const get = [] {
      void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
      return library ? reinterpret_cast<Get*>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
    }();
    STD_TORCH_CHECK(get, "this build of torch does not tell its current CUDA stream");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(get(device, &stream));
    return static_cast<cuda::Stream>(stream);
  }
  torch::stable::accelerator::DeviceGuard guard_;
  cuda::Stream stream_;
};
#else
// A build without kernels for GPUs.
struct Cuda : Cpu {
  template <class... Tensors>
  explicit Cuda(const Tensor& first, const Tensors&...) : Cpu(refused(first)) {}

 private:
  static const Tensor& refused(const Tensor& first) {
    STD_TORCH_CHECK(false, "vmf_ops was built without CUDA and got a tensor on ", device_name(first),
                    ": install nvcc 12 or newer, of the same major version as torch.version.cuda (from NVIDIA's "
                    "toolkit, or pip install nvidia-cuda-nvcc and set CUDA_HOME), and build vmf_ops again");
    return first;
  }
};
#endif

void check_floating(const Tensor& t) {
  const ScalarType dtype = t.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Double || dtype == ScalarType::Float, "expected float32 or float64, got ",
                  torch::headeronly::toString(dtype));
}

// ---- Element-wise ops of (v, x) ----

void check_pair(const Tensor& v, const Tensor& x) {
  const ScalarType dtype = x.scalar_type();
  check_floating(x);
  STD_TORCH_CHECK(v.scalar_type() == dtype, "expected one dtype, got ", torch::headeronly::toString(v.scalar_type()),
                  " and ", torch::headeronly::toString(dtype));
}

template <class Device, int outputs, class AnyOp>
std::array<Tensor, outputs> elementwise(AnyOp op, const Tensor& v, const Tensor& x) {
  const bool v_number = Device::takes_number(v);
  const Device device(x, v_number ? x : v);
  check_pair(v, x);
  const Broadcast shape(v.sizes(), v.strides(), x.sizes(), x.strides());
  std::array<Tensor, outputs> result;
  for (Tensor& t : result) t = empty(x, shape.sizes);
  by_dtype(x, [&]<class T>(T) {
    T* out[outputs];
    for (int o = 0; o < outputs; o++) out[o] = mutable_data<T>(result[o]);
    device.elementwise(op, shape, data<T>(v), data<T>(x), out, outputs, v_number);
  });
  return result;
}

template <class Device, auto op>
Tensor value(const Tensor& v, const Tensor& x) {
  return elementwise<Device, 1>(op, v, x)[0];
}
template <class Device, auto op>
std::tuple<Tensor, Tensor> value_and_slope(const Tensor& v, const Tensor& x) {
  auto [value, slope] = elementwise<Device, 2>(op, v, x);
  return {value, slope};
}

template <class Device, class Library>
void register_elementwise(Library& m) {
  m.impl("log_iv", TORCH_BOX((&value<Device, Op::log_iv>)));
  m.impl("log_iv_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_iv_with_slope>)));
  m.impl("log_ive", TORCH_BOX((&value<Device, Op::log_ive>)));
  m.impl("log_ive_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_ive_with_slope>)));
  m.impl("ive", TORCH_BOX((&value<Device, Op::ive>)));
  m.impl("ive_with_slope", TORCH_BOX((&value_and_slope<Device, Op::ive_with_slope>)));
  m.impl("log_iv_order_slope", TORCH_BOX((&value<Device, Op::log_iv_order_slope>)));
  m.impl("ratio", TORCH_BOX((&value<Device, Op::ratio>)));
  m.impl("ratio_with_slope", TORCH_BOX((&value_and_slope<Device, Op::ratio_with_slope>)));
  m.impl("ratio_complement", TORCH_BOX((&value<Device, Op::ratio_complement>)));
  m.impl("ratio_complement_with_slope", TORCH_BOX((&value_and_slope<Device, Op::ratio_complement_with_slope>)));
  m.impl("ratio_slope", TORCH_BOX((&value<Device, Op::ratio_slope>)));
  m.impl("ratio_curvature", TORCH_BOX((&value<Device, Op::ratio_curvature>)));
  m.impl("ratio_order_slope", TORCH_BOX((&value<Device, Op::ratio_order_slope>)));
  m.impl("ratio_moments", TORCH_BOX((&value_and_slope<Device, Op::ratio_moments>)));
  m.impl("kl_uniform", TORCH_BOX((&value<Device, Op::kl_uniform>)));
  m.impl("kl_uniform_with_slope", TORCH_BOX((&value_and_slope<Device, Op::kl_uniform_with_slope>)));
  m.impl("log_f", TORCH_BOX((&value<Device, Op::log_f>)));
  m.impl("log_f_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_f_with_slope>)));
  m.impl("log_f_order_slope", TORCH_BOX((&value<Device, Op::log_f_order_slope>)));
  m.impl("log_peak", TORCH_BOX((&value<Device, Op::log_peak>)));
  m.impl("log_peak_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_peak_with_slope>)));
  m.impl("log_anchor", TORCH_BOX((&value<Device, Op::log_anchor>)));
  m.impl("log_anchor_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_anchor_with_slope>)));
  m.impl("concentration", TORCH_BOX((&value<Device, Op::concentration>)));
  m.impl("log_kv", TORCH_BOX((&value<Device, SecondKindOp::log_kv>)));
  m.impl("log_kv_with_slope", TORCH_BOX((&value_and_slope<Device, SecondKindOp::log_kv_with_slope>)));
  m.impl("log_kve", TORCH_BOX((&value<Device, SecondKindOp::log_kve>)));
  m.impl("log_kve_with_slope", TORCH_BOX((&value_and_slope<Device, SecondKindOp::log_kve_with_slope>)));
  m.impl("kve", TORCH_BOX((&value<Device, SecondKindOp::kve>)));
  m.impl("kve_with_slope", TORCH_BOX((&value_and_slope<Device, SecondKindOp::kve_with_slope>)));
  m.impl("log_kv_order_slope", TORCH_BOX((&value<Device, SecondKindOp::log_kv_order_slope>)));
  m.impl("log_kv_curvature", TORCH_BOX((&value<Device, SecondKindOp::log_kv_curvature>)));
  m.impl("concentration_of_complement", TORCH_BOX((&value<Device, Op::concentration_of_complement>)));
}

}  // namespace

STABLE_TORCH_LIBRARY(vmf_ops, m) {
  for (const char* name : {"log_iv", "log_ive", "ive", "ratio", "ratio_complement", "kl_uniform", "log_f", "log_peak",
                           "log_anchor", "log_kv", "log_kve", "kve"}) {
    m.def((std::string(name) + "(Tensor v, Tensor x) -> Tensor").c_str());
    m.def((std::string(name) + "_with_slope(Tensor v, Tensor x) -> (Tensor, Tensor)").c_str());
  }
  for (const char* name :
       {"log_iv_order_slope", "ratio_slope", "ratio_curvature", "ratio_order_slope", "log_f_order_slope",
        "concentration", "concentration_of_complement", "log_kv_order_slope", "log_kv_curvature"})
    m.def((std::string(name) + "(Tensor v, Tensor x) -> Tensor").c_str());
  m.def("ratio_moments(Tensor v, Tensor x) -> (Tensor ratio_over_x, Tensor slope)");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) { register_elementwise<Cpu>(m); }
STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) { register_elementwise<Cuda>(m); }

// ---- Vectors side by side brought to unit length, on the CPU ----
//
// x and unit (..., sum of dims), length (..., K).

namespace {

// body(row, shell, offset) for all shells of all rows.
template <class F>
void for_shells(const Tensor& x, const std::vector<int64_t>& dims, F body) {
  const int64_t size = std::accumulate(dims.begin(), dims.end(), int64_t(0));
  STD_TORCH_CHECK(size > 0 && x.dim() > 0 && x.size(x.dim() - 1) == size, "expected vectors of ", size, " numbers");
  const int64_t rows = x.numel() / size;
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, 16 * grain / size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t offset = row * size, shell = row * int64_t(dims.size());
      for (const int64_t m : dims) body(shell++, offset, m), offset += m;
    }
  });
}

// valid: every vector has a direction, and every concentration given is at least 0.
std::tuple<Tensor, Tensor, bool> normalize_shells(const Tensor& x_, const std::vector<int64_t>& dims,
                                                  const std::optional<Tensor>& concentration) {
  const Cpu device(x_);
  check_floating(x_);
  const Tensor x = in_order(x_);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  Tensor unit = empty(x, sizes);
  if (!sizes.empty()) sizes.back() = int64_t(dims.size());
  Tensor length = empty(x, sizes);
  std::atomic<bool> valid = true;
  by_dtype(x, [&]<class T>(T) {
    const T* in = data<T>(x);
    T *out = mutable_data<T>(unit), *lengths = mutable_data<T>(length);
    for_shells(x, dims, [&](int64_t shell, int64_t offset, int64_t m) {
      if (!normalize(in + offset, m, out + offset, lengths + shell)) valid = false;
    });
    if (!concentration) return;
    STD_TORCH_CHECK(concentration->is_cpu() && concentration->scalar_type() == x.scalar_type(),
                    "expected concentrations of x's device and dtype");
    const Tensor kappa = in_order(*concentration);
    const T* at = data<T>(kappa);
    if (!std::all_of(at, at + kappa.numel(), [](T one) { return one >= 0; })) valid = false;
  });
  return {unit, length, valid};
}

Tensor normalize_shells_backward(const Tensor& grad_, const Tensor& unit, const Tensor& length,
                                 const std::vector<int64_t>& dims) {
  const Cpu device(unit, grad_, length);
  check_floating(unit);
  const Tensor grad = in_order(grad_);
  STD_TORCH_CHECK(grad.scalar_type() == unit.scalar_type() && length.scalar_type() == unit.scalar_type() &&
                      grad.numel() == unit.numel() && unit.is_contiguous() && length.is_contiguous(),
                  "the gradient does not fit the vectors");
  Tensor x_grad = empty(unit, std::vector<int64_t>(unit.sizes().begin(), unit.sizes().end()));
  by_dtype(unit, [&]<class T>(T) {
    const T *g = data<T>(grad), *u = data<T>(unit), *lengths = data<T>(length);
    T* out = mutable_data<T>(x_grad);
    for_shells(unit, dims, [&](int64_t shell, int64_t offset, int64_t m) {
      normalize_backward(g + offset, u + offset, lengths[shell], m, out + offset);
    });
  });
  return x_grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(vmf_ops, m) {
  m.def("normalize_shells(Tensor x, int[] dims, Tensor? concentration) -> (Tensor unit, Tensor length, bool valid)");
  m.def("normalize_shells_backward(Tensor grad, Tensor unit, Tensor length, int[] dims) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) {
  m.impl("normalize_shells", TORCH_BOX(&normalize_shells));
  m.impl("normalize_shells_backward", TORCH_BOX(&normalize_shells_backward));
}

// ---- The law of the cosine: ops of (m, kappa, w) of one shape ----

namespace {

template <class Device, CosineOp op, int outputs>
std::array<Tensor, outputs> cosine(const Tensor& m_, const Tensor& kappa_, const Tensor& w_) {
  const Device device(w_, m_, kappa_);
  const Tensor m = in_order(m_), kappa = in_order(kappa_), w = in_order(w_);
  check_pair(m, w);
  check_pair(kappa, w);
  STD_TORCH_CHECK(m.numel() == w.numel() && kappa.numel() == w.numel(), "expected m, kappa and w of one shape");
  std::array<Tensor, outputs> result;
  for (Tensor& t : result) t = empty(w, std::vector<int64_t>(w.sizes().begin(), w.sizes().end()));
  by_dtype(w, [&]<class T>(T) {
    T* out[outputs];
    for (int o = 0; o < outputs; o++) out[o] = mutable_data<T>(result[o]);
    device.cosine(op, w.numel(), data<T>(m), data<T>(kappa), data<T>(w), out, outputs);
  });
  return result;
}

template <class Device>
std::tuple<Tensor, Tensor> cosine_tails(const Tensor& m, const Tensor& kappa, const Tensor& w) {
  return std::tuple_cat(cosine<Device, CosineOp::tails, 2>(m, kappa, w));
}
template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> cosine_law(const Tensor& m, const Tensor& kappa, const Tensor& w) {
  return std::tuple_cat(cosine<Device, CosineOp::law, 4>(m, kappa, w));
}
template <class Device>
std::tuple<Tensor, Tensor, Tensor> cosine_quantile(const Tensor& m, const Tensor& kappa, const Tensor& q) {
  return std::tuple_cat(cosine<Device, CosineOp::quantile, 3>(m, kappa, q));
}

template <class Device, class Library>
void register_cosine(Library& m) {
  m.impl("cosine_tails", TORCH_BOX(&cosine_tails<Device>));
  m.impl("cosine_law", TORCH_BOX(&cosine_law<Device>));
  m.impl("cosine_quantile", TORCH_BOX(&cosine_quantile<Device>));
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(vmf_ops, m) {
  m.def("cosine_tails(Tensor m, Tensor kappa, Tensor w) -> (Tensor lower, Tensor upper)");
  m.def(
      "cosine_law(Tensor m, Tensor kappa, Tensor w) -> "
      "(Tensor lower, Tensor upper, Tensor density, Tensor kappa_slope)");
  m.def("cosine_quantile(Tensor m, Tensor kappa, Tensor q) -> (Tensor w, Tensor slope, Tensor kappa_slope)");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) { register_cosine<Cpu>(m); }
STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) { register_cosine<Cuda>(m); }

// ---- The divergence between two laws ----
//
// p, q and distance of one shape, m of its last dimensions or (); same: see divergence.h.

namespace {

template <class Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> vmf_divergence(const Tensor& m_, const Tensor& p_, const Tensor& q_,
                                                          const Tensor& distance_, double same) {
  const bool m_number = Device::takes_number(m_);
  const Device device(p_, q_, distance_, m_number ? p_ : m_);
  const Tensor m = in_order(m_), p = in_order(p_), q = in_order(q_), distance = in_order(distance_);
  for (const Tensor& t : {m, q, distance}) check_pair(t, p);
  STD_TORCH_CHECK(
      q.numel() == p.numel() && distance.numel() == p.numel() && p.numel() % std::max<int64_t>(m.numel(), 1) == 0,
      "expected p, q and distance of one shape and m of its last dimensions");
  std::array<Tensor, 4> result;
  for (Tensor& t : result) t = empty(p, std::vector<int64_t>(p.sizes().begin(), p.sizes().end()));
  by_dtype(p, [&]<class T>(T) {
    DivergenceCall<T> call{
        p.numel(), std::max<int64_t>(m.numel(), 1), data<T>(m), data<T>(p), data<T>(q), data<T>(distance), T(same), {}};
    for (int o = 0; o < 4; o++) call.out[o] = mutable_data<T>(result[o]);
    device.divergence(call, m_number);
  });
  return std::tuple_cat(result);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(vmf_ops, m) {
  m.def(
      "vmf_divergence(Tensor m, Tensor p, Tensor q, Tensor distance, float same) -> "
      "(Tensor kl, Tensor p_slope, Tensor q_slope, Tensor distance_slope)");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) { m.impl("vmf_divergence", TORCH_BOX(&vmf_divergence<Cpu>)); }
STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) { m.impl("vmf_divergence", TORCH_BOX(&vmf_divergence<Cuda>)); }

// ---- Sampling: one call for shells of any dimensions side by side ----
//
// Shapes, with V slices (the dimensions that vmap hides) of R rows, K shells, M = the sum of dims: loc (V or 1, L, M)
// and kappa (V or 1, L', K), L and L' divisors of R, whose rows repeat; key (V,); z (V, R, M); cosine (V, 2, K, R).
// With a key () there are no slices: z is (R, M), cosine (2, K, R), and loc and kappa hold L M and L' K numbers.
// A cosine that is not wanted, by derivatives alone, comes back empty.
// numbers: first, run and gap of the rows' numbers in the random stream (draw.h), or empty for 0, 1, ...

namespace {

// loc or kappa, contiguous: so many slices of so many rows.
struct Rows {
  Tensor values;
  int64_t slices, rows;

  Rows(const Tensor& t, bool sliced, int64_t last)
      : values(in_order(t)), slices(sliced ? t.size(0) : 1), rows(t.numel() / std::max<int64_t>(1, slices * last)) {}
};

// A call's tensors, checked to fit each other.
struct Sampler {
  const std::vector<int64_t>& dims;
  bool sliced;
  int64_t slices, rows, shells, size;
  ScalarType dtype;
  Rows loc, kappa;

  Sampler(const Tensor& loc_, const Tensor& kappa_, const std::vector<int64_t>& dims, bool sliced, int64_t slices,
          int64_t rows)
      : dims(dims),
        sliced(sliced),
        slices(slices),
        rows(rows),
        shells(int64_t(dims.size())),
        size(std::accumulate(dims.begin(), dims.end(), int64_t(0))),
        dtype(loc_.scalar_type()),
        loc(loc_, sliced, size),
        kappa(kappa_, sliced, shells) {
    check_floating(loc_);
    for (int64_t m : dims) STD_TORCH_CHECK(m >= 2, "expected ambient dimensions of at least 2, got ", m);
    auto check = [&](const Tensor& t, const Rows& r, const char* name, int64_t last) {
      STD_TORCH_CHECK(t.scalar_type() == dtype, name, " has another dtype than loc");
      STD_TORCH_CHECK((!sliced || (t.dim() == 3 && t.size(2) == last)) && (r.slices == 1 || r.slices == slices) &&
                          t.numel() == r.slices * r.rows * last && (rows == 0 || (r.rows > 0 && rows % r.rows == 0)),
                      name, " does not fit ", slices, " slices of ", rows, " rows of ", last);
    };
    check(loc_, loc, "loc", size);
    check(kappa_, kappa, "kappa", shells);
  }
  // Of the draw z.
  Sampler(const Tensor& loc, const Tensor& kappa, const std::vector<int64_t>& dims, const Tensor& z)
      : Sampler(loc, kappa, dims, z.dim() == 3, z.dim() == 3 ? z.size(0) : 1, z.dim() < 2 ? 0 : z.size(z.dim() - 2)) {}

  // A new tensor of these sizes in every slice.
  Tensor made(std::vector<int64_t> sizes) const {
    if (sliced) sizes.insert(sizes.begin(), slices);
    return empty(loc.values, sizes);
  }

  // t, contiguous, of this dtype and so many numbers.
  Tensor checked(const Tensor& t, const char* name, int64_t numel) const {
    STD_TORCH_CHECK(t.scalar_type() == dtype && t.numel() == numel, name, " does not fit the draw");
    return in_order(t);
  }
  Tensor checked_z(const Tensor& t, const char* name) const { return checked(t, name, slices * rows * size); }
  Tensor checked_cosine(const Tensor& t) const { return checked(t, "cosine", 2 * slices * rows * shells); }

  // run(the draw of T): z and cosine are written where the draw itself is asked for, and there they are ours.
  template <class F>
  void with_draw(const Tensor& cosine, const Tensor& z, F run) const {
    by_dtype(loc.values, [&]<class T>(T) {
      run(Draw<T>{slices, rows, size, dims, data<T>(loc.values), data<T>(kappa.values), loc.slices, loc.rows,
                  kappa.slices, kappa.rows, const_cast<T*>(data<T>(cosine)), const_cast<T*>(data<T>(z))});
    });
  }
};

template <class Device>
std::tuple<Tensor, Tensor> sample_vmf(const Tensor& loc, const Tensor& kappa, const std::vector<int64_t>& dims,
                                      const Tensor& key_, int64_t rows, const std::vector<int64_t>& numbers,
                                      bool with_cosine) {
  const Device device(loc, kappa, key_);
  STD_TORCH_CHECK(key_.scalar_type() == ScalarType::Long && key_.dim() <= 1, "expected the key as (slices,) int64");
  const Tensor key = in_order(key_);
  const Sampler call(loc, kappa, dims, key.dim() == 1, key.numel(), rows);
  STD_TORCH_CHECK(numbers.empty() || (numbers.size() == 3 && numbers[0] >= 0 && numbers[1] > 0 && numbers[2] >= 0),
                  "expected the numbers of rows as first >= 0, run > 0, gap >= 0");
  Tensor z = call.made({rows, call.size}), cosine = call.made({2, call.shells, rows});
  call.with_draw(cosine, z, [&]<class T>(Draw<T> draw) {
    if (!numbers.empty()) draw.numbers = {numbers[0], numbers[1], numbers[2]};
    draw.keep_cosine = with_cosine;
    device.sample(draw, data<int64_t>(key));
  });
  return {z, with_cosine ? cosine : empty(z, {0})};
}

// The gradients row by row, unsummed where loc or kappa repeat; empty where not wanted.
template <class Device>
std::tuple<Tensor, Tensor> sample_vmf_backward(const Tensor& z_grad_, const Tensor& z_, const Tensor& cosine_,
                                               const Tensor& loc, const Tensor& kappa, const std::vector<int64_t>& dims,
                                               bool implicit, bool loc_wanted, bool kappa_wanted) {
  const Device device(loc, kappa, z_, cosine_, z_grad_);
  const Sampler call(loc, kappa, dims, z_);
  const Tensor z = call.checked_z(z_, "z"), z_grad = call.checked_z(z_grad_, "the gradient"),
               cosine = call.checked_cosine(cosine_);
  auto result = [&](bool wanted, int64_t last) { return wanted ? call.made({call.rows, last}) : empty(z, {0}); };
  Tensor loc_grad = result(loc_wanted, call.size), kappa_grad = result(kappa_wanted, call.shells);
  call.with_draw(cosine, z, [&]<class T>(const Draw<T>& draw) {
    device.sample_backward(draw, implicit, data<T>(z_grad), loc_wanted ? mutable_data<T>(loc_grad) : nullptr,
                           kappa_wanted ? mutable_data<T>(kappa_grad) : nullptr);
  });
  return {loc_grad, kappa_grad};
}

// The tangent of z; loc_tangent and kappa_tangent are shaped like loc and kappa.
template <class Device>
Tensor sample_vmf_forward_ad(const Tensor& loc_tangent_, const Tensor& kappa_tangent_, const Tensor& z_,
                             const Tensor& cosine_, const Tensor& loc, const Tensor& kappa,
                             const std::vector<int64_t>& dims, bool implicit) {
  const Device device(loc, kappa, z_, cosine_, loc_tangent_, kappa_tangent_);
  const Sampler call(loc, kappa, dims, z_);
  const Tensor z = call.checked_z(z_, "z"), cosine = call.checked_cosine(cosine_),
               loc_tangent = call.checked(loc_tangent_, "the tangent of loc", loc.numel()),
               kappa_tangent = call.checked(kappa_tangent_, "the tangent of kappa", kappa.numel());
  Tensor z_tangent = call.made({call.rows, call.size});
  call.with_draw(cosine, z, [&]<class T>(const Draw<T>& draw) {
    device.sample_forward_ad(draw, implicit, data<T>(loc_tangent), data<T>(kappa_tangent), z_tangent);
  });
  return z_tangent;
}

template <class Device, class Library>
void register_sampling(Library& m) {
  m.impl("sample_vmf", TORCH_BOX(&sample_vmf<Device>));
  m.impl("sample_vmf_backward", TORCH_BOX(&sample_vmf_backward<Device>));
  m.impl("sample_vmf_forward_ad", TORCH_BOX(&sample_vmf_forward_ad<Device>));
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(vmf_ops, m) {
  m.def(
      "sample_vmf(Tensor loc, Tensor kappa, int[] dims, Tensor key, SymInt rows, int[] numbers=[], "
      "bool with_cosine=True) -> (Tensor z, Tensor cosine)");
  m.def(
      "sample_vmf_backward(Tensor z_grad, Tensor z, Tensor cosine, Tensor loc, Tensor kappa, int[] dims, "
      "bool implicit, bool loc_wanted, bool kappa_wanted) -> (Tensor loc_grad, Tensor kappa_grad)");
  m.def(
      "sample_vmf_forward_ad(Tensor loc_tangent, Tensor kappa_tangent, Tensor z, Tensor cosine, Tensor loc, "
      "Tensor kappa, int[] dims, bool implicit) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) { register_sampling<Cpu>(m); }
STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) { register_sampling<Cuda>(m); }

}  // namespace vmf_ops
