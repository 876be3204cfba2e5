/** `zg-compute models inspect`, `hash`, `pull` and `quantize`: model files on this machine and in storage. */
import { basename } from 'node:path'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { formatCount, formatDuration, formatSize } from '../../../lib/base/units.ts'
import { EXIT } from '../../../lib/cli/exit.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { checkTarget } from '../../../lib/clients/store/download.ts'
import { sharedSignal } from '../../../lib/clients/store/retry.ts'
import { download, NodePool, RemoteStream } from '../../../lib/clients/store.ts'
import { hashFile } from '../../../lib/codec/storage/hasher.ts'
import { describeModel, type FileDescription, memoryNeed, quantizeModel } from '../../../lib/infer/model-file.ts'

const MAGIC = 'GGUF'

export const inspect: VerbFn = async (ctx, args, opts) => {
  const file = await describeModel(args[0]!)
  const roots = opts.hash === false ? undefined : await rootsOf(ctx, file.paths)
  const memory = file.shape === undefined ? undefined : memoryNeed(file.shape, opts.context as number | undefined)
  const { shape } = file
  ctx.print(
    {
      type: 'model_file',
      file: args[0]!,
      name: file.name ?? null,
      kind: file.kind ?? 'model',
      architecture: file.architecture ?? null,
      license: file.license ?? null,
      version: file.version,
      size: file.fileBytes,
      parts: file.paths.length,
      roots: roots ?? null,
      parameters: file.parameters,
      tensors: file.tensors,
      types: file.types,
      tokenizer: file.tokenizer ?? null,
      pre_tokenizer: file.preTokenizer ?? null,
      chat_template: file.chatTemplate !== undefined,
      runnable: file.refused === undefined,
      refused: file.refused ?? null,
      shape:
        shape === undefined
          ? null
          : {
              layers: shape.layers,
              width: shape.width,
              feed: shape.feed,
              heads: shape.heads,
              kv_heads: shape.kvHeads,
              head_size: shape.headSize,
              vocabulary: shape.vocabulary,
              context_length: shape.context,
              experts: shape.experts,
              experts_used: shape.expertsUsed,
              window: shape.window
            },
      memory: memory ?? null,
      warnings: file.warnings ?? []
    },
    screen(file, memory, roots)
  )
}

