/**
 * The head of a segment frame (docs/protocol/storage-raw.md): everything but the data, which follows it.
 *
 *  0        4        8        12  13   16          24         32           64             64 + 32 n
 *  │ "zgs1" │ index  │dataSize│ n │ 0  │ path bits │ fileSize │ file root  │ n siblings   │ data …
 */
import { view } from '../../base/bytes.ts'
import { assert } from '../../base/errors.ts'
import type { Proof } from '../../codec/storage/merkle.ts'

const MAGIC = 0x7a677331 // "zgs1"

/** Encodes the head of one frame. `dataSize` is a multiple of 256, at most 262,144. */
export function frameHead(f: {
  index: number
  dataSize: number
  fileSize: number
  root: Uint8Array
  proof: Proof
}): Uint8Array {
  const { lemma, path } = f.proof
  // The leaf is computed by the receiver and the root stands in the head, so only what lies between is sent.
  const siblings = path.length === 0 ? [] : lemma.slice(1, -1)
  assert(siblings.length === path.length && siblings.length <= 64, 'a proof has as many siblings as steps, at most 64')
  const out = new Uint8Array(64 + 32 * siblings.length)
  const v = view(out)
  v.setUint32(0, MAGIC)
  v.setUint32(4, f.index)
  v.setUint32(8, f.dataSize)
  v.setUint8(12, siblings.length)
  let bits = 0n
  for (let i = 0; i < path.length; i++) if (path[i]) bits |= 1n << BigInt(i)
  v.setBigUint64(16, bits)
  v.setBigUint64(24, BigInt(f.fileSize))
  out.set(f.root, 32)
  for (let i = 0; i < siblings.length; i++) out.set(siblings[i]!, 64 + 32 * i)
  return out
}
