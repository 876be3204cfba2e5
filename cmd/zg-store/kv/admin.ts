/**
 * `admin_addStream(stream, wallet, signature)`: follow one more stream from now on, at the word of a wallet. The signature is
 * EIP-712, domain {name: "0G Storage Scan", version: "1", chainId}, RegisterStream(string purpose,address wallet,bytes32 streamId)
 * with purpose "register-stream" (storage.md 6.4). What was written before is not replayed: a stream that must be whole is named
 * at the start.
 */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { bigToBytes, concat, equalBytes, padLeft, utf8 } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { addressFromHex, fromHex, hashFromHex } from '../../../lib/base/hex.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { recoverAddress } from '../../../lib/crypto/secp256k1.ts'

const text = (s: string): Uint8Array => keccak256(utf8(s))
const DOMAIN_TYPE = text('EIP712Domain(string name,string version,uint256 chainId)')
const REGISTER_TYPE = text('RegisterStream(string purpose,address wallet,bytes32 streamId)')

/** What a wallet signs to have a stream followed. */
export function registerDigest(chainId: number, wallet: Uint8Array, stream: Uint8Array): Uint8Array {
  const domain = keccak256(DOMAIN_TYPE, text('0G Storage Scan'), text('1'), bigToBytes(BigInt(chainId), 32))
  const struct = keccak256(REGISTER_TYPE, text('register-stream'), padLeft(wallet, 32), stream)
  return keccak256(concat(Uint8Array.of(0x19, 0x01), domain, struct))
}

/** @param add - follows a stream and remembers it; throws RpcError when there are too many. */
export function kvAdminMethods(o: {
  chainId: () => Promise<number>
  add: (stream: Uint8Array) => Promise<void>
}): RpcMethods {
  return {
    admin_addStream: async ([streamId, account, signature]) => {
      let stream: Uint8Array
      let wallet: Uint8Array
      let sig: Uint8Array
      try {
        stream = hashFromHex(streamId, 'stream id')
        wallet = addressFromHex(account, 'wallet')
        sig = fromHex(signature, 'signature', { size: 65 })
      } catch (err) {
        throw new RpcError(RPC.params, 'Invalid params', messageOf(err))
      }
      const digest = registerDigest(await o.chainId(), wallet, stream)
      if (!signedBy(wallet, digest, sig))
        throw new RpcError(RPC.params, 'Invalid params: signature', 'not signed by the wallet')
      await o.add(stream)
      return true
    }
  }
}

function signedBy(wallet: Uint8Array, digest: Uint8Array, sig: Uint8Array): boolean {
  const v = sig[64]! >= 27 ? sig[64]! - 27 : sig[64]!
  if (v > 1) return false
  const [r, s] = [sig.subarray(0, 32), sig.subarray(32, 64)].map(b => BigInt(`0x${Buffer.from(b).toString('hex')}`))
  try {
    return equalBytes(recoverAddress(digest, { r: r!, s: s!, yParity: v as 0 | 1 }), wallet)
  } catch {
    return false
  }
}
