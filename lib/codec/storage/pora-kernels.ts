/** Chooses who seals and searches: the native part where it is built, else TypeScript, about a hundred times slower. */
import { compareBytes, concat } from '../../base/bytes.ts'
import { codec, type PoraKernels } from '../../native.ts'
import { mix, padSeed, quality, SEAL_BYTES, SEGMENT_SEALS, scratchPad, seal, unseal } from './pora.ts'

/** The kernels of this process; `codec()` says once when they are the slow ones. */
export function poraKernels(): PoraKernels {
  return codec().pora ?? referencePora
}

const each = (masks: Uint8Array, data: Uint8Array, f: (data: Uint8Array, mask: Uint8Array) => Uint8Array): Uint8Array =>
  concat(
    ...Array.from({ length: data.length / SEAL_BYTES }, (_, i) =>
      f(data.subarray(i * SEAL_BYTES, (i + 1) * SEAL_BYTES), masks.slice(32 * i, 32 * i + 32))
    )
  )

/** The same in TypeScript. */
export const referencePora: PoraKernels = {
  seal: async (masks, data) => each(masks, data, seal),
  unseal: async (masks, data) => each(masks, data, unseal),
  pads: async (minerId, nonces, subtask, range) => {
    const tries = Array.from({ length: nonces.length / 32 }, (_, i) => {
      const seed = padSeed(minerId, nonces.subarray(32 * i, 32 * i + 32), subtask, range)
      return { seed, ...scratchPad(seed) }
    })
    return {
      seeds: concat(...tries.map(t => t.seed)),
      recalls: concat(...tries.map(t => t.recall)),
      pads: concat(...tries.map(t => t.pad))
    }
  },
  best: async (pads, reads) =>
    reads.map(({ index, held, sealed }) => {
      const seed = pads.seeds.subarray(64 * index, 64 * index + 64)
      const pad = pads.pads.subarray(16_384 * index, 16_384 * (index + 1))
      let best: number | undefined
      let lowest = new Uint8Array(32)
      for (let i = 0; i < SEGMENT_SEALS; i++) {
        if (((held >> BigInt(i)) & 1n) === 0n) continue
        const q = quality(i, seed, mix(sealed.subarray(i * SEAL_BYTES, (i + 1) * SEAL_BYTES), pad, i))
        if (best !== undefined && compareBytes(q, lowest) >= 0) continue
        best = i
        lowest = q as Uint8Array<ArrayBuffer>
      }
      return { seal: best, quality: lowest }
    })
}
