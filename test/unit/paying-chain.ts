/**
 * A chain that takes signed `submit` transactions and nothing else, as JSON-RPC on loopback: for tests of the client and of the
 * key-value node that must see every transaction, delay or lose it. Places and flow roots come from the codec's flow tree, which is
 * tested against the contract's vectors; fee and rules are checked as the contract does.
 */

import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { RpcError } from '../../lib/adapters/jsonrpc/types.ts'
import { bigToBytes, bytesToBig, concat, equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex, toQuantity } from '../../lib/base/hex.ts'
import { decodeRlp, encodeRlp } from '../../lib/codec/rlp.ts'
import { appendSubmission, EMPTY_FLOW, type FlowState, flowRoot } from '../../lib/codec/storage/flow-tree.ts'
import {
  BATCH_SUBMIT_SELECTOR,
  identity,
  SUBMIT_SELECTOR,
  SUBMIT_TOPIC,
  type Submission,
  sectorsOf,
  submissionFault
} from '../../lib/codec/storage/submission.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { recoverAddress } from '../../lib/crypto/secp256k1.ts'

export const FLOW = '0x22e03a6a89b950f1c82ec5e74f8eca321a105296'
const MARKET = '0x7a67000000000000000000000000000000000001'

interface Log {
  block: number
  txHash: string
  topics: string[]
  data: string
}

export interface PayingChain {
  readonly url: string
  readonly height: number
  /** Transactions taken, in order. */
  readonly sent: { hash: string; from: string; submission: Submission; value: bigint }[]
  /** Neuron a sector. */
  price: bigint
  balance: bigint
  /** Whether the contract takes several submissions in one call. */
  batches: boolean
  /** Keeps transactions in the pool until `mine`. */
  hold: boolean
  mine(): void
  /** Makes a submission without a transaction of a client, as from somebody else. */
  submit(submission: Submission, from: string): number
  /** Forgets the last blocks and what was in them. */
  reorg(depth: number): void
  close(): Promise<void>
}

export async function startPayingChain(): Promise<PayingChain> {
  let fork = 0
  let state: FlowState = EMPTY_FLOW
  let roots: Uint8Array[] = []
  const history: { state: FlowState; roots: Uint8Array[]; logs: number }[] = []
  let logs: Log[] = []
  const hashes: string[] = [toHex(keccak256(utf8('genesis')))]
  const nonces = new Map<string, number>()
  const pool: { hash: string; from: string; submission: Submission; value: bigint }[] = []
  const mined = new Map<string, { block: number; from: string }>()

  const block = (n: number): unknown =>
    hashes[n] === undefined
      ? null
      : {
          number: toQuantity(n),
          hash: hashes[n],
          parentHash: hashes[n - 1] ?? `0x${'00'.repeat(32)}`,
          timestamp: '0x1'
        }
  const placed = (l: Log, i: number): unknown => ({
    address: FLOW,
    topics: l.topics,
    data: l.data,
    blockNumber: toQuantity(l.block),
    blockHash: hashes[l.block],
    transactionHash: l.txHash,
    transactionIndex: '0x0',
    logIndex: toQuantity(i),
    removed: false
  })

  function include(tx: { hash: string; from: string; submission: Submission }): void {
    history.push({ state, roots: [...roots], logs: logs.length })
    const added = appendSubmission(state, tx.submission.nodes)
    state = added.state
    const n = hashes.length
    hashes.push(toHex(keccak256(utf8(`block ${n} fork ${fork}`), fromHex(hashes[n - 1]!))))
    logs.push({ block: n, txHash: tx.hash, ...submitLog(tx.submission, roots.length, added.place, tx.from) })
    roots.push(flowRoot(state))
    mined.set(tx.hash, { block: n, from: tx.from })
  }

  function take(raw: Uint8Array): string {
    const fields = decodeRlp(raw.slice(1)) as Uint8Array[]
    const unsigned = concat(Uint8Array.of(2), encodeRlp(fields.slice(0, 9)))
    const [y, r, s] = fields.slice(9).map(f => bytesToBig(f))
    const from = toHex(recoverAddress(keccak256(unsigned), { yParity: Number(y) as 0 | 1, r: r!, s: s! }))
    const nonce = Number(bytesToBig(fields[1]!))
    if (nonce < (nonces.get(from) ?? 0)) throw new RpcError(-32000, 'nonce too low')
    if (toHex(fields[5]!) !== FLOW) throw new RpcError(-32000, 'not to the flow')
    const submissions = decodeSubmissions(fields[7]!)
    if (submissions.length > 1 && !chain.batches) throw new RpcError(3, 'execution reverted')
    const value = bytesToBig(fields[6]!)
    let wanted = 0n
    for (const submission of submissions) {
      const fault = submissionFault(submission)
      if (fault !== undefined) throw new RpcError(3, `execution reverted: ${fault}`)
      wanted += chain.price * BigInt(sectorsOf(submission.nodes))
    }
    if (value < wanted) throw new RpcError(3, 'execution reverted', '0xf85c6482')
    nonces.set(from, nonce + 1)
    const hash = toHex(keccak256(raw))
    for (const submission of submissions) {
      const tx = { hash, from, submission, value }
      chain.sent.push(tx)
      if (chain.hold) pool.push(tx)
      else include(tx)
    }
    return hash
  }

  const server = await serveRpc({
    port: 0,
    methods: {
      eth_chainId: () => toQuantity(31337),
      web3_clientVersion: () => 'zg-chain/test',
      eth_blockNumber: () => toQuantity(hashes.length - 1),
      eth_getCode: () => '0x60',
      eth_getBlockByNumber: ([n]) => block(n === 'latest' ? hashes.length - 1 : Number(n)),
      eth_getHeaderByNumber: ([n]) => block(Number(n)),
      eth_gasPrice: () => toQuantity(1_000_000_000),
      eth_maxPriorityFeePerGas: () => '0x1',
      eth_estimateGas: () => toQuantity(300_000),
      eth_getBalance: () => toQuantity(chain.balance),
      eth_getTransactionCount: ([a]) => toQuantity(nonces.get(String(a).toLowerCase()) ?? 0),
      eth_sendRawTransaction: ([raw]) => take(fromHex(raw)),
      eth_getTransactionByHash: ([h]) => {
        const from = mined.get(String(h))?.from ?? pool.find(t => t.hash === h)?.from
        return from === undefined ? null : { hash: h, from }
      },
      eth_getTransactionReceipt: ([h]) => {
        const at = mined.get(String(h))
        if (at === undefined) return null
        return {
          transactionHash: h,
          status: '0x1',
          blockNumber: toQuantity(at.block),
          logs: logs.filter(l => l.txHash === h).map(placed)
        }
      },
      eth_getLogs: ([q]) => {
        const { fromBlock, toBlock } = q as { fromBlock: string; toBlock: string }
        return logs.filter(l => l.block >= Number(fromBlock) && l.block <= Number(toBlock)).map(placed)
      },
      eth_call: ([c]) => {
        const { to, data } = c as { to: string; data: string }
        if (data.startsWith('0x80f55605') && to === FLOW) return toHex(concat(new Uint8Array(12), fromHex(MARKET)))
        if (data.startsWith('0x61ec5082') && to === MARKET) return toHex(bigToBytes(chain.price, 32))
        if (data.startsWith('0x6d7ad0fc'))
          return toHex(roots[Number(BigInt(`0x${data.slice(10)}`))] ?? new Uint8Array(32))
        if (data.startsWith('0x77e19824') && to === FLOW) return toHex(bigToBytes(BigInt(roots.length), 32))
        return '0x'
      }
    }
  })
  const chain: PayingChain = {
    url: server.url!,
    get height() {
      return hashes.length - 1
    },
    sent: [],
    price: 1000n,
    balance: 10n ** 20n,
    hold: false,
    batches: true,
    mine() {
      for (const tx of pool.splice(0)) include(tx)
    },
    submit(submission, from) {
      include({ hash: toHex(keccak256(utf8(`other ${hashes.length} ${fork}`))), from, submission })
      return roots.length - 1
    },
    reorg(depth) {
      fork++
      for (let i = 0; i < depth; i++) {
        const before = history.pop()!
        state = before.state
        roots = before.roots
        logs = logs.slice(0, before.logs)
        hashes.pop()
      }
    },
    close: () => server.close()
  }
  return chain
}

