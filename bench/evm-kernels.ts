/**
 * Question: how fast is the interpreter, kernel by kernel? Peer: anvil 1.7.1 (revm), the same eth_call to both with the code as a state
 * override. Part of bench/chain.ts (`npm run bench:chain -- --only kernels`).
 *
 * Each kernel repeats its body as often as its call data says and answers a checksum and the gas that it used, so that equal results are seen
 * in each call. The rate is the gas between a long and a short run over the processor time of the node between them: what is fixed (JSON,
 * the socket, the loop of the server) drops out, and so does what else the machine does. Where the system tells no thread's time: wall time.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { RpcClient } from '../lib/adapters/jsonrpc/client.ts'
import type { Hex } from '../lib/base/hex.ts'
import { CREATION_CODE } from '../lib/contracts/generated/artifacts.ts'

export const KERNELS = [
  'loop',
  'fib',
  'div',
  'keccak',
  'sort',
  'memcpy',
  'sload',
  'sstore',
  'calls',
  'recover',
  'erc20'
] as const
export type Kernel = (typeof KERNELS)[number]

/** Gas of the long run: below zg-chain's bound on eth_call (50 M). */
const LONG_GAS = 36_000_000
const SHORT_SHARE = 8

const MAIN = '0x00000000000000000000000000000000000000aa'
const CALLEE = '0x00000000000000000000000000000000000000cc'
const TOKEN = '0x00000000000000000000000000000000000000ee'

// ---- an assembler of a few lines: names, `name:` for a place to jump to, `@name` to push it, 0x… to push

const OPS: Record<string, number> = {
  STOP: 0x00,
  ADD: 0x01,
  MUL: 0x02,
  SUB: 0x03,
  DIV: 0x04,
  MOD: 0x06,
  LT: 0x10,
  GT: 0x11,
  ISZERO: 0x15,
  AND: 0x16,
  XOR: 0x18,
  NOT: 0x19,
  KECCAK: 0x20,
  ADDRESS: 0x30,
  CALLDATALOAD: 0x35,
  POP: 0x50,
  MLOAD: 0x51,
  MSTORE: 0x52,
  SLOAD: 0x54,
  SSTORE: 0x55,
  JUMP: 0x56,
  JUMPI: 0x57,
  GAS: 0x5a,
  MCOPY: 0x5e,
  PUSH0: 0x5f,
  CALL: 0xf1,
  RETURN: 0xf3,
  STATICCALL: 0xfa
}

export function assemble(source: string): string {
  const out: number[] = []
  const places = new Map<string, number>()
  const wanted: { at: number; name: string }[] = []
  for (const word of source.split(/\s+/).filter(w => w !== '')) {
    const numbered = /^(DUP|SWAP)([0-9]+)$/.exec(word)
    if (word.endsWith(':')) {
      places.set(word.slice(0, -1), out.length)
      out.push(0x5b)
    } else if (word.startsWith('@')) {
      wanted.push({ at: out.length + 1, name: word.slice(1) })
      out.push(0x61, 0, 0)
    } else if (word.startsWith('0x')) {
      const bytes = word
        .slice(2)
        .match(/../g)!
        .map(b => Number.parseInt(b, 16))
      out.push(0x5f + bytes.length, ...bytes)
    } else if (numbered !== null) {
      out.push((numbered[1] === 'DUP' ? 0x7f : 0x8f) + Number(numbered[2]))
    } else {
      const op = OPS[word]
      if (op === undefined) throw new Error(`no instruction '${word}'`)
      out.push(op)
    }
  }
  for (const { at, name } of wanted) {
    const place = places.get(name)
    if (place === undefined) throw new Error(`no place '${name}'`)
    out[at] = place >> 8
    out[at + 1] = place & 255
  }
  return `0x${Buffer.from(out).toString('hex')}`
}

/**
 * `before` prepares; `body` finds the rounds left on top of the stack and leaves the stack as it was; `after` turns what lies there into one
 * word. What lies below belongs to the frame: the gas at the beginning.
 */
