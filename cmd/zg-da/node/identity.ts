/**
 * Who a signer is: an account that pays for its transactions, and a BLS key that signs blobs. The devnet's four have well-known
 * ones, which are refused on any other chain.
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex } from '../../../lib/base/hex.ts'
import { passwordReader } from '../../../lib/cli/password.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type Account, findSigner } from '../../../lib/clients/accounts.ts'
import type { ChainClient } from '../../../lib/clients/chain.ts'
import { checkSecretKey, type G1, type G2, publicKeyG1, publicKeyG2 } from '../../../lib/crypto/bn254.ts'
import { readSecretFile } from '../../../lib/crypto/keystore-file.ts'

export interface Identity {
  account: Account
  secretKey: bigint
  pkG1: G1
  pkG2: G2
}

/** @throws {ZgError} ERR_USAGE, ERR_WRONG_NETWORK, ERR_NO_INPUT, ERR_PERMISSION, ERR_CORRUPT. */
export async function findIdentity(ctx: VerbContext, opts: Options, client: ChainClient): Promise<Identity> {
  const source = { network: ctx.network, password: passwordReader(ctx, opts) }
  const index = opts.devSigner as number | undefined
  if (index !== undefined) {
    const { devSigner } = await import('../../../lib/crypto/dev-signers.ts')
    const dev = devSigner(index)
    if (dev === undefined)
      throw new ZgError('ERR_USAGE', `there is no dev signer ${index}`, { hint: 'they are 0 to 3' })
    const account = await findSigner(client, { ...source, account: String(dev.accountIndex) })
    return { account, secretKey: dev.secretKey, pkG1: dev.pkG1, pkG2: dev.pkG2 }
  }
  const file = opts.blsKeyFile as string | undefined
  if (file === undefined) {
    throw new ZgError('ERR_USAGE', 'no BLS key given', {
      hint: "give '--bls-key-file FILE', or '--dev-signer 0' on a devnet"
    })
  }
  const secretKey = readKey(await readSecretFile(file))
  const account = await findSigner(client, { ...source, account: opts.account as string | undefined })
  return { account, secretKey, pkG1: publicKeyG1(secretKey), pkG2: publicKeyG2(secretKey) }
}

/** A decimal number, as upstream's configuration has it, or 32 bytes of hex. The text stays out of every message. */
function readKey(text: string): bigint {
  const plain = text.trim()
  if (/^0x/i.test(plain)) {
    let bytes: Uint8Array
    try {
      bytes = fromHex(plain, 'key', { size: 32 })
    } catch {
      throw new ZgError('ERR_BAD_INPUT', 'the BLS key does not have 64 hex digits')
    }
    return checked(BigInt(`0x${Buffer.from(bytes).toString('hex')}`))
  }
  if (!/^[0-9]{1,80}$/.test(plain)) throw new ZgError('ERR_BAD_INPUT', 'the BLS key is neither decimal nor hex with 0x')
  return checked(BigInt(plain))
}

function checked(key: bigint): bigint {
  checkSecretKey(key)
  return key
}