/** `submit`, or `batchSubmit` with several. */
function decodeSubmissions(data: Uint8Array): Submission[] {
  const word = (at: number): number => Number(bytesToBig(data.subarray(at, at + 32)))
  if (equalBytes(data.subarray(0, 4), SUBMIT_SELECTOR)) return [decodeSubmit(data, 4 + word(4))]
  if (!equalBytes(data.subarray(0, 4), BATCH_SUBMIT_SELECTOR)) throw new RpcError(-32000, 'not submit')
  const list = 4 + word(4)
  return Array.from({ length: word(list) }, (_, i) => decodeSubmit(data, list + 32 + word(list + 32 + 32 * i)))
}

function decodeSubmit(data: Uint8Array, outer: number): Submission {
  const word = (at: number): number => Number(bytesToBig(data.subarray(at, at + 32)))
  const tuple = outer + word(outer)
  const tagsAt = tuple + word(tuple + 32)
  const nodesAt = tuple + word(tuple + 64)
  const nodes = Array.from({ length: word(nodesAt) }, (_, i) => {
    const at = nodesAt + 32 + 64 * i
    return { root: data.slice(at, at + 32), height: word(at + 32) }
  })
  return { size: word(tuple), tags: data.slice(tagsAt + 32, tagsAt + 32 + word(tagsAt)), nodes }
}

function submitLog(
  s: Submission,
  seq: number,
  place: { start: number; sectors: number },
  from: string
): { topics: string[]; data: string } {
  const word = (n: number): Uint8Array => bigToBytes(BigInt(n), 32)
  const tags = new Uint8Array(32 * Math.ceil(s.tags.length / 32))
  tags.set(s.tags)
  const nodes = concat(...s.nodes.flatMap(n => [n.root, word(n.height)]))
  const tuple = concat(
    word(s.size),
    word(96),
    word(128 + tags.length),
    word(s.tags.length),
    tags,
    word(s.nodes.length),
    nodes
  )
  const data = concat(word(seq), word(place.start), word(place.sectors), word(128), tuple)
  const sender = concat(new Uint8Array(12), fromHex(from))
  return { topics: [SUBMIT_TOPIC, sender, identity(s.nodes)].map(toHex), data: toHex(data) }
}
