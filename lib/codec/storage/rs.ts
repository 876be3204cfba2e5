/**
 * The code of storage stripes: which one a group of nodes uses by default, and its TypeScript form. What runs in a node is
 * `codec().rs`, which has the same face off the event loop.
 */
export { rsEncode, rsReconstruct, SHARD_BYTES_MAX, SHARDS_MAX } from '../../crypto/reed-solomon.ts'

/** k data and m parity shards. */
export interface Code {
  readonly k: number
  readonly m: number
}

/** By least number of nodes (storage.md 11), largest first. */
const DEFAULT_CODES: readonly (readonly [nodes: number, code: Code])[] = [
  [12, { k: 8, m: 4 }],
  [9, { k: 6, m: 3 }],
  [6, { k: 4, m: 2 }],
  [4, { k: 2, m: 2 }],
  [3, { k: 2, m: 1 }],
  [2, { k: 1, m: 1 }],
  [0, { k: 1, m: 0 }]
]

/** The code that a group of so many live nodes uses unless it is told otherwise. */
export function defaultCode(nodes: number): Code {
  return DEFAULT_CODES.find(([least]) => nodes >= least)![1]
}
