/** What a load does: transfers of the native coin, of an ERC-20, or swaps on a constant-product market, and what must be there first. */
import { bigToBytes, concat } from '../../../lib/base/bytes.ts'
import { fromHex } from '../../../lib/base/hex.ts'
import { encodeRlp } from '../../../lib/codec/rlp.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { LoadTransaction, Sender } from './signing.ts'

export const WORKLOADS = ['transfer', 'erc20', 'swap'] as const
export type Workload = (typeof WORKLOADS)[number]

/** Steps before the load: each waits until the one before is in blocks. */
export interface Plan {
  setup: LoadTransaction[][]
  /** Transaction i of the load. */
  transaction: (i: number) => LoadTransaction
}

/** Native coin for each sender's fees. */
export const FUNDING = 10n ** 18n
const UNIT = 10n ** 18n
const MANY = 10n ** 30n
const MAX = (1n << 256n) - 1n

/** @param funder - pays, deploys; its nonce must be the chain's. */
export async function planOf(workload: Workload, funder: Sender, senders: readonly Sender[]): Promise<Plan> {
  const fund = senders.map(s => send(funder, s.address, 21_000n, new Uint8Array(0), FUNDING))
  const from = (i: number): Sender => senders[i % senders.length]!
  // A new recipient every eighth time: accounts come into being as they do on a chain.
  const recipient = (i: number): Uint8Array =>
    i % 8 === 0
      ? keccak256(bigToBytes(BigInt(i) + 1n, 32)).subarray(12)
      : senders[(i * 7 + 3) % senders.length]!.address
  if (workload === 'transfer')
    return { setup: [fund], transaction: i => send(from(i), recipient(i), 21_000n, new Uint8Array(0), 1n) }

  const { CREATION_CODE } = await import('../../../lib/contracts/generated/artifacts.ts')
  const code = (name: 'BenchToken' | 'BenchPair'): Uint8Array => fromHex(CREATION_CODE[name], name, { bare: true })
  let nonce = funder.nonce + BigInt(fund.length)
  const deploy = (bytes: Uint8Array): { tx: LoadTransaction; address: Uint8Array } => ({
    tx: { sender: funder, to: null, value: 0n, data: bytes, gasLimit: 3_000_000n },
    address: keccak256(encodeRlp([funder.address, nonce++])).subarray(12)
  })
  const a = deploy(code('BenchToken'))
  const mint = (token: Uint8Array, to: Uint8Array, amount: bigint): LoadTransaction =>
    send(funder, token, 200_000n, call('mint(address,uint256)', to, amount))
  if (workload === 'erc20') {
    return {
      setup: [[...fund, a.tx], senders.map(s => mint(a.address, s.address, MANY))],
      transaction: i => send(from(i), a.address, 80_000n, call('transfer(address,uint256)', recipient(i), 1n))
    }
  }
  const b = deploy(code('BenchToken'))
  const pair = deploy(concat(code('BenchPair'), word(a.address), word(b.address)))
  return {
    setup: [
      [...fund, a.tx, b.tx, pair.tx],
      [
        ...senders.flatMap(s => [mint(a.address, s.address, MANY), mint(b.address, s.address, MANY)]),
        mint(a.address, pair.address, MANY),
        mint(b.address, pair.address, MANY),
        ...senders.flatMap(s =>
          [a, b].map(t => send(s, t.address, 100_000n, call('approve(address,uint256)', pair.address, MAX)))
        )
      ],
      [send(funder, pair.address, 200_000n, call('sync()'))]
    ],
    transaction: i =>
      send(
        from(i),
        pair.address,
        300_000n,
        call('swap(uint256,uint256,bool)', UNIT, 0n, (Math.floor(i / senders.length) & 1) === 0 ? 1n : 0n)
      )
  }
}

function send(sender: Sender, to: Uint8Array, gasLimit: bigint, data: Uint8Array, value = 0n): LoadTransaction {
  return { sender, to, value, data, gasLimit }
}

/** A call in the ABI: selector, then words. */
function call(signature: string, ...args: (Uint8Array | bigint)[]): Uint8Array {
  const selector = keccak256(new TextEncoder().encode(signature)).subarray(0, 4)
  return concat(selector, ...args.map(word))
}

function word(v: Uint8Array | bigint): Uint8Array {
  return typeof v === 'bigint' ? bigToBytes(v, 32) : concat(new Uint8Array(32 - v.length), v)
}
