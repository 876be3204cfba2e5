/** One record per result, with its human form. */
import { toHex } from '../../lib/base/hex.ts'
import { formatAmount, formatCount, formatSize, shortHash } from '../../lib/base/units.ts'
import type { VerbContext } from '../../lib/cli/types.ts'
import type { StripeState } from '../../lib/clients/store/admin.ts'
import type { Change, Difference, ListedFile, NodeView, PutResult, SubmitReceipt } from '../../lib/clients/store.ts'
import type { FolderEntry } from '../../lib/codec/storage/folder.ts'
import type { FileHash } from '../../lib/codec/storage/hasher.ts'
import { shape } from '../../lib/codec/storage/shape.ts'

/** A root for people: shortened on a terminal, whole in a pipe. */
function shown(ctx: VerbContext, hex: string): string {
  return ctx.tty ? shortHash(hex) : hex
}

/** `root  name` as sha256sum has it; the root alone without a name. A name with a line break is escaped, and marked by a backslash. */
export function namedRoot(root: string, name: string | undefined): string {
  if (name === undefined) return root
  if (!/[\n\r\\]/.test(name)) return `${root}  ${name}`
  return `\\${root}  ${name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r')}`
}

/** `put`: the root alone, `root  name` where there are several, or a `file` record. */
export function printFile(ctx: VerbContext, r: PutResult, name?: string, files?: number): void {
  const root = toHex(r.root)
  ctx.print(
    {
      type: 'file',
      root,
      size: r.sizeBytes,
      segments: r.segments,
      tx_seq: r.seq,
      txHash: r.txHash === undefined ? null : toHex(r.txHash),
      blockNumber: r.blockNumber ?? null,
      fee_neuron: r.feeNeuron.toString(),
      resumed: r.resumed,
      already: r.already,
      nodes: r.urls.length,
      ...(name === undefined ? {} : { file: name }),
      ...(files === undefined ? {} : { files })
    },
    namedRoot(root, name)
  )
}

/** `put --dry-run`. */
export function printFee(
  ctx: VerbContext,
  hash: FileHash,
  q: { feeNeuron: bigint; stored: number; known: boolean },
  name?: string,
  note?: string
): void {
  const root = toHex(hash.root)
  ctx.print(
    {
      type: 'file',
      root,
      size: hash.size,
      segments: hash.shape.segments,
      // What it would cost now: nothing where the entry is on the chain already.
      fee_neuron: (q.known ? 0n : q.feeNeuron).toString(),
      dry_run: true,
      nodes: q.stored,
      ...(name === undefined ? {} : { file: name })
    },
    namedRoot(root, name)
  )
  if (note !== undefined) {
    ctx.say(`${note}; nothing was sent`)
    return
  }
  const fee = q.known ? 'nothing, it is on the chain already' : `${formatAmount(q.feeNeuron)} 0G and gas`
  ctx.say(`${formatSize(hash.size)}, ${formatCount(hash.shape.segments)} segments, would cost ${fee}; nothing was sent`)
}

export function submitLine(ctx: VerbContext, r: SubmitReceipt): string {
  const hash = ctx.tty ? shortHash(toHex(r.txHash)) : toHex(r.txHash)
  return `submit   tx ${hash} in block ${formatCount(r.blockNumber)}, fee ${formatAmount(r.feeNeuron)} 0G`
}

/** `stat`: a line a node, then one about the file. */
export function printStat(ctx: VerbContext, views: readonly NodeView[]): void {
  const known = views.find(v => v.info !== undefined)?.info
  for (const v of views) {
    const segments = known === undefined ? 0 : shape(known.sizeBytes).segments
    const percent = v.info === undefined ? 0 : Math.floor((100 * v.info.uploadedSegments) / segments)
    const words = v.state === 'uploading' ? `uploading ${percent} %` : v.state
    ctx.print(
      {
        type: 'file_node',
        url: v.url,
        state: v.state,
        tx_seq: v.info?.seq ?? null,
        uploaded_segments: v.info?.uploadedSegments ?? 0,
        reason: v.problem ?? null
      },
      `${v.url.padEnd(32)} ${words}${v.problem === undefined ? '' : `  ${v.problem}`}`
    )
  }
  if (known === undefined) return
  const final = views.filter(v => v.state === 'final').length
  const root = toHex(known.root)
  const { segments } = shape(known.sizeBytes)
  ctx.print(
    { type: 'file', root, size: known.sizeBytes, segments, tx_seq: known.seq, nodes: final },
    `${shown(ctx, root)}  ${formatSize(known.sizeBytes)}  ${formatCount(segments)} ${segments === 1 ? 'segment' : 'segments'}  seq ${known.seq}  on ${final} of ${views.length} nodes`
  )
}

