// The only C++ file that knows torch and Python: schemas, checks and dispatch. LibTorch's stable ABI, so one build
// serves every torch from 2.11 on; the kernels take raw pointers.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <tuple>

#include "broadcast.h"
#include "cpu/kernels.h"
#include "cpu/sampling.h"

#ifdef VMF_OPS_CUDA
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "cuda/kernels.h"
#endif

namespace py = pybind11;

namespace vmf_ops {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// ---- The processor: which ISA's loops run ----

struct Isa {
  const char* name;
  bool supported;
  Elementwise (*special)(Op);
  Sampling (*sampling)();
};

const std::vector<Isa>& isas() {
#ifdef VMF_OPS_X86
  static const std::vector<Isa> all = {
      {"default", true, cpu_default::special, cpu_default::sampling},
      {"avx2",
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2"),
       cpu_avx2::special, cpu_avx2::sampling},
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"),
       cpu_avx512::special, cpu_avx512::sampling}};
#else
  static const std::vector<Isa> all = {{"default", true, cpu_default::special, cpu_default::sampling}};
#endif
  return all;
}

// The best supported ISA, or the one that VMF_OPS_ISA names.
const Isa& choose_isa() {
  const char* wanted = std::getenv("VMF_OPS_ISA");
  const Isa* best = nullptr;
  std::string names;
  for (const Isa& isa : isas()) {
    if (wanted && *wanted) {
      if (isa.name == std::string(wanted)) {
        if (!isa.supported) throw py::import_error("VMF_OPS_ISA=" + std::string(wanted) + ": this processor lacks it");
        return isa;
      }
    } else if (isa.supported) {
      best = &isa;
    }
    names += std::string(names.empty() ? "" : ", ") + isa.name;
  }
  if (!best) throw py::import_error("VMF_OPS_ISA must be one of " + names + ", not '" + wanted + "'");
  return *best;
}

const Isa* isa = nullptr;  // set when the module is imported, before any op can run

// ---- Element-wise ops of (v, x) ----

constexpr int64_t grain = 2048;  // elements a thread takes at least, some 50 us of work

template <class T>
void run_elementwise(const Broadcast& shape, ElementwiseLoop<T>* loop, const void* v, const void* x, T* const* out,
                     int outputs) {
  torch::stable::parallel_for(0, shape.numel, grain, [&](int64_t begin, int64_t end) {
    run_broadcast(shape, loop, static_cast<const T*>(v), static_cast<const T*>(x), out, outputs, begin, end);
  });
}

void check_elementwise(const Tensor& v, const Tensor& x) {
  const ScalarType dtype = x.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Double || dtype == ScalarType::Float, "expected float32 or float64, got ",
                  torch::headeronly::toString(dtype));
  STD_TORCH_CHECK(v.scalar_type() == dtype, "expected one dtype, got ", torch::headeronly::toString(v.scalar_type()),
                  " and ", torch::headeronly::toString(dtype));
}

#ifdef VMF_OPS_CUDA
std::string device_name(const Tensor& t) {
  return t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : t.is_cpu() ? "cpu" : "another device";
}

// Its tensors' device is the current one for as long as this lives; they must be on one.
class CudaCall {
 public:
  template <class... Others>
  explicit CudaCall(const Tensor& first, const Others&... others)
      : guard_((check(first, others), ..., first.get_device_index())), device_(first.get_device_index()) {}

  cuda::Stream stream() const {
    // libtorch_cuda is there where CUDA tensors are, but must not be linked to: a CPU build of torch lacks it. (From
    // torch 2.13 on the stable ABI has it as torch::stable::accelerator::Stream::nativeHandle.)
    using Get = AOTITorchError(int32_t device, void** stream);
    static Get* const get = [] {
      void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
      return library ? reinterpret_cast<Get*>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
    }();
    STD_TORCH_CHECK(get, "this build of torch does not tell its current CUDA stream");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(get(device_, &stream));
    return static_cast<cuda::Stream>(stream);
  }

 private:
  static void check(const Tensor& a, const Tensor& b) {
    STD_TORCH_CHECK(a.is_cuda() && b.is_cuda() && a.get_device_index() == b.get_device_index(),
                    "Expected all tensors to be on the same device, but found at least two devices, ", device_name(a),
                    " and ", device_name(b), "!");
  }
  torch::stable::accelerator::DeviceGuard guard_;
  int32_t device_;
};
#endif

