/**
 * How V8 compiles in a storage node. Its optimizing compiler copies what a function calls into it, up to a kilobyte of bytecode, and a
 * node's JavaScript is wide rather than hot: of the processor time of the first GB that a group of six takes in, a fifth went into such
 * compilations. With a quarter of the copying the same code is compiled for half of the time and runs as fast (docs/decisions/0083).
 */
import { setFlagsFromString } from 'node:v8'

/** Bytecode of all that is copied into one function; V8's own value is 920. */
const INLINED_BYTECODE = 230

/** For the whole process, from now on. */
export function compileGently(): void {
  setFlagsFromString('--no-parallel-scavenge')
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE}`)
}
