/** `zg-chain node`: with the native engine in this process, or with another execution client under `--engine-url`. */
import type { VerbFn } from '../../../lib/cli/types.ts'

export const node: VerbFn = async (ctx, args, opts) => {
  if (opts.engineUrl !== undefined) return (await import('../engine/node.ts')).externalNode(ctx, args, opts)
  return (await import('../node.ts')).node(ctx, args, opts)
}
