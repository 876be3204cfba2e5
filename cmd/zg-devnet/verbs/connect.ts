/** `zg-devnet connect TOOL`: what a foreign tool needs to see this network, ready to paste or to redirect into a file. */
import { ZgError } from '../../../lib/base/errors.ts'
import { suggest } from '../../../lib/cli/suggest.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import type { NetworkFile } from '../../../lib/clients/network.ts'
import { requireNetwork } from '../control-client.ts'

const TOOLS: Record<string, { what: string; text: (n: NetworkFile) => string }> = {
  cast: {
    what: 'Foundry: shell lines',
    text: n => `export ETH_RPC_URL=${n.endpoints.rpc}\n# try it:\ncast block-number`
  },
  hardhat: {
    what: 'Hardhat 3: hardhat.config.ts',
    text: n => `import { defineConfig } from 'hardhat/config'

export default defineConfig({
  solidity: { version: '0.8.28', settings: { evmVersion: 'cancun' } },
  networks: {
    zg: {
      type: 'http',
      chainId: ${n.chainId},
      url: '${n.endpoints.rpc}',
      // Public test keys of 'zg-devnet accounts --keys'.
      accounts: { mnemonic: 'test test test test test test test test test test test junk' }
    }
  }
})`
  },
  viem: {
    what: 'viem: a chain definition',
    text: n => `import { defineChain } from 'viem'

export const zg = defineChain({
  id: ${n.chainId},
  name: 'zg ${n.name}',
  nativeCurrency: { name: '0G', symbol: '0G', decimals: 18 },
  rpcUrls: { default: { http: ['${n.endpoints.rpc}'], webSocket: ['${n.endpoints.ws}'] } },
  contracts: { multicall3: { address: '${n.contracts.multicall3}' } },
  testnet: true
})`
  },
  ethers: {
    what: 'ethers 6: a provider',
    text: n => `import { JsonRpcProvider } from 'ethers'

export const provider = new JsonRpcProvider('${n.endpoints.rpc}', ${n.chainId}, { staticNetwork: true })`
  },
  '0g-ts-sdk': {
    what: "0G's storage SDK",
    text: n => `import { Indexer } from '@0gfoundation/0g-ts-sdk'

export const rpc = '${n.endpoints.rpc}'
export const indexer = new Indexer('${n.endpoints.indexer}')
// const [tx, err] = await indexer.upload(file, rpc, signer)`
  },
  metamask: {
    what: 'a wallet: what to type under "add a network"',
    text: n =>
      `Network name   zg ${n.name}\nRPC URL        ${n.endpoints.rpc}\nChain ID       ${n.chainId}\nCurrency       0G`
  }
}

export async function connect(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  if (args[0] === undefined) {
    for (const [name, tool] of Object.entries(TOOLS))
      ctx.print({ type: 'tool', name, what: tool.what }, `${name.padEnd(12)} ${tool.what}`)
    return
  }
  const tool = TOOLS[args[0]]
  if (tool === undefined) {
    const near = suggest(args[0], Object.keys(TOOLS))
    throw new ZgError(
      'ERR_USAGE',
      `unknown tool '${args[0]}'${near === undefined ? '' : `, did you mean '${near}'?`}`,
      { hint: `one of ${Object.keys(TOOLS).join(', ')}` }
    )
  }
  const text = tool.text(await requireNetwork(opts.name as string))
  ctx.print({ type: 'connection', tool: args[0], text }, text)
}
