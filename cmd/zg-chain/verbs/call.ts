/** `zg-chain call`: asks a contract without changing anything. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { connect } from '../options.ts'
import { blockArgument } from './block.ts'
import { hexArgument } from './submit.ts'

export const call: VerbFn = async (ctx, [to, signature, ...args], opts) => {
  const [{ findAddress }, { encodeCall }] = await Promise.all([
    import('../../../lib/clients/accounts.ts'),
    import('../abi.ts')
  ])
  const raw = opts.data as string | undefined
  if ((raw === undefined) === (signature === undefined)) {
    throw new ZgError('ERR_USAGE', "give either a signature or '--data'", {
      hint: 'write \'zg-chain call ADDRESS "totalSupply()(uint256)"\''
    })
  }
  const fn = signature === undefined ? undefined : await encodeCall(signature, args)
  const data = fn?.data ?? hexArgument(raw!, '--data')
  const from = opts.from === undefined ? undefined : toHex(await findAddress(opts.from as string))
  const client = await connect(ctx, opts)
  const target = toHex(await findAddress(to!))
  const request = { to: target, input: toHex(data), ...(from === undefined ? {} : { from }) }
  const returned = await client.call<string>('eth_call', [request, blockArgument(opts.block as string)])
  if (returned === '0x' && fn?.decode !== undefined && !(await client.hasCode(target))) {
    throw new ZgError('ERR_NO_CONTRACT', `no contract at ${to} on chain ${await client.chainId()}`)
  }
  const decoded = fn?.decode?.(returned)
  ctx.print(
    { type: 'call', to: target, returned, ...(decoded === undefined ? {} : { values: decoded.map(d => d.value) }) },
    decoded === undefined ? returned : decoded.map(d => line(d.value)).join('\n')
  )
}

function line(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
