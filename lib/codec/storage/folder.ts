/**
 * A folder is a file (storage.md 7.3): 32 bytes magic, u16 big endian codec version, then JSON
 * `{name, type, hash (version 1) or roots (version 2), size, link, entries}` with entries sorted by name.
 */
import { compareBytes, concat, equalBytes, utf8, view } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { hashFromHex, toHex } from '../../base/hex.ts'
import { LIMITS } from '../../base/limits.ts'
import { keccak256 } from '../../crypto/hash.ts'

export type FolderEntryType = 'file' | 'directory' | 'symbolic'

/** A file, folder or symbolic link in a folder. */
export interface FolderEntry {
  /** No slash; empty only for the top. */
  name: string
  type: FolderEntryType
  /** Files: roots of the fragments; none for an empty file. */
  roots: Uint8Array[]
  /** Files: bytes. */
  size: number
  /** Symbolic links: the target. */
  link: string
  /** Directories: sorted by name. */
  entries: FolderEntry[]
}

/** Bytes of a folder file that are accepted. */
export const FOLDER_MAX_BYTES = 64 * 1024 * 1024
/** Entries of a folder with everything below it. */
export const FOLDER_MAX_ENTRIES = 200_000
/** Fragments of one file. */
const MAX_ROOTS = 65_536
const NAME_BYTES = 255
const LINK_BYTES = 4096

/** First 32 bytes of a folder file. */
export function folderMagic(): Uint8Array {
  return keccak256(utf8('0g-storage-client-dir-codec'))
}

/** True when a file begins like a folder; 32 bytes suffice. */
export function isFolder(start: Uint8Array): boolean {
  return start.length >= 32 && equalBytes(start.subarray(0, 32), folderMagic())
}

/** Encodes a folder, version 2. @throws {ZgError} ERR_BAD_INPUT for names, sizes or numbers out of bounds. */
export function encodeFolder(top: FolderEntry): Uint8Array {
  const count = { n: 0 }
  const json = JSON.stringify(toJson(top, 0, count))
  return concat(folderMagic(), Uint8Array.of(0, 2), utf8(json))
}

/**
 * Reads a folder file, version 1 or 2.
 * @throws {ZgError} ERR_CORRUPT when it is not one or is out of bounds.
 */
export function decodeFolder(data: Uint8Array): FolderEntry {
  if (!isFolder(data) || data.length < 34) throw corrupt('does not begin like one')
  if (data.length > FOLDER_MAX_BYTES) throw corrupt('is too long')
  const version = view(data).getUint16(32)
  if (version !== 1 && version !== 2) throw corrupt(`has version ${version}`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(34)))
  } catch {
    throw corrupt('does not hold JSON')
  }
  const top = fromJson(json, version, 0, { n: 0 })
  if (top.type !== 'directory') throw corrupt('is not a directory at the top')
  return top
}

/** The entry at a path of names separated by `/`, or undefined. An empty path is the folder itself. */
export function findInFolder(top: FolderEntry, path: string): FolderEntry | undefined {
  let at: FolderEntry | undefined = top
  for (const name of path.split('/').filter(p => p !== '')) {
    at = at?.type === 'directory' ? at.entries.find(e => e.name === name) : undefined
  }
  return at
}

function toJson(e: FolderEntry, depth: number, count: { n: number }): Record<string, unknown> {
  const fault = entryFault(e, depth, count)
  if (fault !== undefined) throw new ZgError('ERR_BAD_INPUT', `folder ${fault}`)
  if (e.type === 'file') {
    return { name: e.name, type: 'file', roots: e.roots.map(r => toHex(r)), size: e.size }
  }
  if (e.type === 'symbolic') return { name: e.name, type: 'symbolic', link: e.link }
  const entries = [...e.entries].sort(byName)
  for (let i = 1; i < entries.length; i++) {
    if (entries[i]!.name === entries[i - 1]!.name) {
      throw new ZgError('ERR_BAD_INPUT', `folder has '${entries[i]!.name}' twice`)
    }
  }
  return { name: e.name, type: 'directory', entries: entries.map(x => toJson(x, depth + 1, count)) }
}

