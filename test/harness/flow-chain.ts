/**
 * A chain that has a flow contract and nothing else, as JSON-RPC on loopback: for tests that must steer what a real chain would not
 * do on demand (reorganisations, wrong answers, silence). Places and roots come from the codec's flow tree, which is tested
 * against the contract's vectors.
 */
import { serveRpc } from '../../lib/adapters/jsonrpc/server.ts'
import { RpcError, type RpcMethod, type RpcMethods } from '../../lib/adapters/jsonrpc/types.ts'
import { bigToBytes, concat, utf8 } from '../../lib/base/bytes.ts'
import { toHex, toQuantity } from '../../lib/base/hex.ts'
import { appendSubmission, EMPTY_FLOW, type FlowState, flowRoot } from '../../lib/codec/storage/flow-tree.ts'
import { MerkleTree, type Proof } from '../../lib/codec/storage/merkle.ts'
import { segmentLeaves, shape } from '../../lib/codec/storage/shape.ts'
import { identity, SUBMIT_TOPIC, type SubmissionNode, submissionNodes } from '../../lib/codec/storage/submission.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { codec } from '../../lib/native.ts'

export const FLOW_ADDRESS = '0x22e03a6a89b950f1c82ec5e74f8eca321a105296'

/** A file as a client prepares it. */
export interface TestFile {
  size: number
  root: Uint8Array
  nodes: SubmissionNode[]
  bytes: Uint8Array
  /** Data and proof of each segment that is sent. */
  segments: { root: Uint8Array; index: number; fileSize: number; data: Uint8Array; proof: Proof; leaf: Uint8Array }[]
  leaves: Uint8Array[]
}

/** Cuts and hashes a file. */
export function testFile(content: Uint8Array): TestFile {
  const s = shape(content.length)
  const padded = new Uint8Array(s.chunks * 256)
  padded.set(content)
  const leaves: Uint8Array[] = []
  for (let i = 0; i < s.paddedSegments; i++) {
    leaves.push(codec().segmentRootsSync(padded.subarray(i * 262_144, (i + 1) * 262_144), segmentLeaves(s, i))[0]!)
  }
  const tree = new MerkleTree(leaves)
  const tail = padded.subarray(Math.min(padded.length, (s.paddedSegments - 1) * 262_144))
  const segments = Array.from({ length: s.segments }, (_, index) => ({
    root: tree.root,
    index,
    fileSize: content.length,
    data: padded.slice(index * 262_144, (index + 1) * 262_144),
    proof: tree.proof(index),
    leaf: leaves[index]!
  }))
  return {
    size: content.length,
    root: tree.root,
    nodes: submissionNodes(s, leaves, tail),
    bytes: content,
    segments,
    leaves
  }
}

/** A segment as the SDKs write it. */
export function wireSegment(s: TestFile['segments'][number]): Record<string, unknown> {
  return {
    root: toHex(s.root),
    index: s.index,
    fileSize: s.fileSize,
    data: Buffer.from(s.data).toString('base64'),
    proof: { lemma: s.proof.lemma.map(toHex), path: s.proof.path }
  }
}

interface Block {
  number: number
  hash: Uint8Array
  parentHash: Uint8Array
  logs: { topics: string[]; data: string }[]
  /** After this block. */
  state: FlowState
  roots: Uint8Array[]
}

/** What goes into a `Submit` event; tags are empty when absent. */
export type TestSubmission = Pick<TestFile, 'size' | 'nodes'> & { tags?: Uint8Array }

export interface FlowChainServer {
  readonly url: string
  chainId: number
  /** Puts submissions into a new block. @returns their numbers. */
  submit(files: readonly TestSubmission[]): number[]
  /** Adds empty blocks. */
  mine(count: number): void
  /** Takes the last blocks away; new ones get other hashes. */
  reorg(depth: number): void
  readonly height: number
  root(seq: number): Uint8Array
  /** Before each call: throw to fail it, return a value to answer it. */
  intercept: ((method: string, params: readonly unknown[]) => unknown) | undefined
  /** What an honest node answers, for `intercept`. */
  answer(method: string, params: readonly unknown[]): unknown
  /** Number of submissions on the chain. */
  readonly submissions: number
  calls: Map<string, number>
  close(): Promise<void>
}

