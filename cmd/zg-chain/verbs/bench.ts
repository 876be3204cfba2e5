/** `zg-chain bench`: the load driver as a verb. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatSize } from '../../../lib/base/units.ts'
import type { Progress, VerbFn } from '../../../lib/cli/types.ts'
import type { Workload } from '../bench/workload.ts'
import { connect, signer } from '../options.ts'
import { number, table } from '../print.ts'

export const bench: VerbFn = async (ctx, _args, opts) => {
  const client = await connect(ctx, opts)
  const account = await signer(ctx, opts, client)
  const { runLoad } = await import('../bench/driver.ts')
  const bars = new Map<string, Progress>()
  const r = await runLoad({
    url: client.url,
    workload: opts.workload as Workload,
    count: opts.count as number,
    senders: opts.senders as number,
    batch: opts.batch as number,
    inFlight: opts.inFlight as number,
    ahead: opts.ahead as number,
    rate: opts.rate as number | undefined,
    key: await account.privateKey(),
    address: account.address,
    pid: opts.pid as number | undefined,
    timeoutMs: opts.timeout as number,
    signal: ctx.signal,
    onProgress: (phase, done, total) => {
      let bar = bars.get(phase)
      if (bar === undefined) {
        for (const other of bars.values()) other.done()
        bars.clear()
        bar = ctx.progress(phase, { total, unit: 'items' })
        bars.set(phase, bar)
      }
      bar.update(done, total)
    }
  })
  for (const bar of bars.values()) bar.done()
  const ms = (n: number): string => `${n.toFixed(0)} ms`
  const cpu = r.cpuSeconds
  ctx.print(
    {
      type: 'bench',
      workload: r.workload,
      sent: r.sent,
      included: r.included,
      failed: r.failed,
      refused: r.refused,
      seconds: round(r.seconds),
      per_second: round(r.perSecond),
      p50_ms: round(r.p50Ms),
      p99_ms: round(r.p99Ms),
      blocks: r.blocks,
      largest_block: r.largestBlock,
      gasUsed: Number(r.gasUsed),
      cpu_seconds: cpu === undefined ? null : round(cpu),
      rss_bytes: r.rssBytes ?? null
    },
    table([
      ['included', `${number(ctx, r.included)} of ${number(ctx, r.sent)} in ${r.seconds.toFixed(1)} s`],
      ['per second', number(ctx, Math.round(r.perSecond))],
      ['visible after', `${ms(r.p50Ms)} p50, ${ms(r.p99Ms)} p99`],
      ['blocks', `${number(ctx, r.blocks)}, the largest with ${number(ctx, r.largestBlock)}`],
      ['failed', r.failed === 0 ? undefined : number(ctx, r.failed)],
      ['refused', r.refused === 0 ? undefined : `${number(ctx, r.refused)}: ${r.refusal}`],
      [
        'node CPU',
        cpu === undefined
          ? undefined
          : `${cpu.toFixed(1)} s, ${((cpu * 1000) / Math.max(1, r.included)).toFixed(3)} ms a transaction`
      ],
      ['node memory', r.rssBytes === undefined ? undefined : formatSize(r.rssBytes)]
    ])
  )
  if (r.included === 0)
    throw new ZgError('ERR_REJECTED', 'nothing got into a block', { facts: r.refusal === undefined ? [] : [r.refusal] })
  return r.included === r.sent ? 0 : 1
}

const round = (n: number): number => Math.round(n * 1000) / 1000
