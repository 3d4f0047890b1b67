// The Python module: the loops on NumPy arrays, with no tensor made, and what the build holds.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "cpu/elementwise.h"
#include "cpu/isa.h"

namespace py = pybind11;

namespace vmf_ops {
namespace {

Elementwise loops_of(Op op) { return isa().special(op); }
Elementwise loops_of(SecondKindOp op) { return isa().second_kind(op); }

// v and x are arrays of one dtype, out a C-contiguous one of their broadcast shape: vmf_ops/numpy.py sees to that.
template <class T, class AnyOp>
void elementwise_numpy(AnyOp op, const py::array& v, const py::array& x, py::array& out) {
  auto shape_of = [](const py::array& a) { return std::vector<int64_t>(a.shape(), a.shape() + a.ndim()); };
  auto strides_of = [](const py::array& a) {
    std::vector<int64_t> steps(a.ndim());
    for (py::ssize_t d = 0; d < a.ndim(); d++) steps[d] = a.strides(d) / int64_t(sizeof(T));
    return steps;
  };
  const Broadcast shape(shape_of(v), strides_of(v), shape_of(x), strides_of(x));
  T* results[] = {static_cast<T*>(out.mutable_data())};
  const T *v_data = static_cast<const T*>(v.data()), *x_data = static_cast<const T*>(x.data());
  py::gil_scoped_release release;
  elementwise_on_cpu(shape, loops_of(op), v_data, x_data, results, 1);
}

py::dict build_info() {
  py::list compiled;
  for (const Isa& one : isas()) compiled.append(one.name);
  py::dict info;
  info["version"] = VMF_OPS_VERSION;
  info["isa"] = isa().name;
  info["isas_compiled"] = compiled;
#ifdef VMF_OPS_CUDA_ARCHS
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
  try {
    isa();
  } catch (const std::runtime_error& error) {
    throw py::import_error(error.what());
  }
  m.def("build_info", build_info);
  py::enum_<Op>(m, "Op")
      .value("log_iv", Op::log_iv)
      .value("log_ive", Op::log_ive)
      .value("ive", Op::ive)
      .value("ratio", Op::ratio)
      .value("ratio_complement", Op::ratio_complement)
      .value("kl_uniform", Op::kl_uniform)
      .value("log_f", Op::log_f)
      .value("concentration", Op::concentration);
  py::enum_<SecondKindOp>(m, "SecondKindOp")
      .value("log_kv", SecondKindOp::log_kv)
      .value("log_kve", SecondKindOp::log_kve)
      .value("kve", SecondKindOp::kve);
  m.def("elementwise_double", elementwise_numpy<double, Op>);
  m.def("elementwise_float", elementwise_numpy<float, Op>);
  m.def("elementwise_double", elementwise_numpy<double, SecondKindOp>);
  m.def("elementwise_float", elementwise_numpy<float, SecondKindOp>);
}
