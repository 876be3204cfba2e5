/**
 * The slow, clear half of every differential test and the fallback without a native build: keccak-256 and segment roots on
 * @noble/hashes. Nothing here may call the native part; `lib/native.ts` chooses between the two.
 */
import { keccak_256 } from '@noble/hashes/sha3.js'

const SECTOR_BYTES = 256
const SEGMENT_BYTES = 1024 * SECTOR_BYTES

/** keccak-256 of one byte string, about 8 µs for 64 bytes. */
export function keccak256Reference(data: Uint8Array): Uint8Array {
  return keccak_256(data)
}

/**
 * Merkle roots of consecutive segments (storage.md 1.2): leaf = keccak(sector of 256 bytes), node = keccak(left ‖ right), an
 * odd last one moves up.
 * @param data - whole segments of 262,144 bytes; the last may be shorter and is filled with zero bytes.
 * @param lastLeaves - leaves of the last segment, 1 … 1024, at least its data.
 * @returns 32 bytes a segment, one behind the other.
 */
export function segmentRootsReference(data: Uint8Array, lastLeaves: number): Uint8Array {
  const count = Math.max(1, Math.ceil(data.length / SEGMENT_BYTES))
  const out = new Uint8Array(32 * count)
  for (let i = 0; i < count; i++) {
    const part = data.subarray(i * SEGMENT_BYTES, (i + 1) * SEGMENT_BYTES)
    out.set(rootOf(part, i === count - 1 ? lastLeaves : 1024), 32 * i)
  }
  return out
}

function rootOf(data: Uint8Array, leaves: number): Uint8Array {
  const level: Uint8Array[] = []
  for (let i = 0; i < leaves; i++) {
    const part = data.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)
    if (part.length === SECTOR_BYTES) {
      level.push(keccak_256(part))
    } else {
      const sector = new Uint8Array(SECTOR_BYTES)
      sector.set(part)
      level.push(keccak_256(sector))
    }
  }
  return fold(level)
}

/** Root of the tree over hashes of 32 bytes that lie one behind the other, at least one. */
export function treeRootReference(hashes: Uint8Array): Uint8Array {
  const level: Uint8Array[] = []
  for (let i = 0; i < hashes.length; i += 32) level.push(hashes.slice(i, i + 32))
  return fold(level)
}

function fold(leaves: Uint8Array[]): Uint8Array {
  let level = leaves
  const pair = new Uint8Array(64)
  while (level.length > 1) {
    const next: Uint8Array[] = []
    for (let i = 0; i + 1 < level.length; i += 2) {
      pair.set(level[i]!)
      pair.set(level[i + 1]!, 32)
      next.push(keccak_256(pair))
    }
    if (level.length % 2 === 1) next.push(level[level.length - 1]!)
    level = next
  }
  return level[0]!
}
