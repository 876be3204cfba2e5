/**
 * Proves with the built provider, on a real chain with a real model, that kill -9 loses no acknowledged fee and pays none twice: between
 * answers and settlement, in the middle of streams, and at random moments of a settlement. What a user was told is compared with what
 * left his account, to the neuron.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fromHex } from '../../lib/base/hex.ts'
import type { Account } from '../../lib/clients/accounts.ts'
import { ChainClient } from '../../lib/clients/chain.ts'
import { ComputeContracts } from '../../lib/clients/compute/contracts.ts'
import { planSessionToken, signSessionToken } from '../../lib/codec/compute/session-token.ts'
import { checksumAddress } from '../../lib/crypto/address.ts'
import { DEV_ACCOUNTS } from '../../lib/crypto/dev-accounts.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { SEED } from '../harness/seed.ts'
import { packageRoot, type RunningTool, runTool, sandbox, startTool, waitFor } from '../harness/tools.ts'

t.setTimeout(240_000)

const OG = 10n ** 18n
const INPUT = 100_000_000_000n
const OUTPUT = 200_000_000_000n
const random = new SeededRandom(SEED)

const dev = (i: number): Account => ({
  address: fromHex(DEV_ACCOUNTS[i]!.address),
  name: `${i}`,
  wellKnown: true,
  privateKey: async () => fromHex(DEV_ACCOUNTS[i]!.privateKey)
})
const PROVIDER = dev(4)
const USERS = [dev(1), dev(2)]

/** The embedded model, else a fixture beside the repository. */
function findModel(): string | undefined {
  const fixture = join('shared', 'fixtures', 'models', 'stories260K-F32.gguf')
  return [
    join(packageRoot, 'share', 'models', 'tiny-zg.gguf'),
    join(packageRoot, '..', fixture),
    join(packageRoot, '..', '..', fixture)
  ].find(path => existsSync(path))
}

const model = findModel()
if (model === undefined) t.comment('no model: neither share/models/tiny-zg.gguf nor the fixtures beside the repository')
else t.test('kill -9 of a provider', async t => faults(t, model))

