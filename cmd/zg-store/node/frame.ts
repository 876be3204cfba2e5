/** A segment with its proof on the wire between zg's own programs; docs/protocol/storage-raw.md has the drawing. */
import type { SegmentUpload } from '../core/upload-checks.ts'
import { MAX_DATA_BYTES, MAX_SIBLINGS, type PackedProof, packPath, unpackPath } from '../disk/record.ts'

/** Bytes before the siblings. */
export const FRAME_HEAD_BYTES = 64
/** "zgs1". */
const MAGIC = 0x7a677331

export interface FrameHead {
  readonly index: number
  readonly dataSize: number
  readonly fileSize: number
  readonly root: Uint8Array
  readonly path: readonly boolean[]
}

/** Everything of a frame but the data. */
export function encodeFrameHead(
  f: { index: number; dataSize: number; fileSize: number; root: Uint8Array },
  proof: PackedProof
): Uint8Array {
  const out = new Uint8Array(FRAME_HEAD_BYTES + proof.siblings.length)
  const v = new DataView(out.buffer)
  v.setUint32(0, MAGIC)
  v.setUint32(4, f.index)
  v.setUint32(8, f.dataSize)
  v.setUint8(12, proof.path.length)
  v.setBigUint64(16, packPath(proof.path))
  v.setBigUint64(24, BigInt(f.fileSize))
  out.set(f.root, 32)
  out.set(proof.siblings, FRAME_HEAD_BYTES)
  return out
}

/**
 * Reads the first 64 bytes of a frame. Siblings (32 bytes for each step of `path`) and data follow.
 * @returns what is wrong, as text, for bytes that are no frame.
 */
export function decodeFrameHead(b: Uint8Array): FrameHead | string {
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength)
  if (b.length < FRAME_HEAD_BYTES || v.getUint32(0) !== MAGIC) return 'not a segment frame'
  const dataSize = v.getUint32(8)
  if (dataSize === 0 || dataSize > MAX_DATA_BYTES || dataSize % 256 !== 0) return `frame with ${dataSize} bytes of data`
  const n = v.getUint8(12)
  if (n > MAX_SIBLINGS) return `frame with ${n} siblings`
  const path = unpackPath(v.getBigUint64(16), n)
  if (path === undefined || b[13] !== 0 || b[14] !== 0 || b[15] !== 0) return 'frame with stray bits'
  const fileSize = v.getBigUint64(24)
  if (fileSize > BigInt(Number.MAX_SAFE_INTEGER)) return 'frame with a file size out of range'
  return { index: v.getUint32(4), dataSize, fileSize: Number(fileSize), root: b.slice(32, 64), path }
}

/** A frame as an upload; the first entry of the lemma is a place for the leaf that the receiver computes. */
export function frameUpload(
  head: FrameHead,
  siblings: Uint8Array,
  data: Uint8Array,
  memory?: SegmentUpload['memory']
): SegmentUpload {
  const lemma: Uint8Array[] = [new Uint8Array(32)]
  for (let i = 0; i < head.path.length; i++) lemma.push(siblings.subarray(32 * i, 32 * i + 32))
  if (head.path.length > 0) lemma.push(head.root)
  const { root, index, fileSize, path } = head
  const up = { root, index, fileSize, data, proof: { lemma, path: [...path] }, namesLeaf: false }
  return memory === undefined ? up : { ...up, memory }
}
