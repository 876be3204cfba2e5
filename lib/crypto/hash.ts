/** The two hashes of the family. Keccak-256 goes through the native codec (0.4 µs for 64 bytes, noble: 8 µs). */
import { createHash } from 'node:crypto'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { codec } from '../native.ts'

/** keccak-256 of the parts joined; 32 bytes. */
export function keccak256(...parts: readonly Uint8Array[]): Uint8Array {
  return codec().keccak256(...parts)
}

/** SHA-256 of the parts joined; 32 bytes. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const h = createHash('sha256')
  for (const p of parts) h.update(p)
  return new Uint8Array(h.digest())
}

/** keccak-256 of a stream too long to hold. For many short inputs use {@link keccak256}: it is ten times faster. */
export class Keccak {
  readonly #state = keccak_256.create()

  /** Takes more bytes; they are read before this returns. */
  update(data: Uint8Array): this {
    this.#state.update(data)
    return this
  }

  /** The hash, 32 bytes. The object cannot be used afterwards. */
  digest(): Uint8Array {
    return this.#state.digest()
  }
}
