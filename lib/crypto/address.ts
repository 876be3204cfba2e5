/** Account addresses: text form with checksum (EIP-55), and where contracts land (CREATE, CREATE2 of EIP-1014). */
import { concat } from '../base/bytes.ts'
import { ZgError } from '../base/errors.ts'
import { addressFromHex, type Hex, toHex } from '../base/hex.ts'
import { keccak256 } from './hash.ts'

/** The address in mixed case, EIP-55. @throws {ZgError} ERR_BAD_INPUT unless it has 20 bytes. */
export function checksumAddress(address: Uint8Array): Hex {
  if (address.length !== 20) throw new ZgError('ERR_BAD_INPUT', `address has ${address.length} bytes, 20 wanted`)
  const digits = toHex(address).slice(2)
  const hash = toHex(keccak256(new TextEncoder().encode(digits))).slice(2)
  let out = ''
  for (let i = 0; i < 40; i++) out += Number.parseInt(hash[i]!, 16) >= 8 ? digits[i]!.toUpperCase() : digits[i]!
  return `0x${out}`
}

/**
 * Reads an address typed by a person: one case throughout is taken as it is, mixed case must carry the right checksum.
 * @throws {ZgError} ERR_BAD_INPUT.
 */
export function parseAddress(text: unknown, what = 'address'): Uint8Array {
  const address = addressFromHex(text, what)
  const digits = (text as string).slice(2)
  const mixed = digits !== digits.toLowerCase() && digits !== digits.toUpperCase()
  if (mixed && checksumAddress(address).slice(2) !== digits) {
    throw new ZgError('ERR_BAD_INPUT', `${what} '${text as string}' has a wrong checksum`, {
      hint: 'one of its characters is mistyped; write it in lower case to skip the check'
    })
  }
  return address
}

/** Where a contract created by `sender` with this nonce lands: last 20 bytes of keccak(rlp([sender, nonce])). */
export function createAddress(sender: Uint8Array, nonce: bigint | number): Uint8Array {
  const n = BigInt(nonce)
  if (sender.length !== 20) throw new ZgError('ERR_BAD_INPUT', `address has ${sender.length} bytes, 20 wanted`)
  if (n < 0n || n >= 1n << 64n) throw new ZgError('ERR_BAD_INPUT', `nonce ${n} is out of range`)
  // A list of 20 bytes and an integer below 2⁶⁴ is under 56 bytes, so the short forms of RLP are all that can occur.
  const item = rlpInteger(n)
  const head = Uint8Array.of(0xc0 + 21 + item.length, 0x80 + 20)
  return keccak256(head, sender, item).slice(12)
}

/** Where CREATE2 lands: last 20 bytes of keccak(0xff ‖ sender ‖ salt ‖ keccak(initCode)). */
export function create2Address(sender: Uint8Array, salt: Uint8Array, initCodeHash: Uint8Array): Uint8Array {
  if (sender.length !== 20) throw new ZgError('ERR_BAD_INPUT', `address has ${sender.length} bytes, 20 wanted`)
  if (salt.length !== 32) throw new ZgError('ERR_BAD_INPUT', `salt has ${salt.length} bytes, 32 wanted`)
  if (initCodeHash.length !== 32) {
    throw new ZgError('ERR_BAD_INPUT', `code hash has ${initCodeHash.length} bytes, 32 wanted`)
  }
  return keccak256(concat(Uint8Array.of(0xff), sender, salt, initCodeHash)).slice(12)
}

function rlpInteger(n: bigint): Uint8Array {
  if (n === 0n) return Uint8Array.of(0x80)
  if (n < 0x80n) return Uint8Array.of(Number(n))
  const bytes: number[] = []
  for (let v = n; v !== 0n; v >>= 8n) bytes.unshift(Number(v & 0xffn))
  return Uint8Array.of(0x80 + bytes.length, ...bytes)
}
