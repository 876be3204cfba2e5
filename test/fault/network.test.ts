/**
 * Proves that nothing acknowledged is lost when processes of a running network are killed with SIGKILL under load: transactions
 * whose hash was answered, files whose root `put` printed, key-value writes that were committed. The chain and each storage
 * process die several times, at moments drawn from a printed seed, while transfers and uploads go on.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { RpcClient } from '../../lib/adapters/jsonrpc/client.ts'
import { toQuantity } from '../../lib/base/hex.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { startNetwork } from '../harness/network.ts'
import { SEED } from '../harness/seed.ts'
import { runTool, waitFor } from '../harness/tools.ts'

const random = new SeededRandom(SEED)

const network = await startNetwork('fault')
t.teardown(() => network.stop())
const chain = new RpcClient(network.rpc, { what: 'chain', timeoutMs: 5_000 })

const KINDS = ['chain', 'store-0', 'compute', 'da', 'signer-1', 'store-1', 'retriever', 'indexer', 'kv']
const ROUNDS = KINDS.length

interface Stored {
  root: string
  path: string
}

const acknowledged = {
  transfers: new Map<string, bigint>(),
  files: [] as Stored[],
  blobs: [] as Stored[],
  fees: [] as bigint[]
}
/** Prompts that did not end well: the provider may have recorded their fee and died before the last byte. */
let brokenPrompts = 0
const PROMPT_TOKENS = 16
let stop = false
let refused = 0