function kernel(before: string, body: string, after: string): string {
  return assemble(`GAS ${before} PUSH0 CALLDATALOAD
    round: ${body} 0x01 SWAP1 SUB DUP1 @round JUMPI
    POP ${after} PUSH0 MSTORE GAS SWAP1 SUB 0x20 MSTORE 0x40 PUSH0 RETURN`)
}

// Fills 64 words from a linear congruential sequence and sorts them by exchange. Stack: x rounds; i, j are byte offsets.
const SORT = `PUSH0
  fill: SWAP2 0x5851f42d4c957f2d MUL 0x14057b7ef767814f ADD DUP1 DUP4 MSTORE SWAP2 0x20 ADD DUP1 0x0800 GT @fill JUMPI
  POP PUSH0
  outer: DUP1 0x20 ADD
  inner: DUP2 MLOAD DUP2 MLOAD DUP2 DUP2 LT ISZERO @keep JUMPI
  DUP4 MSTORE DUP2 MSTORE @next JUMP
  keep: POP POP
  next: 0x20 ADD DUP1 0x0800 GT @inner JUMPI
  POP 0x20 ADD DUP1 0x07e0 GT @outer JUMPI
  POP`

// A signature over keccak256("") with v = 27, r = G.x: some key has made it.
const SIGNED = `0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470 PUSH0 MSTORE 0x1b 0x20 MSTORE
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798 0x40 MSTORE
  0x1b3a5c9d2f6e8a4c0b7d1e3f5a69788796a5b4c3d2e1f00f1e2d3c4b5a697887 0x60 MSTORE`

const word = (hex: string): string => hex.replace(/^0x/, '').padStart(64, '0')
/** Selector and two words to memory at 0, the second from the top of the stack. */
const TRANSFER = '0xa9059cbb' // transfer(address,uint256)
const MINT = '0x40c10f19' // mint(address,uint256)

const CODE: Record<Kernel, string> = {
  loop: kernel('', '', 'PUSH0'),
  fib: kernel('PUSH0 0x01', 'SWAP2 SWAP1 DUP2 ADD SWAP2', 'ADD'),
  div: kernel('PUSH0', 'DUP1 PUSH0 NOT DIV PUSH0 NOT MOD SWAP1 SWAP2 ADD SWAP1', ''),
  keccak: kernel('', '0x20 PUSH0 KECCAK PUSH0 MSTORE', 'PUSH0 MLOAD'),
  sort: kernel('0x2a', SORT, '0x0400 MLOAD XOR'),
  memcpy: kernel('PUSH0 NOT 0x0420 MSTORE', '0x0400 0x0400 PUSH0 MCOPY', '0x20 MLOAD'),
  sload: kernel('PUSH0', 'DUP1 0x7f AND SLOAD SWAP1 SWAP2 ADD SWAP1', ''),
  sstore: kernel('', 'DUP1 DUP1 0x7f AND SSTORE', '0x05 SLOAD'),
  calls: kernel('', `DUP1 PUSH0 MSTORE 0x20 PUSH0 0x20 PUSH0 PUSH0 ${CALLEE} GAS CALL POP`, 'PUSH0 MLOAD'),
  recover: kernel(SIGNED, '0x20 0x80 0x80 PUSH0 0x01 GAS STATICCALL POP', '0x80 MLOAD'),
  erc20: kernel(
    // The selector lies left-aligned in the first word: bytes 0 to 3; then the two arguments.
    `${MINT}${'00'.repeat(28)} PUSH0 MSTORE ADDRESS 0x04 MSTORE 0xffffffffffffffffffffffff 0x24 MSTORE PUSH0 PUSH0 0x44 PUSH0 PUSH0 ${TOKEN} GAS CALL POP
     ${TRANSFER}${'00'.repeat(28)} PUSH0 MSTORE 0x01 0x24 MSTORE`,
    `DUP1 0x7f AND 0x0100 ADD 0x04 MSTORE 0x20 0x80 0x44 PUSH0 PUSH0 ${TOKEN} GAS CALL POP`,
    '0x80 MLOAD'
  )
}

export interface KernelNode<Name extends string> {
  name: Name
  url: string
  pid: number
}
export interface KernelFigure<Name extends string> {
  kernel: Kernel
  name: Name
  mgasPerSecond: number
}

