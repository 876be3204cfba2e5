/**
 * Runs constructors for a genesis: a small machine for what compiled constructors do, which is to read their arguments, call nobody, write
 * storage and return code. It charges no gas and knows no other account; an instruction beyond that is an error, never a guess.
 * Starting a chain with the whole engine for this would take longer than the chain's own start.
 * test/unit/contracts.test.ts compares its work with a full implementation.
 */
import { bigToBytes, bytesToBig } from '../base/bytes.ts'
import { AssertionError, assert } from '../base/errors.ts'
import { keccak256 } from '../crypto/hash.ts'

export interface Construction {
  /** 20 bytes: where the contract will stand. */
  address: Uint8Array
  /** Creation code followed by ABI-encoded arguments. */
  code: Uint8Array
  caller: Uint8Array
  chainId: bigint
  /** Seconds of the block it seems to run in; its number is 0. */
  timestamp: bigint
}

export interface Constructed {
  code: Uint8Array
  /** Without zero values, in order of slots. */
  storage: [slot: Uint8Array, value: Uint8Array][]
}

const WORD = 1n << 256n
const MASK = WORD - 1n
const SIGN = 1n << 255n
/** Memory and steps of a constructor: ours need 30 KB and some thousand steps. */
const MEMORY_MAX = 1024 * 1024
const STEPS_MAX = 1_000_000
const STACK_MAX = 1024

const signed = (x: bigint): bigint => (x >= SIGN ? x - WORD : x)
const flag = (b: boolean): bigint => (b ? 1n : 0n)

/** Two operands to one, by opcode. */
const BINARY: Record<number, (a: bigint, b: bigint) => bigint> = {
  1: (a, b) => a + b,
  2: (a, b) => a * b,
  3: (a, b) => a - b,
  4: (a, b) => (b === 0n ? 0n : a / b),
  5: (a, b) => (b === 0n ? 0n : signed(a) / signed(b)),
  6: (a, b) => (b === 0n ? 0n : a % b),
  7: (a, b) => (b === 0n ? 0n : signed(a) % signed(b)),
  10: power,
  11: (a, b) => (a >= 31n ? b : BigInt.asIntN(8 * (Number(a) + 1), b)),
  16: (a, b) => flag(a < b),
  17: (a, b) => flag(a > b),
  18: (a, b) => flag(signed(a) < signed(b)),
  19: (a, b) => flag(signed(a) > signed(b)),
  20: (a, b) => flag(a === b),
  22: (a, b) => a & b,
  23: (a, b) => a | b,
  24: (a, b) => a ^ b,
  26: (a, b) => (a >= 32n ? 0n : (b >> (8n * (31n - a))) & 255n),
  27: (a, b) => (a >= 256n ? 0n : b << a),
  28: (a, b) => (a >= 256n ? 0n : b >> a),
  29: (a, b) => signed(b) >> (a >= 256n ? 255n : a)
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (let b = base, e = exponent; e > 0n; e >>= 1n, b = (b * b) & MASK) if (e & 1n) result = (result * b) & MASK
  return result
}