/** Transfers of one neuron more each time; only answered hashes count as acknowledged. */
async function transfers(): Promise<void> {
  for (let value = 1n; !stop; value++) {
    try {
      const hash = await chain.call<string>('eth_sendTransaction', [
        { from: DEV_ACCOUNTS[1]!.address, to: DEV_ACCOUNTS[2]!.address, value: toQuantity(value) }
      ])
      acknowledged.transfers.set(hash, value)
    } catch {
      refused++
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

/** Files of several segments; `put` may fail while a node is down, and is then tried again: it must not pay twice. */
async function uploads(): Promise<void> {
  for (let i = 0; !stop; i++) {
    const path = network.box.path(`file-${i}`)
    writeFileSync(path, randomBytes(1 + random.below(900_000)))
    for (let attempt = 0; attempt < 20; attempt++) {
      const put = await runTool('zg-store', ['put', path, '--account', '9', '--quiet'], {
        env: network.env,
        timeoutMs: 60_000
      })
      if (put.code === 0) {
        acknowledged.files.push({ root: put.stdout.trim(), path })
        break
      }
      refused++
    }
  }
}

/** Small blobs, each certified before the next. */
async function blobs(): Promise<void> {
  for (let i = 0; !stop; i++) {
    const path = network.box.path(`blob-${i}`)
    writeFileSync(path, randomBytes(1 + random.below(100_000)))
    const put = await runTool('zg-da', ['put', path, '--quiet'], { env: network.env, timeoutMs: 90_000 })
    if (put.code === 0) acknowledged.blobs.push({ root: put.stdout.trim(), path })
    else refused++
  }
}

/** Paid prompts of account 0, whose ledger the network came with. */
async function prompts(): Promise<void> {
  while (!stop) {
    const args = ['complete', 'The ship sailed', '--max-tokens', `${PROMPT_TOKENS}`, '--json']
    const asked = await runTool('zg-compute', args, { env: network.env, timeoutMs: 60_000 })
    const last = asked.stdout.trim().split('\n').at(-1)
    if (asked.code === 0) acknowledged.fees.push(BigInt(JSON.parse(last!).fee_neuron))
    else brokenPrompts++
  }
}

async function ledgerTotal(): Promise<bigint> {
  const shown = await runTool('zg-compute', ['account', 'show', '--json'], { env: network.env })
  return BigInt(JSON.parse(shown.stdout.split('\n')[0]!).total_neuron)
}

t.test(
  'kill -9 of every kind of process under load loses nothing that was acknowledged',
  { timeout: 480_000 },
  async t => {
    const ledgerBefore = await ledgerTotal()
    const load = [transfers(), uploads(), blobs(), prompts()]
    await waitFor(() => acknowledged.files.length > 0 && acknowledged.transfers.size > 3, {
      timeoutMs: 30_000,
      what: 'load'
    })
    for (let round = 0; round < ROUNDS; round++) {
      const victim = KINDS[round % KINDS.length]!
      const pid = await network.pid(victim)
      await new Promise(resolve => setTimeout(resolve, random.below(700)))
      process.kill(pid, 'SIGKILL')
      await waitFor(async () => (await network.pid(victim)) !== pid && (await status()).get(victim) === 'ready', {
        timeoutMs: 40_000,
        everyMs: 100,
        what: `${victim} to come back`
      })
      t.pass(`round ${round}: ${victim} was killed and came back`)
      // At most three restarts a minute for one service: rounds are spread over services.
    }
    stop = true
    await Promise.all(load)
    t.comment(
      `${acknowledged.transfers.size} transfers, ${acknowledged.files.length} files, ${acknowledged.blobs.length} blobs and ${acknowledged.fees.length} prompts acknowledged, ${refused} and ${brokenPrompts} prompts refused`
    )
    t.ok(acknowledged.files.length >= 3 && acknowledged.transfers.size >= 20, 'there was load')

    for (const hash of acknowledged.transfers.keys()) {
      await waitFor(async () => (await chain.call('eth_getTransactionReceipt', [hash])) !== null, {
        timeoutMs: 20_000,
        what: `transaction ${hash}`
      })
    }
    t.pass('every acknowledged transfer is in a block')
    const received =
      BigInt(await chain.call<string>('eth_getBalance', [DEV_ACCOUNTS[2]!.address, 'latest'])) - 10_000n * 10n ** 18n
    const sum = [...acknowledged.transfers.values()].reduce((a, b) => a + b, 0n)
    t.ok(received >= sum, 'and was executed')
    const nonce = BigInt(await chain.call<string>('eth_getTransactionCount', [DEV_ACCOUNTS[1]!.address, 'latest']))
    t.ok(nonce >= BigInt(acknowledged.transfers.size), 'exactly once: a nonce each')

    t.ok(acknowledged.blobs.length > 0 && acknowledged.fees.length > 0, 'of blobs and prompts too')
    for (const { root, path } of acknowledged.blobs) {
      const got = await runTool('zg-da', ['get', root, '--quiet'], { env: network.env, timeoutMs: 60_000 })
      t.equal(got.code, 0, `blob ${root}: ${got.stderr}`)
      t.ok(readFileSync(path).equals(Buffer.from(got.bytes)), 'the blob is the same')
    }

    const settled = await runTool('zg-compute', ['settle', '--json'], { env: network.env, timeoutMs: 60_000 })
    t.equal(settled.code, 0, settled.stderr)
    const paid = ledgerBefore - (await ledgerTotal())
    const owed = acknowledged.fees.reduce((a, b) => a + b, 0n)
    t.ok(paid >= owed, `no fee is lost: ${paid} neuron paid, ${owed} acknowledged`)
    const most = acknowledged.fees.reduce((a, b) => (a > b ? a : b), 0n)
    t.ok(paid <= owed + BigInt(brokenPrompts) * most, 'and none is charged twice')

    for (const { root, path } of acknowledged.files) {
      for (const node of network.nodes) {
        const got = await runTool('zg-store', ['get', root, '--node', node, '--quiet'], {
          env: network.env,
          timeoutMs: 60_000
        })
        t.equal(got.code, 0, `${root} from ${node}: ${got.stderr}`)
        t.ok(readFileSync(path).equals(Buffer.from(got.bytes)), 'the bytes are the same')
      }
    }
  }
)

async function status(): Promise<Map<string, string>> {
  const { stdout } = await runTool('zg-devnet', ['status', '--name', network.name, '--json'], { env: network.box.env })
  return new Map(
    stdout
      .split('\n')
      .filter(l => l.startsWith('{'))
      .map(l => JSON.parse(l))
      .map(r => [r.name, r.state])
  )
}
