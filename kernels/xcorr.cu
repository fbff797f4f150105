// Depthwise cross-correlation (SiamRPN++, sec. 3.4): every level and branch for every target in one launch.
//
// The work is N * C independent planes an entry, which lie one after another in memory in x, kernel and y alike, so a
// target's number plays no part: a block takes `block_planes` neighbouring planes, reads them as one contiguous
// stretch into shared memory, and each thread slides down one column of the response with the whole template in
// registers. Every element is read from memory once and written once.
//
// Figures for SiamRPN++, 3 levels of 512 channels (both branches), x 29x29, template 5x5, y 25x25, 64 targets:
//   memory: 98,304 planes of (841 + 25 + 625) * 4 = 5,964 bytes: 586 MB in FP32, 293 MB in FP16.
//   blocks: 5 planes each, 5 * 25 = 125 of 128 threads with a column; 19,662 blocks. 17 KB of shared memory and 48
//     registers: 10 blocks on an H100's SM, 5 where it has 100 KB, 3 where it has 64 KB (`resources.md`). A block
//     awaits 8 to 10 KB at once, and an H100 needs 14.5 B/cycle * 700 cycles = 10 KB an SM in flight.
//   instructions, counted in sm_90's code: a warp runs some 1,455 in a block, of which 41 for a row of y: 25
//     multiply-adds, 5 reads of shared memory, a store. 4 warps / 5 planes = 1,164 a plane, or 291 cycles of an SM's
//     four schedulers. An H100 (3.35 TB/s, 132 SMs, 1.755 GHz) moves an FP32 plane in 411 cycles, an FP16 one in 206;
//     an Orin (205 GB/s, 16 SMs, 1.3 GHz) in 605 and 303. So memory is the bound, but for FP16 on an H100, where the
//     instructions allow 71 % of its peak.
// FP16 halves what is read and written, four elements a load (two half2). Its arithmetic is FP32: HFMA2 would round
// every one of 25 sums to 11 bits.
#include "common.cuh"
#include "xcorr_column.cuh"

#define XCORR_ENTRIES 8
#define XCORR_THREADS 128  // blockDim.x, always
#define XCORR_SHARED 4352  // floats: x and templates of a block; 5 planes of 29x29 with 5x5, 4 of 31x31

// Blocks an SM should hold, hence registers a thread: 48, or 64 where the compiler would spill: before 8.0, and in the
// plain kernels, whose shared memory allows only 5 blocks on 8.6, 8.9 and 12.0, 9 on 8.7.
#if __CUDA_ARCH__ >= 800
#define XCORR_BLOCKS 10
#else
#define XCORR_BLOCKS 8
#endif
#define XCORR_PLAIN_BLOCKS 8

// One level or branch. `xcorr.py` fills it in (`entry_table`).
struct XcorrEntry {
  const void* x;       // (targets, channels, height, width)
  const void* kernel;  // (targets, channels, kernel_height, kernel_width)
  void* y;             // (targets, channels, height - kernel_height + 1, width - kernel_width + 1)
  int32_t targets, channels, height, width, kernel_height, kernel_width;
  int32_t first_block;   // the entry's first blockIdx.x
  int32_t block_planes;  // planes a block; 1 if it takes only some rows of one
  int32_t block_rows;    // rows of y a block
  int32_t thread_rows;   // rows of y a thread computes one after another
};

struct XcorrArguments {
  XcorrEntry entries[XCORR_ENTRIES];
  int32_t count;  // entries in use
};

namespace {

template <typename T>
struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};

// Where a block's planes and rows lie.
struct Part {
  long long plane;  // the first
  int planes;       // in this block
  int row, rows;    // of y
};

__device__ __forceinline__ Part part_of(const XcorrEntry& entry, int block) {
  const int output_height = entry.height - entry.kernel_height + 1;
  Part part;
  part.row = 0;
  part.rows = output_height;
  if (entry.block_rows < output_height) {  // a division costs some 20 instructions
    const int bands = (output_height + entry.block_rows - 1) / entry.block_rows;
    part.row = block % bands * entry.block_rows;
    part.rows = smaller(output_height - part.row, entry.block_rows);
    block /= bands;
  }
  part.plane = static_cast<long long>(block) * entry.block_planes;
  const long long left = static_cast<long long>(entry.targets) * entry.channels - part.plane;
  part.planes = left < entry.block_planes ? static_cast<int>(left) : entry.block_planes;
  return part;
}

