/**
 * How the process of a storage node compiles, collects and allocates (docs/decisions/0083).
 *
 * - V8's optimizing compiler copies what a function calls into it, up to a kilobyte of bytecode, and a node's JavaScript is wide rather
 *   than hot: of the processor time of the first GB that a group of six took in, a fifth went into such compilations. With a quarter of the
 *   copying the same code is compiled in half of the time and runs as fast.
 * - The young generation is collected by one thread: there is little that lives, and helpers cost more than they save.
 * - Blocks of memory of a segment and more, which are pooled, lie apart from small ones: otherwise holes keep what was given back.
 */
import { setFlagsFromString } from 'node:v8'
import { codec } from '../../../lib/native.ts'

/** Bytecode of all that is copied into one function; V8's own value is 920. */
const INLINED_BYTECODE = 230

/** For the whole process, from now on. */
export function tuneProcess(): void {
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE}`)
  setFlagsFromString('--no-parallel-scavenge')
  codec().largeApart()
}
