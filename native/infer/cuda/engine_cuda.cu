// The engine for the device: the same source as under emulation, through nvcc.
#include "device_cuda.inl"
#include "engine.cpp"
#include "engine_load.cpp"
#include "tiles.cpp"
