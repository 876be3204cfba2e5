import { keccak_256 } from '@noble/hashes/sha3.js'
import { utf8 } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'

/** An address with its EIP-55 checksum: upper case where the keccak of the lower-case digits has a high nibble of 8 or more. */
export function checksumAddress(address: Uint8Array): string {
  const digits = toHex(address).slice(2)
  const hash = toHex(keccak_256(utf8(digits))).slice(2)
  return `0x${[...digits].map((c, i) => (Number.parseInt(hash[i]!, 16) >= 8 ? c.toUpperCase() : c)).join('')}`
}