// Where ops run.
struct Cpu {
  template <class T>
  static void elementwise(Op op, const Broadcast& shape, const Tensor& v, const Tensor& x, T* const* out, int outputs) {
    const Elementwise kernel = isa->special(op);
    ElementwiseLoop<T>* loop;
    if constexpr (sizeof(T) == 8)
      loop = kernel.in_double;
    else
      loop = kernel.in_float;
    run_elementwise<T>(shape, loop, v.const_data_ptr(), x.const_data_ptr(), out, outputs);
  }
};

#ifdef VMF_OPS_CUDA
struct Cuda {
  template <class T>
  static void elementwise(Op op, const Broadcast& shape, const Tensor& v, const Tensor& x, T* const* out, int) {
    const CudaCall call(x, v);
    cuda::elementwise(op, shape, static_cast<const T*>(v.const_data_ptr()), static_cast<const T*>(x.const_data_ptr()),
                      out, call.stream());
  }
};
#endif

template <class Device, int outputs>
std::array<Tensor, outputs> elementwise(Op op, const Tensor& v, const Tensor& x) {
  check_elementwise(v, x);
  const Broadcast shape(v.sizes(), v.strides(), x.sizes(), x.strides());
  std::array<Tensor, outputs> result;
  for (Tensor& t : result) t = torch::stable::new_empty(x, shape.sizes);
  auto run = [&]<class T>(T) {
    T* out[outputs];
    for (int o = 0; o < outputs; o++) out[o] = static_cast<T*>(result[o].mutable_data_ptr());
    Device::template elementwise<T>(op, shape, v, x, out, outputs);
  };
  if (x.scalar_type() == ScalarType::Double)
    run(double());
  else
    run(float());
  return result;
}

template <class Device, Op op>
Tensor value(const Tensor& v, const Tensor& x) {
  return elementwise<Device, 1>(op, v, x)[0];
}
template <class Device, Op op>
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
  m.impl("kl_uniform", TORCH_BOX((&value<Device, Op::kl_uniform>)));
  m.impl("kl_uniform_with_slope", TORCH_BOX((&value_and_slope<Device, Op::kl_uniform_with_slope>)));
  m.impl("log_f", TORCH_BOX((&value<Device, Op::log_f>)));
  m.impl("log_f_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_f_with_slope>)));
  m.impl("log_peak", TORCH_BOX((&value<Device, Op::log_peak>)));
  m.impl("log_peak_with_slope", TORCH_BOX((&value_and_slope<Device, Op::log_peak_with_slope>)));
  m.impl("concentration", TORCH_BOX((&value<Device, Op::concentration>)));
}

}  // namespace

STABLE_TORCH_LIBRARY(vmf_ops, m) {
  for (const char* name :
       {"log_iv", "log_ive", "ive", "ratio", "ratio_complement", "kl_uniform", "log_f", "log_peak"}) {
    m.def((std::string(name) + "(Tensor v, Tensor x) -> Tensor").c_str());
    m.def((std::string(name) + "_with_slope(Tensor v, Tensor x) -> (Tensor, Tensor)").c_str());
  }
  for (const char* name : {"log_iv_order_slope", "ratio_slope", "ratio_curvature", "concentration"})
    m.def((std::string(name) + "(Tensor v, Tensor x) -> Tensor").c_str());
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) { register_elementwise<Cpu>(m); }
#ifdef VMF_OPS_CUDA
STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) { register_elementwise<Cuda>(m); }
#endif

// ---- Sampling: one call for shells of any dimensions side by side ----
//
// Shapes, with V slices (the dimensions that vmap hides) of R rows, K shells, M = the sum of dims: loc (V or 1, L, M)
// and kappa (V or 1, L', K), L and L' divisors of R, whose rows repeat; key (V,); z (V, R, M); cosine (V, 2, K, R).

namespace {

struct SamplingShape {
  int64_t slices, rows, shells, size;
};

SamplingShape check_sampling(const Tensor& loc, const Tensor& kappa, const std::vector<int64_t>& dims, int64_t slices,
                             int64_t rows) {
  const SamplingShape shape{slices, rows, int64_t(dims.size()), std::accumulate(dims.begin(), dims.end(), int64_t(0))};
  const ScalarType dtype = loc.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Double || dtype == ScalarType::Float, "expected float32 or float64, got ",
                  torch::headeronly::toString(dtype));
  for (int64_t m : dims) STD_TORCH_CHECK(m >= 2, "expected ambient dimensions of at least 2, got ", m);
  auto check = [&](const Tensor& t, const char* name, int64_t last) {
    STD_TORCH_CHECK(t.scalar_type() == dtype, name, " has another dtype than loc");
    STD_TORCH_CHECK(t.dim() == 3 && (t.size(0) == 1 || t.size(0) == slices) && t.size(2) == last &&
                        (rows == 0 || (t.size(1) > 0 && rows % t.size(1) == 0)),
                    name, " does not fit ", slices, " slices of ", rows, " rows of ", last);
  };
  check(loc, "loc", shape.size);
  check(kappa, "kappa", shape.shells);
  return shape;
}

