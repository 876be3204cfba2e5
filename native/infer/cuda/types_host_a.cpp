// Kernels of half the types for the emulation, apart from the engine: who changes the engine does not wait for them.
#include "types_a.cu"
#include "types_b.cu"
#include "types_c.cu"
