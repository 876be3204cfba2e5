/**
 * What a fresh network gets beside its genesis: a compute ledger of account 0 with money at the local provider, so that the first prompt
 * needs no preparation. Two transactions that the development node signs; done once, whatever is restarted.
 */
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { padLeft, utf8 } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { fromHex, type Hex, toHex, toQuantity } from '../../lib/base/hex.ts'
import { NEURON_PER_0G } from '../../lib/base/units.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { contractsOf } from './contracts.ts'
import type { NetworkPlan } from './services.ts'
import { PROVIDER } from './services.ts'

/** Into the ledger, of which this much goes on to the provider's account. */
export const LEDGER_AMOUNT = 100n * NEURON_PER_0G
const PROVIDER_AMOUNT = 5n * NEURON_PER_0G
const WAIT_MS = 30_000
/** Explicit, because the second transaction cannot be estimated before the first is in a block. */
const GAS = 1_500_000

/** Selectors of compute.md 1.3. */
const GET_LEDGER = '0xf7cd6af9'
const ADD_LEDGER = '0xc5e53f7e'
const TRANSFER_FUND = '0x2ba43b82'

/**
 * Gives account 0 its ledger unless it has one.
 * @throws {ZgError} ERR_CONFIG when the chain's data is from before these contracts, ERR_TIMEOUT.
 */
export async function provision(plan: NetworkPlan, signal: AbortSignal): Promise<void> {
  const chain = new RpcClient(`http://127.0.0.1:${plan.ports.chain}`, { what: 'chain', signal })
  const ledger = contractsOf(plan.chainId).ledger!
  const user = DEV_ACCOUNTS[0]!.address
  if ((await chain.call<Hex>('eth_getCode', [ledger, 'latest'])) === '0x')
    throw new ZgError('ERR_CONFIG', 'the data of this network is from before the compute contracts', {
      hint: `run 'zg-devnet up --fresh${plan.name === 'devnet' ? '' : ` --name ${plan.name}`}'`
    })
  if (await hasLedger(chain, ledger, user)) return
  const send = (data: Hex, value: bigint): Promise<Hex> =>
    chain.call<Hex>('eth_sendTransaction', [
      { from: user, to: ledger, data, value: toQuantity(value), gas: toQuantity(GAS) }
    ])
  const hashes = [
    await send(toHex(encode(ADD_LEDGER, [text('')])), LEDGER_AMOUNT),
    await send(toHex(encode(TRANSFER_FUND, [fromHex(PROVIDER.address), text('inference-v1.0'), PROVIDER_AMOUNT])), 0n)
  ]
  for (const hash of hashes) await succeeded(chain, hash, signal)
}

async function hasLedger(chain: RpcClient, ledger: string, user: string): Promise<boolean> {
  try {
    await chain.call('eth_call', [{ to: ledger, data: toHex(encode(GET_LEDGER, [fromHex(user)])) }, 'latest'])
    return true
  } catch (err) {
    // The contract answers a stranger with a revert.
    if (err instanceof RpcError && err.code === 3) return false
    throw err
  }
}

async function succeeded(chain: RpcClient, hash: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  while (!signal.aborted) {
    const receipt = await chain.call<{ status: Hex } | null>('eth_getTransactionReceipt', [hash])
    if (receipt !== null) {
      if (receipt.status !== '0x1') throw new ZgError('ERR_REJECTED', `the ledger of account 0 was refused in ${hash}`)
      return
    }
    if (performance.now() > deadline)
      throw new ZgError('ERR_TIMEOUT', `transaction ${hash} is in no block after ${WAIT_MS / 1000} s`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

interface Text {
  text: Uint8Array
}

function text(value: string): Text {
  return { text: utf8(value) }
}

/** Call data of words and strings (contract ABI, dynamic tails in order). */
function encode(selector: string, args: readonly (Uint8Array | bigint | Text)[]): Uint8Array {
  const word = (n: bigint): Uint8Array => fromHex(`0x${n.toString(16).padStart(64, '0')}`)
  const tails: Uint8Array[] = []
  let at = args.length * 32
  const heads = args.map(arg => {
    if (typeof arg === 'bigint') return word(arg)
    if (arg instanceof Uint8Array) return padLeft(arg, 32)
    const body = new Uint8Array(32 + Math.ceil(arg.text.length / 32) * 32)
    body.set(word(BigInt(arg.text.length)))
    body.set(arg.text, 32)
    const head = word(BigInt(at))
    at += body.length
    tails.push(body)
    return head
  })
  return Buffer.concat([fromHex(selector), ...heads, ...tails])
}
