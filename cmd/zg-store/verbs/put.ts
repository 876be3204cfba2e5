/** `zg-store put`: files, directories or stdin to storage nodes; stdout is the root alone, with several files `root  name`. */
import { cacheDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount, formatCount, formatSize } from '../../../lib/base/units.ts'
import type { Options, Progress, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import {
  encryptedSource,
  encrypting,
  hashSource,
  hashTree,
  isDirectory,
  type Lock,
  memorySource,
  openSource,
  type PutItem,
  type PutOptions,
  put as putFile,
  putMany,
  quote,
  type Source,
  scanTree,
  slice,
  spool
} from '../../../lib/clients/store.ts'
import { encodeFolder } from '../../../lib/codec/storage/folder.ts'
import { fragments } from '../../../lib/codec/storage/fragments.ts'
import { type FileHash, FileHasher } from '../../../lib/codec/storage/hasher.ts'
import { printFee, printFile, submitLine } from '../print.ts'
import { encryptionLock, findPayer, findPool, journalDir, parseBytes } from './common.ts'

export const put: VerbFn = async (ctx, args, opts) => {
  const paths = args.length === 0 ? ['-'] : args
  if (paths.filter(p => p === '-').length > 1) throw new ZgError('ERR_USAGE', "'-' is given twice: stdin is read once")
  const key = await encryptionLock(ctx, opts)
  const many = paths.length > 1
  let net: PutOptions | undefined
  // Found when the input is known to be good: what is wrong with a file is said before what is wrong with the network.
  const network = async (): Promise<PutOptions> => {
    net ??= {
      pool: await findPool(ctx, opts),
      ...(await findPayer(ctx, opts)),
      journalDir: journalDir(ctx.network),
      ...putOptions(ctx, opts)
    }
    return net
  }
  for (const path of paths) {
    const name = many ? path : undefined
    if (path !== '-' && (await isDirectory(path))) await putDirectory(ctx, path, opts, { key, network, name })
    else await putOne(ctx, path, opts, { key, network, name })
  }
}

interface Where {
  key: Lock | undefined
  network: () => Promise<PutOptions>
  /** How it is named in the output; undefined when the root stands alone. */
  name: string | undefined
}

async function putOne(ctx: VerbContext, path: string, opts: Options, w: Where): Promise<void> {
  const { source, hash } = await openInput(ctx, path, w.key)
  try {
    const net = await w.network()
    for (const piece of await piecesOf(ctx, source, hash, opts.fragmentSize as number | undefined)) {
      if (opts.dryRun === true) {
        printFee(ctx, piece.hash, await quote(piece.hash, net), w.name)
        continue
      }
      const { on, end } = watch(ctx)
      const result = await putFile(piece.source, piece.hash, { ...net, on })
      end(result.urls)
      if (result.already) ctx.say('already stored, nothing sent')
      printFile(ctx, result, w.name)
    }
  } finally {
    await source.close()
  }
}

/** Stores all files of a directory, then the folder that lists them; the folder's root is the result. */
async function putDirectory(ctx: VerbContext, path: string, opts: Options, w: Where): Promise<void> {
  const { key } = w
  const tree = await scanTree(path, ctx.signal)
  const hashing = ctx.progress('hash', { total: tree.bytes })
  const pieces = await hashTree(tree, {
    key,
    fragmentBytes: opts.fragmentSize as number | undefined,
    signal: ctx.signal,
    onProgress: (done, total) => hashing.update(done, total)
  })
  hashing.done(`${formatSize(tree.bytes)} in ${formatCount(tree.files.length)} files`)
  const plain = memorySource(encodeFolder(tree.top))
  const folder = key === undefined ? plain : await encryptedSource(plain, key)
  const folderHash = await hashSource(folder)
  const net = await w.network()
  if (opts.dryRun === true) {
    const all = [...pieces.map(p => p.hash), folderHash]
    let feeNeuron = 0n
    let stored = 0
    for (const hash of all) {
      ctx.signal.throwIfAborted()
      const q = await quote(hash, net)
      if (!q.known) feeNeuron += q.feeNeuron
      stored = q.stored
    }
    const note = `${formatCount(all.length)} files, ${formatAmount(feeNeuron)} 0G and gas in all`
    printFee(ctx, folderHash, { feeNeuron, stored, known: false }, w.name, note)
    return
  }
  const { on, end } = watch(ctx)
  const bar = ctx.progress('upload', { total: tree.bytes })
  let done = 0
  let fee = 0n
  let had = 0
  const items: PutItem[] = pieces.map(p => ({ hash: p.hash, open: p.open }))
  const names = namesOf(tree.files)
  const results = await putMany(items, { ...net, on }, (r, i) => {
    done += r.sizeBytes
    had += r.hadBytes
    fee += r.feeNeuron
    bar.update(done, Math.max(done, tree.bytes))
    if (ctx.json) printFile(ctx, r, names[i])
  })
  bar.done(`${formatSize(done)} in ${formatCount(results.length)} files, ${formatSize(had)} were there`)
  const result = await putFile(folder, folderHash, { ...net, on: { problem: on.problem!, submitted: on.submitted! } })
  end(result.urls)
  if (result.already && results.every(r => r.already)) ctx.say('already stored, nothing sent')
  printFile(
    ctx,
    { ...result, feeNeuron: result.feeNeuron + fee },
    w.name ?? (ctx.json ? path : undefined),
    tree.files.length
  )
}

/** The name of each piece, in the order in which hashTree gives them. */
function namesOf(files: readonly { name: string; entry: { roots: readonly Uint8Array[] } }[]): string[] {
  return files.flatMap(f => f.entry.roots.map(() => f.name))
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
  path: string,
  key: Lock | undefined
): Promise<{ source: Source; hash: FileHash | undefined }> {
  if (path !== '-') {
    const opened = await openSource(path)
    if (!('handle' in opened)) {
      if (opened.sizeBytes === 0) {
        await opened.close()
        throw new ZgError('ERR_BAD_INPUT', `'${path}' is empty: an empty file cannot be stored`)
      }
      const source = key === undefined ? opened : await encryptedSource(opened, key, { signal: ctx.signal })
      return { source, hash: undefined }
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
  key: Lock | undefined
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