function fromJson(v: unknown, version: 1 | 2, depth: number, count: { n: number }): FolderEntry {
  if (typeof v !== 'object' || v === null || Array.isArray(v)) throw corrupt('has an entry that is no object')
  const o = v as Record<string, unknown>
  const type = o.type
  if (type !== 'file' && type !== 'directory' && type !== 'symbolic') throw corrupt('has an entry of unknown type')
  const e: FolderEntry = {
    name: text(o.name ?? (depth === 0 ? '' : undefined)),
    type,
    roots: type === 'file' ? rootsOf(o, version) : [],
    size: type === 'file' ? (o.size as number) : 0,
    link: type === 'symbolic' ? text(o.link) : '',
    entries: []
  }
  const fault = entryFault(e, depth, count)
  if (fault !== undefined) throw corrupt(fault)
  if (type === 'directory') {
    const list = o.entries ?? []
    if (!Array.isArray(list)) throw corrupt('has entries that are no list')
    e.entries = list.map(x => fromJson(x, version, depth + 1, count)).sort(byName)
    for (let i = 1; i < e.entries.length; i++) {
      if (e.entries[i]!.name === e.entries[i - 1]!.name) throw corrupt('has a name twice')
    }
  }
  return e
}

function entryFault(e: FolderEntry, depth: number, count: { n: number }): string | undefined {
  if (++count.n > FOLDER_MAX_ENTRIES) return `has more than ${FOLDER_MAX_ENTRIES} entries`
  if (depth > LIMITS.jsonDepth / 2) return 'is nested too deeply'
  if (depth > 0 && !isName(e.name)) return `has the name '${e.name.slice(0, 40)}', which is not possible`
  if (e.type !== 'file') return utf8(e.link).length > LINK_BYTES ? 'has a link that is too long' : undefined
  if (!Number.isSafeInteger(e.size) || e.size < 0) return 'has a file of impossible size'
  if (e.roots.length > MAX_ROOTS) return 'has a file of too many fragments'
  if (e.size > 0 !== e.roots.length > 0) return 'has a file whose size and roots contradict each other'
  return undefined
}

/** Names that are devices to some systems, whatever directory they stand in. */
const DEVICES = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$/i

/**
 * Why an entry must not become a file on a disk, although a folder may list it: a name that some system takes for a device, or a
 * link that leads out of the folder. Undefined when it may.
 * @param at - names of the directories above it, below the top.
 */
export function unsafeOnDisk(e: FolderEntry, at: readonly string[]): string | undefined {
  if (DEVICES.test(e.name.replace(/[ .]+$/, ''))) return `the name '${e.name}' is a device on some systems`
  if (e.type !== 'symbolic') return undefined
  return linkStaysInside(e.link, at) ? undefined : `the link '${e.name}' leads out of the folder`
}

/** True when a link in the directory `at` leads to something in the folder at every step of its way. */
export function linkStaysInside(link: string, at: readonly string[]): boolean {
  if (link === '' || link.startsWith('/') || link.includes('\0') || /^[a-z]:/i.test(link)) return false
  let depth = at.length
  for (const name of link.split(/[\\/]/)) {
    if (name === '..') depth--
    else if (name !== '' && name !== '.') depth++
    if (depth < 0) return false
  }
  return true
}

/** A name that can be a file's on any system: it never leads out of its folder. */
export function isName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || utf8(name).length > NAME_BYTES) return false
  return !name.includes('/') && !name.includes('\\') && !name.includes('\0')
}

function rootsOf(o: Record<string, unknown>, version: 1 | 2): Uint8Array[] {
  const list = version === 1 ? (o.hash === undefined || o.hash === '' ? [] : [o.hash]) : (o.roots ?? [])
  if (!Array.isArray(list) || list.length > MAX_ROOTS) throw corrupt('has roots that are no list')
  try {
    return list.map(r => hashFromHex(r, 'root'))
  } catch (err) {
    throw corrupt(`has a malformed root: ${(err as Error).message}`)
  }
}

function text(v: unknown): string {
  if (typeof v !== 'string') throw corrupt('has an entry without a name or link')
  return v
}

function byName(a: FolderEntry, b: FolderEntry): number {
  return compareBytes(utf8(a.name), utf8(b.name))
}

function corrupt(what: string): ZgError {
  return new ZgError('ERR_CORRUPT', `folder file ${what}`)
}
