// What the kernels need of a GPU, under one set of names: on the device the instructions themselves, on the host an emulation
// (simt_host.h) in which every thread of a block is a fiber. The same kernel source compiles for both and must give the same bits.
#pragma once

#include "../det/rules.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define ZG_GLOBAL __global__
#define ZG_KERNEL static __global__
#define ZG_DEVICE __device__ __forceinline__
#define ZG_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define ZG_UNROLL _Pragma("unroll")

namespace zg::simt {

struct alignas(16) Vec4 {
  uint32_t x, y, z, w;
};

ZG_DEVICE uint32_t thread() { return threadIdx.x; }
ZG_DEVICE uint32_t threads() { return blockDim.x; }
ZG_DEVICE uint32_t block_x() { return blockIdx.x; }
ZG_DEVICE uint32_t block_y() { return blockIdx.y; }
ZG_DEVICE uint32_t blocks_x() { return gridDim.x; }
ZG_DEVICE uint32_t lane() { return threadIdx.x & 31u; }

// The block's dynamic shared memory, 16-byte aligned.
ZG_DEVICE uint8_t* shared() {
  extern __shared__ __align__(16) uint8_t zg_shared[];
  return zg_shared;
}

ZG_DEVICE void sync() { __syncthreads(); }
ZG_DEVICE void sync_warp() { __syncwarp(); }
ZG_DEVICE float shuffle_xor(float v, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
ZG_DEVICE uint32_t shuffle_xor(uint32_t v, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
ZG_DEVICE int32_t shuffle_xor(int32_t v, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
ZG_DEVICE float shuffle_down(float v, uint32_t by) { return __shfl_down_sync(0xffffffffu, v, by); }
ZG_DEVICE float shuffle(float v, uint32_t from) { return __shfl_sync(0xffffffffu, v, from); }

// c + the sum of four products of signed bytes.
ZG_DEVICE int32_t dp4a(uint32_t a, uint32_t b, int32_t c) { return __dp4a(static_cast<int32_t>(a), static_cast<int32_t>(b), c); }
// Bytes of the eight in (low, high) chosen by the nibbles of selector.
ZG_DEVICE uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) { return __byte_perm(low, high, selector); }
// Four signed byte differences, wrapping.
ZG_DEVICE uint32_t subtract4(uint32_t a, uint32_t b) { return __vsub4(a, b); }

// Sixteen bytes that are read once.
ZG_DEVICE Vec4 load_stream(const void* p) {
  Vec4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
ZG_DEVICE Vec4 load16(const void* p) { return *static_cast<const Vec4*>(p); }

// Asynchronous copies of 16 bytes to shared memory, in groups; both addresses aligned.
ZG_DEVICE void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(from) : "memory");
}
ZG_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the thread's latest N groups have arrived.
template <int N>
ZG_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four matrices of eight rows of 16 bytes from shared memory. Lane l points at row l % 8 of matrix l / 8, and gets of row l / 4 of each the
// four bytes from 4 · (l % 4) on.
ZG_DEVICE void load_matrices(uint32_t* d, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// 16 × 8 sums of 32 (16) products on top of c. Lane l, g = l / 4, t = l % 4: a[0] row g bytes 4t…, a[1] row g + 8, a[2], a[3] the same
// 16 columns on; b[0] column g bytes 4t…, b[1] 16 on; d[0], d[1] row g columns 2t, 2t + 1, d[2], d[3] row g + 8.
ZG_DEVICE void mma_k32(int32_t* d, const uint32_t* a, const uint32_t* b, int32_t c) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c));
}
// One half of the columns: a[0], a[1], b[0] as above.
ZG_DEVICE void mma_k16(int32_t* d, uint32_t a0, uint32_t a1, uint32_t b0, int32_t c) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a0), "r"(a1), "r"(b0), "r"(c));
}

// A launch may start before the one in front of it has ended: nothing that one wrote may be read before wait_before.
ZG_DEVICE void wait_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
ZG_DEVICE void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Asks for bytes (a multiple of 16, from an aligned address) to be on their way to the second-level cache.
ZG_DEVICE void prefetch(const void* p, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(bytes) : "memory");
#endif
}

ZG_DEVICE uint32_t atomic_min(uint32_t* p, uint32_t v) { return atomicMin(p, v); }
ZG_DEVICE uint32_t atomic_add(uint32_t* p, uint32_t v) { return atomicAdd(p, v); }
ZG_DEVICE void fence() { __threadfence(); }

}  // namespace zg::simt

#else
#include "simt_host.h"
#endif
