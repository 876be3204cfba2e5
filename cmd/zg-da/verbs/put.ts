/** `zg-da put`: a file or stdin to a disperser; stdout is the root alone, computed here and not believed. */
import { open } from 'node:fs/promises'
import { systemClock } from '../../../lib/adapters/clock.ts'
import { concat, equalBytes } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { formatDuration, formatSize, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import type { BlobId } from '../../../lib/clients/da/abi.ts'
import { DisperserClient } from '../../../lib/clients/da/disperser.ts'
import { BLOB_BYTES_MAX } from '../../../lib/clients/da/wire.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import { type EncodedBlob, encodeBlob } from '../../../lib/codec/da/blob.ts'
import { openChain } from './common.ts'

/** Between questions for the state: at first as often as a fast chain makes blocks, later as a slow one does. */
const FIRST_ASK_MS = 40
const MOST_ASK_MS = 500

export const put: VerbFn = async (ctx, args, opts) => {
  const data = await readInput(ctx, args[0])
  const bar = ctx.progress('encode', { total: data.length })
  const blob = await encodeBlob(data)
  bar.update(data.length)
  bar.done()
  if (opts.dryRun === true) {
    ctx.print({ ...record(blob, data), certified: false, dry_run: true }, toHex(blob.header.dataRoot))
    return
  }
  const address = await findEndpoint(opts.disperser as string | undefined, ctx.network, 'da', 'zg-da put')
  const client = new DisperserClient(address)
  try {
    await send(ctx, opts, client, blob, data)
  } finally {
    client.close()
  }
}

async function send(
  ctx: VerbContext,
  opts: Options,
  client: DisperserClient,
  blob: EncodedBlob,
  data: Uint8Array
): Promise<void> {
  const begun = performance.now()
  const root = blob.header.dataRoot
  const timeoutMs = opts.timeout as number
  const upload = ctx.progress('disperse', { total: data.length })
  const requestId = await client.disperse(data, { timeoutMs, signal: ctx.signal })
  upload.update(data.length)
  upload.done()
  if (opts.wait === 'accepted') {
    const request_id = new TextDecoder().decode(requestId)
    ctx.print({ ...record(blob, data), certified: false, request_id }, toHex(root))
    return
  }
  const certify = ctx.progress('certify', { unit: 'items' })
  let id: BlobId | undefined
  let waitMs = FIRST_ASK_MS
  for (;;) {
    const status = await client.status(requestId, { signal: ctx.signal })
    if (status.state === 'failed' || status.state === 'insufficientSignatures') {
      throw new ZgError('ERR_REJECTED', `blob ${toHex(root)} was not certified: too few signers signed it`, {
        hint: "run 'zg-devnet status' and try again"
      })
    }
    if (status.id !== undefined && !equalBytes(status.id.root, root)) {
      throw new ZgError('ERR_BAD_PROOF', `disperser certified ${toHex(status.id.root)}, this blob is ${toHex(root)}`)
    }
    id = status.id ?? id
    if (status.state === 'finalized' || (status.state === 'confirmed' && opts.wait === 'confirmed')) break
    if (performance.now() - begun > timeoutMs) {
      throw new ZgError('ERR_TIMEOUT', `blob ${toHex(root)} is not ${opts.wait} after ${formatDuration(timeoutMs)}`, {
        hint: "give a longer '--timeout', or see 'zg-devnet logs'"
      })
    }
    await systemClock.sleep(waitMs, ctx.signal)
    waitMs = Math.min(waitMs * 1.3, MOST_ASK_MS)
  }
  const facts = id === undefined ? undefined : await onChain(ctx, opts, blob, id)
  certify.done(facts === undefined ? (opts.wait as string) : `${facts.signed} of ${facts.signers} signed`)
  ctx.print(
    {
      ...record(blob, data),
      epoch: id?.epoch ?? null,
      quorum_id: id?.quorumId ?? null,
      signers: facts?.signers ?? null,
      signed: facts?.signed ?? null,
      certified: true,
      checked: facts !== undefined,
      blockNumber: facts?.blockNumber ?? null,
      seconds: Math.round(performance.now() - begun) / 1000
    },
    ctx.tty ? shortHash(toHex(root)) : toHex(root)
  )
}

/** What the chain says of it; undefined where no chain is known to ask. @throws {ZgError} ERR_BAD_PROOF when it says otherwise. */
async function onChain(
  ctx: VerbContext,
  opts: Options,
  blob: EncodedBlob,
  id: BlobId
): Promise<{ blockNumber: number; signed: number; signers: number } | undefined> {
  let chain: Awaited<ReturnType<typeof openChain>>
  try {
    chain = await openChain(ctx, opts)
  } catch (err) {
    if (err instanceof ZgError && err.code === 'ERR_NO_NETWORK') return undefined
    throw err
  }
  const recorded = await chain.commitment(id)
  const { cx, cy } = blob.commitment
  if (recorded === undefined || recorded.x !== BigInt(toHex(cx)) || recorded.y !== BigInt(toHex(cy))) {
    throw new ZgError('ERR_BAD_PROOF', `the chain records another encoding of ${toHex(id.root)}, or none`)
  }
  const found = await chain.findCertificate(id.root, id)
  if (found === undefined) return undefined
  return { blockNumber: found.blockNumber, ...(await chain.signersOf(found)) }
}

function record(blob: EncodedBlob, data: Uint8Array): { type: 'blob'; [field: string]: unknown } {
  return { type: 'blob', dataRoot: toHex(blob.header.dataRoot), size: data.length }
}

/** The whole blob: it is small, and its root depends on all of it. */
async function readInput(ctx: VerbContext, path: string | undefined): Promise<Uint8Array> {
  const fromFile = path !== undefined && path !== '-'
  if (!fromFile && ctx.stdin.isTTY === true) ctx.say('reading from the terminal, Ctrl-D ends')
  const handle = fromFile ? await open(path, 'r') : undefined
  const stream = handle?.createReadStream({ highWaterMark: 1024 * 1024 }) ?? (ctx.stdin as AsyncIterable<Uint8Array>)
  const parts: Uint8Array[] = []
  let size = 0
  try {
    for await (const part of stream as AsyncIterable<Uint8Array>) {
      size += part.length
      if (size > BLOB_BYTES_MAX) {
        throw new ZgError(
          'ERR_BAD_INPUT',
          `a blob has at most ${BLOB_BYTES_MAX} bytes (${formatSize(BLOB_BYTES_MAX)})`,
          {
            hint: `run 'split -b ${BLOB_BYTES_MAX}' first, or 'zg-store put' for files`
          }
        )
      }
      parts.push(part)
    }
  } finally {
    await handle?.close()
  }
  if (size === 0) throw new ZgError('ERR_BAD_INPUT', 'input is empty: an empty blob cannot be made available')
  return concat(...parts)
}
