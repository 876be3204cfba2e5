/** `zg-store pubkey`: the public key for which others encrypt, of one's own key or of a key file. */

import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { isPrivateKey, publicKey } from '../../../lib/crypto/secp256k1.ts'
import { encryptionKey } from './common.ts'

export const pubkey: VerbFn = async (ctx, args) => {
  const file = args[0]
  const secret = await encryptionKey(ctx, file === undefined ? { encrypt: true } : { encryptionKeyFile: file }, true)
  if (secret === undefined || !isPrivateKey(secret)) {
    throw new ZgError('ERR_BAD_INPUT', 'the key file does not hold a private key of secp256k1')
  }
  const key = toHex(publicKey(secret, { compressed: true }))
  ctx.print({ type: 'public_key', public_key: key }, key)
}
