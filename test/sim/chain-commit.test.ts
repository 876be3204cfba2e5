/**
 * Proves the commit protocol: the power is cut at every disk operation of a scenario (genesis, blocks, waiting transactions, a
 * development state, a revert, a rotated segment, a rewritten journal), the disk comes back in every mode, and the reopened chain must
 * hold every block and transaction that was acknowledged, with a state that another engine computes anew, and go on. The same
 * check must find a fault when one store forgets to sync: the canaries.
 */
import { Wallet } from 'ethers'
import t from 'tap'
import type { ZgChain } from '../../cmd/zg-chain/core/chain.ts'
import { GENESIS_DEFAULTS, type Genesis } from '../../cmd/zg-chain/core/genesis.ts'
import type { BlockHeader } from '../../cmd/zg-chain/core/types.ts'
import { openEthereumjs } from '../../cmd/zg-chain/engine-ethereumjs/engine.ts'
import { openChain } from '../../cmd/zg-chain/open.ts'
import { memoryKv } from '../../cmd/zg-chain/store/memory.ts'
import { assert, ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { SYSTEM_CONTRACTS } from '../../lib/contracts/system-contracts.ts'
import type { Disk, DiskFile } from '../../lib/ports/disk.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { SimClock } from '../../lib/sim/clock.ts'
import { type CrashPlan, type CrashReport, forEveryCrash } from '../../lib/sim/crash.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'

const CHAIN_ID = 31337
const GWEI = 10n ** 9n
const seed = process.env.ZG_SEED ?? '1'
const [alice, bob, carol] = [1, 2, 3].map(n => new Wallet(`0x${n.toString(16).padStart(64, '0')}`)) as [
  Wallet,
  Wallet,
  Wallet
]
// Stores its input, so that storage tries are written too: SSTORE(0, input).
const STORER = '0x0000000000000000000000000000000000c0de00'
const WATCHED = [alice.address, bob.address, carol.address, STORER, `0x${'77'.repeat(20)}`]

const genesis: Genesis = {
  ...GENESIS_DEFAULTS,
  chainId: CHAIN_ID,
  alloc: [
    ...[alice, bob, carol].map(w => entry(w.address, 10n ** 21n, '0x')),
    // One system contract suffices for a state that changes with every block; each costs a millisecond a block.
    entry(SYSTEM_CONTRACTS.blockHashes.address, 0n, SYSTEM_CONTRACTS.blockHashes.code),
    entry(STORER, 0n, '0x60003560005500')
  ]
}

function entry(address: string, balance: bigint, code: string): Genesis['alloc'][number] {
  return { address: fromHex(address), balance, nonce: code === '0x' ? 0n : 1n, code: fromHex(code), storage: [] }
}

async function signed(w: Wallet, nonce: number, to: string, data = '0x', value = 1n): Promise<Uint8Array> {
  const fees = { maxFeePerGas: 5n * GWEI, maxPriorityFeePerGas: GWEI }
  const tx = { type: 2, chainId: CHAIN_ID, nonce, to, data, value, gasLimit: 100_000n, ...fees }
  return fromHex(await w.signTransaction(tx))
}

/** What the scenario was told is done. */
interface Acked {
  /** Hash by height; a revert takes entries away before it is begun. */
  blocks: Map<number, Uint8Array>
  txs: Map<string, Uint8Array>
  devBalance: bigint | undefined
}
const nothing = (): Acked => ({ blocks: new Map(), txs: new Map(), devBalance: undefined })

type Wrap = {
  onFatal?: (err: unknown) => void
  kv?: (kv: KvStore, path: string) => KvStore
  disk?: (disk: Disk) => Disk
}

function open(sim: SimDisk, wrap: Wrap = {}): Promise<ZgChain> {
  const disk = wrap.disk?.(sim) ?? sim
  return openChain({
    dir: '/data',
    disk,
    openKv: async path => {
      const kv = await openSimKv(sim, path)
      return wrap.kv?.(kv, path) ?? kv
    },
    genesis,
    clock: new SimClock(),
    random: new SeededRandom('chain'),
    blockTimeMs: 0,
    dev: { accounts: [] },
    // Two or three blocks a segment.
    segmentBytes: 2_000,
    ...(wrap.onFatal === undefined ? {} : { onFatal: wrap.onFatal })
  })
}

const raws = {
  a: await Promise.all(
    [0, 1, 2, 3].map(n =>
      signed(
        alice,
        n,
        n % 2 === 0 ? bob.address : STORER,
        n % 2 === 0 ? '0x' : `0x${'0'.repeat(63)}5`,
        n % 2 === 0 ? 1n : 0n
      )
    )
  ),
  b: await Promise.all([0, 1].map(n => signed(bob, n, STORER, `0x${'9'.repeat(64)}`, 0n))),
  c: await signed(carol, 0, bob.address)
}

/** What carol may send next, by nonce. */
const next = [raws.c, await signed(carol, 1, bob.address)]

function scenario(wrap: Wrap = {}): CrashPlan<Acked>['scenario'] {
  return async (disk, acked) => {
    const chain = await open(disk, wrap)
    const send = async (raw: Uint8Array) => acked.txs.set(toHex(await chain.pool.add(raw)), raw)
    const mine = async () => {
      const head = await chain.dev!.mine(1)
      acked.blocks.set(head.number, head.hash)
      acked.devBalance = undefined
    }
    acked.blocks.set(0, chain.head().hash)
    await send(raws.a[0]!)
    await send(raws.a[1]!)
    await mine()
    await mine()
    await Promise.all([send(raws.a[2]!), send(raws.b[0]!)])
    await mine()
    const snapshot = await chain.dev!.snapshot()
    await send(raws.b[1]!)
    await mine()
    // What is reverted is promised no longer, from the moment the revert begins.
    acked.blocks.delete(4)
    acked.txs.delete([...acked.txs.keys()].at(-1)!)
    await chain.dev!.revert(snapshot)
    await chain.dev!.setAccount(fromHex(WATCHED[4]!), { balance: 42n })
    acked.devBalance = 42n
    await send(raws.a[3]!)
    // From here the next block may hold it.
    acked.devBalance = undefined
    await mine()
    await send(raws.c)
    await chain.close()
  }
}

/** Reopens and compares with what was promised. */
const check: CrashPlan<Acked>['check'] = async (disk, acked, at) => {
  const chain = await open(disk)
  const head = chain.head()
  const promised = Math.max(-1, ...acked.blocks.keys())
  assert(head.number >= promised, `head is ${head.number}, ${promised} was acknowledged`)
  assert(head.number <= promised + 2, `head is ${head.number}, nobody made it`)
  for (const [height, hash] of acked.blocks) {
    const have = (await chain.headerByNumber(height))?.hash
    assert(have !== undefined && toHex(have) === toHex(hash), `block ${height} was acknowledged and is another`)
  }
  for (const hash of acked.txs.keys()) {
    const found = chain.pool.get(fromHex(hash)) ?? (await chain.locate(fromHex(hash)))
    assert(found !== undefined, `transaction ${hash} was acknowledged and is lost`)
  }
  const state = chain.state({ kind: 'block', header: head })
  for (const address of WATCHED) {
    await state.account(fromHex(address))
    await state.code(fromHex(address))
    await state.storage(fromHex(address), new Uint8Array(32))
  }
  if (acked.devBalance !== undefined) {
    const account = await state.account(fromHex(WATCHED[4]!))
    assert(account?.balance === acked.devBalance, 'the development state was acknowledged and is lost')
  }
  // Equal hashes are equal histories: each is executed anew once.
  if (!recomputed.has(toHex(head.hash))) await recompute(chain, head)
  recomputed.add(toHex(head.hash))
  // Half of the time of the whole: of the eight draws of a point, two go on.
  if (/\/[01]$/.test(at.seed)) await goesOn(chain)
  await chain.close()
}

const recomputed = new Set<string>()

/** Another engine executes all blocks from the genesis; roots must come out the same. */
async function recompute(chain: ZgChain, head: BlockHeader): Promise<void> {
  const hashes = new Map<number, Uint8Array>()
  const engine = openEthereumjs({
    chainId: CHAIN_ID,
    kv: memoryKv(),
    clock: new SimClock(),
    blockHash: async n => hashes.get(n)
  })
  await engine.genesis(genesis.alloc)
  let parent = (await chain.headerByNumber(0))!
  for (let n = 1; n <= head.number; n++) {
    hashes.set(parent.number, parent.hash)
    const block = (await chain.blockByHash((await chain.headerByNumber(n))!.hash))!
    const status = await engine.newPayload({ stateRoot: parent.stateRoot, header: parent }, block)
    if (status.status !== 'VALID') {
      // The block on top of the development state follows from that state alone.
      assert(n === head.number && n === 4, `block ${n} does not follow: ${JSON.stringify(status.status)}`)
      return
    }
    await engine.forkchoiceUpdated(block.header.hash)
    parent = block.header
  }
}

async function goesOn(chain: ZgChain): Promise<void> {
  const nonce = Number(await chain.pool.pendingNonce(fromHex(carol.address)))
  const hash = await chain.pool.add(next[nonce]!)
  const before = chain.head().number
  await chain.dev!.mine(1)
  assert(chain.head().number === before + 1, 'no further blocks')
  const place = await chain.locate(hash)
  assert(place !== undefined, 'a new transaction is not mined')
}

function run(wrap: Wrap, more: Partial<CrashPlan<Acked>> = {}): Promise<CrashReport> {
  return forEveryCrash<Acked>({ acked: nothing, scenario: scenario(wrap), check, seed, ...more })
}

// A thousand reopenings on a busy machine.
t.setTimeout(300_000)

t.test('whatever operation the power fails at, nothing acknowledged is lost and the chain goes on', async t => {
  const report = await run({})
  t.comment(`seed ${seed}: N = ${report.points} crash points, ${report.runs} reopenings, history ${report.hash}`)
  t.ok(report.points > 80)
  t.equal(report.runs, report.points * 12)
})

t.test('a failed write or sync stops the chain, and the next start finds everything that was acknowledged', async t => {
  let injected = 0
  for (const fault of ['failSync', 'failWrite'] as const) {
    for (let n = 1; ; n++) {
      const disk = new SimDisk()
      disk.faults = { [fault]: n }
      const acked = nothing()
      let fatal: unknown
      let failure: unknown
      try {
        await scenario({ onFatal: err => (fatal = err) })(disk, acked)
      } catch (err) {
        failure = err
      }
      if (failure === undefined) break
      injected++
      assert(failure instanceof ZgError, `${fault} ${n}: ${failure}`)
      // Before the chain is open there is nobody to tell but the caller.
      if (acked.blocks.size > 0) assert(fatal !== undefined, `${fault} ${n}: the chain went on`)
      disk.faults = {}
      disk.crashNow()
      await check(disk.afterCrash('none', n), acked, { n, operation: fault, mode: 'none', seed: `${n}/0` })
    }
  }
  t.comment(`${injected} faults injected, each found and survived`)
  t.ok(injected > 50)
})

t.test('the check finds a store that forgets to sync', async t => {
  const unsynced = (kv: KvStore): KvStore => ({
    get: key => kv.get(key),
    getMany: keys => kv.getMany(keys),
    scan: range => kv.scan(range),
    batch: ops => kv.batch(ops),
    close: () => kv.close()
  })
  const lazyFiles =
    (name: RegExp) =>
    (disk: Disk): Disk => {
      const lazy = (path: string, f: DiskFile): DiskFile => ({
        size: () => f.size(),
        read: (offset, length) => f.read(offset, length),
        write: (offset, ...buffers) => f.write(offset, ...buffers),
        truncate: size => f.truncate(size),
        sync: async () => (name.test(path) ? undefined : f.sync()),
        close: () => f.close()
      })
      return {
        open: async (path, mode) => lazy(path, await disk.open(path, mode)),
        mkdir: path => disk.mkdir(path),
        list: path => disk.list(path),
        exists: path => disk.exists(path),
        rename: (from, to) => disk.rename(from, to),
        remove: path => disk.remove(path),
        syncDir: path => disk.syncDir(path)
      }
    }
  const canaries: [string, Wrap, RegExp][] = [
    ['state', { kv: (kv, path) => (path.endsWith('/state') ? unsynced(kv) : kv) }, /missing|incomplete/],
    ['index', { kv: (kv, path) => (path.endsWith('/index') ? unsynced(kv) : kv) }, /acknowledged/],
    ['block log', { disk: lazyFiles(/\.blocks$/) }, /block log|damaged|cut short/],
    ['pool journal', { disk: lazyFiles(/pool\.journal/) }, /is lost/]
  ]
  for (const [name, wrap, words] of canaries) {
    await t.rejects(run(wrap, { modes: ['none'] }), { message: words }, name)
  }
})