/** @throws {AssertionError} when the constructor reverts or does what a constructor of a genesis must not. */
export function construct(c: Construction): Constructed {
  const { code } = c
  const stack: bigint[] = []
  const storage = new Map<bigint, bigint>()
  let memory = new Uint8Array(4096)
  let memorySize = 0
  const targets = jumpTargets(code)

  const push = (x: bigint): void => {
    assert(stack.length < STACK_MAX, 'constructor: stack overflow')
    stack.push(x & MASK)
  }
  const pop = (): bigint => {
    const x = stack.pop()
    assert(x !== undefined, 'constructor: stack underflow')
    return x
  }
  const small = (x: bigint): number => {
    assert(x <= BigInt(MEMORY_MAX), 'constructor: an offset is too large')
    return Number(x)
  }
  /** The memory from `at` on, grown and zero. */
  const reach = (at: number, size: number): void => {
    if (size === 0) return
    const end = at + size
    assert(end <= MEMORY_MAX, 'constructor: too much memory')
    if (end > memory.length) {
      const larger = new Uint8Array(Math.max(end, memory.length * 2))
      larger.set(memory)
      memory = larger
    }
    memorySize = Math.max(memorySize, Math.ceil(end / 32) * 32)
  }
  const slice = (at: number, size: number): Uint8Array => {
    reach(at, size)
    return memory.slice(at, at + size)
  }
  const copy = (from: Uint8Array): void => {
    const [to, at, size] = [small(pop()), pop(), small(pop())]
    reach(to, size)
    const source = at > BigInt(from.length) ? new Uint8Array(0) : from.subarray(Number(at), Number(at) + size)
    memory.fill(0, to, to + size)
    memory.set(source, to)
  }
  const jump = (): number => {
    const to = small(pop())
    assert(targets.has(to), 'constructor: a jump to no destination')
    return to
  }

  let pc = 0
  for (let steps = 0; ; steps++) {
    assert(steps < STEPS_MAX, 'constructor: it does not end')
    const op = code[pc++] ?? 0
    const binary = BINARY[op]
    if (binary !== undefined) push(binary(pop(), pop()))
    else if (op >= 0x5f && op <= 0x7f) {
      const size = op - 0x5f
      // Bytes beyond the end of the code read as zeros.
      const bytes = code.subarray(pc, pc + size)
      push(bytesToBig(bytes) << BigInt(8 * (size - bytes.length)))
      pc += size
    } else if (op >= 0x80 && op <= 0x8f) {
      const x = stack[stack.length - (op - 0x7f)]
      assert(x !== undefined, 'constructor: stack underflow')
      push(x)
    } else if (op >= 0x90 && op <= 0x9f) {
      const [top, other] = [stack.length - 1, stack.length - 1 - (op - 0x8f)]
      assert(other >= 0, 'constructor: stack underflow')
      ;[stack[top], stack[other]] = [stack[other]!, stack[top]!]
    } else {
      switch (op) {
        case 0x00:
          return finish(new Uint8Array(0))
        case 0x08:
        case 0x09: {
          const [a, b, n] = [pop(), pop(), pop()]
          push(n === 0n ? 0n : (op === 0x08 ? a + b : a * b) % n)
          break
        }
        case 0x15:
          push(flag(pop() === 0n))
          break
        case 0x19:
          push(~pop())
          break
        case 0x20: {
          const [at, size] = [small(pop()), small(pop())]
          push(bytesToBig(keccak256(slice(at, size))))
          break
        }
        case 0x30:
          push(bytesToBig(c.address))
          break
        case 0x32:
        case 0x33:
          push(bytesToBig(c.caller))
          break
        case 0x34: // value
        case 0x36: // size of the call data
        case 0x3d: // size of return data
        case 0x43: // block number
          push(0n)
          break
        case 0x38:
          push(BigInt(code.length))
          break
        case 0x39:
          copy(code)
          break
        case 0x42:
          push(c.timestamp)
          break
        case 0x46:
          push(c.chainId)
          break
        case 0x50:
          pop()
          break
        case 0x51:
          push(bytesToBig(slice(small(pop()), 32)))
          break
        case 0x52: {
          const [at, value] = [small(pop()), pop()]
          reach(at, 32)
          memory.set(bigToBytes(value, 32), at)
          break
        }
        case 0x53: {
          const [at, value] = [small(pop()), pop()]
          reach(at, 1)
          memory[at] = Number(value & 255n)
          break
        }
        case 0x54:
          push(storage.get(pop()) ?? 0n)
          break
        case 0x55: {
          const [slot, value] = [pop(), pop()]
          storage.set(slot, value)
          break
        }
        case 0x56:
          pc = jump()
          break
        case 0x57: {
          const to = pop()
          if (pop() === 0n) break
          stack.push(to)
          pc = jump()
          break
        }
        case 0x58:
          push(BigInt(pc - 1))
          break
        case 0x59:
          push(BigInt(memorySize))
          break
        case 0x5b:
          break
        case 0x5e: {
          const [to, from, size] = [small(pop()), small(pop()), small(pop())]
          reach(Math.max(to, from), size)
          memory.copyWithin(to, from, from + size)
          break
        }
        case 0xa0: // logs of a genesis are seen by nobody
        case 0xa1:
        case 0xa2:
        case 0xa3:
        case 0xa4:
          for (let i = 0; i < op - 0xa0 + 2; i++) pop()
          break
        case 0xf3: {
          const [at, size] = [small(pop()), small(pop())]
          return finish(slice(at, size))
        }
        case 0xfd:
          throw new AssertionError('constructor: it reverts')
        default:
          throw new AssertionError(`constructor: instruction 0x${op.toString(16)} has no place in a genesis`)
      }
    }
  }

  function finish(result: Uint8Array): Constructed {
    const slots = [...storage].filter(([, value]) => value !== 0n).sort(([a], [b]) => (a < b ? -1 : 1))
    return {
      code: result,
      storage: slots.map(([slot, value]): [Uint8Array, Uint8Array] => [bigToBytes(slot, 32), bigToBytes(value, 32)])
    }
  }
}

/** Places of JUMPDEST that are no data of a PUSH. */
function jumpTargets(code: Uint8Array): Set<number> {
  const targets = new Set<number>()
  for (let pc = 0; pc < code.length; pc++) {
    const op = code[pc]!
    if (op === 0x5b) targets.add(pc)
    else if (op >= 0x60 && op <= 0x7f) pc += op - 0x5f
  }
  return targets
}
