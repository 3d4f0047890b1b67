// The kernels of the sampler. A draw is a thread for each row of each shell, which makes its cosine and, of a short
// shell, all of the row; a second launch makes the other tangents, each by as many neighbouring threads as make its
// normals from a few Philox indices each, up to a warp. Derivatives are two launches as well: psi by a thread, the dot
// products by the threads of a row.
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
  int64_t loc_rows, loc_step, kappa_rows, kappa_step,
      cosine_step;  // steps: of rows from slice to slice, and from d to c
  T *cosine, *z;
  RowNumbers numbers;
  bool keep_cosine;

  explicit Call(const Draw<T>& d)
      : slices(d.slices),
        rows(d.rows),
        shells(d.shells()),
        size(d.size),
        loc(d.loc),
        kappa(d.kappa),
        loc_rows(d.loc_rows),
        loc_step(d.loc_slices == 1 ? 0 : d.loc_rows),
        kappa_rows(d.kappa_rows),
        kappa_step(d.kappa_slices == 1 ? 0 : d.kappa_rows),
        cosine_step(d.shells() * d.rows),
        cosine(d.cosine),
        z(d.z),
        numbers(d.numbers),
        keep_cosine(d.keep_cosine) {}

  // Of a row counted through all slices.
  struct Row {
    int64_t slice, row;
  };
  __device__ Row split(int64_t at) const {
    if (slices == 1) return {0, at};
    return {at / rows, at % rows};
  }
  // In the random stream.
  __device__ int64_t number(Row at) const {
    return numbers.first + at.row + (numbers.gap == 0 ? 0 : at.row / numbers.run * numbers.gap);
  }
  __device__ int64_t loc_at(Row at) const {
    const int64_t row = loc_rows == rows ? at.row : at.row % loc_rows;
    return (at.slice * loc_step + row) * size;
  }
  __device__ int64_t kappa_at(Row at) const {
    const int64_t row = kappa_rows == rows ? at.row : at.row % kappa_rows;
    return (at.slice * kappa_step + row) * shells;
  }
  __device__ int64_t cosine_at(Row at, int shell) const { return at.slice * 2 * cosine_step + shell * rows + at.row; }
  __device__ T kappa_of(Row at, int shell) const {
    const T value = kappa[kappa_at(at) + shell];
    return value >= T(0) ? value : not_a_number<T>();
  }
  __device__ Cosine<T> cosine_of(Row at, int shell) const {
    const T* d = cosine + cosine_at(at, shell);
    return {d[0], d[cosine_step]};
  }
};

// The sum over the `lanes` threads of a row, in every one of them.
template <class T>
__device__ __forceinline__ T row_sum(T value, int lanes) {
  for (int step = 1; step < lanes; step *= 2) value += __shfl_xor_sync(all_lanes, value, step);
  return value;
}

// ---- The draw ----

// The place of the k-th bit that is set, from 0.
__device__ __forceinline__ int place_of_bit(uint32_t bits, int k) {
  int place = 0;
#pragma unroll
  for (int step = warp_threads / 2; step > 0; step /= 2) {
    const int below = __popc(bits >> place & ((1u << step) - 1));
    if (k >= below) k -= below, place += step;
  }
  return place;
}

// The first accepted proposal of each row of a warp. After the first attempt the threads share out the attempts of the
// rows that still wait, several of a row at once: so a warp ends after two or three rounds, not with its slowest row.
template <bool circle, class T>
__device__ Proposal<T> accepted(T n, T kappa, Key key, uint32_t row, uint32_t row_high, uint32_t shell, bool wanted) {
  const int lane = threadIdx.x % warp_threads;
  const auto e = envelope(n, kappa);
  auto proposal = propose<circle>(n, e, key, row, row_high, shell, 0u);
  bool waits = wanted && proposal.rejected;
  uint32_t waiting = __ballot_sync(all_lanes, waits);
#pragma unroll 1
  for (uint32_t attempt = 1; waiting != 0 && attempt < proposal_limit;) {
    const int rows = __popc(waiting), tries = small_quotient(warp_threads, rows);
    const int group = small_quotient(lane, tries), source = place_of_bit(waiting, group < rows ? group : 0);
    auto theirs = [&](auto value) { return __shfl_sync(all_lanes, value, source); };
    const Envelope<T> their_e{theirs(e.b), theirs(e.complement)};
    const auto next = propose<circle>(n, their_e, {theirs(key.low), theirs(key.high)}, theirs(row), theirs(row_high),
                                      shell, attempt + uint32_t(lane - group * tries));
    const uint32_t kept = __ballot_sync(all_lanes, !next.rejected);
    // Of its row's attempts, made by `tries` threads from `first` on, each takes the first that was kept.
    const int first = __popc(waiting & ((1u << lane) - 1)) * tries % warp_threads;
    const uint32_t own = kept >> first & (all_lanes >> (warp_threads - tries));
    const int from = first + (own != 0 ? __ffs(own) - 1 : tries - 1);
    auto taken = [&](T value, T before) {
      value = __shfl_sync(all_lanes, value, from);
      return waits ? value : before;
    };
    proposal.cosine = {taken(next.cosine.d, proposal.cosine.d), taken(next.cosine.c, proposal.cosine.c)};
    if constexpr (circle) proposal.side = taken(next.side, proposal.side);
    waits = waits && own == 0;
    waiting = __ballot_sync(all_lanes, waits);
    attempt += uint32_t(tries);
  }
  return proposal;
}

