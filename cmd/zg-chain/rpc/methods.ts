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
import { stateMethods } from './state.ts'
import { subscriptionMethods } from './subscriptions.ts'
import { transactionMethods } from './transactions.ts'

export type { RpcOptions } from './context.ts'

/**
 * All methods of a chain (chain.md 9.2, tracing and simulation apart).
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

/** Expected failures of the layers below reach the caller as what they are; bugs pass through and become −32603. */
function guarded(method: RpcMethod): RpcMethod {
  return async (params, ctx) => {
    try {
      return await method(params, ctx)
    } catch (err) {
      if (!(err instanceof ZgError)) throw err
      const code =
        err.code === 'ERR_BAD_INPUT' || err.code === 'ERR_USAGE'
          ? RPC.params
          : err.code === 'ERR_TIMEOUT'
            ? RPC.limit
            : err.code === 'ERR_UNAVAILABLE' || err.code === 'ERR_STOPPED'
              ? RPC.unavailable
              : RPC.server
      throw new RpcError(code, err.message)
    }
  }
}
