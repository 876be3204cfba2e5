/** Random EVM programs: mostly well-formed, sometimes with a few bytes changed, so that both the inside and the edges are met. */

export interface Dice {
  /** 0 … n − 1. */
  below(n: number): number
  bytes(n: number): Uint8Array
}

/** A small generator that is the same everywhere (xorshift128). */
export function dice(seed: number): Dice {
  const s = [seed | 1, seed ^ 0x9e3779b9, (seed * 0x85ebca6b) | 0, 0x2545f491]
  const next = (): number => {
    const t = s[0]! ^ (s[0]! << 11)
    s[0] = s[1]!
    s[1] = s[2]!
    s[2] = s[3]!
    s[3] = s[3]! ^ (s[3]! >>> 19) ^ t ^ (t >>> 8)
    return s[3]! >>> 0
  }
  for (let i = 0; i < 16; i++) next()
  return {
    below: n => next() % n,
    bytes: n => Uint8Array.from({ length: n }, () => next() & 255)
  }
}

const UNARY = [0x15, 0x19]
const BINARY = [1, 2, 3, 4, 5, 6, 7, 10, 11, 16, 17, 18, 19, 20, 22, 23, 24, 26, 27, 28, 29]
const TERNARY = [8, 9]
/** Push one word about the surroundings. */
const AROUND = [
  0x30, 0x32, 0x33, 0x34, 0x36, 0x38, 0x3a, 0x3d, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x4a, 0x58, 0x59, 0x5a
]
const HOSTILE = [0n, 1n, 2n, 31n, 32n, 33n, 255n, 256n, 1n << 64n, 1n << 255n, (1n << 256n) - 1n, (1n << 128n) - 1n]
/** MUL of the canary stands here too. */
const SIZES = [0, 1, 4, 31, 32, 33, 64, 96, 128, 160, 192, 213, 256]

