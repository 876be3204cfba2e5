/**
 * The Ed25519 key of a node, in the file that libp2p keeps too (adapters/libp2p/key-file.ts): four bytes of protobuf, the seed, the
 * public key. Read here without loading libp2p, so that a node knows its own name before it answers.
 */
import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { concat, equalBytes } from '../base/bytes.ts'
import { ZgError } from '../base/errors.ts'
import { type SigningKey, signingKey } from '../crypto/ed25519.ts'
import { diskError, systemDisk } from './disk.ts'

const HEAD = Uint8Array.of(0x08, 0x01, 0x12, 0x40)

/**
 * Reads the key, or makes one (0600, synced, never half written) when the file is absent.
 * @throws {ZgError} ERR_PERMISSION when others may read it, ERR_CORRUPT, and as the disk does.
 */
export async function memberKey(path: string): Promise<SigningKey> {
  if (await systemDisk.exists(path)) return signingKey(await readSeed(path))
  const seed = new Uint8Array(randomBytes(32))
  const key = signingKey(seed)
  await systemDisk.mkdir(dirname(path))
  const temporary = `${path}.tmp`
  await systemDisk.remove(temporary)
  const file = await systemDisk.open(temporary, 'new')
  try {
    await file.write(0, concat(HEAD, seed, key.publicKey))
    await file.sync()
  } finally {
    await file.close()
  }
  await systemDisk.rename(temporary, path)
  await systemDisk.syncDir(dirname(path))
  return key
}

async function readSeed(path: string): Promise<Uint8Array> {
  const { mode } = await stat(path).catch(err => {
    throw diskError(err, 'look up', path)
  })
  if ((mode & 0o077) !== 0) {
    throw new ZgError('ERR_PERMISSION', `key file '${path}' can be read by others`, { hint: `run 'chmod 600 ${path}'` })
  }
  const file = await systemDisk.open(path, 'open')
  try {
    const bytes = await file.read(0, 1024)
    if (bytes.length !== 68 || !equalBytes(bytes.subarray(0, 4), HEAD)) {
      throw new ZgError('ERR_CORRUPT', `'${path}' is not an Ed25519 key file`)
    }
    return bytes.slice(4, 36)
  } finally {
    await file.close()
  }
}
