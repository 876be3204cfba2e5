/**
 * Proofs that an encoder cheated: a line that is committed but does not belong to the code, with header and z. Anyone can check
 * one. One a header, a bounded number of them: an attacker must not fill the disk.
 */
import { concat } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { Disk } from '../../../lib/ports/disk.ts'

/** Files kept; one has at most 50 KiB. */
const PROOFS = 256

export class FraudProofs {
  readonly #disk: Disk
  readonly #dir: string

  constructor(disk: Disk, dir: string) {
    this.#disk = disk
    this.#dir = dir
  }

  /**
   * Keeps header ‖ z ‖ line record (with its row path).
   * @returns the file, or undefined when there is one of this header, or enough of others.
   */
  async keep(header: Uint8Array, z: Uint8Array, line: Uint8Array): Promise<string | undefined> {
    await this.#disk.mkdir(this.#dir)
    const name = `${toHex(keccak256(header)).slice(2)}.fraud`
    const present = await this.#disk.list(this.#dir)
    if (present.includes(name) || present.length >= PROOFS) return undefined
    const path = `${this.#dir}/${name}`
    const file = await this.#disk.open(`${path}.part`, 'create')
    try {
      await file.truncate(0)
      await file.write(0, concat(header, z, line))
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#disk.rename(`${path}.part`, path)
    await this.#disk.syncDir(this.#dir)
    return path
  }
}
