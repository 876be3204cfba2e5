/** `zg-chain keys`: encrypted key files of this user. */
import { randomBytes } from 'node:crypto'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex } from '../../../lib/base/hex.ts'
import { newPassword, passwordReader } from '../../../lib/cli/password.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { keyFilePath, listKeyFiles } from '../../../lib/clients/accounts.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { isDevKey } from '../../../lib/crypto/dev-accounts.ts'
import { decryptKey } from '../../../lib/crypto/keystore.ts'
import { readSecretFile, writeKeyFile } from '../../../lib/crypto/keystore-file.ts'
import { addressOf, isPrivateKey } from '../../../lib/crypto/secp256k1.ts'
import { readInput } from './input.ts'

/** A key file or a line of hex. */
const MAX_BYTES = 64 * 1024

export const keysNew: VerbFn = async (ctx, [name], opts) => {
  const path = keyFilePath(name!)
  let key: Uint8Array = randomBytes(32)
  // One draw in 2¹²⁸ is out of the curve's range.
  while (!isPrivateKey(key)) key = randomBytes(32)
  await store(ctx, { name: name!, path, key, password: await newPassword(ctx, opts, `new password of '${name}': `) })
}

export const keysImport: VerbFn = async (ctx, [name, file = '-'], opts) => {
  const path = keyFilePath(name!)
  const text = (await readInput(ctx, file, MAX_BYTES)).trim()
  let key: Uint8Array
  if (text.startsWith('{')) key = await decryptKey(text, await passwordReader(ctx, opts)(`password of '${file}': `))
  else {
    try {
      key = fromHex(text, 'private key', { size: 32, bare: true })
    } catch {
      throw new ZgError('ERR_BAD_INPUT', `'${file}' is neither a key file nor 64 hex digits`)
    }
    if (!isPrivateKey(key)) throw new ZgError('ERR_BAD_INPUT', `'${file}' holds no private key of secp256k1`)
  }
  if (isDevKey(key)) ctx.warn('this is one of the ten devnet keys: everybody knows it')
  await store(ctx, { name: name!, path, key, password: await newPassword(ctx, opts, `new password of '${name}': `) })
}

async function store(
  ctx: VerbContext,
  o: { name: string; path: string; key: Uint8Array; password: string }
): Promise<void> {
  const address = checksumAddress(addressOf(o.key))
  await writeKeyFile(o.path, o.key, o.password)
  o.key.fill(0)
  ctx.say(`written to ${o.path}; without its password nobody can open it`)
  ctx.print({ type: 'key', name: o.name, address, path: o.path }, address)
}

export const keysList: VerbFn = async ctx => {
  const entries = await listKeyFiles()
  const width = Math.max(0, ...entries.map(e => e.name.length)) + 2
  for (const e of entries) {
    ctx.print(
      { type: 'key', name: e.name, address: e.address ?? null, path: e.path },
      `${e.name.padEnd(width)}${e.address ?? 'cannot be read'}`
    )
  }
  if (entries.length > 0) return 0
  ctx.say("no key files yet; 'zg-chain keys new NAME' makes one")
  return 1
}

/** The file as it is, still encrypted: what other wallets import. */
export const keysExport: VerbFn = async (ctx, [name]) => {
  await ctx.write(Buffer.from(await readSecretFile(keyFilePath(name!))))
}
