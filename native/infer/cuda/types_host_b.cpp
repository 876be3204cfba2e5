// The other half (types_host_a.cpp).
#include "types_d.cu"
#include "types_e.cu"
#include "types_f.cu"
#include "types_g.cu"
