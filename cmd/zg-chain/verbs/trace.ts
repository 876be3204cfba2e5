/** `zg-chain trace`: what a transaction, or each of a block, did inside. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount } from '../../../lib/base/units.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { connect } from '../options.ts'
import { number, shown } from '../print.ts'
import { blockArgument } from './block.ts'

interface Frame {
  type: string
  from: string
  to?: string
  value?: string
  gas: string
  gasUsed: string
  input: string
  output?: string
  error?: string
  revertReason?: string
  calls?: Frame[]
}

export const trace: VerbFn = async (ctx, [which], opts) => {
  const client = await connect(ctx, opts)
  const tracer = opts.tracer as string
  const options = {
    ...(tracer === 'structLogs' ? {} : { tracer }),
    ...(opts.tracerConfig === undefined ? {} : { tracerConfig: config(opts.tracerConfig as string) })
  }
  if (/^0x[0-9a-fA-F]{64}$/.test(which!)) {
    const receipt = await client.call<object | null>('eth_getTransactionReceipt', [which])
    if (receipt !== null) {
      const result = await client.call<unknown>('debug_traceTransaction', [which, options])
      print(ctx, opts, which!, result)
      return
    }
  }
  const byHash = /^0x[0-9a-fA-F]{64}$/.test(which!)
  const results = await client.call<{ txHash: string; result?: unknown; error?: string }[] | null>(
    byHash ? 'debug_traceBlockByHash' : 'debug_traceBlockByNumber',
    [byHash ? which : blockArgument(which!), options]
  )
  if (results === null) throw new ZgError('ERR_NOT_FOUND', `chain has no transaction or block ${which}`)
  for (const r of results) print(ctx, opts, r.txHash, r.result ?? { error: r.error })
}

function config(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ZgError('ERR_USAGE', "'--tracer-config' is not JSON", { hint: 'write \'{"onlyTopCall":true}\'' })
  }
}

function print(ctx: VerbContext, opts: Options, txHash: string, result: unknown): void {
  const human =
    opts.tracer === 'callTracer'
      ? [shown(ctx, txHash), ...frames(ctx, result as Frame, 1)].join('\n')
      : JSON.stringify(result, null, 2)
  ctx.print({ type: 'trace', txHash, tracer: opts.tracer, result }, human)
}

/** A call and those it made, indented: kind, target, value, gas, and how it ended. */
function frames(ctx: VerbContext, f: Frame, depth: number): string[] {
  const value = f.value === undefined || BigInt(f.value) === 0n ? '' : `  ${formatAmount(BigInt(f.value))} 0G`
  const call = f.input.length >= 10 && !f.type.startsWith('CREATE') ? `  ${f.input.slice(0, 10)}` : ''
  const end = f.error === undefined ? '' : `  ${f.error}${f.revertReason === undefined ? '' : `: ${f.revertReason}`}`
  const line = `${'  '.repeat(depth)}${f.type.toLowerCase()}  ${f.to === undefined ? 'nothing' : shown(ctx, f.to)}${call}${value}  gas ${number(ctx, Number(f.gasUsed))}${end}`
  return [line, ...(f.calls ?? []).flatMap(c => frames(ctx, c, depth + 1))]
}