// Elements between the last address that a quad may start at and `source`.
template <typename T>
__device__ __forceinline__ int misalignment(const T* source) {
  return static_cast<int>(reinterpret_cast<unsigned long long>(source) / sizeof(T) % 4);
}

// Copies `count` contiguous elements of x and `tap_count` of the templates to shared memory as floats. x goes to
// `tile + misalignment(x)`, so that both sides of the copy are aligned; at the ends single elements are copied. All
// loads of a turn are issued before the first value is used: 5 quads a thread in FP32 (20 registers), 9 in FP16 (18).
template <typename T>
__device__ __forceinline__ void stage(const T* __restrict__ x, int count, const T* __restrict__ kernel, int tap_count,
                                      float* tile, float* taps) {
  constexpr int BATCH = sizeof(T) == 4 ? 5 : 9;
  const int thread = threadIdx.x;
  tile += misalignment(x);
  const int head = smaller(-misalignment(x) & 3, count), quads = (count - head) / 4, ends = count - 4 * quads;
  const Quad<T>* source = reinterpret_cast<const Quad<T>*>(x + head);
  Quad<float>* target = reinterpret_cast<Quad<float>*>(tile + head);

  const int end = thread < head ? thread : thread + 4 * quads;  // the elements before and after the quads
  const T tap = kernel[thread < tap_count ? thread : 0];
  const T single = x[thread < ends ? end : 0];
#pragma unroll 1
  for (int base = thread; base < quads; base += BATCH * XCORR_THREADS) {
    Quad<T> loaded[BATCH];
#pragma unroll
    for (int step = 0; step < BATCH; ++step)
      if (base + step * XCORR_THREADS < quads) loaded[step] = source[base + step * XCORR_THREADS];
#pragma unroll
    for (int step = 0; step < BATCH; ++step) {
      if (base + step * XCORR_THREADS >= quads) continue;
      Quad<float> wide;
#pragma unroll
      for (int i = 0; i < 4; ++i) wide.values[i] = to_float(loaded[step].values[i]);
      target[base + step * XCORR_THREADS] = wide;
    }
  }
  if (thread < ends) tile[end] = to_float(single);
  if (thread < tap_count) taps[thread] = to_float(tap);
#pragma unroll 1
  for (int i = thread + XCORR_THREADS; i < tap_count; i += XCORR_THREADS) taps[i] = to_float(kernel[i]);
}

// Any part whose x and templates do not fit the shared memory, straight from global memory.
template <typename T>
__device__ void correlate_from_global(const XcorrEntry& entry, const Part& part, const T* x, const T* kernel, T* y) {
  const int output_height = entry.height - entry.kernel_height + 1;
  const int output_width = entry.width - entry.kernel_width + 1;
  const int items = part.planes * output_width;
  for (int item = threadIdx.x; item < items; item += XCORR_THREADS) {
    const int plane = item / output_width, column = item % output_width;
    column_of_any(x + plane * (entry.height * entry.width) + part.row * entry.width + column, entry.width,
                  kernel + plane * (entry.kernel_height * entry.kernel_width), entry.kernel_height,
                  entry.kernel_width, y + plane * (output_height * output_width) + part.row * output_width + column,
                  output_width, part.rows);
  }
}

// One block's part from shared memory. Items are (plane, strip of rows, column) with columns running fastest: a warp
// reads neighbouring words of a row of x, mostly free of bank conflicts, and writes neighbouring elements of y.
template <typename T>
__device__ __forceinline__ void correlate(const XcorrEntry& entry, const Part& part, const float* tile,
                                          const float* taps, T* y) {
  const int height = entry.kernel_height, width = entry.kernel_width;
  const int output_height = entry.height - height + 1, output_width = entry.width - width + 1;
  int strips = 1;
  if (entry.thread_rows < part.rows) strips = (part.rows + entry.thread_rows - 1) / entry.thread_rows;
  const int plane_size = (part.rows + height - 1) * entry.width;  // of what is in shared memory
  const int items = part.planes * strips * output_width;
  for (int item = threadIdx.x; item < items; item += XCORR_THREADS) {
    int plane = item / output_width, row = 0;
    const int column = item - plane * output_width;
    if (strips > 1) {
      row = plane % strips * entry.thread_rows;
      plane /= strips;
    }
    const int rows = smaller(entry.thread_rows, part.rows - row);
    const float* source = tile + plane * plane_size + row * entry.width + column;
    const float* kernel = taps + plane * (height * width);
    T* target = y + (plane * output_height + part.row + row) * output_width + column;
    if (height == 5 && width == 5 && rows >= 4)
      column_of<5>(source, entry.width, kernel, target, output_width, rows);
    else if (height == 4 && width == 4 && rows >= 3)
      column_of<4>(source, entry.width, kernel, target, output_width, rows);
    else
      column_of_any(source, entry.width, kernel, height, width, target, output_width, rows);
  }
}