/** `stat`: a stripe of a coded file. */
export function printStripe(ctx: VerbContext, s: StripeState): void {
  const words = s.survivors < s.need ? 'LOST' : s.survivors < s.count ? 'degraded' : 'whole'
  ctx.print(
    {
      type: 'stripe',
      stripe: s.stripe,
      code: s.code,
      survivors: s.survivors,
      need: s.need,
      count: s.count,
      holders: s.holders
    },
    `stripe ${s.stripe}  ${s.code}  ${s.survivors} of ${s.count} shards, ${s.need} needed  ${words}`
  )
}

/** `ls`: a table on a terminal and in a pipe, whole roots there. */
export function printList(ctx: VerbContext, files: readonly ListedFile[]): void {
  const width = ctx.tty ? 13 : 66
  if (!ctx.json && files.length > 0) {
    ctx.print({ type: 'head' }, `${'SEQ'.padEnd(7)} ${'ROOT'.padEnd(width)} ${'SIZE'.padStart(9)}  NODES`)
  }
  for (const { info, final, known } of files) {
    const root = toHex(info.root)
    const { segments } = shape(info.sizeBytes)
    ctx.print(
      { type: 'file', root, size: info.sizeBytes, segments, tx_seq: info.seq, nodes: final, known },
      `${String(info.seq).padEnd(7)} ${shown(ctx, root).padEnd(width)} ${formatSize(info.sizeBytes).padStart(9)}  ${final}${final === 0 ? (info.pruned ? ' pruned' : ' uploading') : ''}`
    )
  }
}

export function printEntryHead(ctx: VerbContext): void {
  if (ctx.json) return
  const width = ctx.tty ? 13 : 66
  ctx.print({ type: 'head' }, `${'TYPE'.padEnd(9)} ${'ROOT'.padEnd(width)} ${'SIZE'.padStart(9)}  NAME`)
}

/** `ls ROOT`: one entry of a folder. */
export function printEntry(ctx: VerbContext, { path, entry }: { path: string; entry: FolderEntry }): void {
  const width = ctx.tty ? 13 : 66
  const roots = entry.roots.map(r => toHex(r))
  const first = roots.length === 0 ? '-' : `${shown(ctx, roots[0]!)}${roots.length > 1 ? '+' : ''}`
  const size = entry.type === 'file' ? formatSize(entry.size) : '-'
  const name = entry.type === 'symbolic' ? `${path} -> ${entry.link}` : entry.type === 'directory' ? `${path}/` : path
  ctx.print(
    {
      type: 'entry',
      path,
      kind: entry.type,
      size: entry.size,
      roots,
      ...(entry.type === 'symbolic' ? { link: entry.link } : {})
    },
    `${entry.type.padEnd(9)} ${first.padEnd(width)} ${size.padStart(9)}  ${printable(name)}`
  )
}

const SIGNS: Record<Change, string> = { added: '+', removed: '-', changed: '~', type: '!' }

/** `diff`: a sign and a path; a directory ends with a slash. */
export function printDifference(ctx: VerbContext, d: Difference): void {
  const e = d.after ?? d.before!
  const roots = (x: FolderEntry | undefined) => (x === undefined ? null : x.roots.map(r => toHex(r)))
  ctx.print(
    {
      type: 'difference',
      path: d.path,
      change: d.change,
      kind: e.type,
      size: e.size,
      before: roots(d.before),
      after: roots(d.after)
    },
    `${SIGNS[d.change]} ${printable(d.path)}${e.type === 'directory' ? '/' : ''}`
  )
}

/** A name that cannot move the cursor or break a line. */
function printable(name: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  return name.replace(/[\x00-\x1f\x7f-\x9f]/g, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
