/** `zg-chain node`: with the native engine in this process, or with another execution client under `--engine-url`. */
import type { VerbFn } from '../../../lib/cli/types.ts'

export const node: VerbFn = async (ctx, args, opts) => {
  const run: VerbFn =
    opts.engineUrl === undefined ? (await import('../node.ts')).node : (await import('../engine/node.ts')).externalNode
  await run(ctx, args, opts)
}
