/** One record per result, with its human form. */
import { toHex } from '../../lib/base/hex.ts'
import { formatAmount, formatCount, formatSize, shortHash } from '../../lib/base/units.ts'
import type { VerbContext } from '../../lib/cli/types.ts'
import type { ListedFile, NodeView, PutResult, SubmitReceipt } from '../../lib/clients/store.ts'
import type { FileHash } from '../../lib/codec/storage/hasher.ts'
import { shape } from '../../lib/codec/storage/shape.ts'

/** A root for people: shortened on a terminal, whole in a pipe. */
function shown(ctx: VerbContext, hex: string): string {
  return ctx.tty ? shortHash(hex) : hex
}

/** `put`: the root alone, or a `file` record. */
export function printFile(ctx: VerbContext, r: PutResult): void {
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
      nodes: r.urls.length
    },
    root
  )
}

/** `put --dry-run`. */
export function printFee(
  ctx: VerbContext,
  hash: FileHash,
  q: { feeNeuron: bigint; stored: number; known: boolean }
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
      nodes: q.stored
    },
    root
  )
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
