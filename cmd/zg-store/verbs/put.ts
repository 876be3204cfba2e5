/** `zg-store put`: a file or stdin to storage nodes; stdout is the root alone. */
import { cacheDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { formatSize } from '../../../lib/base/units.ts'
import type { Options, Progress, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import {
  encryptedSource,
  encrypting,
  hashSource,
  openSource,
  type PutOptions,
  put as putFile,
  quote,
  readEncryptionKey,
  type Source,
  slice,
  spool
} from '../../../lib/clients/store.ts'
import { fragments } from '../../../lib/codec/storage/fragments.ts'
import { type FileHash, FileHasher } from '../../../lib/codec/storage/hasher.ts'
import { printFee, printFile, submitLine } from '../print.ts'
import { findPayer, findPool, journalDir, parseBytes } from './common.ts'

export const put: VerbFn = async (ctx, args, opts) => {
  const { source, hash } = await openInput(ctx, args[0], opts)
  try {
    const pool = await findPool(ctx, opts)
    const { flow, signer } = await findPayer(ctx, opts)
    for (const piece of await piecesOf(ctx, source, hash, opts.fragmentSize as number | undefined)) {
      if (opts.dryRun === true) {
        printFee(ctx, piece.hash, await quote(piece.hash, { pool, flow, signal: ctx.signal }))
        continue
      }
      const { on, end } = watch(ctx)
      const result = await putFile(piece.source, piece.hash, {
        pool,
        flow,
        signer,
        journalDir: journalDir(ctx.network),
        ...putOptions(ctx, opts),
        on
      })
      end(result.urls)
      if (result.already) ctx.say('already stored, nothing sent')
      printFile(ctx, result)
    }
  } finally {
    await source.close()
  }
}

/** What `put` and `kv put` have in common. */
export function putOptions(
  ctx: VerbContext,
  opts: Options
): Pick<PutOptions, 'replicas' | 'fewer' | 'tags' | 'noWait' | 'signal' | 'waitMs'> {
  return {
    replicas: opts.expectedReplica as number,
    // Two is a wish when nobody said it, a demand when somebody did.
    fewer: ctx.source('expectedReplica') === 'default',
    tags: typeof opts.tags === 'string' ? parseBytes(opts.tags) : new Uint8Array(0),
    noWait: opts.wait === false && opts.finalityRequired !== true,
    signal: ctx.signal,
    ...(typeof opts.timeout === 'number' ? { waitMs: opts.timeout } : {})
  }
}

/** Progress of a put in words and bars; `end` closes the last phase. */
export function watch(ctx: VerbContext): { on: NonNullable<PutOptions['on']>; end: (urls: readonly string[]) => void } {
  let bar: Progress | undefined
  let total = 0
  return {
    on: {
      phase: phase => {
        // Sealing goes on while slower nodes still upload: one bar for both.
        if (phase === 'upload') bar = ctx.progress('upload')
      },
      submitted: r => ctx.say(submitLine(ctx, r)),
      resumed: (done, all) => {
        if (done > 0 && done < all) ctx.say(`resumed at ${Math.floor((100 * done) / all)} %`)
      },
      progress: (done, all) => {
        total = all
        bar?.update(done, all)
      },
      problem: (url, text) => ctx.warn(`${ctx.tool}: ${url} failed, trying another node: ${text}`),
      fewer: n => {
        const words = n === 1 ? 'one storage node answers: one copy' : `${n} storage nodes answer: ${n} copies`
        ctx.warn(`${ctx.tool}: only ${words}`)
      }
    },
    end: urls => {
      bar?.update(total, total)
      bar?.done(`${formatSize(total)} on ${urls.length} ${urls.length === 1 ? 'node' : 'nodes'}`)
    }
  }
}

async function openInput(
  ctx: VerbContext,
  path: string | undefined,
  opts: Options
): Promise<{ source: Source; hash: FileHash | undefined }> {
  const key =
    opts.encryptionKeyFile === undefined ? undefined : await readEncryptionKey(opts.encryptionKeyFile as string)
  if (path !== undefined && path !== '-') {
    const opened = await openSource(path)
    if (!('handle' in opened)) {
      if (opened.sizeBytes === 0) {
        await opened.close()
        throw new ZgError('ERR_BAD_INPUT', `'${path}' is empty: an empty file cannot be stored`)
      }
      return { source: key === undefined ? opened : await encryptedSource(opened, key, ctx.signal), hash: undefined }
    }
    return fromStream(ctx, opened.handle.createReadStream({ highWaterMark: 1024 * 1024 }), key)
  }
  if (ctx.stdin.isTTY === true) ctx.say('reading from the terminal, Ctrl-D ends')
  return fromStream(ctx, ctx.stdin as AsyncIterable<Uint8Array>, key)
}

/** Spools a pipe to disk and hashes it on the way. */
async function fromStream(
  ctx: VerbContext,
  stream: AsyncIterable<Uint8Array>,
  key: Uint8Array | undefined
): Promise<{ source: Source; hash: FileHash }> {
  const hasher = new FileHasher()
  const bar = ctx.progress('hash')
  // TMPDIR is often memory; a cache directory is on disk.
  const dir = process.env.TMPDIR ?? cacheDir('spool')
  const stored = key === undefined ? stream : encrypting(stream, key)
  const source = await spool(
    stored,
    dir,
    async part => {
      await hasher.push(part)
      bar.update(hasher.size)
    },
    ctx.signal
  )
  try {
    if (source.sizeBytes === 0) throw new ZgError('ERR_BAD_INPUT', 'input is empty: an empty file cannot be stored')
    const hash = await hasher.finish()
    bar.done()
    return { source, hash }
  } catch (err) {
    await source.close()
    throw err
  }
}

/** The whole file, or its fragments, each with its hash. */
async function piecesOf(
  ctx: VerbContext,
  source: Source,
  hash: FileHash | undefined,
  fragmentSize: number | undefined
): Promise<{ source: Source; hash: FileHash }[]> {
  const cut = fragmentSize === undefined ? [] : fragments(source.sizeBytes, fragmentSize)
  if (cut.length > 1) ctx.say(`${cut.length} fragments of ${formatSize(cut[0]!.size)}`)
  if (cut.length <= 1) return [{ source, hash: hash ?? (await hashed(ctx, source)) }]
  const out: { source: Source; hash: FileHash }[] = []
  for (const f of cut) {
    const part = slice(source, f.offset, f.size)
    out.push({ source: part, hash: await hashed(ctx, part) })
  }
  return out
}

async function hashed(ctx: VerbContext, source: Source): Promise<FileHash> {
  const bar = ctx.progress('hash', { total: source.sizeBytes })
  const hash = await hashSource(source, { signal: ctx.signal, onProgress: (done, size) => bar.update(done, size) })
  bar.done()
  return hash
}
