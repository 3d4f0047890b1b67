// The kernels of the sampler. A draw is two launches: a thread for each cosine, which a rejection may hold up, and for
// each tangent as many neighbouring threads as make its normals from a few Philox indices each, up to a warp.
// Derivatives are two as well: psi by a thread, the dot products by the threads of a row.
#include "../math/psi.h"
#include "../math/sampling.h"
#include "indexing.h"
#include "kernels.h"
#include "launch.cuh"

namespace vmf_ops {
namespace cuda {
namespace {

inline constexpr int block_warps = block_threads / warp_threads;
inline constexpr unsigned all_lanes = 0xffffffff;

// Draw, without its dims, by value to the kernels.
template <class T>
struct Call {
  int64_t slices, rows, shells, size;
  const T *loc, *kappa;
  int64_t loc_slices, loc_rows, kappa_slices, kappa_rows;
  T *cosine, *z;

  explicit Call(const Draw<T>& d)
      : slices(d.slices),
        rows(d.rows),
        shells(d.shells()),
        size(d.size),
        loc(d.loc),
        kappa(d.kappa),
        loc_slices(d.loc_slices),
        loc_rows(d.loc_rows),
        kappa_slices(d.kappa_slices),
        kappa_rows(d.kappa_rows),
        cosine(d.cosine),
        z(d.z) {}

