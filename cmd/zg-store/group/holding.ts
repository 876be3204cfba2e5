/**
 * The sectors of files that lie on this member's own disk: what it may mine (storage.md 11, Mining). Parity is not in the flow; data shards of
 * full stripes are segments, those of a cut stripe a part of it, and a copied stripe lies here whole. Nothing is asked of other members.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { manifestStripe } from '../../../lib/codec/storage/manifest.ts'
import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS } from '../../../lib/codec/storage/shape.ts'
import { type Context, heldOf } from './context.ts'
import type { HeldShard } from './shards.ts'

/** One bit a sector of a segment, the lowest first. */
export const MASK_BYTES = SEGMENT_SECTORS / 8

/** A stretch of a segment that one shard has. */
interface Stretch {
  readonly shard: HeldShard
  /** First sector within the shard, and within the segment. */
  readonly from: number
  readonly to: number
  readonly sectors: number
}

/** Which sectors of a segment of a file are here; all zeros when none is. */
export async function heldSectors(c: Context, root: Uint8Array, index: number): Promise<Uint8Array> {
  const mask = new Uint8Array(MASK_BYTES)
  for (const { to, sectors } of await stretches(c, root, index)) setBits(mask, to, sectors)
  return mask
}

/** The same with the bytes, read and verified; zeros where nothing is here. */
export async function heldSegment(
  c: Context,
  root: Uint8Array,
  index: number
): Promise<{ mask: Uint8Array; data: Uint8Array }> {
  const mask = new Uint8Array(MASK_BYTES)
  const data = new Uint8Array(SEGMENT_BYTES)
  for (const { shard, from, to, sectors } of await stretches(c, root, index)) {
    const found = await c.shards.read(shard)
    if (found === undefined) continue
    data.set(found.subarray(from * SECTOR_BYTES, (from + sectors) * SECTOR_BYTES), to * SECTOR_BYTES)
    setBits(mask, to, sectors)
  }
  return { mask, data }
}

async function stretches(c: Context, root: Uint8Array, index: number): Promise<Stretch[]> {
  const family = await c.manifests.best(root)
  const m = family === undefined ? undefined : await c.manifests.get(root, family, Math.floor(index / family.k))
  if (m === undefined) return []
  const s = manifestStripe(m)
  if (index >= s.firstSegment + s.segments) return []
  const first = (index - s.firstSegment) * SEGMENT_SECTORS
  const end = Math.min(first + SEGMENT_SECTORS, s.dataSectors)
  const out: Stretch[] = []
  for (const [j, claim] of m.claims.entries()) {
    if (claim === undefined || !equalBytes(claim.holder, c.id)) continue
    // A copy is the stripe from its beginning, whatever its number.
    if (j >= s.need && s.need > 1) continue
    const begin = s.need === 1 ? 0 : j * s.sectors
    const low = Math.max(first, begin)
    const high = Math.min(end, begin + s.sectors)
    if (low >= high) continue
    const shard = heldOf(m, j)
    if (await c.shards.has(shard)) out.push({ shard, from: low - begin, to: low - first, sectors: high - low })
  }
  return out
}

function setBits(mask: Uint8Array, from: number, count: number): void {
  for (let i = from; i < from + count; i++) mask[i >> 3]! |= 1 << (i & 7)
}
