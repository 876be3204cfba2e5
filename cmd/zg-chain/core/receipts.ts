/** Receipts as consensus sees them: their encoding, and the bloom filter of their logs. */
import { concat } from '../../../lib/base/bytes.ts'
import { encodeRlp } from '../../../lib/codec/rlp.ts'
import { keccak256 } from './hash.ts'
import type { Log, Receipt } from './types.ts'

/** EIP-2718 bytes of a receipt: type ‖ rlp([status or post-state, cumulativeGasUsed, bloom, logs]), no type byte for legacy. */
export function encodeReceipt(r: Receipt): Uint8Array {
  const logs = r.logs.map(l => [l.address, l.topics, l.data])
  const body = encodeRlp([r.root ?? r.status, r.cumulativeGasUsed, r.logsBloom, logs])
  return r.type === 0 ? body : concat(Uint8Array.of(r.type), body)
}

/** The 2048-bit bloom of logs: three bits for each address and topic. Source: Yellow Paper 4.3.1. */
export function bloomOf(logs: readonly Log[]): Uint8Array {
  const bloom = new Uint8Array(256)
  for (const log of logs) {
    addToBloom(bloom, log.address)
    for (const topic of log.topics) addToBloom(bloom, topic)
  }
  return bloom
}

/** Ors `from` into `into`, both 256 bytes. */
export function mergeBloom(into: Uint8Array, from: Uint8Array): void {
  for (let i = 0; i < 256; i++) into[i]! |= from[i]!
}

function addToBloom(bloom: Uint8Array, item: Uint8Array): void {
  const h = keccak256(item)
  for (let i = 0; i < 6; i += 2) {
    const bit = ((h[i]! << 8) | h[i + 1]!) & 2047
    bloom[255 - (bit >> 3)]! |= 1 << (bit & 7)
  }
}
