/** The key of `teeSignerAddress`: made once, kept in the data directory, never leaves it. */
import { fromUtf8, utf8 } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { isPrivateKey } from '../../../lib/crypto/secp256k1.ts'
import type { Disk } from '../../../lib/ports/disk.ts'
import type { Random } from '../../../lib/ports/random.ts'

/** `0x`, 64 digits and a newline. */
const FILE_BYTES = 67

/**
 * Reads the key, or makes one: durable before it is used, since what it signs must stay verifiable.
 * @throws {ZgError} ERR_CORRUPT when the file holds no key, else as the disk does.
 */
export async function signerKey(disk: Disk, dir: string, random: Random): Promise<Uint8Array> {
  const path = `${dir}/signer.key`
  await disk.remove(`${path}.new`)
  if (await disk.exists(path)) {
    const file = await disk.open(path, 'open')
    try {
      const key = fromHex(fromUtf8(await file.read(0, FILE_BYTES)).trim(), 'key', { size: 32 })
      if (isPrivateKey(key)) return key
    } catch {
      // Said below, without what stands in the file.
    } finally {
      await file.close()
    }
    throw new ZgError('ERR_CORRUPT', `'${path}' holds no key`, {
      hint: 'restore it from a backup, or remove it: the next start makes a new signer'
    })
  }
  let key = random.bytes(32)
  while (!isPrivateKey(key)) key = random.bytes(32)
  const file = await disk.open(`${path}.new`, 'new')
  await file.write(0, utf8(`${toHex(key)}\n`))
  await file.sync()
  await file.close()
  await disk.rename(`${path}.new`, path)
  await disk.syncDir(dir)
  return key
}
