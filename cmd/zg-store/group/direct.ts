/**
 * Where the shards of a file lie, and shards themselves, for zg's own clients: who knows the holders reads from all of them at once and
 * saves the way through one member; who misses a data shard decodes at home. Nothing here is trusted: a client hashes what it gets
 * against the file root, and takes the ordinary way (raw.ts) for whatever does not fit. docs/protocol/storage-raw.md has the bytes.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { HttpError, sendError, sendJson } from '../../../lib/adapters/http.ts'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { hashFromHex, toHex } from '../../../lib/base/hex.ts'
import { codeFault, stripeCount } from '../../../lib/codec/storage/shard-name.ts'
import { Lanes } from './context.ts'
import type { CodingGroup } from './group.ts'

/** Shards of one request: 2 MiB. */
const SHARDS = 8
/** Requests that read at the same time: 32 MiB. */
const READERS = 16
/** Segments whose sectors are told in one answer. */
const HELD_SEGMENTS = 1024
const NOBODY = 255
/** An answer that is not taken within this is cut off. */
const SLOW_MS = 30_000

/** @param urlOf - where a member can be reached. */
export function directRoutes(
  group: () => CodingGroup | undefined,
  urlOf: (id: Uint8Array) => string | undefined
): HttpRoute {
  const lanes = new Lanes(READERS)
  return (req, res, url) => {
    const [what, name, ...more] = url.pathname.slice('/v1/group/'.length).split('/')
    if (what !== 'placement' && what !== 'shards' && what !== 'held') return false
    const serve = async (): Promise<void> => {
      if (req.method !== 'GET' || name === undefined || more.length > 0) {
        throw new HttpError(404, 'ERR_NOT_FOUND', `nothing at ${url.pathname}`)
      }
      const g = group()
      if (g === undefined) throw new HttpError(503, 'ERR_UNAVAILABLE', 'not ready')
      const root = input(() => hashFromHex(name, 'root'))
      if (what === 'placement') await placement(g, urlOf, root, res)
      else if (what === 'held') await lanes.run(() => held(g, root, url, res))
      else await lanes.run(() => shards(g, root, url, res))
    }
    return serve().then(
      () => true,
      err => {
        if (res.headersSent) res.destroy()
        else sendError(req as IncomingMessage, res, err instanceof HttpError ? err : internal(err))
        return true
      }
    )
  }
}

async function placement(
  group: CodingGroup,
  urlOf: (id: Uint8Array) => string | undefined,
  root: Uint8Array,
  res: ServerResponse
): Promise<void> {
  let file: { k: number; m: number; size: number; holders: Uint8Array } | undefined
  const members: { id: string; url: string }[] = []
  const numbers = new Map<string, number>()
  for await (const x of group.manifestsOf(root)) {
    const { k, m, size } = x
    file ??= { k, m, size, holders: new Uint8Array(stripeCount(size, x) * (k + m)).fill(NOBODY) }
    for (const [j, claim] of x.claims.entries()) {
      if (claim === undefined) continue
      const id = toHex(claim.holder)
      let n = numbers.get(id)
      if (n === undefined) {
        const url = urlOf(claim.holder)
        if (url === undefined || url === '' || members.length === NOBODY) continue
        n = members.push({ id, url }) - 1
        numbers.set(id, n)
      }
      file.holders[x.stripe * (k + m) + j] = n
    }
  }
  if (file === undefined) throw new HttpError(404, 'ERR_NOT_FOUND', 'no such file in this group')
  const { holders, ...rest } = file
  sendJson(res, 200, { root: toHex(root), ...rest, members, holders: Buffer.from(holders).toString('base64') })
}

/** `?k=4&m=2&size=N&at=STRIPE.J,STRIPE.J,…`: the shards that are here, in that order, then one byte for each asked: 1 or 0. */
async function shards(group: CodingGroup, root: Uint8Array, url: URL, res: ServerResponse): Promise<void> {
  const number = (name: string): number => counter(url.searchParams.get(name))
  const code = { k: number('k'), m: number('m') }
  const size = number('size')
  if (codeFault(code) !== undefined || size < 1 || size > 2 ** 52)
    throw new HttpError(400, 'ERR_BAD_INPUT', 'not a code')
  const at = (url.searchParams.get('at') ?? '').split(',')
  if (at.length > SHARDS) throw new HttpError(400, 'ERR_BAD_INPUT', `more than ${SHARDS} shards`)
  const asked = at.map(x => {
    const [stripe, j, ...more] = x.split('.').map(y => counter(y))
    const there = stripe !== undefined && stripe < stripeCount(size, code) && j !== undefined && j < code.k + code.m
    if (!there || more.length > 0) throw new HttpError(400, 'ERR_BAD_INPUT', 'not a shard')
    return { stripe, j }
  })
  const found = await group.ownShards(root, size, code, asked)
  const parts = found.filter(x => x !== undefined).map(x => x.data)
  res.writeHead(200, {
    'content-type': 'application/octet-stream',
    'content-length': parts.reduce((sum, p) => sum + p.length, asked.length)
  })
  res.once('close', () => {
    for (const x of found) x?.release()
  })
  res.cork()
  for (const p of parts) res.write(p)
  res.uncork()
  res.end(Uint8Array.from(found, x => +(x !== undefined)))
  // Whoever reads slowly keeps his place, and with it the memory, but not for ever.
  if (res.writableFinished || res.destroyed) return
  const timer = setTimeout(() => res.destroy(), SLOW_MS)
  await new Promise<void>(resolve => res.once('close', () => resolve()))
  clearTimeout(timer)
}

/**
 * `?first=N&count=M`: one bit for each sector of these segments of the file, 128 bytes a segment, 1 where it lies on the disk of this very
 * member. `?first=N&data=1`: the bits of one segment and its bytes, zeros where it does not.
 */
async function held(group: CodingGroup, root: Uint8Array, url: URL, res: ServerResponse): Promise<void> {
  const first = counter(url.searchParams.get('first'))
  const parts: Uint8Array[] = []
  if (url.searchParams.get('data') === '1') {
    const { mask, data } = await group.heldSegment(root, first)
    parts.push(mask, data)
  } else {
    const count = counter(url.searchParams.get('count'))
    if (count > HELD_SEGMENTS) throw new HttpError(400, 'ERR_BAD_INPUT', `more than ${HELD_SEGMENTS} segments`)
    parts.push(...(await group.heldSectors(root, first, count)))
  }
  res.writeHead(200, {
    'content-type': 'application/octet-stream',
    'content-length': parts.reduce((sum, p) => sum + p.length, 0)
  })
  for (const p of parts) res.write(p)
  res.end()
}

function counter(text: string | null | undefined): number {
  if (text === null || text === undefined || !/^[0-9]{1,15}$/.test(text)) {
    throw new HttpError(400, 'ERR_BAD_INPUT', 'not a number')
  }
  return Number(text)
}

function input<T>(fn: () => T): T {
  try {
    return fn()
  } catch (err) {
    throw new HttpError(400, 'ERR_BAD_INPUT', messageOf(err))
  }
}

function internal(err: unknown): HttpError {
  return new HttpError(503, 'ERR_UNAVAILABLE', messageOf(err))
}
