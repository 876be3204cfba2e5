/**
 * Proves that the native DASigners precompile is its TypeScript twin byte for byte: answers, prices, reasons of refusals, events and the whole
 * storage, over random sequences of good and bad calls that go through registrations, epochs and quorums.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import t from 'tap'
import { bigToBytes, bytesToBig, concat, u64be, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { nativePath } from '../../lib/native.ts'
import { SEED } from '../harness/seed.ts'
import { abiBytes } from '../oracle/precompiles/abi.ts'
import { daSigners } from '../oracle/precompiles/da-signers.ts'
import { PrecompileError, type PrecompileLog } from '../oracle/precompiles/types.ts'

interface Step {
  caller: Uint8Array
  origin: Uint8Array
  data: Uint8Array
  gas: bigint
  blockNumber: bigint
  isStatic: boolean
  isDelegate: boolean
}
interface Answer {
  ok: boolean
  gasUsed: bigint
  output: Uint8Array
  logs: PrecompileLog[]
}
interface Addon {
  daSigners(
    opts: { registry: Uint8Array; chainId: bigint; epochBlocks: bigint },
    steps: Step[]
  ): { answers: Answer[]; slots: [Uint8Array, Uint8Array][] }
}

const path = nativePath('evm' as 'codec')
const skip = existsSync(path) ? false : 'no native build here'
let state = SEED >>> 0
function random(below: number): number {
  state = (state + 0x6d2b79f5) >>> 0
  let x = Math.imul(state ^ (state >>> 15), state | 1)
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
  return ((x ^ (x >>> 14)) >>> 0) % below
}
const pick = <T>(items: readonly T[]): T => items[random(items.length)]!
const word = (n: bigint | number) => bigToBytes(BigInt(n), 32)

const CHAIN_ID = 31337n
/** What the twin takes where its storage names no other number. */
const EPOCH_BLOCKS = 28_800n
const REGISTRY = new Uint8Array(20).fill(0x20)
const SIGNERS = Array.from({ length: 6 }, (_, i) => {
  const key = bls.secretKeyFrom(keccak256(Uint8Array.of(i)))
  return {
    key,
    address: keccak256(Uint8Array.of(i, 1)).slice(12),
    pkG1: bls.publicKeyG1(key),
    pkG2: bls.publicKeyG2(key),
    socket: ['127.0.0.1:1', '', 'ü'.repeat(20), 'x'.repeat(96), 'host.example:65535', 'y'.repeat(31)][i]!
  }
})
type Signer = (typeof SIGNERS)[number]

const HASH_OF = (n: bigint) => keccak256(u64be(n))
const sel = (hex: string, ...words: Uint8Array[]) => concat(fromHex(`0x${hex}`), ...words)

/** The twin on a storage in memory, with what its engine does around it. */
async function reference(steps: Step[]) {
  const precompile = daSigners(REGISTRY)
  const slots = new Map<string, Uint8Array>()
  const answers: Answer[] = []
  for (const step of steps) {
    const written = new Map<string, Uint8Array>()
    const failed = (output: Uint8Array) => answers.push({ ok: false, gasUsed: step.gas, output, logs: [] })
    const gas = precompile.gasOf(step.data)
    if (gas !== undefined && step.gas < gas) {
      failed(new Uint8Array(0))
      continue
    }
    try {
      if (gas === undefined) throw new PrecompileError('unknown selector')
      if (step.isDelegate) throw new PrecompileError('precompile must be called directly')
      const { output, logs } = await precompile.run({
        ...step,
        chainId: CHAIN_ID,
        state: {
          get: async slot => written.get(toHex(slot)) ?? slots.get(toHex(slot)) ?? new Uint8Array(32),
          set: async (slot, value) => void written.set(toHex(slot), value)
        },
        blockHash: async n => (n >= step.blockNumber || step.blockNumber - n > 256n ? new Uint8Array(32) : HASH_OF(n))
      })
      for (const [slot, value] of written) slots.set(slot, value)
      answers.push({ ok: true, gasUsed: gas, output, logs })
    } catch (err) {
      if (!(err instanceof PrecompileError)) throw err
      failed(concat(fromHex('0x08c379a0'), word(32), abiBytes(utf8(err.message))))
    }
  }
  return { answers, slots: [...slots].filter(([, value]) => bytesToBig(value) !== 0n) }
}

function registration(s: Signer): Uint8Array {
  const { x, y } = bls.signBls(s.key, bls.registrationDigest(s.address, CHAIN_ID))
  const bad = random(14)
  const socket =
    bad === 0
      ? Uint8Array.of(0xff, 0x41)
      : bad === 1
        ? new Uint8Array(97).fill(65)
        : bad === 2
          ? Uint8Array.of(0xef, 0xbb, 0xbf, 65)
          : utf8(s.socket)
  const g2 = bls.g2Words(s.pkG2)
  if (bad === 3) g2[0] ^= 1n
  if (bad === 4) g2.fill(0n)
  const pk1 = bad === 5 ? { x: s.pkG1.x, y: bls.BN254_P - s.pkG1.y } : bad === 6 ? bls.G1_INFINITY : s.pkG1
  const tuple = concat(
    bad === 7 ? new Uint8Array(32).fill(1) : word(bytesToBig(s.address)),
    word(256),
    ...[pk1.x, pk1.y, ...g2].map(word),
    abiBytes(socket)
  )
  const data = sel('7ca4dd5e', word(bad === 8 ? 1 << 20 : 96), word(x), word(bad === 9 ? y ^ 1n : y), tuple)
  return bad === 10 ? data.subarray(0, data.length - random(data.length)) : data
}