__device__ Key key_of(const int64_t* key, int64_t slice) {
  const uint64_t bits = key[slice];
  return {uint32_t(bits), uint32_t(bits >> 32)};
}

// The Philox indices that a thread of a row takes at most where it holds its components in registers: of a short shell,
// where few threads to a row leave few of them idle, and of a long one of up to longest_held.
inline constexpr int thread_indices = 4;
template <class T>
inline constexpr int longest_held = warp_threads * thread_indices * Uniforms<T>::count;

// The threads that make a row's tangent: 0 where it needs no normals.
VMF_HD int tangent_lanes(int64_t m, int per_index) {
  return m <= 3 ? 0 : long_shell(m) ? warp_threads : row_lanes(m, thread_indices * per_index);
}

// A Philox index's worth of numbers: 16 bytes.
template <class T>
struct alignas(16) Normals {
  static constexpr int count = Uniforms<T>::count;
  T at[count];
};

// The numbers of a warp's room in shared memory, for its rows of a short shell, each with one Normals to spare, and for
// the longest row; longer ones are made in place.
template <class T>
inline constexpr int short_room = warp_threads * (thread_indices + 1) * Uniforms<T>::count;
template <class T>
inline constexpr int longest_room = 48 * 1024 / block_warps / int(sizeof(T));

// The warp's rows of a short shell from its room to z: a power of two of neighbouring threads to a row. wide: where a row
// may be longer than a warp.
template <bool wide, class T>
__device__ void write_rows(const T* room, int pitch, int rows, int m, T* z, int64_t row_size) {
  int bits = 2;
  while (bits < 5 && 1 << bits < m) bits++;
  const int lane = threadIdx.x % warp_threads, together = warp_threads >> bits, column = lane & ((1 << bits) - 1);
  if (column >= m) return;
  const int64_t z_step = together * row_size;
  z += (lane >> bits) * row_size + column, room += (lane >> bits) * pitch + column;
#pragma unroll 4
  for (int row = lane >> bits; row < rows; row += together) {
    *z = *room;
    if (wide && column + warp_threads < m) z[warp_threads] = room[warp_threads];
    z += z_step, room += together * pitch;
  }
}