  // Of a row counted through all slices.
  struct Row {
    int64_t slice, row;
  };
  __device__ Row split(int64_t at) const {
    if (slices == 1) return {0, at};
    return {at / rows, at % rows};
  }
  __device__ int64_t loc_at(Row at) const {
    const int64_t row = loc_rows == rows ? at.row : at.row % loc_rows;
    return ((loc_slices == 1 ? 0 : at.slice * loc_rows) + row) * size;
  }
  __device__ int64_t kappa_at(Row at) const {
    const int64_t row = kappa_rows == rows ? at.row : at.row % kappa_rows;
    return ((kappa_slices == 1 ? 0 : at.slice * kappa_rows) + row) * shells;
  }
  __device__ int64_t cosine_at(Row at, int shell) const { return (at.slice * 2 * shells + shell) * rows + at.row; }
  __device__ T kappa_of(Row at, int shell) const {
    const T value = kappa[kappa_at(at) + shell];
    return value >= T(0) ? value : not_a_number<T>();
  }
  __device__ Cosine<T> cosine_of(Row at, int shell) const {
    const T* d = cosine + cosine_at(at, shell);
    return {d[0], d[shells * rows]};
  }
};

// The sum over the `lanes` threads of a row, in every one of them.
template <class T>
__device__ __forceinline__ T row_sum(T value, int lanes) {
  for (int step = 1; step < lanes; step *= 2) value += __shfl_xor_sync(all_lanes, value, step);
  return value;
}

// ---- The draw ----

template <bool circle, class T>
__device__ Proposal<T> accepted(T n, T kappa, Key key, uint32_t row, uint32_t row_high, uint32_t shell) {
  const auto e = envelope(n, kappa);
  Proposal<T> proposal;
#pragma unroll 1
  for (uint32_t attempt = 0; attempt < proposal_limit; attempt++) {
    proposal = propose<circle>(n, e, key, row, row_high, shell, attempt);
    if (!proposal.rejected) break;
  }
  return proposal;
}

__device__ Key key_of(const int64_t* key, int64_t slice) {
  const uint64_t bits = key[slice];
  return {uint32_t(bits), uint32_t(bits >> 32)};
}

// The cosines of all shells, and the whole draw where m <= 3.
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    draw_cosines(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, const int64_t* keys) {
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  if (place.row >= shells.rows) return;
  const int64_t m = shells.m[place.shell], offset = shells.offset[place.shell];
  const int shell = shells.number[place.shell];
  const auto at = call.split(place.row);
  const Key key = key_of(keys, at.slice);
  const uint32_t row = uint32_t(at.row), row_high = uint32_t(at.row >> 32);
  const T kappa = call.kappa_of(at, shell);
  auto mean = [&] { return call.loc + call.loc_at(at) + offset; };
  T* z = call.z + place.row * call.size + offset;
  Cosine<T> cosine;
  if (m == 3) {
    const T* mu = mean();
    const Uniforms<T> u(philox(key, counter(row, row_high, uint32_t(shell), Purpose::proposal, 0u)));
    cosine = inverse_cosine(kappa, u.unit(0));
    const auto p = sphere_draw<T>({mu[0], mu[1], mu[2]}, cosine, u.half_turn(1), u.flip(1));
    z[0] = p.x, z[1] = p.y, z[2] = p.z;
  } else if (m == 2) {
    const auto proposal = accepted<true>(T(1), kappa, key, row, row_high, uint32_t(shell));
    cosine = proposal.cosine;
    const T* mu = mean();
    const auto p = circle_draw<T>({mu[0], mu[1]}, cosine, proposal.side);
    z[0] = p.x, z[1] = p.y;
  } else {
    cosine = accepted<false>(T(m - 1), kappa, key, row, row_high, uint32_t(shell)).cosine;
  }
  T* out = call.cosine + call.cosine_at(at, shell);
  out[0] = cosine.d;
  out[call.shells * call.rows] = cosine.c;
}

// The Philox indices that a thread of a row takes at most where it holds its components in registers: of a short shell,
// where few threads to a row leave few of them idle, and of a long one of up to longest_held.
inline constexpr int thread_indices = 4;
template <class T>
inline constexpr int longest_held = warp_threads * thread_indices * Uniforms<T>::count;

inline int tangent_lanes(int64_t m, int per_index) {
  return m <= 3 ? 0 : long_shell(m) ? warp_threads : row_lanes(m, thread_indices * per_index);
}

// The numbers of a warp's room in shared memory, for short shells and for the longest; longer rows are made in place.
template <class T>
inline constexpr int short_room = warp_threads * thread_indices * Uniforms<T>::count;
template <class T>
inline constexpr int longest_room = 48 * 1024 / block_warps / int(sizeof(T));

// The warp's rows of a short shell from its room, in the order of memory: a walk of a warp's steps over the rows.
template <class T>
__device__ void write_rows(const T* room, int rows, int m, T* z, int64_t row_size) {
  const int lane = threadIdx.x % warp_threads;
  const int64_t gap = row_size - m;
  if (gap == 0) {
    for (int e = lane; e < rows * m; e += warp_threads) z[e] = room[e];
    return;
  }
  const int row = small_quotient(lane, m), down = small_quotient(warp_threads, m);
  const int64_t step = warp_threads + down * gap;
  int column = lane - row * m;
  z += lane + row * gap;
  for (int e = lane; e < rows * m; e += warp_threads) {
    *z = room[e];
    z += step, column += warp_threads - down * m;
    if (column >= m) z += gap, column -= m;
  }
}

// A row whose components the threads hold in registers: its Philox indices go round the threads, `indices` to each.
template <bool is_long, int indices, class T>
__device__ void draw_held(const Shells& shells, const Call<T>& call, const int64_t* keys, Shells::Place place,
                          T* room) {
  constexpr int count = Uniforms<T>::count;
  const int m = int(shells.m[place.shell]), shell = shells.number[place.shell];
  const int lanes = is_long ? warp_threads : shells.lanes[place.shell];
  const int64_t offset = shells.offset[place.shell];
  // Threads behind the last row take part in the sums all the same.
  const auto at = call.split(place.row < shells.rows ? place.row : shells.rows - 1);
  const T* mu = call.loc + call.loc_at(at) + offset;
  const Key key = key_of(keys, at.slice);
  const auto [d, c] = call.cosine_of(at, shell);
  // visit(component, k, i) for number i of the thread's k-th index; components from m on are there as zeros.
  auto each = [&](auto visit) {
#pragma unroll
    for (int k = 0; k < indices; k++)
#pragma unroll
      for (int i = 0; i < count; i++)
        visit(is_long ? int(LongShell<count>::component(k, place.lane, i)) : (k * lanes + place.lane) * count + i, k,
              i);
  };
  T mean[indices][count], t[indices][count], along = T(0), again = T(0), square = T(0);
  each([&](int j, int k, int i) { mean[k][i] = j < m ? mu[j] : T(0); });
  Words<uint32_t> words[indices];
#pragma unroll
  for (int k = 0; k < indices; k++)
    words[k] =
        tangent_counter(uint32_t(at.row), uint32_t(at.row >> 32), uint32_t(shell), uint32_t(k * lanes + place.lane));
  philox(key, words);
#pragma unroll
  for (int k = 0; k < indices; k++) {
#pragma unroll
    for (int i = 0; i < count; i += 2) {
      const auto [a, b] = box_muller(Uniforms<T>(words[k]), i);
      t[k][i] = a, t[k][i + 1] = b;
    }
  }
  each([&](int j, int k, int i) {
    t[k][i] = j < m ? t[k][i] : T(0);
    along = fma(t[k][i], mean[k][i], along);
  });
  along = row_sum(along, lanes);
  each([&](int, int k, int i) {
    t[k][i] -= along * mean[k][i];
    again = fma(t[k][i], mean[k][i], again);
  });
  again = row_sum(again, lanes);
  each([&](int, int k, int i) {
    t[k][i] -= again * mean[k][i];
    square = fma(t[k][i], t[k][i], square);
  });
  square = row_sum(square, lanes);
  const T w = T(1) - d, s = root(quotient(d * c, square));
  const int row_in_warp = is_long ? 0 : threadIdx.x % warp_threads >> shells.lane_bits[place.shell];
  const int64_t first = place.row - row_in_warp, left = shells.rows - first;
  T* z = call.z + first * call.size + offset;
  T* out = is_long ? z : room + row_in_warp * m;
  if (is_long && left <= 0) return;
  each([&](int j, int k, int i) {
    if (j < m) out[j] = fma(s, t[k][i], w * mean[k][i]);
  });
  if (is_long) return;
  __syncwarp();
  const int rows = warp_threads >> shells.lane_bits[place.shell];
  write_rows(room, left < rows ? int(left) : rows, m, z, call.size);
}

// A sum in two levels, so that long rows in float32 still add to within a few eps.
template <class T>
struct Sum {
  T total = T(0), part = T(0);
  int terms = 0;
  __device__ void add(T a, T b) {
    part = fma(a, b, part);
    if (++terms % 16 == 0) total += part, part = T(0);
  }
  __device__ T value() const { return row_sum(total + part, warp_threads); }
};

// A row of a long shell, by a warp. t: where its normals stay until they have become the draw; a thread touches its own
// components alone.
template <class T>
__device__ void draw_long(const Shells& shells, const Call<T>& call, const int64_t* keys, Shells::Place place,
                          T* room) {
  constexpr int count = Uniforms<T>::count;
  using Long = LongShell<count>;
  if (place.row >= shells.rows) return;  // the whole warp
  const int64_t m = shells.m[place.shell];
  const int shell = shells.number[place.shell], lane = place.lane;
  const auto at = call.split(place.row);
  const Key key = key_of(keys, at.slice);
  const T* mu = call.loc + call.loc_at(at) + shells.offset[place.shell];
  T* z = call.z + place.row * call.size + shells.offset[place.shell];
  T* t = m <= longest_room<T> ? room : z;
  const int64_t steps = (m + 2 * Long::span - 1) / (2 * Long::span);
  auto each = [&](int64_t step, auto visit) {
#pragma unroll
    for (int i = 0; i < count; i++) {
      const int64_t j = Long::component(step, lane, i);
      if (j < m) visit(j, i);
    }
  };
  Sum<T> along_sum, again_sum, square_sum;
#pragma unroll 1
  for (int64_t step = 0; step < steps; step++) {
    const auto bits =
        tangent_bits<T>(key, uint32_t(at.row), uint32_t(at.row >> 32), uint32_t(shell), Long::index(step, lane));
    T normal[count];
#pragma unroll
    for (int i = 0; i < count; i += 2) {
      const auto [a, b] = box_muller(bits, i);
      normal[i] = a, normal[i + 1] = b;
    }
    each(step, [&](int64_t j, int i) {
      t[j] = normal[i];
      along_sum.add(normal[i], mu[j]);
    });
  }
  const T along = along_sum.value();
#pragma unroll 1
  for (int64_t step = 0; step < steps; step++)
    each(step, [&](int64_t j, int) {
      const T rest = t[j] - along * mu[j];
      t[j] = rest;
      again_sum.add(rest, mu[j]);
    });
  const T again = again_sum.value();
#pragma unroll 1
  for (int64_t step = 0; step < steps; step++)
    each(step, [&](int64_t j, int) {
      const T rest = t[j] - again * mu[j];
      t[j] = rest;
      square_sum.add(rest, rest);
    });
  const auto [d, c] = call.cosine_of(at, shell);
  const T w = T(1) - d, s = root(quotient(d * c, square_sum.value()));
#pragma unroll 1
  for (int64_t step = 0; step < steps; step++) each(step, [&](int64_t j, int) { z[j] = fma(s, t[j], w * mu[j]); });
}

template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    draw_tangents(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, const int64_t* keys,
                  int room) {
  extern __shared__ double shared[];
  T* own = reinterpret_cast<T*>(shared) + threadIdx.x / warp_threads * room;
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  const int64_t m = shells.m[place.shell];
  if (m > longest_held<T>) return draw_long(shells, call, keys, place, own);
  const int together = Uniforms<T>::count * shells.lanes[place.shell], indices = (int(m) + together - 1) / together;
  auto draw = [&](auto is_long) {
    switch (indices) {
      case 1:
        return draw_held<is_long(), 1>(shells, call, keys, place, own);
      case 2:
        return draw_held<is_long(), 2>(shells, call, keys, place, own);
      case 3:
        return draw_held<is_long(), 3>(shells, call, keys, place, own);
      default:
        return draw_held<is_long(), thread_indices>(shells, call, keys, place, own);
    }
  };
  long_shell(m) ? draw(std::true_type()) : draw(std::false_type());
}

// ---- Its derivatives ----

// psi of the shells of this launch, computed in C: psi (slices, rows, shells).
template <class C, class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<C>)
    compute_psi(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, bool implicit, T* psi) {
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  if (place.row >= shells.rows) return;
  const int64_t m = shells.m[place.shell];
  const int shell = shells.number[place.shell];
  const auto at = call.split(place.row);
  const C kappa = call.kappa_of(at, shell);
  Cosine<C> cosine{C(call.cosine_of(at, shell).d), C(call.cosine_of(at, shell).c)};
  if constexpr (sizeof(C) > sizeof(T))
    cosine = cosine.d <= cosine.c ? Cosine<C>{cosine.d, C(2) - cosine.d} : Cosine<C>{C(2) - cosine.c, cosine.c};
  psi[place.row * call.shells + shell] =
      T(implicit || m == 3 ? implicit_psi<C>(m, kappa, cosine) : pathwise_psi<C>(C(m - 1), kappa));
}

template <class T>
void launch_psi(const Draw<T>& draw, bool implicit, T* psi, Stream stream) {
  const int64_t rows = draw.slices * draw.rows;
  auto wide = [&](int64_t m) { return sizeof(T) == 4 && implicit && psi_needs_double(m); };
  for (const Shells& shells : plan(draw.dims, rows, [&](int64_t m) { return wide(m) ? 0 : 1; })) {
    compute_psi<T><<<unsigned(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), implicit, psi);
    check(cudaGetLastError());
  }
  for (const Shells& shells : plan(draw.dims, rows, [&](int64_t m) { return wide(m) ? 1 : 0; })) {
    compute_psi<double><<<unsigned(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), implicit, psi);
    check(cudaGetLastError());
  }
}

