#include "vm/interpreter.inc"

namespace zg {
template bool execute<false>(Machine& m, Frame& f);
}
