/**
 * Part of bench/chain.ts: a chain with a million accounts, its memory, and blocks of 2,000 transfers over them. A contract makes the accounts,
 * thousands a transaction; their addresses are hashes of numbers, as spread as those of people. Blocks are asked for one by one, so that a block's
 * time is from the question to the answer: building, execution, root, durable commit.
 */
import { residentBytes } from '../cmd/zg-chain/bench/driver.ts'
import { type Fees, type LoadTransaction, makeSenders, type Sender, signAll } from '../cmd/zg-chain/bench/signing.ts'
import { RpcClient } from '../lib/adapters/jsonrpc/client.ts'
import { RpcError } from '../lib/adapters/jsonrpc/types.ts'
import { bigToBytes, concat } from '../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../lib/base/hex.ts'
import { encodeRlp } from '../lib/codec/rlp.ts'
import { DEV_ACCOUNTS } from '../lib/crypto/dev-accounts.ts'
import { keccak256 } from '../lib/crypto/hash.ts'
import { figure, type Node } from './chain-nodes.ts'
import { assemble } from './evm-kernels.ts'

const FEES: Fees = { chainId: 31337n, maxFeePerGas: 100_000_000_000n, maxPriorityFeePerGas: 1_000_000_000n }
/** A call of the contract makes so many accounts: 37 k gas each. */
const ACCOUNTS_A_CALL = 1_000
const CALLS_A_BLOCK = 24
const TRANSFERS_A_BLOCK = 2_000
/** Transactions a request. */
const BATCH = 100

// Call data: first number, count. Sends 1 wei to the low 20 bytes of keccak256(number) for each.
const SPRAY = assemble(`0x20 CALLDATALOAD PUSH0 CALLDATALOAD
  next: DUP1 PUSH0 MSTORE PUSH0 PUSH0 PUSH0 PUSH0 0x01 0x20 PUSH0 KECCAK GAS CALL POP
  0x01 ADD SWAP1 0x01 SWAP1 SUB SWAP1 DUP2 @next JUMPI`)
const number = (n: number): Uint8Array => bigToBytes(BigInt(n), 32)
const addressOfNumber = (n: number): Uint8Array => keccak256(number(n)).subarray(12)

/** @throws when a transaction fails or the accounts are not there. */
export async function memory(node: Node, accounts: number, blocks: number): Promise<void> {
  const rpc = new RpcClient(node.url, { timeoutMs: 120_000 })
  const dev = DEV_ACCOUNTS[0]!
  const funder: Sender = { key: fromHex(dev.privateKey), address: fromHex(dev.address), nonce: 0n }
  const mine = async (txs: LoadTransaction[]): Promise<number> => {
    const signed = signAll(txs, FEES)
    // On a slow machine the node has closed the idle connection meanwhile: a turn of the loop lets the client see that.
    await new Promise(resolve => setTimeout(resolve, 10))
    for (let at = 0; at < signed.length; at += BATCH) {
      const answers = await rpc.batch<Hex>(
        signed.slice(at, at + BATCH).map(s => ({ method: 'eth_sendRawTransaction', params: [toHex(s.raw)] }))
      )
      for (const answer of answers) if (answer instanceof RpcError) throw answer
    }
    const began = performance.now()
    await rpc.call('evm_mine')
    const took = performance.now() - began
    const block = await rpc.call<{ transactions: Hex[] }>('eth_getBlockByNumber', ['latest', false])
    if (block.transactions.length !== txs.length)
      throw new Error(`${node.name}: ${block.transactions.length} of ${txs.length} transactions are in the block`)
    return took
  }

  const code = fromHex(SPRAY)
  // Creation: copies what stands behind its 12 bytes and returns it.
  const init = concat(
    Uint8Array.of(0x61, code.length >> 8, code.length & 255, 0x80, 0x60, 12, 0x5f, 0x39, 0x5f, 0xf3, 0, 0),
    code
  )
  const contract = keccak256(encodeRlp([funder.address, funder.nonce])).subarray(12)
  await mine([{ sender: funder, to: null, value: 0n, data: init, gasLimit: 1_000_000n }])
  for (let made = 0; made < accounts; ) {
    const txs: LoadTransaction[] = []
    for (; txs.length < CALLS_A_BLOCK && made < accounts; made += ACCOUNTS_A_CALL)
      txs.push({
        sender: funder,
        to: contract,
        value: BigInt(ACCOUNTS_A_CALL),
        data: concat(number(made), number(ACCOUNTS_A_CALL)),
        gasLimit: 40_000_000n
      })
    await mine(txs)
  }
  for (const n of [0, accounts >> 1, accounts - 1])
    if ((await rpc.call<Hex>('eth_getBalance', [toHex(addressOfNumber(n)), 'latest'])) !== '0x1')
      throw new Error(`${node.name}: account ${n} was not made`)

  const senders = makeSenders(TRANSFERS_A_BLOCK, 'bench-memory')
  await mine(
    senders.map(s => ({ sender: funder, to: s.address, value: 10n ** 17n, data: new Uint8Array(0), gasLimit: 21_000n }))
  )
  for (let block = 0, n = 7; block < blocks; block++) {
    const took = await mine(
      senders.map(sender => {
        n = (n * 48_271) % 2_147_483_647
        return { sender, to: addressOfNumber(n % accounts), value: 1n, data: new Uint8Array(0), gasLimit: 21_000n }
      })
    )
    figure(node.name, `block of 2,000 transfers over ${accounts.toLocaleString('en-US')} accounts ms`, took)
  }
  const resident = await residentBytes(node.pid)
  if (resident !== undefined)
    figure(node.name, `memory with ${accounts.toLocaleString('en-US')} accounts MB`, resident / 1e6)
}
