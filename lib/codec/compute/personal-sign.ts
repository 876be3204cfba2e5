/** EIP-191 `personal_sign` with signatures as 65 bytes r ‖ s ‖ v, v 27 or 28, s in the lower half. */
import { bigToBytes, bytesToBig, concat, utf8 } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { keccak256 } from '../../crypto/hash.ts'
import { recoverAddress, sign } from '../../crypto/secp256k1.ts'

/** What is signed of a message: keccak256("\x19Ethereum Signed Message:\n" ‖ its length in decimal ‖ it). */
export function personalHash(message: Uint8Array): Uint8Array {
  return keccak256(utf8(`\x19Ethereum Signed Message:\n${message.length}`), message)
}

/** 65 bytes. @throws {ZgError} ERR_BAD_INPUT for a bad key. */
export function signPersonal(message: Uint8Array, key: Uint8Array): Uint8Array {
  return signDigest(personalHash(message), key)
}

/** The address (20 bytes) that signed. @throws {ZgError} ERR_BAD_INPUT. */
export function recoverPersonal(message: Uint8Array, signature: Uint8Array): Uint8Array {
  return recoverDigest(personalHash(message), signature)
}

/** Signs 32 bytes as they are; 65 bytes. */
export function signDigest(digest: Uint8Array, key: Uint8Array): Uint8Array {
  const sig = sign(digest, key)
  return concat(bigToBytes(sig.r, 32), bigToBytes(sig.s, 32), Uint8Array.of(27 + sig.yParity))
}

/** The address (20 bytes) that signed 32 bytes. High s, another length or v are refused. @throws {ZgError} ERR_BAD_INPUT. */
export function recoverDigest(digest: Uint8Array, signature: Uint8Array): Uint8Array {
  if (signature.length !== 65) {
    throw new ZgError('ERR_BAD_INPUT', `signature has ${signature.length} bytes, 65 wanted`)
  }
  const v = signature[64]!
  if (v !== 27 && v !== 28) throw new ZgError('ERR_BAD_INPUT', `signature has v ${v}, 27 or 28 wanted`)
  const r = bytesToBig(signature.subarray(0, 32))
  const s = bytesToBig(signature.subarray(32, 64))
  return recoverAddress(digest, { r, s, yParity: v === 28 ? 1 : 0 })
}
