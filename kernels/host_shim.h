// CUDA's built-ins for a host C++20 compiler: the same .cu file runs on the CPU, under the sanitizers.
//
// A block's threads are real threads; blocks run one after another, so that function-local statics serve as shared
// memory. Kernels keep to what is here: no warp intrinsics, no dynamic shared memory, arguments as a struct or plain.
#pragma once

#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <tuple>
#include <vector>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline thread_local dim3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline std::unique_ptr<std::barrier<>> block_barrier;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__ __restrict

using half = _Float16;
inline half __float2half(float value) { return static_cast<half>(value); }
inline float __half2float(half value) { return static_cast<float>(value); }

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

template <typename Kernel, typename Arguments>
void run_on_host(Kernel kernel, const Arguments& arguments, dim3 grid, dim3 block) {
  gridDim = grid;
  blockDim = block;
  const unsigned count = block.x * block.y * block.z;
  block_barrier = std::make_unique<std::barrier<>>(count);
  std::vector<std::thread> threads;
  for (unsigned index = 0; index < count; ++index) {
    threads.emplace_back([=, &arguments] {
      threadIdx = {index % block.x, index / block.x % block.y, index / (block.x * block.y)};
      for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
          for (unsigned x = 0; x < grid.x; ++x) {
            blockIdx = {x, y, z};
            kernel(arguments);
            __syncthreads();  // the next block reuses the shared memory
          }
    });
  }
  for (auto& thread : threads) thread.join();
}

// An entry point for ctypes: `<kernel>_on_host(&arguments, grid, block)`, sides as three unsigned each.
#define HOST_ENTRY(kernel, Arguments)                                                                       \
  extern "C" void kernel##_on_host(const Arguments* arguments, const unsigned* grid, const unsigned* block) { \
    run_on_host(kernel, *arguments, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]});             \
  }

// The same for a kernel without a barrier, its threads one after another in this one: far faster.
template <typename Kernel, typename Arguments>
void run_alone_on_host(Kernel kernel, const Arguments& arguments, dim3 grid, dim3 block) {
  gridDim = grid;
  blockDim = block;
  block_barrier = nullptr;  // a barrier would end the process
  const unsigned count = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
  for (unsigned at = 0; at < blocks; ++at) {
    blockIdx = {at % grid.x, at / grid.x % grid.y, at / (grid.x * grid.y)};
    for (unsigned index = 0; index < count; ++index) {
      threadIdx = {index % block.x, index / block.x % block.y, index / (block.x * block.y)};
      kernel(arguments);
    }
  }
}

#define HOST_ENTRY_WITHOUT_BARRIERS(kernel, Arguments)                                                            \
  extern "C" void kernel##_on_host(const Arguments* arguments, const unsigned* grid, const unsigned* block) {       \
    run_alone_on_host(kernel, *arguments, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]});             \
  }

// The next of the arguments, each of which lies at a multiple of its size, as CUDA packs them.
template <typename T>
T next_argument(const char*& packed) {
  const auto address = (reinterpret_cast<std::uintptr_t>(packed) + sizeof(T) - 1) / sizeof(T) * sizeof(T);
  packed = reinterpret_cast<const char*>(address) + sizeof(T);
  return *reinterpret_cast<const T*>(address);
}

template <typename... Arguments>
void run_plain_on_host(void (*kernel)(Arguments...), const char* packed, dim3 grid, dim3 block) {
  const std::tuple<Arguments...> values{next_argument<Arguments>(packed)...};  // in order, because of the braces
  run_on_host([kernel](const auto& given) { std::apply(kernel, given); }, values, grid, block);
}

// The same for a kernel with plain arguments: a struct of them in their order.
#define HOST_PLAIN_ENTRY(kernel)                                                                          \
  extern "C" void kernel##_on_host(const char* arguments, const unsigned* grid, const unsigned* block) {  \
    run_plain_on_host(kernel, arguments, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]});    \
  }