// The numbers of a row that a thread of `lanes` holds in registers in reverse mode; longer rows are read twice.
inline constexpr int thread_numbers = 8;

// A row of the reverse mode by `lanes` threads, `numbers` to each: 0 for a row of any length.
template <int numbers, int fixed_lanes, class T>
__device__ void backward_row(const Shells& shells, const Call<T>& call, Shells::Place place,
                             const T* __restrict__ z_grad, T* __restrict__ loc_grad, T* __restrict__ kappa_grad) {
  constexpr int lanes = fixed_lanes, held = numbers > 0 ? numbers : 1;
  const int64_t row = place.row < shells.rows ? place.row : shells.rows - 1;
  const bool inside = place.row < shells.rows;
  const int m = int(shells.m[place.shell]), shell = shells.number[place.shell];
  const auto at = call.split(row);
  const int64_t start = row * call.size + shells.offset[place.shell];
  const T* mu = call.loc + call.loc_at(at) + shells.offset[place.shell];
  const T *z = call.z + start, *g = z_grad + start;
  const auto [d, c] = call.cosine_of(at, shell);
  const T w = T(1) - d;
  T along = T(0), across = T(0), stray = T(0);  // g.mu, g.(s t) and mu.(s t)
  auto add = [&](T gj, T zj, T muj) {
    along = fma(gj, muj, along);
    const T tangent = (zj - muj) + d * muj;
    across = fma(gj, tangent, across);
    stray = fma(muj, tangent, stray);
  };
  T own_g[held], own_z[held], own_mu[held];
  if constexpr (numbers > 0) {
#pragma unroll
    for (int k = 0; k < numbers; k++) {
      const int j = place.lane + k * lanes;
      own_g[k] = j < m ? g[j] : T(0), own_z[k] = j < m ? z[j] : T(0), own_mu[k] = j < m ? mu[j] : T(0);
    }
#pragma unroll
    for (int k = 0; k < numbers; k++) add(own_g[k], own_z[k], own_mu[k]);
  } else {
    for (int j = place.lane; j < m; j += lanes) add(g[j], z[j], mu[j]);
  }
  along = row_sum(along, lanes), across = row_sum(across, lanes) - row_sum(stray, lanes) * along;
  if (!inside) return;
  if (kappa_grad && place.lane == 0) {
    T* out = kappa_grad + row * call.shells + shell;
    *out *= d * c * along - w * across;
  }
  if (!loc_grad) return;
  T* out = loc_grad + start;
  if constexpr (numbers > 0) {
#pragma unroll
    for (int k = 0; k < numbers; k++) {
      const int j = place.lane + k * lanes;
      if (j < m) out[j] = w * own_g[k] - along * own_z[k];
    }
  } else {
    for (int j = place.lane; j < m; j += lanes) out[j] = w * g[j] - along * z[j];
  }
}