/** @param push - new heads are told over WebSocket too, as zg-chain does; otherwise those who follow have to ask. */
export async function startFlowChain(chainId = 31337, push = false): Promise<FlowChainServer> {
  let fork = 0
  const listeners = new Set<(header: unknown) => void>()
  const blocks: Block[] = [genesis()]
  const last = (): Block => blocks.at(-1)!
  const calls = new Map<string, number>()

  function add(logs: Block['logs'], state: FlowState, roots: Uint8Array[]): void {
    const number = blocks.length
    const hash = keccak256(utf8(`block ${number} fork ${fork} ${logs.length}`), last().hash)
    blocks.push({ number, hash, parentHash: last().hash, logs, state, roots })
    for (const tell of listeners) tell(block('latest'))
  }

  const answer: Record<string, (p: readonly unknown[]) => unknown> = {
    eth_chainId: () => toQuantity(chain.chainId),
    eth_blockNumber: () => toQuantity(last().number),
    eth_getCode: () => '0x60',
    eth_getBlockByNumber: p => block(p[0]),
    eth_getHeaderByNumber: p => block(p[0]),
    eth_getLogs: p => {
      const { fromBlock, toBlock } = p[0] as { fromBlock: string; toBlock: string }
      return blocks.slice(Number(fromBlock), Number(toBlock) + 1).flatMap(b =>
        b.logs.map((l, i) => ({
          ...l,
          address: FLOW_ADDRESS,
          blockNumber: toQuantity(b.number),
          blockHash: toHex(b.hash),
          transactionHash: toHex(b.hash),
          transactionIndex: '0x0',
          logIndex: toQuantity(i),
          removed: false
        }))
      )
    },
    eth_call: p => {
      const { data } = p[0] as { data: string }
      if (data === '0x77e19824') return toHex(bigToBytes(BigInt(last().roots.length), 32))
      return toHex(last().roots[Number(BigInt(`0x${data.slice(10)}`))] ?? new Uint8Array(32))
    }
  }
  function block(tag: unknown): unknown {
    const b = tag === 'latest' ? last() : blocks[Number(tag)]
    if (b === undefined) return null
    return { number: toQuantity(b.number), hash: toHex(b.hash), parentHash: toHex(b.parentHash), timestamp: '0x1' }
  }
  const methods = Object.fromEntries(
    Object.entries(answer).map(([name, fn]) => [
      name,
      async (p: readonly unknown[]) => {
        calls.set(name, (calls.get(name) ?? 0) + 1)
        const other = await chain.intercept?.(name, p)
        return other === undefined ? fn(p) : other
      }
    ])
  )
  const subscribe: RpcMethod = (_, { notify, onClose }) => {
    const tell = (result: unknown): void => void notify?.('eth_subscription', { subscription: '0x1', result })
    listeners.add(tell)
    onClose(() => listeners.delete(tell))
    return '0x1'
  }
  const all: RpcMethods = push ? { ...methods, eth_subscribe: subscribe } : methods
  const server = await serveRpc({ methods: all, port: 0, websocket: push })
  const chain: FlowChainServer = {
    url: server.url!,
    chainId,
    calls,
    intercept: undefined,
    answer: (method, params) => answer[method]!(params),
    get submissions() {
      return last().roots.length
    },
    get height() {
      return last().number
    },
    submit(files) {
      let { state } = last()
      const roots = [...last().roots]
      const seqs: number[] = []
      const logs = files.map(f => {
        const added = appendSubmission(state, f.nodes)
        state = added.state
        seqs.push(roots.length)
        const log = submitLog(f, { seq: roots.length, startPos: added.place.start, sectors: added.place.sectors })
        roots.push(flowRoot(state))
        return log
      })
      add(logs, state, roots)
      return seqs
    },
    mine(count) {
      for (let i = 0; i < count; i++) add([], last().state, last().roots)
    },
    reorg(depth) {
      fork++
      blocks.splice(blocks.length - depth)
    },
    root: seq => last().roots[seq]!,
    close: () => server.close()
  }
  return chain
}

/** For `intercept`: an answer as from an overloaded public RPC. */
export function rpcFailure(): never {
  throw new RpcError(-32000, 'header not found')
}

function genesis(): Block {
  return {
    number: 0,
    hash: keccak256(utf8('genesis')),
    parentHash: new Uint8Array(32),
    logs: [],
    state: EMPTY_FLOW,
    roots: []
  }
}

function submitLog(
  f: TestSubmission,
  at: { seq: number; startPos: number; sectors: number }
): { topics: string[]; data: string } {
  const word = (n: number): Uint8Array => bigToBytes(BigInt(n), 32)
  const nodes = f.nodes.flatMap(n => [n.root, word(n.height)])
  const tags = f.tags ?? new Uint8Array(0)
  const filled = concat(tags, new Uint8Array((32 - (tags.length % 32)) % 32))
  const head = [word(f.size), word(96), word(128 + filled.length), word(tags.length), filled]
  const tuple = concat(...head, word(f.nodes.length), ...nodes)
  const data = concat(word(at.seq), word(at.startPos), word(at.sectors), word(128), tuple)
  const topics = [SUBMIT_TOPIC, bigToBytes(0x11n, 32), identity(f.nodes)].map(toHex)
  return { topics, data: toHex(data) }
}
