/**
 * The block log: what must not be lost, in append-only segment files `00000000.blocks`, `00000001.blocks`, …
 *
 *   segment := record*                                           a new one begins beyond 64 MiB
 *   record  := size u32 | crc u32 | height u64 | payload[size]   big endian; crc = CRC-32C(height ‖ payload)
 *
 *      file 0                          file 1
 *   ┌────────┬────────┬────────┐    ┌────────┬─────────┬─ ─ ─ ─
 *   │ block 0│ block 1│ block 2│    │ block 3│ block 4 │ torn
 *   └────────┴────────┴────────┘    └────────┴─────────┴─ ─ ─ ─
 *                                              ▲ head pointer in the index
 *
 * The log does not know which record is the last that counts: the index does. Bytes behind the head's record were never
 * acknowledged (a crash before the index batch, or a revert after it) and are cut when the log is opened and before the next
 * append. A record that does not match its checksum at or before the head is damage, not a crash: ERR_CORRUPT, stop.
 */
import { concat, u32be, u64be, view } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Disk, DiskFile } from '../../../lib/ports/disk.ts'
import { crc32c } from './crc32c.ts'

/** A segment is closed when it is at least this long. */
const SEGMENT_BYTES = 64 * 1024 * 1024
const HEAD_BYTES = 16
/** A block and its receipts; above it a size field is damage. */
const MAX_RECORD_BYTES = 256 * 1024 * 1024

/** Where a record lies; `size` is its payload's. */
export interface Place {
  file: number
  offset: number
  size: number
}

export interface BlockLog {
  /** Appends behind `after` (the head's place, or undefined for the first), cutting what lies there, and syncs. */
  append(after: Place | undefined, height: number, payload: Uint8Array): Promise<Place>
  /** @throws {ZgError} ERR_CORRUPT when the record is not intact or of another height. */
  read(place: Place, height: number): Promise<Uint8Array>
  close(): Promise<void>
}

/**
 * Opens the log in `dir` and cuts what lies behind `head`.
 * @param head - place and height of the last block that counts; undefined: none does.
 * @throws {ZgError} ERR_CORRUPT when a record of the head's segment up to the head is damaged.
 */
export async function openBlockLog(
  disk: Disk,
  dir: string,
  head: { place: Place; height: number } | undefined,
  segmentBytes = SEGMENT_BYTES
): Promise<BlockLog> {
  await disk.mkdir(dir)
  const files = new Map<number, DiskFile>()
  const nameOf = (file: number) => `${dir}/${String(file).padStart(8, '0')}.blocks`

  async function fileOf(file: number): Promise<DiskFile> {
    let f = files.get(file)
    if (f === undefined) {
      try {
        f = await disk.open(nameOf(file), 'open')
      } catch (err) {
        if (!(err instanceof ZgError) || err.code !== 'ERR_NOT_FOUND') throw err
        throw corrupt(`segment ${file} of the block log is missing`)
      }
      files.set(file, f)
    }
    return f
  }

  /** Removes everything behind a place; the next append finds its spot empty. */
  async function cut(after: Place | undefined): Promise<void> {
    const keep = after?.file ?? -1
    const names = (await disk.list(dir)).filter(n => /^[0-9]{8}\.blocks$/.test(n) && Number.parseInt(n, 10) > keep)
    for (const name of names) {
      const n = Number.parseInt(name, 10)
      await files.get(n)?.close()
      files.delete(n)
      await disk.remove(`${dir}/${name}`)
    }
    if (names.length > 0) await disk.syncDir(dir)
    if (after === undefined) return
    const f = await fileOf(after.file)
    if ((await f.size()) > endOf(after)) {
      await f.truncate(endOf(after))
      await f.sync()
    }
  }

  async function read(place: Place, height: number): Promise<Uint8Array> {
    const record = await (await fileOf(place.file)).read(place.offset, HEAD_BYTES + place.size)
    if (record.length !== HEAD_BYTES + place.size) throw corrupt(`block ${height} of the block log is cut short`)
    const v = view(record)
    const sound =
      v.getUint32(0) === place.size &&
      v.getBigUint64(8) === BigInt(height) &&
      v.getUint32(4) === crc32c(record.subarray(8))
    if (!sound)
      throw corrupt(`block ${height} of the block log is damaged (file ${place.file}, offset ${place.offset})`)
    return record.subarray(HEAD_BYTES)
  }

  /** Walks the head's segment from its start: the heads must lead exactly to the head's record, checksums right. */
  async function verifySegment(place: Place, height: number): Promise<void> {
    const f = await fileOf(place.file)
    let before: number | undefined
    for (let offset = 0; offset <= place.offset; ) {
      const headBytes = await f.read(offset, HEAD_BYTES)
      if (headBytes.length < HEAD_BYTES) throw corrupt(`segment ${place.file} of the block log is cut short`)
      const size = view(headBytes).getUint32(0)
      const at = Number(view(headBytes).getBigUint64(8))
      const damaged = size > MAX_RECORD_BYTES || (before !== undefined && at !== before + 1) || at > height
      if (damaged) throw corrupt(`segment ${place.file} of the block log is damaged at offset ${offset}`)
      await read({ file: place.file, offset, size }, at)
      if (offset === place.offset && at !== height)
        throw corrupt(`the head of the block log is block ${at}, not ${height}`)
      before = at
      offset += HEAD_BYTES + size
      if (offset > place.offset && at !== height)
        throw corrupt(`segment ${place.file} of the block log misses its head`)
    }
  }

  if (head !== undefined) await verifySegment(head.place, head.height)
  await cut(head?.place)
  /** What the files end with; another `after` means that a revert moved the head. */
  let end = head?.place

  return {
    async append(after, height, payload) {
      if (!samePlace(after, end)) await cut(after)
      const rotate = after === undefined || endOf(after) >= segmentBytes
      const file = after === undefined ? 0 : rotate ? after.file + 1 : after.file
      let f: DiskFile
      if (rotate) {
        f = await disk.open(nameOf(file), 'create')
        files.set(file, f)
        await f.truncate(0)
        await disk.syncDir(dir)
      } else f = await fileOf(file)
      const offset = rotate ? 0 : endOf(after!)
      const body = concat(u64be(height), payload)
      await f.write(offset, u32be(payload.length), u32be(crc32c(body)), body)
      await f.sync()
      end = { file, offset, size: payload.length }
      return end
    },
    read,
    async close() {
      for (const f of files.values()) await f.close()
      files.clear()
    }
  }
}

function endOf(p: Place): number {
  return p.offset + HEAD_BYTES + p.size
}

function samePlace(a: Place | undefined, b: Place | undefined): boolean {
  return a?.file === b?.file && a?.offset === b?.offset && a?.size === b?.size
}

function corrupt(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', what, {
    hint: 'restore the data directory from a copy, or make the chain anew'
  })
}
