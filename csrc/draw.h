// A call of the sampler, as the CPU's loops and the CUDA launchers take it.
#pragma once

#include <cstdint>
#include <span>

namespace vmf_ops {

// The numbers of rows in the random stream: row r has first + r + (r / run) gap, so that a process with a part of a larger
// draw, every run of rows a gap from the next, draws what the whole draw has there.
struct RowNumbers {
  int64_t first = 0, run = INT64_MAX, gap = 0;
};

// A draw of `rows` rows of shells side by side in each of `slices` slices. loc (1 or slices, loc_rows, size) and kappa
// (1 or slices, kappa_rows, shells) repeat along rows and slices; loc_rows and kappa_rows are divisors of rows.
template <class T>
struct Draw {
  int64_t slices, rows, size;  // size: the sum of dims
  std::span<const int64_t> dims;
  const T *loc, *kappa;
  int64_t loc_slices, loc_rows, kappa_slices, kappa_rows;
  T* cosine;  // (slices, 2, shells, rows): 1-w, then 1+w
  T* z;       // (slices, rows, size)
  RowNumbers numbers = {};
  bool keep_cosine = true;  // else it is room to work in, written where that is needed alone

  int64_t shells() const { return int64_t(dims.size()); }
  int64_t loc_start(int64_t slice) const { return loc_slices == 1 ? 0 : slice * loc_rows * size; }
  int64_t kappa_start(int64_t slice) const { return kappa_slices == 1 ? 0 : slice * kappa_rows * shells(); }

  // One slice alone.
  Draw slice(int64_t at) const {
    Draw one = *this;
    one.slices = one.loc_slices = one.kappa_slices = 1;
    one.loc += loc_start(at), one.kappa += kappa_start(at);
    one.cosine += at * 2 * shells() * rows, one.z += at * rows * size;
    return one;
  }
};

}  // namespace vmf_ops
