#include "vm/interpreter.inc"

namespace zg {
template bool execute<true>(Machine& m, Frame& f);
}