void check_sized(const Tensor& t, const char* name, const Tensor& like, int64_t numel) {
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type() && t.numel() == numel, name, " does not fit the draw");
}

// body(slice number, first row, last row) over all rows of all slices, some 50 us of work or more at a time.
template <class F>
void for_rows(const SamplingShape& shape, F body) {
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(shape.size, 1));
  torch::stable::parallel_for(0, shape.slices * shape.rows, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t slice = begin / shape.rows, stop = std::min(end, (slice + 1) * shape.rows);
      body(slice, begin - slice * shape.rows, stop - slice * shape.rows);
      begin = stop;
    }
  });
}

template <class T>
const T* slice_data(const Tensor& t, int64_t slice) {
  return static_cast<const T*>(t.const_data_ptr()) + (t.size(0) == 1 ? 0 : slice * t.size(1) * t.size(2));
}

template <class T>
SamplingSlice<T> sampling_slice(const SamplingShape& shape, const std::vector<int64_t>& dims, const Tensor& loc,
                                const Tensor& kappa, const void* cosine, const void* z, int64_t slice) {
  // The kernels write z and cosine in the draw alone, where they are ours.
  T* cosine_data = static_cast<T*>(const_cast<void*>(cosine)) + slice * 2 * shape.shells * shape.rows;
  T* z_data = static_cast<T*>(const_cast<void*>(z)) + slice * shape.rows * shape.size;
  return {shape.rows,
          shape.shells,
          shape.size,
          dims.data(),
          slice_data<T>(loc, slice),
          loc.size(1),
          slice_data<T>(kappa, slice),
          kappa.size(1),
          cosine_data,
          z_data};
}

template <class F>
void by_dtype(const Tensor& t, F run) {
  const Sampling loops = isa->sampling();
  if (t.scalar_type() == ScalarType::Double)
    run(loops.in_double);
  else
    run(loops.in_float);
}

std::tuple<Tensor, Tensor> sample_vmf_cpu(const Tensor& loc_, const Tensor& kappa_, const std::vector<int64_t>& dims,
                                          const Tensor& key_, int64_t rows) {
  const Tensor loc = torch::stable::contiguous(loc_), kappa = torch::stable::contiguous(kappa_),
               key = torch::stable::contiguous(key_);
  STD_TORCH_CHECK(key.scalar_type() == ScalarType::Long && key.dim() == 1, "expected the key as (slices,) int64");
  const SamplingShape shape = check_sampling(loc, kappa, dims, key.size(0), rows);
  Tensor z = torch::stable::new_empty(loc, {shape.slices, shape.rows, shape.size});
  Tensor cosine = torch::stable::new_empty(loc, {shape.slices, 2, shape.shells, shape.rows});
  by_dtype(loc, [&]<class T>(SamplingLoops<T> loops) {
    for_rows(shape, [&](int64_t slice, int64_t begin, int64_t end) {
      const uint64_t bits = static_cast<const int64_t*>(key.const_data_ptr())[slice];
      loops.sample(sampling_slice<T>(shape, dims, loc, kappa, cosine.const_data_ptr(), z.const_data_ptr(), slice),
                   {uint32_t(bits), uint32_t(bits >> 32)}, begin, end);
    });
  });
  return {z, cosine};
}