// Eight numbers to a thread.
int backward_lanes(int64_t m) { return row_lanes(m, thread_numbers); }

// Reverse mode, as in cpu/sampling.cpp: kappa_grad holds psi before.
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    backward(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, const T* __restrict__ z_grad,
             T* __restrict__ loc_grad, T* __restrict__ kappa_grad) {
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  auto run = [&](auto numbers, auto lanes) {
    backward_row<numbers(), lanes()>(shells, call, place, z_grad, loc_grad, kappa_grad);
  };
  using std::integral_constant;
  const integral_constant<int, thread_numbers> held;
  switch (shells.lanes[place.shell]) {
    case 1:
      return run(held, integral_constant<int, 1>());
    case 2:
      return run(held, integral_constant<int, 2>());
    case 4:
      return run(held, integral_constant<int, 4>());
    case 8:
      return run(held, integral_constant<int, 8>());
    case 16:
      return run(held, integral_constant<int, 16>());
    default:
      if (shells.m[place.shell] <= warp_threads * thread_numbers)
        run(held, integral_constant<int, warp_threads>());
      else
        run(integral_constant<int, 0>(), integral_constant<int, warp_threads>());
  }
}

// Forward mode, likewise.
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    forward_ad(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call,
               const T* __restrict__ loc_tangent, const T* __restrict__ kappa_tangent, const T* __restrict__ psi,
               T* __restrict__ z_tangent) {
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  const int64_t row = place.row < shells.rows ? place.row : shells.rows - 1, m = shells.m[place.shell];
  const bool inside = place.row < shells.rows;
  const int lanes = shells.lanes[place.shell], shell = shells.number[place.shell];
  const auto at = call.split(row);
  const int64_t start = row * call.size + shells.offset[place.shell];
  const int64_t loc_start = call.loc_at(at) + shells.offset[place.shell];
  const T *mu = call.loc + loc_start, *mu_tangent = loc_tangent + loc_start, *z = call.z + start;
  const auto [d, c] = call.cosine_of(at, shell);
  const T w = T(1) - d;
  T across = T(0), stray = T(0);
  for (int64_t j = place.lane; j < m; j += lanes) {
    across = fma(mu_tangent[j], z[j], across);
    stray = fma(mu[j], (z[j] - mu[j]) + d * mu[j], stray);
  }
  across = row_sum(across, lanes), stray = row_sum(stray, lanes);
  if (!inside) return;
  const T move = psi[row * call.shells + shell] * kappa_tangent[call.kappa_at(at) + shell];
  const T lift = move * d * c, turn = move * w;
  for (int64_t j = place.lane; j < m; j += lanes)
    z_tangent[start + j] =
        lift * mu[j] - turn * ((z[j] - mu[j]) + (d - stray) * mu[j]) + w * mu_tangent[j] - across * mu[j];
}

