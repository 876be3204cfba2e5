/** `zg-chain export`: blocks as RLP, one behind the other, as geth and others import them. */
import { createWriteStream } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { ZgError } from '../../../lib/base/errors.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { decodeRlp, encodeRlp, rlpList } from '../../../lib/codec/rlp.ts'
import type { ZgChain } from '../core/chain.ts'
import { number } from '../print.ts'
import { openDirectory } from './directory.ts'

export const exportBlocks: VerbFn = async (ctx, [file], opts) => {
  const at = await openDirectory(ctx, opts)
  try {
    const head = at.chain.head().number
    const from = (opts.fromBlock as number | undefined) ?? 0
    const to = Math.min((opts.toBlock as number | undefined) ?? head, head)
    if (from > to) throw new ZgError('ERR_USAGE', `no blocks from ${from} to ${to}; the head is ${head}`)
    let bytes = 0
    if (file === '-') bytes = await write(ctx, at.chain, from, to, part => ctx.write(part))
    else bytes = await toFile(ctx, at.chain, from, to, file!)
    if (file !== '-')
      ctx.print(
        { type: 'export', file, fromBlock: from, toBlock: to, size: bytes },
        `${number(ctx, to - from + 1)} blocks in ${file}`
      )
  } finally {
    await at.close()
  }
}

async function toFile(ctx: VerbContext, chain: ZgChain, from: number, to: number, file: string): Promise<number> {
  const temporary = `${file}.part`
  const out = createWriteStream(temporary, { mode: 0o644 })
  try {
    const failed = new Promise<never>((_, reject) => out.once('error', reject))
    failed.catch(() => {})
    const bytes = await write(ctx, chain, from, to, part =>
      Promise.race([
        failed,
        new Promise<void>(resolve => {
          if (out.write(part)) resolve()
          else out.once('drain', resolve)
        })
      ])
    )
    await Promise.race([failed, new Promise<void>(resolve => out.end(resolve))])
    const handle = await open(temporary, 'r')
    await handle.sync().finally(() => handle.close())
    await rename(temporary, file)
    return bytes
  } catch (err) {
    out.destroy()
    await rm(temporary, { force: true })
    throw err
  }
}

async function write(
  ctx: VerbContext,
  chain: ZgChain,
  from: number,
  to: number,
  put: (part: Uint8Array) => Promise<void>
): Promise<number> {
  const progress = ctx.progress('export', { total: to - from + 1, unit: 'items' })
  let bytes = 0
  for (let n = from; n <= to; n++) {
    ctx.signal.throwIfAborted()
    const raw = await blockBytes(chain, n)
    bytes += raw.length
    await put(raw)
    progress.update(n - from + 1)
  }
  progress.done()
  return bytes
}

/** A block as hashed. @throws {ZgError} ERR_CORRUPT when it is missing. */
export async function blockBytes(chain: ZgChain, n: number): Promise<Uint8Array> {
  const record = await chain.native.block(n)
  if (record === undefined) throw new ZgError('ERR_CORRUPT', `block ${n} is missing`)
  const [block] = rlpList(decodeRlp(record))
  return block instanceof Uint8Array ? block : encodeRlp(block!)
}