// One block of an entry.
template <typename T>
__device__ __forceinline__ void xcorr_block(const XcorrEntry& entry, int block, float* shared) {
  const Part part = part_of(entry, block);
  if (part.planes <= 0) return;  // a grid larger than the table asks for

  const int kernel_size = entry.kernel_height * entry.kernel_width;
  const T* x = static_cast<const T*>(entry.x) + part.plane * (entry.height * entry.width);
  const T* kernel = static_cast<const T*>(entry.kernel) + part.plane * kernel_size;
  T* y = static_cast<T*>(entry.y) +
         part.plane * ((entry.height - entry.kernel_height + 1) * (entry.width - entry.kernel_width + 1));

  const int tap_room = (part.planes * kernel_size + 3) / 4 * 4;
  const int count = part.planes * (part.rows + entry.kernel_height - 1) * entry.width;
  if (tap_room + 3 + count > XCORR_SHARED) {
    correlate_from_global(entry, part, x, kernel, y);
    return;
  }
  x += part.row * entry.width;
  float* tile = shared + tap_room;
  stage(x, count, kernel, part.planes * kernel_size, tile, shared);
  __syncthreads();
  correlate(entry, part, tile + misalignment(x), shared, y);
}

template <typename T>
__device__ __forceinline__ void xcorr(const XcorrArguments& arguments, float* shared) {
  int index = 0;
  for (int i = 1; i < arguments.count; ++i)
    if (static_cast<int>(blockIdx.x) >= arguments.entries[i].first_block) index = i;
  const XcorrEntry entry = arguments.entries[index];
  xcorr_block<T>(entry, static_cast<int>(blockIdx.x) - entry.first_block, shared);
}

}  // namespace

#ifndef XCORR_PLAIN_ONLY
extern "C" __global__ void __launch_bounds__(XCORR_THREADS, XCORR_BLOCKS) xcorr_f32(const XcorrArguments arguments) {
  alignas(16) __shared__ float shared[XCORR_SHARED];
  xcorr<float>(arguments, shared);
}

extern "C" __global__ void __launch_bounds__(XCORR_THREADS, XCORR_BLOCKS) xcorr_f16(const XcorrArguments arguments) {
  alignas(16) __shared__ float shared[XCORR_SHARED];
  xcorr<half>(arguments, shared);
}

HOST_ENTRY(xcorr_f32, XcorrArguments)
HOST_ENTRY(xcorr_f16, XcorrArguments)
#endif

// One entry whose arguments are inputs, 32-bit integers, outputs: all that TensorRT passes to a kernel whose PTX is in
// an engine (`plugin_aot.py`). `planes` is targets times channels.
extern "C" __global__ void __launch_bounds__(XCORR_THREADS, XCORR_PLAIN_BLOCKS)
    xcorr_plain_f32(const float* x, const float* kernel, int planes, int height, int width, int kernel_height,
                    int kernel_width, int block_planes, int block_rows, int thread_rows, float* y) {
  alignas(16) __shared__ float shared[XCORR_SHARED];
  xcorr_block<float>({x, kernel, y, planes, 1, height, width, kernel_height, kernel_width, 0, block_planes, block_rows,
                      thread_rows}, static_cast<int>(blockIdx.x), shared);
}

extern "C" __global__ void __launch_bounds__(XCORR_THREADS, XCORR_PLAIN_BLOCKS)
    xcorr_plain_f16(const half* x, const half* kernel, int planes, int height, int width, int kernel_height,
                    int kernel_width, int block_planes, int block_rows, int thread_rows, half* y) {
  alignas(16) __shared__ float shared[XCORR_SHARED];
  xcorr_block<half>({x, kernel, y, planes, 1, height, width, kernel_height, kernel_width, 0, block_planes, block_rows,
                     thread_rows}, static_cast<int>(blockIdx.x), shared);
}

HOST_PLAIN_ENTRY(xcorr_plain_f32)
HOST_PLAIN_ENTRY(xcorr_plain_f16)
