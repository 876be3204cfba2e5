/** The identity of a node: an Ed25519 key in libp2p's protobuf form, in a file that only its owner can read. */
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { ZgError } from '../../base/errors.ts'
import { diskError, systemDisk } from '../disk.ts'

/** An Ed25519 key takes 68. */
const FILE_BYTES_MAX = 1024

/**
 * Reads the key, or makes one (0600, synced, never half written) when the file is absent.
 * @throws {ZgError} ERR_PERMISSION when others may read it, ERR_CORRUPT, and as the disk does.
 */
export async function loadOrCreateKey(path: string): Promise<PrivateKey> {
  if (await systemDisk.exists(path)) return loadKey(path)
  const key = await generateKeyPair('Ed25519')
  const dir = dirname(path)
  await systemDisk.mkdir(dir)
  const temporary = `${path}.tmp`
  await systemDisk.remove(temporary)
  const file = await systemDisk.open(temporary, 'new')
  try {
    await file.write(0, privateKeyToProtobuf(key))
    await file.sync()
  } finally {
    await file.close()
  }
  await systemDisk.rename(temporary, path)
  await systemDisk.syncDir(dir)
  return key
}

async function loadKey(path: string): Promise<PrivateKey> {
  const { mode } = await stat(path).catch(err => {
    throw diskError(err, 'look up', path)
  })
  if ((mode & 0o077) !== 0) {
    throw new ZgError('ERR_PERMISSION', `key file '${path}' can be read by others`, { hint: `run 'chmod 600 ${path}'` })
  }
  const file = await systemDisk.open(path, 'open')
  try {
    return privateKeyFromProtobuf(await file.read(0, FILE_BYTES_MAX))
  } catch (cause) {
    if (cause instanceof ZgError) throw cause
    throw new ZgError('ERR_CORRUPT', `'${path}' is not a key file`, { cause })
  } finally {
    await file.close()
  }
}