// The gradients row by row, unsummed where loc or kappa repeat; empty where not wanted.
std::tuple<Tensor, Tensor> sample_vmf_backward_cpu(const Tensor& z_grad_, const Tensor& z_, const Tensor& cosine_,
                                                   const Tensor& loc_, const Tensor& kappa_,
                                                   const std::vector<int64_t>& dims, bool implicit, bool loc_wanted,
                                                   bool kappa_wanted) {
  const Tensor z_grad = torch::stable::contiguous(z_grad_), z = torch::stable::contiguous(z_),
               cosine = torch::stable::contiguous(cosine_), loc = torch::stable::contiguous(loc_),
               kappa = torch::stable::contiguous(kappa_);
  const SamplingShape shape = check_sampling(loc, kappa, dims, z.size(0), z.size(1));
  check_sized(z, "z", loc, shape.slices * shape.rows * shape.size);
  check_sized(z_grad, "the gradient", loc, z.numel());
  check_sized(cosine, "cosine", loc, 2 * shape.slices * shape.rows * shape.shells);
  auto result = [&](bool wanted, int64_t last) {
    return wanted ? torch::stable::new_empty(loc, {shape.slices, shape.rows, last})
                  : torch::stable::new_empty(loc, {0});
  };
  Tensor loc_grad = result(loc_wanted, shape.size), kappa_grad = result(kappa_wanted, shape.shells);
  by_dtype(loc, [&]<class T>(SamplingLoops<T> loops) {
    for_rows(shape, [&](int64_t slice, int64_t begin, int64_t end) {
      const int64_t at = slice * shape.rows;
      SamplingGradient<T> gradient{};
      gradient.z_grad = static_cast<const T*>(z_grad.const_data_ptr()) + at * shape.size;
      if (loc_wanted) gradient.loc_grad = static_cast<T*>(loc_grad.mutable_data_ptr()) + at * shape.size;
      if (kappa_wanted) gradient.kappa_grad = static_cast<T*>(kappa_grad.mutable_data_ptr()) + at * shape.shells;
      gradient.implicit = implicit;
      loops.backward(sampling_slice<T>(shape, dims, loc, kappa, cosine.const_data_ptr(), z.const_data_ptr(), slice),
                     gradient, begin, end);
    });
  });
  return {loc_grad, kappa_grad};
}

