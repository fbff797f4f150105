// One thread's share of the depthwise correlation: some rows of one column of the response.
#pragma once

#include "common.cuh"

namespace {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(half value) { return __half2float(value); }
__device__ __forceinline__ void store(float* target, float value) { *target = value; }
__device__ __forceinline__ void store(half* target, float value) { *target = __float2half(value); }

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

// Adds what one row of x gives to SIDE rows of y. `sums[i]` is the row of y that still misses i + 1 rows of x; each
// moves one place down, and the one that became complete is returned. Rows of the template outside FIRST..LAST are left
// out: at a column's ends they belong to rows of y that do not exist or are another thread's.
template <int SIDE, int FIRST, int LAST>
__device__ __forceinline__ float slide(const float* x, const float (&taps)[SIDE * SIDE], float (&sums)[SIDE - 1]) {
  float row[SIDE];
#pragma unroll
  for (int j = 0; j < SIDE; ++j) row[j] = x[j];
  float complete = 0.0f;
#pragma unroll
  for (int i = SIDE - 1; i >= 0; --i) {
    if (i < FIRST || i > LAST) continue;
    float sum = i == 0 ? 0.0f : sums[SIDE - 1 - i];
#pragma unroll
    for (int j = 0; j < SIDE; ++j) sum += row[j] * taps[i * SIDE + j];
    if (i == SIDE - 1)
      complete = sum;
    else
      sums[SIDE - 2 - i] = sum;
  }
  return complete;
}

// The first SIDE - 1 rows of x, which complete nothing, and the last SIDE - 1, which begin nothing.
template <int SIDE, int ROW = 0>
__device__ __forceinline__ void begin(const float* x, int width, const float (&taps)[SIDE * SIDE],
                                      float (&sums)[SIDE - 1]) {
  if constexpr (ROW < SIDE - 1) {
    slide<SIDE, 0, ROW>(x, taps, sums);
    begin<SIDE, ROW + 1>(x + width, width, taps, sums);
  }
}

template <int SIDE, typename T, int ROW = 1>
__device__ __forceinline__ void finish(const float* x, int width, const float (&taps)[SIDE * SIDE],
                                       float (&sums)[SIDE - 1], T* y, int output_width) {
  if constexpr (ROW < SIDE) {
    store(y, slide<SIDE, ROW, SIDE - 1>(x, taps, sums));
    finish<SIDE, T, ROW + 1>(x + width, width, taps, sums, y + output_width, output_width);
  }
}

// `rows` >= SIDE - 1 rows of one column of y, for a square template of a size known to the compiler.
template <int SIDE, typename T>
__device__ __forceinline__ void column_of(const float* x, int width, const float* kernel, T* y, int output_width,
                                          int rows) {
  float taps[SIDE * SIDE], sums[SIDE - 1];
#pragma unroll
  for (int i = 0; i < SIDE * SIDE; ++i) taps[i] = kernel[i];
#pragma unroll
  for (int i = 0; i < SIDE - 1; ++i) sums[i] = 0.0f;
  begin<SIDE>(x, width, taps, sums);
  x += (SIDE - 1) * width;
#pragma unroll 1  // two rows a turn would spill at 48 registers
  for (int row = SIDE - 1; row < rows; ++row) {
    store(y, slide<SIDE, 0, SIDE - 1>(x, taps, sums));
    x += width;
    y += output_width;
  }
  finish<SIDE>(x, width, taps, sums, y, output_width);
}

// The same for any template, four rows of y at a time: 2 reads for 4 multiply-adds.
template <typename Source, typename T>
__device__ void column_of_any(const Source* x, int width, const Source* kernel, int kernel_height, int kernel_width,
                              T* y, int output_width, int rows) {
  const int last = rows + kernel_height - 2;  // row of x; those beyond it count only for rows of y beyond the last
  for (int row = 0; row < rows; row += 4) {
    float sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
    for (int j = 0; j < kernel_width; ++j) {
      float x0 = to_float(x[row * width + j]);
      float x1 = to_float(x[smaller(row + 1, last) * width + j]);
      float x2 = to_float(x[smaller(row + 2, last) * width + j]);
#pragma unroll 4
      for (int i = 0; i < kernel_height; ++i) {
        const float x3 = to_float(x[smaller(row + i + 3, last) * width + j]);
        const float tap = to_float(kernel[i * kernel_width + j]);
        sum0 += x0 * tap;
        sum1 += x1 * tap;
        sum2 += x2 * tap;
        sum3 += x3 * tap;
        x0 = x1;
        x1 = x2;
        x2 = x3;
      }
    }
    T* target = y + row * output_width;
    store(target, sum0);
    if (row + 1 < rows) store(target + output_width, sum1);
    if (row + 2 < rows) store(target + 2 * output_width, sum2);
    if (row + 3 < rows) store(target + 3 * output_width, sum3);
  }
}

}  // namespace
