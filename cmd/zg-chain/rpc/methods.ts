/** The JSON-RPC of the chain as one plain table: what `serveRpc` answers, over every transport alike. */
import type { RpcMethod, RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { Chain } from '../core/api.ts'
import { fillMethods } from './accounts.ts'
import { blockMethods } from './blocks.ts'
import { configMethods } from './config.ts'
import { type RpcOptions, setup } from './context.ts'
import { debugMethods, operatorOnly } from './debug.ts'
import { devMethods } from './dev.ts'
import { executionMethods } from './execution.ts'
import { feeMethods } from './fees.ts'
import { filterMethods } from './filters.ts'
import { logMethods } from './logs.ts'
import { nodeMethods } from './node.ts'
import { poolMethods } from './pool.ts'
import { simulateMethods } from './simulate.ts'
import { stateMethods } from './state.ts'
import { subscriptionMethods } from './subscriptions.ts'
import { transactionMethods } from './transactions.ts'

export type { RpcOptions } from './context.ts'

/** History that is not kept any more (EIP-4444). */
const RPC_PRUNED = 4444

/** Calls of a batch that are handed to the pool together (RpcServerOptions.together). */
export const TOGETHER: ReadonlySet<string> = new Set(['eth_sendRawTransaction'])

/**
 * All methods of a chain (chain.md 9.2).
 * @param opts.dev - adds `evm_*`, `anvil_*`, `hardhat_*` and signing with the development keys; needs `chain.dev`.
 */
export function chainMethods(chain: Chain, opts: RpcOptions): RpcMethods {
  const s = setup(chain, opts)
  const methods: RpcMethods = {
    ...nodeMethods(s),
    ...configMethods(s),
    ...blockMethods(s),
    ...stateMethods(s),
    ...transactionMethods(s),
    ...fillMethods(s),
    ...executionMethods(s),
    ...simulateMethods(s),
    ...feeMethods(s),
    ...logMethods(s),
    ...filterMethods(s),
    ...subscriptionMethods(s),
    ...poolMethods(s),
    ...debugMethods(s),
    ...(opts.dev && chain.dev !== undefined ? devMethods(s, chain.dev) : {})
  }
  // Without a prototype: a method called `constructor` or `__proto__` does not exist.
  const table: RpcMethods = Object.create(null)
  for (const [name, method] of Object.entries(methods)) {
    table[name] = guarded(!opts.dev && name.startsWith('debug_') ? operatorOnly(name, method) : method)
  }
  return table
}

/** Expected failures of the layers below reach the caller as what they are; bugs pass through and become −32603. What answers at once stays so. */
function guarded(method: RpcMethod): RpcMethod {
  return (params, ctx) => {
    let answer: unknown
    try {
      answer = method(params, ctx)
    } catch (err) {
      throw translated(err)
    }
    return answer instanceof Promise ? answer.catch(rethrow) : answer
  }
}

function rethrow(err: unknown): never {
  throw translated(err)
}

function translated(err: unknown): unknown {
  if (!(err instanceof ZgError)) return err
  if (err.code === 'ERR_NOT_FOUND' && err.facts?.includes('pruned')) return new RpcError(RPC_PRUNED, err.message)
  const code =
    err.code === 'ERR_BAD_INPUT' || err.code === 'ERR_USAGE'
      ? RPC.params
      : err.code === 'ERR_TIMEOUT'
        ? RPC.limit
        : err.code === 'ERR_UNAVAILABLE' || err.code === 'ERR_STOPPED'
          ? RPC.unavailable
          : RPC.server
  return new RpcError(code, err.message)
}