/** Processor time of all threads of a process in seconds, in nanosecond steps; undefined where the system does not tell. */
function threadSeconds(pid: number): number | undefined {
  try {
    let sum = 0
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      try {
        sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
      } catch {
        // A thread that has ended meanwhile.
      }
    }
    return sum / 1e9
  } catch {
    return undefined
  }
}

interface Run {
  seconds: number
  gas: number
  answer: string
}
const fastest = (runs: readonly Run[]): Run => runs.reduce((a, b) => (b.seconds < a.seconds ? b : a))

/** One round of every kernel on every node, alternating. @throws when two nodes answer differently, or a kernel fails. */
export async function kernelRound<Name extends string>(
  nodes: readonly KernelNode<Name>[],
  repeats = 5,
  wanted: readonly Kernel[] = KERNELS
): Promise<KernelFigure<Name>[]> {
  const clients = new Map(nodes.map(n => [n, new RpcClient(n.url, { timeoutMs: 60_000 })]))
  // What a creation gives back is the code.
  const token = await clients.get(nodes[0]!)!.call<Hex>('eth_call', [{ data: CREATION_CODE.BenchToken }, 'latest'])
  const slots = Object.fromEntries(
    Array.from({ length: 128 }, (_, i) => [`0x${word(i.toString(16))}`, `0x${word((i + 7).toString(16))}`])
  )
  const code = (which: Kernel): Record<string, { code: string; stateDiff?: Record<string, string> }> => ({
    [MAIN]: which === 'sload' ? { code: CODE[which], stateDiff: slots } : { code: CODE[which] },
    [CALLEE]: { code: assemble('PUSH0 CALLDATALOAD 0x01 ADD PUSH0 MSTORE 0x20 PUSH0 RETURN') },
    [TOKEN]: { code: token }
  })
  const run = async (node: KernelNode<Name>, which: Kernel, rounds: number): Promise<Run> => {
    const params = [{ to: MAIN, data: `0x${word(rounds.toString(16))}`, gas: '0x2faf080' }, 'latest', code(which)]
    const before = threadSeconds(node.pid)
    const began = performance.now()
    const answer = await clients.get(node)!.call<Hex>('eth_call', params)
    const wall = (performance.now() - began) / 1000
    // The thread that answered goes to sleep: only then its time is whole.
    await new Promise(resolve => setTimeout(resolve, 3))
    const after = threadSeconds(node.pid)
    return {
      answer,
      gas: Number(BigInt(`0x${answer.slice(66)}`)),
      seconds: before === undefined || after === undefined ? wall : after - before
    }
  }

  const figures: KernelFigure<Name>[] = []
  for (const which of wanted) {
    // The first rounds of these touch their 128 slots for the first time, at many times the price of later ones.
    const warm = which === 'sload' || which === 'sstore' ? 200 : 10
    const probe = (await run(nodes[0]!, which, warm + 10)).gas - (await run(nodes[0]!, which, warm)).gas
    const long = Math.max(2 * SHORT_SHARE, Math.floor((LONG_GAS / probe) * 10))
    const short = Math.floor(long / SHORT_SHARE)
    const runs = new Map<Name, { short: Run[]; long: Run[] }>(nodes.map(n => [n.name, { short: [], long: [] }]))
    for (let i = 0; i < repeats; i++) {
      for (const node of i % 2 === 0 ? nodes : [...nodes].reverse()) {
        runs.get(node.name)!.short.push(await run(node, which, short))
        runs.get(node.name)!.long.push(await run(node, which, long))
      }
    }
    const answers = new Set([...runs.values()].flatMap(r => r.long.map(l => l.answer)))
    if (answers.size !== 1) throw new Error(`${which}: the nodes answer differently: ${[...answers].join(' ')}`)
    const [answer] = answers
    if (which !== 'loop' && /^0x0{64}/.test(answer!)) throw new Error(`${which} failed: its checksum is 0`)
    for (const [name, r] of runs) {
      // The fastest of each: what other work of the node or the machine adds is never negative.
      const [a, b] = [fastest(r.short), fastest(r.long)]
      figures.push({ kernel: which, name, mgasPerSecond: (b.gas - a.gas) / (b.seconds - a.seconds) / 1e6 })
    }
  }
  return figures
}
