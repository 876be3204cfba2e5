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
import { runTool, waitFor } from '../harness/tools.ts'

const seed = Number(process.env.ZG_SEED ?? randomBytes(4).readUInt32BE())
const random = new SeededRandom(seed)
t.comment(`seed ${seed}`)

const network = await startNetwork('fault')
t.teardown(() => network.stop())
const chain = new RpcClient(network.rpc, { what: 'chain', timeoutMs: 5_000 })

const ROUNDS = 6
const KINDS = ['chain', 'store-0', 'store-1', 'indexer', 'kv']

interface Stored {
  root: string
  path: string
}

const acknowledged = { transfers: new Map<string, bigint>(), files: [] as Stored[] }
let stop = false
let refused = 0

/** Transfers of one neuron more each time; only answered hashes count as acknowledged. */
async function transfers(): Promise<void> {
  for (let value = 1n; !stop; value++) {
    try {
      const hash = await chain.call<string>('eth_sendTransaction', [
        { from: DEV_ACCOUNTS[5]!.address, to: DEV_ACCOUNTS[6]!.address, value: toQuantity(value) }
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
      const put = await runTool('zg-store', ['put', path, '--account', '7', '--quiet'], {
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

t.test(
  'kill -9 of every kind of process under load loses nothing that was acknowledged',
  { timeout: 240_000 },
  async t => {
    const load = [transfers(), uploads()]
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
      `${acknowledged.transfers.size} transfers and ${acknowledged.files.length} files acknowledged, ${refused} refused`
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
      BigInt(await chain.call<string>('eth_getBalance', [DEV_ACCOUNTS[6]!.address, 'latest'])) - 10_000n * 10n ** 18n
    const sum = [...acknowledged.transfers.values()].reduce((a, b) => a + b, 0n)
    t.ok(received >= sum, 'and was executed')
    const nonce = BigInt(await chain.call<string>('eth_getTransactionCount', [DEV_ACCOUNTS[5]!.address, 'latest']))
    t.ok(nonce >= BigInt(acknowledged.transfers.size), 'exactly once: a nonce each')

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