// A row whose components the threads hold in registers: its Philox indices go round the threads, `indices` to each.
// fixed_lanes: 1, 32, which is a long shell's, or 0 for as many as the launch gives a row. Threads behind the last row
// take part in the sums all the same, at the last.
template <int fixed_lanes, int indices, class T, class CosineOf>
__device__ void draw_held(const Shells& shells, const Call<T>& call, Key key, Shells::Place place,
                          typename Call<T>::Row at, CosineOf cosine, T* room) {
  constexpr int count = Uniforms<T>::count;
  constexpr bool is_long = fixed_lanes == warp_threads;
  const int m = int(shells.m[place.shell]), shell = shells.number[place.shell];
  const int lanes = fixed_lanes ? fixed_lanes : shells.lanes[place.shell], lane = fixed_lanes == 1 ? 0 : place.lane;
  const int64_t offset = shells.offset[place.shell];
  const T* mu = call.loc + call.loc_at(at) + offset;
  // visit(component, whether there is one, k, i) for number i of the thread's k-th index.
  auto each = [&](auto visit) {
#pragma unroll
    for (int k = 0; k < indices; k++)
#pragma unroll
      for (int i = 0; i < count; i++) {
        const int j = is_long ? int(LongShell<count>::component(k, lane, i)) : (k * lanes + lane) * count + i;
        visit(j, (fixed_lanes == 1 && k + 1 < indices) || j < m, k, i);
      }
  };
  Normals<T> mean[indices], t[indices];
  T along = T(0), again = T(0), square = T(0);
  each([&](int j, bool there, int k, int i) { mean[k].at[i] = there ? mu[j] : T(0); });
  Words<uint32_t> words[indices];
  const int64_t number = call.number(at);
#pragma unroll
  for (int k = 0; k < indices; k++)
    words[k] = tangent_counter(uint32_t(number), uint32_t(number >> 32), uint32_t(shell), uint32_t(k * lanes + lane));
  philox(key, words);
#pragma unroll
  for (int k = 0; k < indices; k++) {
#pragma unroll
    for (int i = 0; i < count; i += 2) {
      const auto [a, b] = box_muller(Uniforms<T>(words[k]), i);
      t[k].at[i] = a, t[k].at[i + 1] = b;
    }
  }
  each([&](int, bool there, int k, int i) {
    t[k].at[i] = there ? t[k].at[i] : T(0);
    along = fma(t[k].at[i], mean[k].at[i], along);
  });
  along = row_sum(along, lanes);
  each([&](int, bool, int k, int i) {
    t[k].at[i] -= along * mean[k].at[i];
    again = fma(t[k].at[i], mean[k].at[i], again);
  });
  again = row_sum(again, lanes);
  each([&](int, bool, int k, int i) {
    t[k].at[i] -= again * mean[k].at[i];
    square = fma(t[k].at[i], t[k].at[i], square);
  });
  square = row_sum(square, lanes);
  const auto [d, c] = cosine();
  const T w = T(1) - d, s = root(quotient(d * c, square));
  each([&](int, bool, int k, int i) { t[k].at[i] = fma(s, t[k].at[i], w * mean[k].at[i]); });
  if constexpr (is_long) {
    T* z = call.z + place.row * call.size + offset;
    each([&](int j, bool there, int k, int i) {
      if (there && place.row < shells.rows) z[j] = t[k].at[i];
    });
  } else {
    // An odd number of Normals to a row of the room: rows begin in different banks.
    const int row = threadIdx.x % warp_threads >> shells.lane_bits[place.shell], pitch = (indices * lanes | 1) * count;
    auto* out = reinterpret_cast<Normals<T>*>(room + row * pitch) + lane;
#pragma unroll
    for (int k = 0; k < indices; k++) out[k * lanes] = t[k];
    __syncwarp();
    const int64_t first = place.row - row, left = shells.rows - first;
    const int rows = warp_threads >> shells.lane_bits[place.shell];
    write_rows<fixed_lanes != 1>(room, pitch, left < rows ? int(left) : rows, m, call.z + first * call.size + offset,
                                 call.size);
  }
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
  const int64_t number = call.number(at);
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
        tangent_bits<T>(key, uint32_t(number), uint32_t(number >> 32), uint32_t(shell), Long::index(step, lane));
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

template <int fixed_lanes, class T, class CosineOf>
__device__ void draw_held(const Shells& shells, const Call<T>& call, Key key, Shells::Place place,
                          typename Call<T>::Row at, CosineOf cosine, T* room) {
  switch (int(shells.m[place.shell] - 1 >> shells.lane_bits[place.shell]) / Uniforms<T>::count + 1) {
    case 1:
      return draw_held<fixed_lanes, 1>(shells, call, key, place, at, cosine, room);
    case 2:
      return draw_held<fixed_lanes, 2>(shells, call, key, place, at, cosine, room);
    case 3:
      return draw_held<fixed_lanes, 3>(shells, call, key, place, at, cosine, room);
    default:
      return draw_held<fixed_lanes, thread_indices>(shells, call, key, place, at, cosine, room);
  }
}

// The cosine of every shell, and the whole draw of a short one, whose cosine is written where it is kept alone.
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    draw_shells(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, const int64_t* keys) {
  extern __shared__ __align__(16) double shared[];
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  const bool inside = place.row < shells.rows;
  const int64_t m = shells.m[place.shell], offset = shells.offset[place.shell];
  const int shell = shells.number[place.shell];
  // Threads behind the last row take part in what a warp does together.
  const auto at = call.split(inside ? place.row : shells.rows - 1);
  const Key key = key_of(keys, at.slice);
  const int64_t number = call.number(at);
  const uint32_t row = uint32_t(number), row_high = uint32_t(number >> 32);
  const T kappa = call.kappa_of(at, shell);
  auto mean = [&] { return call.loc + call.loc_at(at) + offset; };
  T* z = call.z + place.row * call.size + offset;
  Cosine<T> cosine;
  bool whole = true;
  if (m == 3) {
    const T* mu = mean();
    const Uniforms<T> u(philox(key, counter(row, row_high, uint32_t(shell), Purpose::proposal, 0u)));
    cosine = inverse_cosine(kappa, u.unit(0));
    const auto p = sphere_draw<T>({mu[0], mu[1], mu[2]}, cosine, u.half_turn(1), u.flip(1));
    if (inside) z[0] = p.x, z[1] = p.y, z[2] = p.z;
  } else if (m == 2) {
    const auto proposal = accepted<true>(T(1), kappa, key, row, row_high, uint32_t(shell), inside);
    cosine = proposal.cosine;
    const T* mu = mean();
    const auto p = circle_draw<T>({mu[0], mu[1]}, cosine, proposal.side);
    if (inside) z[0] = p.x, z[1] = p.y;
  } else {
    cosine = accepted<false>(T(m - 1), kappa, key, row, row_high, uint32_t(shell), inside).cosine;
    T* room = reinterpret_cast<T*>(shared) + threadIdx.x / warp_threads * short_room<T>;
    whole = tangent_lanes(m, Uniforms<T>::count) == 1;
    if (whole) draw_held<1>(shells, call, key, place, at, [&] { return cosine; }, room);
  }
  if (!inside || (whole && !call.keep_cosine)) return;
  T* out = call.cosine + call.cosine_at(at, shell);
  out[0] = cosine.d;
  out[call.cosine_step] = cosine.c;
}

template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    draw_tangents(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, const int64_t* keys,
                  int room) {
  extern __shared__ __align__(16) double shared[];
  T* own = reinterpret_cast<T*>(shared) + threadIdx.x / warp_threads * room;
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  const int64_t m = shells.m[place.shell];
  if (m > longest_held<T>) return draw_long(shells, call, keys, place, own);
  const auto at = call.split(place.row < shells.rows ? place.row : shells.rows - 1);
  const Key key = key_of(keys, at.slice);
  auto cosine = [&] { return call.cosine_of(at, shells.number[place.shell]); };
  long_shell(m) ? draw_held<warp_threads>(shells, call, key, place, at, cosine, own)
                : draw_held<0>(shells, call, key, place, at, cosine, own);
}

// ---- Its derivatives ----

// psi (slices, rows, shells).
template <class T>
__global__ void __launch_bounds__(block_threads, resident_blocks<T>)
    compute_psi(const __grid_constant__ Shells shells, const __grid_constant__ Call<T> call, bool implicit, T* psi) {
  const auto place = shells.place(blockIdx.x, threadIdx.x);
  if (place.row >= shells.rows) return;
  const int64_t m = shells.m[place.shell];
  const int shell = shells.number[place.shell];
  const auto at = call.split(place.row);
  const T kappa = call.kappa_of(at, shell);
  psi[place.row * call.shells + shell] =
      implicit || m == 3 ? implicit_psi<T>(m, kappa, call.cosine_of(at, shell)) : pathwise_psi<T>(T(m - 1), kappa);
}

template <class T>
void launch_psi(const Draw<T>& draw, bool implicit, T* psi, Stream stream) {
  for (const Shells& shells : plan(draw.dims, draw.slices * draw.rows, [](int64_t) { return 1; })) {
    compute_psi<<<grid(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), implicit, psi);
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
    const size_t bytes = block_warps * short_room<T> * sizeof(T);
    draw_shells<<<grid(shells.blocks()), block_threads, bytes, stream>>>(shells, Call<T>(draw), key);
    check(cudaGetLastError());
  }
  auto shared_rows = [](int64_t m) {
    const int lanes = tangent_lanes(m, Uniforms<T>::count);
    return lanes > 1 ? lanes : 0;
  };
  for (const Shells& shells : plan(draw.dims, rows, shared_rows)) {
    int64_t room = short_room<T>;
    for (int i = 0; i < shells.count; i++)
      if (shells.m[i] > longest_held<T> && shells.m[i] <= longest_room<T> && shells.m[i] > room) room = shells.m[i];
    room = (room + Normals<T>::count - 1) / Normals<T>::count * Normals<T>::count;  // aligned for the short shells
    const size_t bytes = block_warps * size_t(room) * sizeof(T);
    draw_tangents<<<grid(shells.blocks()), block_threads, bytes, stream>>>(shells, Call<T>(draw), key, int(room));
    check(cudaGetLastError());
  }
}

template <class T>
void sample_backward(const Draw<T>& draw, bool implicit, const T* z_grad, T* loc_grad, T* kappa_grad, Stream stream) {
  if (kappa_grad) launch_psi(draw, implicit, kappa_grad, stream);
  for (const Shells& shells : plan(draw.dims, draw.slices * draw.rows, backward_lanes)) {
    backward<<<grid(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), z_grad, loc_grad, kappa_grad);
    check(cudaGetLastError());
  }
}

template <class T>
void sample_forward_ad(const Draw<T>& draw, bool implicit, const T* loc_tangent, const T* kappa_tangent, T* psi,
                       T* z_tangent, Stream stream) {
  launch_psi(draw, implicit, psi, stream);
  for (const Shells& shells : plan(draw.dims, draw.slices * draw.rows, gradient_lanes)) {
    forward_ad<<<grid(shells.blocks()), block_threads, 0, stream>>>(shells, Call<T>(draw), loc_tangent, kappa_tangent,
                                                                    psi, z_tangent);
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