// The tangent of z; loc_tangent and kappa_tangent are shaped like loc and kappa.
Tensor sample_vmf_forward_ad_cpu(const Tensor& loc_tangent_, const Tensor& kappa_tangent_, const Tensor& z_,
                                 const Tensor& cosine_, const Tensor& loc_, const Tensor& kappa_,
                                 const std::vector<int64_t>& dims, bool implicit) {
  const Tensor loc_tangent = torch::stable::contiguous(loc_tangent_),
               kappa_tangent = torch::stable::contiguous(kappa_tangent_), z = torch::stable::contiguous(z_),
               cosine = torch::stable::contiguous(cosine_), loc = torch::stable::contiguous(loc_),
               kappa = torch::stable::contiguous(kappa_);
  const SamplingShape shape = check_sampling(loc, kappa, dims, z.size(0), z.size(1));
  check_sized(z, "z", loc, shape.slices * shape.rows * shape.size);
  check_sized(cosine, "cosine", loc, 2 * shape.slices * shape.rows * shape.shells);
  check_sized(loc_tangent, "the tangent of loc", loc, loc.numel());
  check_sized(kappa_tangent, "the tangent of kappa", loc, kappa.numel());
  Tensor z_tangent = torch::stable::empty_like(z);
  by_dtype(loc, [&]<class T>(SamplingLoops<T> loops) {
    for_rows(shape, [&](int64_t slice, int64_t begin, int64_t end) {
      SamplingGradient<T> gradient{};
      gradient.loc_tangent = slice_data<T>(loc_tangent, slice);
      gradient.kappa_tangent = slice_data<T>(kappa_tangent, slice);
      gradient.z_tangent = static_cast<T*>(z_tangent.mutable_data_ptr()) + slice * shape.rows * shape.size;
      gradient.implicit = implicit;
      loops.forward_ad(sampling_slice<T>(shape, dims, loc, kappa, cosine.const_data_ptr(), z.const_data_ptr(), slice),
                       gradient, begin, end);
    });
  });
  return z_tangent;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(vmf_ops, m) {
  m.def("sample_vmf(Tensor loc, Tensor kappa, int[] dims, Tensor key, SymInt rows) -> (Tensor z, Tensor cosine)");
  m.def(
      "sample_vmf_backward(Tensor z_grad, Tensor z, Tensor cosine, Tensor loc, Tensor kappa, int[] dims, bool "
      "implicit, "
      "bool loc_wanted, bool kappa_wanted) -> (Tensor loc_grad, Tensor kappa_grad)");
  m.def(
      "sample_vmf_forward_ad(Tensor loc_tangent, Tensor kappa_tangent, Tensor z, Tensor cosine, Tensor loc, "
      "Tensor kappa, int[] dims, bool implicit) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CPU, m) {
  m.impl("sample_vmf", TORCH_BOX(&sample_vmf_cpu));
  m.impl("sample_vmf_backward", TORCH_BOX(&sample_vmf_backward_cpu));
  m.impl("sample_vmf_forward_ad", TORCH_BOX(&sample_vmf_forward_ad_cpu));
}

#ifdef VMF_OPS_CUDA
namespace {

template <class T>
cuda::Draw<T> cuda_draw(const SamplingShape& shape, const std::vector<int64_t>& dims, const Tensor& loc,
                        const Tensor& kappa, const Tensor& cosine, const Tensor& z) {
  return {shape.slices, shape.rows, shape.size, dims, static_cast<const T*>(loc.const_data_ptr()),
          static_cast<const T*>(kappa.const_data_ptr()), loc.size(0), loc.size(1), kappa.size(0), kappa.size(1),
          // Written by the draw alone, where they are ours.
          static_cast<T*>(const_cast<void*>(cosine.const_data_ptr())),
          static_cast<T*>(const_cast<void*>(z.const_data_ptr()))};
}

template <class F>
void by_scalar(const Tensor& t, F run) {
  if (t.scalar_type() == ScalarType::Double)
    run(double());
  else
    run(float());
}

std::tuple<Tensor, Tensor> sample_vmf_cuda(const Tensor& loc_, const Tensor& kappa_, const std::vector<int64_t>& dims,
                                           const Tensor& key_, int64_t rows) {
  const CudaCall call(loc_, kappa_, key_);
  const Tensor loc = torch::stable::contiguous(loc_), kappa = torch::stable::contiguous(kappa_),
               key = torch::stable::contiguous(key_);
  STD_TORCH_CHECK(key.scalar_type() == ScalarType::Long && key.dim() == 1, "expected the key as (slices,) int64");
  const SamplingShape shape = check_sampling(loc, kappa, dims, key.size(0), rows);
  Tensor z = torch::stable::new_empty(loc, {shape.slices, shape.rows, shape.size});
  Tensor cosine = torch::stable::new_empty(loc, {shape.slices, 2, shape.shells, shape.rows});
  by_scalar(loc, [&]<class T>(T) {
    cuda::sample(cuda_draw<T>(shape, dims, loc, kappa, cosine, z), static_cast<const int64_t*>(key.const_data_ptr()),
                 call.stream());
  });
  return {z, cosine};
}

std::tuple<Tensor, Tensor> sample_vmf_backward_cuda(const Tensor& z_grad_, const Tensor& z_, const Tensor& cosine_,
                                                    const Tensor& loc_, const Tensor& kappa_,
                                                    const std::vector<int64_t>& dims, bool implicit, bool loc_wanted,
                                                    bool kappa_wanted) {
  const CudaCall call(loc_, kappa_, z_, cosine_, z_grad_);
  const Tensor z_grad = torch::stable::contiguous(z_grad_), z = torch::stable::contiguous(z_),
               cosine = torch::stable::contiguous(cosine_), loc = torch::stable::contiguous(loc_),
               kappa = torch::stable::contiguous(kappa_);
  const SamplingShape shape = check_sampling(loc, kappa, dims, z.size(0), z.size(1));
  check_sized(z, "z", loc, shape.slices * shape.rows * shape.size);
  check_sized(z_grad, "the gradient", loc, z.numel());
  check_sized(cosine, "cosine", loc, 2 * shape.slices * shape.rows * shape.shells);
  auto result = [&](bool wanted, int64_t last) {
    return wanted ? torch::stable::new_empty(loc, {shape.slices, shape.rows, last})
                  : torch::stable::new_empty(loc, {0});
  };
  Tensor loc_grad = result(loc_wanted, shape.size), kappa_grad = result(kappa_wanted, shape.shells);
  by_scalar(loc, [&]<class T>(T) {
    cuda::sample_backward(cuda_draw<T>(shape, dims, loc, kappa, cosine, z), implicit,
                          static_cast<const T*>(z_grad.const_data_ptr()),
                          loc_wanted ? static_cast<T*>(loc_grad.mutable_data_ptr()) : nullptr,
                          kappa_wanted ? static_cast<T*>(kappa_grad.mutable_data_ptr()) : nullptr, call.stream());
  });
  return {loc_grad, kappa_grad};
}

Tensor sample_vmf_forward_ad_cuda(const Tensor& loc_tangent_, const Tensor& kappa_tangent_, const Tensor& z_,
                                  const Tensor& cosine_, const Tensor& loc_, const Tensor& kappa_,
                                  const std::vector<int64_t>& dims, bool implicit) {
  const CudaCall call(loc_, kappa_, z_, cosine_, loc_tangent_, kappa_tangent_);
  const Tensor loc_tangent = torch::stable::contiguous(loc_tangent_),
               kappa_tangent = torch::stable::contiguous(kappa_tangent_), z = torch::stable::contiguous(z_),
               cosine = torch::stable::contiguous(cosine_), loc = torch::stable::contiguous(loc_),
               kappa = torch::stable::contiguous(kappa_);
  const SamplingShape shape = check_sampling(loc, kappa, dims, z.size(0), z.size(1));
  check_sized(z, "z", loc, shape.slices * shape.rows * shape.size);
  check_sized(cosine, "cosine", loc, 2 * shape.slices * shape.rows * shape.shells);
  check_sized(loc_tangent, "the tangent of loc", loc, loc.numel());
  check_sized(kappa_tangent, "the tangent of kappa", loc, kappa.numel());
  Tensor z_tangent = torch::stable::empty_like(z);
  Tensor psi = torch::stable::new_empty(loc, {shape.slices, shape.rows, shape.shells});
  by_scalar(loc, [&]<class T>(T) {
    cuda::sample_forward_ad(
        cuda_draw<T>(shape, dims, loc, kappa, cosine, z), implicit, static_cast<const T*>(loc_tangent.const_data_ptr()),
        static_cast<const T*>(kappa_tangent.const_data_ptr()), static_cast<T*>(psi.mutable_data_ptr()),
        static_cast<T*>(z_tangent.mutable_data_ptr()), call.stream());
  });
  return z_tangent;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(vmf_ops, CUDA, m) {
  m.impl("sample_vmf", TORCH_BOX(&sample_vmf_cuda));
  m.impl("sample_vmf_backward", TORCH_BOX(&sample_vmf_backward_cuda));
  m.impl("sample_vmf_forward_ad", TORCH_BOX(&sample_vmf_forward_ad_cuda));
}
#endif

// ---- NumPy: the same loops, no tensor made ----

namespace {

// v and x are arrays of one dtype, out a C-contiguous one of their broadcast shape: vmf_ops/numpy.py sees to that.
template <class T>
void elementwise_numpy(Op op, const py::array& v, const py::array& x, py::array& out) {
  auto shape_of = [](const py::array& a) { return std::vector<int64_t>(a.shape(), a.shape() + a.ndim()); };
  auto strides_of = [](const py::array& a) {
    std::vector<int64_t> steps(a.ndim());
    for (py::ssize_t d = 0; d < a.ndim(); d++) steps[d] = a.strides(d) / int64_t(sizeof(T));
    return steps;
  };
  const Broadcast shape(shape_of(v), strides_of(v), shape_of(x), strides_of(x));
  const Elementwise kernel = isa->special(op);
  T* results[] = {static_cast<T*>(out.mutable_data())};
  const void *v_data = v.data(), *x_data = x.data();
  py::gil_scoped_release release;
  if constexpr (sizeof(T) == 8)
    run_elementwise<T>(shape, kernel.in_double, v_data, x_data, results, 1);
  else
    run_elementwise<T>(shape, kernel.in_float, v_data, x_data, results, 1);
}

py::dict build_info() {
  py::list compiled;
  for (const Isa& one : isas()) compiled.append(one.name);
  py::dict info;
  info["version"] = VMF_OPS_VERSION;
  info["isa"] = isa->name;
  info["isas_compiled"] = compiled;
#ifdef VMF_OPS_CUDA
  info["cuda"] = true;
  info["cuda_archs"] = VMF_OPS_CUDA_ARCHS;
#else
  info["cuda"] = false;
  info["cuda_archs"] = "";
#endif
  return info;
}

}  // namespace
}  // namespace vmf_ops

PYBIND11_MODULE(_C, m) {
  using namespace vmf_ops;
  isa = &choose_isa();
  m.def("build_info", build_info);
  py::enum_<Op>(m, "Op")
      .value("log_iv", Op::log_iv)
      .value("log_ive", Op::log_ive)
      .value("ive", Op::ive)
      .value("ratio", Op::ratio)
      .value("ratio_complement", Op::ratio_complement);
  m.def("elementwise_double", elementwise_numpy<double>);
  m.def("elementwise_float", elementwise_numpy<float>);
}
