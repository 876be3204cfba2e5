// The level for AVX-512 without the order of inference.md 12, with whatever the compiler may then do: for benchmarks alone.
#define ZG_FREE_ORDER
#include "avx512.cpp"