/** `name  value` lines, what people look for first on top. */
function screen(file: FileDescription, memory: ReturnType<typeof memoryNeed> | undefined, roots?: string[]): string {
  const { shape } = file
  const rows: [string, string][] = [
    ['model', file.name ?? basename(file.paths[0]!)],
    ['architecture', `${file.architecture ?? 'none'}${file.kind === 'adapter' ? ', an adapter' : ''}`],
    ['parameters', formatCount(file.parameters)],
    ['size', `${formatSize(file.fileBytes)}${file.paths.length > 1 ? ` in ${file.paths.length} parts` : ''}`],
    ['types', file.types.map(t => `${t.type} ${formatSize(t.bytes)}`).join(', ') || 'no tensors']
  ]
  if (shape !== undefined) {
    const experts = shape.experts > 0 ? `, ${shape.expertsUsed} of ${shape.experts} experts` : ''
    rows.push(
      ['shape', `${shape.layers} layers x ${formatCount(shape.width)}, feed ${formatCount(shape.feed)}${experts}`],
      ['attention', `${shape.heads} heads on ${shape.kvHeads}, ${shape.headSize} wide${windowOf(shape.window)}`],
      ['context', `${formatCount(shape.context)} tokens`],
      ['vocabulary', `${formatCount(shape.vocabulary)} tokens, ${file.tokenizer ?? 'none'}${preOf(file)}`],
      ['chat template', file.chatTemplate === undefined ? 'none' : formatSize(Buffer.byteLength(file.chatTemplate))]
    )
  }
  if (memory !== undefined) {
    const parts = `weights ${formatSize(memory.weights)}, embedding ${formatSize(memory.mapped)}`
    const cache = `keys and values of ${formatCount(memory.positions)} positions ${formatSize(memory.cache)}`
    rows.push(['memory', `${formatSize(memory.total)}: ${parts}, ${cache}`])
  }
  if (file.license !== undefined) rows.push(['license', file.license])
  for (const root of roots ?? []) rows.push(['root', root])
  for (const warning of file.warnings ?? []) rows.push(['warning', warning])
  if (file.refused !== undefined) rows.push(['not runnable', file.refused])
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`).join('\n')
}

function windowOf(window: number): string {
  return window === 0 ? '' : `, window ${formatCount(window)}`
}

function preOf(file: FileDescription): string {
  return file.preTokenizer === undefined ? '' : ` (${file.preTokenizer})`
}

/** A stranger's text on a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
}

async function rootsOf(ctx: VerbContext, paths: readonly string[]): Promise<string[]> {
  const roots: string[] = []
  const bar = ctx.progress('hash')
  for (const path of paths) {
    const onProgress = (done: number, size: number): void => bar.update(done, size === 0 ? undefined : size)
    roots.push(toHex((await hashFile(path, { signal: ctx.signal, onProgress })).root))
  }
  bar.done()
  return roots
}

export const hash: VerbFn = async (ctx, args) => {
  let exit = 0
  for (const path of args) {
    try {
      const [root] = await rootsOf(ctx, [path])
      ctx.print({ type: 'root', root: root!, file: path }, args.length === 1 ? root! : `${root}  ${printable(path)}`)
    } catch (err) {
      // One missing file must not hide the roots of the others.
      if (args.length === 1 || ctx.signal.aborted || !(err instanceof ZgError)) throw err
      ctx.warn(`${ctx.tool}: ${err.message}`)
      exit ||= EXIT[err.code]
    }
  }
  return exit
}

export const pull: VerbFn = async (ctx, args, opts) => {
  const root = parseRoot(args[0]!)
  const output = (opts.output as string | undefined) ?? `${toHex(root).slice(2, 18)}.gguf`
  const force = opts.force === true
  await checkTarget(output, force)
  const stream = await RemoteStream.open(await findPool(ctx, opts), [root], { signal: ctx.signal })
  await checkMagic(stream, ctx.signal, args[0]!)
  const started = performance.now()
  const bar = ctx.progress('download', { total: stream.sizeBytes })
  const onProgress = (n: number): void => bar.update(n, stream.sizeBytes)
  const { resumedBytes } = await download(stream, output, { signal: ctx.signal, force, onProgress })
  bar.done()
  const file = await describeModel(output)
  if (file.refused !== undefined) ctx.warn(`${ctx.tool}: '${output}' cannot be served: ${file.refused}`)
  ctx.print(
    {
      type: 'pulled',
      root: toHex(root),
      size: stream.sizeBytes,
      output,
      architecture: file.architecture ?? null,
      resumed: resumedBytes > 0,
      runnable: file.refused === undefined
    },
    output
  )
  ctx.say(`${formatSize(stream.sizeBytes)} in ${formatDuration(performance.now() - started)}, root checked`)
}

/** Refuses what is no model before gigabytes of it are fetched. */
async function checkMagic(stream: RemoteStream, signal: AbortSignal, name: string): Promise<void> {
  let start = ''
  if (stream.sizeBytes >= MAGIC.length) {
    for await (const part of stream.bytes(0, MAGIC.length, { signal })) start += Buffer.from(part).toString('latin1')
  }
  if (start !== MAGIC) throw new ZgError('ERR_BAD_INPUT', `what is stored under '${name}' is no GGUF file`)
}

async function findPool(ctx: VerbContext, opts: Options): Promise<NodePool> {
  sharedSignal(ctx.signal)
  const nodes = opts.node as string[] | undefined
  const indexer = opts.indexer as string | undefined
  if (nodes !== undefined && (ctx.source('node') === 'flag' || indexer === undefined)) return new NodePool({ nodes })
  if (indexer !== undefined) return new NodePool({ indexer })
  const endpoints = (await readNetwork(ctx.network))?.endpoints
  return new NodePool(endpoints?.indexer === undefined ? { nodes: endpoints?.nodes } : { indexer: endpoints.indexer })
}

function parseRoot(text: string): Uint8Array {
  try {
    return fromHex(text, 'root', { size: 32, bare: true })
  } catch (err) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not a root`, {
      cause: err,
      hint: "a root is 0x and 64 hex digits, as 'zg-compute models hash' prints it"
    })
  }
}

export const quantize: VerbFn = async (ctx, args, opts) => {
  const [from, to] = args as [string, string]
  const recipe = opts.type as string
  const bar = ctx.progress('quantize')
  const started = performance.now()
  await quantizeModel(from, to, recipe, {
    threads: opts.threads as number | undefined,
    force: opts.force === true,
    signal: ctx.signal,
    onProgress: (done, total) => bar.update(done, total === 0 ? undefined : total)
  })
  bar.done()
  const [before, after] = await Promise.all([describeModel(from), describeModel(to)])
  ctx.print(
    {
      type: 'quantized',
      file: from,
      output: to,
      recipe: recipe.toUpperCase(),
      size_before: before.fileBytes,
      size: after.fileBytes,
      types: after.types
    },
    to
  )
  const seconds = formatDuration(performance.now() - started)
  ctx.say(`${formatSize(before.fileBytes)} became ${formatSize(after.fileBytes)} in ${seconds}`)
}