// Four numbers to a thread.
int gradient_lanes(int64_t m) { return row_lanes(m, 4); }

}  // namespace

template <class T>
void sample(const Draw<T>& draw, const int64_t* key, Stream stream) {
  const int64_t rows = draw.slices * draw.rows;
  for (const Shells& shells : plan(draw.dims, rows, [](int64_t) { return 1; })) {
    draw_cosines<<<unsigned(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), key);
    check(cudaGetLastError());
  }
  for (const Shells& shells : plan(draw.dims, rows, [](int64_t m) { return tangent_lanes(m, Uniforms<T>::count); })) {
    int64_t room = short_room<T>;
    for (int i = 0; i < shells.count; i++)
      if (shells.m[i] > longest_held<T> && shells.m[i] <= longest_room<T> && shells.m[i] > room) room = shells.m[i];
    const size_t bytes = block_warps * size_t(room) * sizeof(T);
    draw_tangents<<<unsigned(shells.blocks()), block_threads, bytes, stream>>>(shells, Call<T>(draw), key, int(room));
    check(cudaGetLastError());
  }
}

template <class T>
void sample_backward(const Draw<T>& draw, bool implicit, const T* z_grad, T* loc_grad, T* kappa_grad, Stream stream) {
  if (kappa_grad) launch_psi(draw, implicit, kappa_grad, stream);
  for (const Shells& shells : plan(draw.dims, draw.slices * draw.rows, backward_lanes)) {
    backward<<<unsigned(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), z_grad, loc_grad,
                                                                      kappa_grad);
    check(cudaGetLastError());
  }
}

template <class T>
void sample_forward_ad(const Draw<T>& draw, bool implicit, const T* loc_tangent, const T* kappa_tangent, T* psi,
                       T* z_tangent, Stream stream) {
  launch_psi(draw, implicit, psi, stream);
  for (const Shells& shells : plan(draw.dims, draw.slices * draw.rows, gradient_lanes)) {
    forward_ad<<<unsigned(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), loc_tangent,
                                                                        kappa_tangent, psi, z_tangent);
    check(cudaGetLastError());
  }
}

template void sample(const Draw<double>&, const int64_t*, Stream);
template void sample(const Draw<float>&, const int64_t*, Stream);
template void sample_backward(const Draw<double>&, bool, const double*, double*, double*, Stream);
template void sample_backward(const Draw<float>&, bool, const float*, float*, float*, Stream);
template void sample_forward_ad(const Draw<double>&, bool, const double*, const double*, double*, double*, Stream);
template void sample_forward_ad(const Draw<float>&, bool, const float*, const float*, float*, float*, Stream);

}  // namespace cuda
}  // namespace vmf_ops
