// A kernel that exchanges neighbours' numbers through shared memory, with a mistake of each kind that checks.cpp sees.
#include <cuda_runtime.h>

__global__ void exchange_kernel(int mistake, float* in, float* out) {
  extern __shared__ float room[];
  const int i = int(threadIdx.x);
  if (mistake != 6) room[i] = in[i];
  if (mistake == 1) {
  } else if (mistake == 2) {
    __shfl_sync(0xffffffff, i, 0);
  } else {
    __syncwarp();
  }
  out[i] = room[mistake == 9 ? i ^ 32 : i ^ 1];
  if (mistake == 3) out[i] = in[i + 1];
  if (mistake == 4 && i == 255) out[i + 1] = 0;
  if (mistake == 5) in[i] = 0;
  if (mistake == 7) out[0] = 0;
  if (mistake == 8 && i % 2 == 0) __syncwarp();
  if (mistake == 10 && i >= 32) __syncthreads();
}

extern "C" const char* exchange(int mistake, size_t bytes, void* const* data) {
  static std::string message;
  try {
    exchange_kernel<<<1, 256, bytes, nullptr>>>(mistake, static_cast<float*>(data[0]), static_cast<float*>(data[1]));
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}