async function faults(t: Test, model: string): Promise<void> {
  const box = sandbox('compute-fault')
  const dir = box.path('provider')
  const chain = await startTool(
    'zg-chain',
    ['node', '--dev', '--kind', 'network', '--block-time', '300ms', '--rpc-port', '0', '--dir', box.path('chain')],
    { env: box.env }
  )
  const client = new ChainClient(chain.url)
  const contracts = await ComputeContracts.open(client)
  const start = (): Promise<RunningTool> =>
    startTool(
      'zg-compute',
      ['serve', '--model', model, '--port', '0', '--rpc-url', chain.url, '--account', '4', '--dir', dir].concat([
        '--public-url',
        'http://127.0.0.1:3080',
        '--threads',
        '1',
        '--settle-share',
        '100'
      ]),
      { env: box.env, timeoutMs: 60_000 }
    )
  let provider = await start()
  t.teardown(async () => {
    await provider.kill9()
    await chain.stop()
    box.remove()
  })
  for (const user of USERS) {
    await contracts.deposit(user, 10n * OG)
    await contracts.transfer(user, PROVIDER.address, 5n * OG)
  }
  const tokens = await Promise.all(USERS.map(async user => token(user, contracts)))
  const balance = async (u: Account): Promise<bigint> => (await contracts.account(u.address, PROVIDER.address))!.balance
  const unsettled = async (i: number): Promise<bigint> => {
    const url = `${provider.url}/v1/user/${checksumAddress(USERS[i]!.address)}/unsettledfee`
    const res = await fetch(url, { headers: { authorization: tokens[i]! } })
    return BigInt(((await res.json()) as { unsettledFee: string }).unsettledFee)
  }
  const began = await Promise.all(USERS.map(balance))

  /** What answers that arrived whole cost, and what those that did not may cost at most. */
  const told = [0n, 0n]
  const unsure = [0n, 0n]

  async function ask(i: number, stream: boolean): Promise<void> {
    const max_tokens = 8 + random.below(24)
    const body = {
      prompt: 'Once upon a time',
      max_tokens,
      stream,
      stream_options: { include_usage: true },
      ignore_eos: true
    }
    try {
      const res = await fetch(`${provider.url}/v1/proxy/completions`, {
        method: 'POST',
        headers: { authorization: tokens[i]! },
        body: JSON.stringify(stream ? body : { ...body, stream_options: undefined })
      })
      const text = await res.text()
      if (res.status !== 200) throw new Error(text)
      if (stream && !text.endsWith('data: [DONE]\n\n')) throw new Error('cut')
      const { usage } = JSON.parse(stream ? text.split('\n\n').at(-3)!.slice(6) : text)
      told[i]! += BigInt(usage.prompt_tokens) * INPUT + BigInt(usage.completion_tokens) * OUTPUT
    } catch {
      unsure[i]! += 64n * INPUT + BigInt(max_tokens) * OUTPUT
    }
  }

  const settle = (): ReturnType<typeof runTool> =>
    runTool('zg-compute', ['settle', '--dir', dir, '--json'], { env: box.env, timeoutMs: 60_000 })

  for (let round = 0; round < 3; round++) {
    await t.test(`round ${round}: killed while answering`, async t => {
      let ended = 0
      const asked = Array.from({ length: 12 }, (_, n) => ask(n % 2, n % 3 !== 0).then(() => ended++))
      const wait = 1 + random.below(6)
      await waitFor(() => ended >= wait, { timeoutMs: 30_000, everyMs: 1 })
      await provider.kill9()
      await Promise.all(asked)
      provider = await start()
      for (const i of [0, 1]) {
        const paid = began[i]! - (await balance(USERS[i]!))
        const all = paid + (await unsettled(i))
        t.ok(all >= told[i]!, `user ${i}: ${all} recorded, ${told[i]} told`)
        t.ok(all <= told[i]! + unsure[i]!, `user ${i}: not more than was asked for`)
      }
    })
    await t.test(`round ${round}: killed while settling`, async t => {
      await Promise.all([ask(0, false), ask(1, true)])
      const owed = await Promise.all([0, 1].map(unsettled))
      const before = await Promise.all(USERS.map(balance))
      t.ok(owed.every(o => o > 0n))
      const first = settle()
      // The verb itself needs a while to start; then the batch waits for its block.
      await new Promise(resolve => setTimeout(resolve, 300 + random.below(900)))
      await provider.kill9()
      t.comment(`settle ended with ${(await first).code}`)
      provider = await start()
      const last = await settle()
      t.equal(last.code, 0, last.stderr)
      for (const i of [0, 1]) {
        t.equal(before[i]! - (await balance(USERS[i]!)), owed[i]!, `user ${i} paid what he owed, once`)
        t.equal(await unsettled(i), 0n)
      }
      const again = await settle()
      t.equal(again.code, 0)
      for (const i of [0, 1]) t.equal(before[i]! - (await balance(USERS[i]!)), owed[i]!, 'and not again')
    })
  }
  await t.test('stopped politely: exit 0, and the debts are still there', async t => {
    await ask(0, true)
    const owed = await unsettled(0)
    t.ok(owed > 0n)
    t.equal((await provider.stop()).code, 0)
    provider = await start()
    t.equal(await unsettled(0), owed)
  })
}

async function token(user: Account, contracts: ComputeContracts): Promise<string> {
  const account = (await contracts.account(user.address, PROVIDER.address))!
  const plan = planSessionToken(
    { mode: 'ephemeral' },
    { user: user.address, provider: PROVIDER.address, account, nowMs: Date.now(), random: 0.5 }
  )
  return signSessionToken(plan, await user.privateKey()).authorization
}
