/**
 * The flow's tree written another way than the contract and the node: a sparse table of all nodes that are not zero, rehashed upwards
 * on each change, instead of one open node a level.
 */
import { keccak_256 } from '@noble/hashes/sha3.js'
import { concat } from '../../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { type File, sectorsOf } from '../unit/contract-chain.ts'

/** The flow's tree as a table of every node that is not all zero. */
export class SparseTree {
  length = 1n
  private readonly nodes = new Map<string, Uint8Array>()
  private readonly zeros: Uint8Array[] = [keccak_256(new Uint8Array(256))]
  constructor() {
    this.put(0, 0n, new Uint8Array(32))
  }

  /** Places a submission by the rule of storage.md 2.3. @returns its first sector. */
  submit(f: File): bigint {
    const up = (n: bigint, unit: bigint) => ((n + unit - 1n) / unit) * unit
    const sectors = sectorsOf(f)
    let start = up(this.length, 2n ** BigInt(f.nodes[0]!.height))
    if (start % 1024n !== 0n && start / 1024n !== (start + sectors - 1n) / 1024n) start = up(start, 1024n)
    let position = start
    for (const { root, height } of f.nodes) {
      const size = 2n ** BigInt(height)
      position = up(position, size)
      this.put(height, position / size, fromHex(root))
      position += size
    }
    this.length = position
    return start
  }

  root(): Hex {
    let height = 0
    while (2n ** BigInt(height) < this.length) height++
    return toHex(this.get(height, 0n))
  }

  private put(level: number, index: bigint, hash: Uint8Array): void {
    this.nodes.set(`${level}/${index}`, hash)
    for (let [l, i] = [level, index]; l < 40; ) {
      const parent = keccak_256(concat(this.get(l, i & ~1n), this.get(l, i | 1n)))
      l++
      i >>= 1n
      this.nodes.set(`${l}/${i}`, parent)
    }
  }

  private get(level: number, index: bigint): Uint8Array {
    while (this.zeros.length <= level) this.zeros.push(keccak_256(concat(this.zeros.at(-1)!, this.zeros.at(-1)!)))
    return this.nodes.get(`${level}/${index}`) ?? this.zeros[level]!
  }
}