function nextStep(at: { block: bigint; epoch: bigint }): Step {
  const s = pick(SIGNERS)
  const step: Step = {
    caller: random(12) === 0 ? s.address : REGISTRY,
    origin: s.address,
    data: new Uint8Array(0),
    gas: 2_000_000n,
    blockNumber: at.block,
    isStatic: random(25) === 0,
    isDelegate: random(25) === 0
  }
  if (random(20) === 0) step.gas = pick([0n, 999n, 1_000n, 9_999n, 49_999n, 99_999n])
  const epoch = word(pick([at.epoch, at.epoch + 1n, 0n, 1n, 1n << 64n]))
  const who = word(bytesToBig(s.address))
  switch (random(16)) {
    case 0:
    case 1:
    case 2:
      step.data = registration(s)
      break
    case 3:
    case 4:
    case 5: {
      const { x, y } = bls.signBls(s.key, bls.epochDigest(s.address, at.epoch + 1n, CHAIN_ID))
      step.data = sel(
        '0f62bda5',
        who,
        word(x),
        word(random(9) === 0 ? x : y),
        word(pick([0n, 1n, 2n, 700n, 3072n, 5000n]))
      )
      break
    }
    case 6: {
      const socket = pick([
        utf8(s.socket),
        utf8('a'),
        utf8('z'.repeat(96)),
        utf8('z'.repeat(97)),
        Uint8Array.of(0xc0, 0x80),
        Uint8Array.of(0xed, 0xa0, 0x80)
      ])
      step.caller = s.address
      if (random(6) === 0) step.origin = REGISTRY
      step.data = sel('0cf4b767', word(32), abiBytes(socket))
      break
    }
    case 7:
      step.data = sel('5a889f0c')
      break
    case 8:
      step.data = sel(pick(['cff0ab96', 'f4145a83', '5ecba503', '12345678']), epoch)
      break
    case 9:
      step.data = sel('7df73e27', pick([who, new Uint8Array(32).fill(255), new Uint8Array(31)]))
      break
    case 10: {
      const list = Array.from({ length: random(4) }, () => word(bytesToBig(pick(SIGNERS).address)))
      step.data = sel(
        'd1f5e5f8',
        word(pick([32, 32, 32, 4096])),
        word(pick([list.length, list.length, 3073, list.length + 1])),
        ...list
      )
      break
    }
    case 11:
      step.data = sel('6ab6f654', epoch, word(random(3)))
      break
    case 12:
      step.data = sel('fa6fcba6', epoch, word(random(2)), word(pick([0n, 1n, 3071n, 3072n, 1n << 32n])))
      break
    case 13:
      step.data = sel('6c9e560c', who, epoch)
      break
    case 14: {
      const bitmap = Uint8Array.from({ length: pick([384, 384, 384, 383, 385]) }, () => pick([0, 0, 255, random(256)]))
      step.data = sel('50b73739', epoch, word(random(2)), word(96), abiBytes(bitmap))
      break
    }
    default:
      step.data = Uint8Array.from({ length: random(80) }, () => random(256))
  }
  return step
}

t.test('random calls give the same answers, events and storage on both', { skip }, async t => {
  const addon = createRequire(import.meta.url)(path) as Addon
  let slotCount = 0
  for (let round = 0; round < 3; round++) {
    const at = { block: 1n, epoch: 0n }
    const steps: Step[] = []
    for (let i = 0; i < 160; i++) {
      steps.push(nextStep(at))
      at.block += 1n
      if (i % 40 !== 39) continue
      // An epoch later; the mixed hash is within reach or beyond it.
      at.block = (at.block / EPOCH_BLOCKS + 1n) * EPOCH_BLOCKS + pick([400n, 2n * EPOCH_BLOCKS])
      steps.push({
        ...nextStep(at),
        data: sel('5a889f0c'),
        gas: 100_000n,
        blockNumber: at.block,
        isStatic: false,
        isDelegate: false
      })
      at.epoch += 1n
    }
    const want = await reference(steps)
    const got = addon.daSigners({ registry: REGISTRY, chainId: CHAIN_ID, epochBlocks: EPOCH_BLOCKS }, steps)
    const plain = (a: Answer) => ({
      ok: a.ok,
      gasUsed: a.gasUsed,
      output: toHex(a.output),
      logs: a.logs.map(l => [l.topics.map(toHex), toHex(l.data)])
    })
    for (const [i, step] of steps.entries()) {
      const [a, b] = [plain(got.answers[i]!), plain(want.answers[i]!)]
      if (JSON.stringify(a, replacer) !== JSON.stringify(b, replacer)) {
        t.same(a, b, `round ${round}, step ${i}: ${toHex(step.data).slice(0, 80)}`)
      }
    }
    const slots = got.slots.map(([slot, value]) => [toHex(slot), toHex(value)]).sort()
    t.same(slots, want.slots.map(([slot, value]) => [slot, toHex(value)]).sort(), 'storage')
    t.ok(want.answers.filter(a => a.ok).length > 30, 'many calls go through')
    t.ok(
      want.answers.some(a => a.logs.length === 2),
      'signers register'
    )
    slotCount += slots.length
  }
  // Most rounds write some hundred; one where few signers register writes twenty.
  t.ok(slotCount > 60, `${slotCount} slots`)
})

function replacer(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}` : value
}
