// Calls the ops from a program without Python: by name, and from an AOTInductor package of log_iv and sample_vmf.
// Arguments: libvmf_ops, the package. Prints log_iv and a draw of each, one number a line.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>

using at::Tensor;

template <class Signature>
auto op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

void show(const Tensor& t) {
  const Tensor numbers = t.to(at::kDouble).contiguous();
  for (int64_t i = 0; i < numbers.numel(); i++) std::printf("%.17g\n", numbers.const_data_ptr<double>()[i]);
}

int main(int, char** argv) {
  if (!dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL)) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  const Tensor v = at::linspace(0, 40, 5), x = at::linspace(0.5, 90, 5);
  const Tensor loc = at::eye(5).index_select(0, at::tensor({0, 3})).sum(0).repeat({3, 1}),
               kappa = at::full({3, 2}, 4.0);
  const std::vector<int64_t> dims = {3, 2};
  show(op<Tensor(const Tensor&, const Tensor&)>("vmf_ops::log_iv").call(v, x));
  using Sample = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, at::IntArrayRef, const Tensor&, c10::SymInt,
                                            at::IntArrayRef, bool);
  const Tensor key = at::full({1}, 123, at::kLong);
  const auto [z, cosine] =
      op<Sample>("vmf_ops::sample_vmf").call(loc.unsqueeze(0), kappa.unsqueeze(0), dims, key, 3, {}, false);
  show(z);
  torch::inductor::AOTIModelPackageLoader model(argv[2]);
  for (const Tensor& result : model.run({v, x, loc, kappa})) show(result);
}