/** Code of at most some hundred bytes. `targets`: addresses that it calls and looks at. */
export function program(d: Dice, targets: readonly Uint8Array[]): Uint8Array {
  const code: number[] = []
  let depth = 0
  const op = (...bytes: number[]) => void code.push(...bytes)
  const push = (value: bigint) => {
    let hex = value.toString(16)
    if (hex.length % 2 === 1) hex = `0${hex}`
    const bytes = [...Buffer.from(hex, 'hex')]
    if (value === 0n && d.below(2) === 0) op(0x5f)
    else op(0x5f + bytes.length, ...bytes)
    depth++
  }
  const pushBytes = (bytes: Uint8Array) => {
    op(0x5f + bytes.length, ...bytes)
    depth++
  }
  const small = () => push(BigInt(d.below(8) === 0 ? d.below(100_000) : d.below(256)))
  const size = () => push(BigInt(SIZES[d.below(SIZES.length)]!))
  const word = () => {
    const kind = d.below(6)
    if (kind === 0) pushBytes(d.bytes(32))
    else if (kind === 1) push(HOSTILE[d.below(HOSTILE.length)]!)
    else if (kind === 2) pushBytes(target())
    else push(BigInt(d.below(1000)))
  }
  const target = () => targets[d.below(targets.length)]!
  const slot = () => push(BigInt(d.below(4)))
  const need = (n: number) => {
    while (depth < n) word()
  }
  const steps = 5 + d.below(60)
  for (let i = 0; i < steps; i++) {
    if (depth > 30) {
      op(0x50)
      depth--
    }
    const kind = d.below(100)
    if (kind < 14) word()
    else if (kind < 18) {
      need(1)
      op(UNARY[d.below(UNARY.length)]!)
    } else if (kind < 34) {
      need(2)
      op(BINARY[d.below(BINARY.length)]!)
      depth--
    } else if (kind < 37) {
      need(3)
      op(TERNARY[d.below(TERNARY.length)]!)
      depth -= 2
    } else if (kind < 43) {
      op(AROUND[d.below(AROUND.length)]!)
      depth++
    } else if (kind < 47) {
      need(2)
      const n = 1 + d.below(Math.min(depth - 1, 15))
      if (d.below(2) === 0) op(0x8f + n)
      else {
        op(0x7f + n)
        depth++
      }
    } else if (kind < 53) {
      // MLOAD, MSTORE, MSTORE8
      if (d.below(3) === 0) {
        small()
        op(0x51)
      } else {
        need(1)
        small()
        op(d.below(4) === 0 ? 0x53 : 0x52)
        depth -= 2
      }
    } else if (kind < 56) {
      size()
      small()
      op(0x20)
      depth--
    } else if (kind < 60) {
      // CALLDATACOPY, CODECOPY, RETURNDATACOPY, MCOPY
      size()
      small()
      small()
      op([0x37, 0x39, 0x3e, 0x5e][d.below(4)]!)
      depth -= 3
    } else if (kind < 63) {
      need(1)
      op([0x35, 0x40, 0x31, 0x3b, 0x3f, 0x49][d.below(6)]!)
    } else if (kind < 64) {
      size()
      small()
      small()
      pushBytes(target())
      op(0x3c)
      depth -= 4
    } else if (kind < 74) {
      // SLOAD, SSTORE, TLOAD, TSTORE
      const transient = d.below(4) === 0
      if (d.below(2) === 0) {
        slot()
        op(transient ? 0x5c : 0x54)
      } else {
        if (d.below(2) === 0) slot()
        else need(1)
        slot()
        op(transient ? 0x5d : 0x55)
        depth -= 2
      }
    } else if (kind < 77) {
      const topics = d.below(5)
      need(topics)
      size()
      small()
      op(0xa0 + topics)
      depth -= topics + 2
    } else if (kind < 88) call()
    else if (kind < 91) create()
    else if (kind < 95) skip()
    else if (kind < 96) {
      // Back to the start of something: gas ends it.
      need(1)
      op(0x5b)
      push(BigInt(d.below(Math.max(1, code.length))))
      op(0x57)
      depth -= 2
    } else if (kind < 97) {
      need(1)
      op(0x50)
      depth--
    } else word()
  }
  const end = d.below(10)
  if (end < 6) {
    size()
    small()
    op(end < 4 ? 0xf3 : 0xfd)
  } else if (end < 7) {
    pushBytes(target())
    op(0xff)
  } else if (end < 8) op(0xfe)
  const out = Uint8Array.from(code)
  if (d.below(4) === 0) for (let n = 1 + d.below(3); n > 0; n--) out[d.below(out.length)] = d.below(256)
  return out

  function call(): void {
    const kind = [0xf1, 0xf1, 0xf2, 0xf4, 0xfa][d.below(5)]!
    size()
    small()
    size()
    small()
    const hasValue = kind === 0xf1 || kind === 0xf2
    if (hasValue) push(d.below(3) === 0 ? BigInt(d.below(3)) : 0n)
    if (d.below(4) === 0) pushBytes(Uint8Array.from({ length: 20 }, (_, i) => (i === 19 ? d.below(20) : 0)))
    else pushBytes(target())
    if (d.below(2) === 0) {
      op(0x5a)
      depth++
    } else push(BigInt(d.below(60_000)))
    op(kind)
    depth -= hasValue ? 6 : 5
  }

  function create(): void {
    // What is created is a piece of this very code.
    const length = d.below(40)
    push(BigInt(length))
    push(BigInt(d.below(Math.max(1, code.length))))
    push(0n)
    op(0x39)
    depth -= 3
    const salted = d.below(2) === 0
    if (salted) push(BigInt(d.below(3)))
    push(BigInt(length))
    push(0n)
    push(BigInt(d.below(3) === 0 ? 1 : 0))
    op(salted ? 0xf5 : 0xf0)
    depth -= salted ? 3 : 2
  }

  /** JUMPI over a few harmless bytes. */
  function skip(): void {
    need(1)
    const body = Array.from({ length: d.below(6) }, () => [0x5f, 0x50]).flat()
    const to = code.length + 4 + body.length
    op(0x61, to >> 8, to & 255, 0x57, ...body, 0x5b)
    depth--
  }
}
