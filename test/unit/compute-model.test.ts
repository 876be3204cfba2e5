/**
 * The compute contracts against a model of them, through hundreds of random operations of three users with two providers on both services:
 * each call succeeds or fails as the model says, for the reason it says, and leaves the balances, refunds and nonces it says; and the
 * contracts hold, to the neuron, what their books say. ZG_SEED repeats a run.
 */
import type { Result } from 'ethers'
import t from 'tap'
import { SERVICE_NAMES } from '../../lib/contracts/compute-genesis.ts'
import { SEED } from '../harness/seed.ts'
import { failure, LOCK, OG, World } from './compute-world.ts'
import { account, type Outcome, stop } from './contract-chain.ts'

const STEPS = 300
const USERS = [account(1), account(2), account(3)]
const PROVIDERS = [account(5), account(6)]
const SERVICES = Object.values(SERVICE_NAMES)

t.teardown(stop)
t.setTimeout(120_000)

interface Sub {
  balance: bigint
  /** Oldest first. */
  refunds: { amount: bigint; at: number }[]
}

/** What the contracts are to do, in the words of compute.md: amounts only, names of errors. */
class Model {
  now = 0
  readonly available = new Map<string, bigint>()
  readonly subs = new Map<string, Sub>()
  /** These outlive accounts. */
  readonly nonces = new Map<string, bigint>()
  /** What providers have been paid in all. */
  readonly paid = new Map<string, bigint>()

  sub(user: string, provider: string, service: string): Sub | undefined {
    return this.subs.get(`${user} ${provider} ${service}`)
  }
  spread(user: string): bigint {
    let sum = 0n
    for (const [key, sub] of this.subs) if (key.startsWith(user)) sum += sub.balance
    return sum
  }

  deposit(user: string, value: bigint): string {
    if (value === 0n) return 'ZeroAmountNotAllowed'
    if (!this.available.has(user) && value < 3n * OG) return 'MinimumDepositRequired'
    this.available.set(user, (this.available.get(user) ?? 0n) + value)
    return ''
  }

  transfer(user: string, provider: string, service: string, amount: bigint): string {
    const available = this.available.get(user)
    if (available === undefined) return 'LedgerNotExists'
    const sub = this.sub(user, provider, service)
    if (sub === undefined && amount < OG) return 'MinimumDepositRequired'
    const pending = sub === undefined ? 0n : waiting(sub)
    const cancelled = amount < pending ? amount : pending
    if (available < amount - cancelled) return 'InsufficientAvailableBalance'
    this.available.set(user, available - (amount - cancelled))
    if (sub === undefined) this.subs.set(`${user} ${provider} ${service}`, { balance: amount, refunds: [] })
    else {
      cancel(sub, cancelled)
      sub.balance += amount - cancelled
    }
    return ''
  }

  retrieve(user: string, providers: string[], service: string): string {
    if (!this.available.has(user)) return 'LedgerNotExists'
    const subs = providers.map(p => this.sub(user, p, service)).filter(sub => sub !== undefined)
    const ripe = (sub: Sub) => sub.refunds.filter(r => this.now >= r.at + LOCK)
    // All or nothing, so look before anything is changed.
    if (subs.some(sub => sub.refunds.length - ripe(sub).length === 5 && sub.balance > waiting(sub)))
      return 'TooManyRefunds'
    for (const sub of subs) {
      const out = ripe(sub).reduce((sum, r) => sum + r.amount, 0n)
      sub.refunds = sub.refunds.filter(r => this.now < r.at + LOCK)
      sub.balance -= out
      this.available.set(user, this.available.get(user)! + out)
      const rest = sub.balance - waiting(sub)
      if (rest > 0n) sub.refunds.push({ amount: rest, at: this.now })
    }
    return ''
  }

  refund(user: string, amount: bigint): string {
    const available = this.available.get(user)
    if (available === undefined) return 'LedgerNotExists'
    if (amount > available) return 'InsufficientBalance'
    const rest = available - amount
    if (rest !== 0n && rest < 3n * OG) return 'MinimumDepositRequired'
    this.available.set(user, rest)
    if (rest + this.spread(user) === 0n) this.forget(user)
    return ''
  }

  deleteLedger(user: string): string {
    if (!this.available.has(user)) return 'LedgerNotExists'
    if (this.available.get(user)! + this.spread(user) !== 0n) return 'MustWithdrawAllFundsFirst'
    this.forget(user)
    return ''
  }

  /** A status of compute.md 3.5. */
  settle(user: string, provider: string, service: string, fee: bigint, nonce: bigint): number {
    const sub = this.sub(user, provider, service)
    if (sub === undefined) return 5
    const key = `${user} ${provider} ${service}`
    if (nonce <= (this.nonces.get(key) ?? 0n)) return 4
    this.nonces.set(key, nonce)
    const paid = fee < sub.balance ? fee : sub.balance
    const free = sub.balance - waiting(sub)
    if (paid > free) cancel(sub, paid - free)
    sub.balance -= paid
    this.paid.set(provider, (this.paid.get(provider) ?? 0n) + paid)
    return paid === fee ? 0 : 1
  }

  private forget(user: string): void {
    this.available.delete(user)
    for (const key of [...this.subs.keys()]) if (key.startsWith(user)) this.subs.delete(key)
  }
}

function waiting(sub: Sub): bigint {
  return sub.refunds.reduce((sum, r) => sum + r.amount, 0n)
}

function cancel(sub: Sub, amount: bigint): void {
  let left = amount
  while (left > 0n) {
    const newest = sub.refunds.at(-1)!
    const part = left < newest.amount ? left : newest.amount
    newest.amount -= part
    left -= part
    if (newest.amount === 0n) sub.refunds.pop()
  }
}

function seededRandom(seed: number): () => number {
  let x = seed >>> 0 || 1
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    x >>>= 0
    return x / 2 ** 32
  }
}

t.test('contracts and model agree through random operations', async t => {
  const random = seededRandom(SEED)
  const below = (n: number) => Math.floor(random() * n)
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!
  /** Round amounts, odd amounts, and everything there is. */
  const amount = (all: bigint) =>
    pick([
      0n,
      1n,
      OG / 2n,
      OG,
      3n * OG,
      3n * OG - 1n,
      BigInt(below(10_000)) * (OG / 1000n),
      all,
      all > OG ? all - OG : all
    ])

  const world = await World.start()
  const { chain, fineTuning } = world
  const model = new Model()
  for (const provider of PROVIDERS) {
    await world.serve(provider)
    await world.serveTuning(provider)
  }
  for (const who of [...USERS, ...PROVIDERS]) await chain.setBalance(who, 1_000_000n * OG)
  const stakes = { inference: 200n * OG, fineTuning: 200n * OG }
  let tasks = 0
  const seen = new Map<string, number>()
  const agree = (step: string, outcome: Outcome, expected: string) => {
    const got = outcome.ok ? '' : failure(outcome).split('(')[0]!
    if (got !== expected) t.fail(`${step}: ${got || 'done'}, the model says ${expected || 'done'}`)
    const kind = `${step.split(' ')[0]} ${expected || 'done'}`
    seen.set(kind, (seen.get(kind) ?? 0) + 1)
  }

  const operations: Record<string, () => Promise<void>> = {
    deposit: async () => {
      const user = pick(USERS)
      const value = pick([0n, OG, 3n * OG - 1n, 3n * OG, 20n * OG + BigInt(below(1000))])
      agree(`deposit ${value}`, await world.deposit(user, value), model.deposit(user, value))
    },
    transfer: async () => {
      const [user, provider, service] = [pick(USERS), pick(PROVIDERS), pick(SERVICES)]
      const value = amount(model.available.get(user) ?? OG)
      agree(
        `transfer ${value}`,
        await world.transfer(user, provider, value, service),
        model.transfer(user, provider, service, value)
      )
    },
    // A little back out of what waits, so that several refunds come to wait side by side.
    turn: async () => {
      const [user, provider, service] = [pick(USERS), pick(PROVIDERS), pick(SERVICES)]
      const newest = model.sub(user, provider, service)?.refunds.at(-1)?.amount ?? 0n
      const value = newest / 3n + 1n
      agree(
        `turn ${value}`,
        await world.transfer(user, provider, value, service),
        model.transfer(user, provider, service, value)
      )
      agree('turn', await world.retrieve(user, [provider], service), model.retrieve(user, [provider], service))
    },
    retrieve: async () => {
      const [user, service] = [pick(USERS), pick(SERVICES)]
      const providers = pick([PROVIDERS, [pick(PROVIDERS)], [PROVIDERS[0]!, PROVIDERS[0]!], []])
      agree('retrieve', await world.retrieve(user, providers, service), model.retrieve(user, providers, service))
    },
    refund: async () => {
      const user = pick(USERS)
      const value = amount(model.available.get(user) ?? OG)
      agree(`refund ${value}`, await world.ledger.send('refund', [value], { from: user }), model.refund(user, value))
    },
    delete: async () => {
      const user = pick(USERS)
      agree('delete', await world.ledger.send('deleteLedger', [], { from: user }), model.deleteLedger(user))
    },
    settle: async () => {
      const provider = pick(PROVIDERS)
      const batch = Array.from({ length: 1 + below(4) }, () => {
        const user = pick(USERS)
        const sub = model.sub(user, provider, SERVICE_NAMES.inference)
        const last = model.nonces.get(`${user} ${provider} ${SERVICE_NAMES.inference}`) ?? 0n
        return world.settlement(user, provider, amount(sub?.balance ?? OG), last + BigInt(below(4)))
      })
      const done = await world.settle(provider, batch)
      agree('settle', done, '')
      const statuses = batch.map(s => model.settle(s.user, provider, SERVICE_NAMES.inference, s.totalFee, s.nonce))
      for (const status of statuses) seen.set(`status ${status}`, (seen.get(`status ${status}`) ?? 0) + 1)
      t.same(world.statuses(done), statuses)
    },
    task: async () => {
      const [user, provider] = [pick(USERS), pick(PROVIDERS)]
      const sub = model.sub(user, provider, SERVICE_NAMES.fineTuning)
      if (sub === undefined) return
      const id = `task-${++tasks}`
      const acknowledged = random() < 0.5
      agree('task', await fineTuning.send('addDeliverable', [user, id, '0x01'], { from: provider }), '')
      if (acknowledged) await fineTuning.send('acknowledgeDeliverable', [provider, id], { from: user })
      const nonce = (model.nonces.get(`${user} ${provider} ${SERVICE_NAMES.fineTuning}`) ?? 0n) + BigInt(1 + below(3))
      const taskFee = amount(sub.balance)
      const due = acknowledged ? taskFee : (taskFee * 30n) / 100n
      const secret = acknowledged ? '0x02' : '0x'
      const signed = world.task({ id, encryptedSecret: secret, modelRootHash: '0x01', nonce, taskFee, user })
      const done = await fineTuning.send('settleFees', [signed], { from: provider })
      if (due > sub.balance) {
        agree('task', done, 'InvalidVerifierInput')
        await fineTuning.send('abandonDeliverable', [user, id], { from: provider })
      } else {
        agree('task', done, '')
        model.settle(user, provider, SERVICE_NAMES.fineTuning, due, nonce)
      }
    },
    // All that can be had, as a user who leaves.
    leave: async () => {
      const user = pick(USERS)
      for (const wait of [0, LOCK]) {
        await chain.skip({ seconds: wait })
        model.now += wait
        for (const service of SERVICES)
          agree('leave', await world.retrieve(user, PROVIDERS, service), model.retrieve(user, PROVIDERS, service))
      }
      const all = model.available.get(user) ?? 0n
      agree('leave', await world.ledger.send('refund', [all], { from: user }), model.refund(user, all))
    },
    wait: async () => {
      const seconds = pick([1, 600, LOCK / 2, LOCK - 1, LOCK])
      await chain.skip({ seconds })
      model.now += seconds
    }
  }
  const weights = {
    deposit: 2,
    transfer: 4,
    turn: 4,
    retrieve: 3,
    refund: 1,
    delete: 1,
    settle: 4,
    task: 2,
    leave: 0.1,
    wait: 1.5
  }
  const names = Object.keys(operations) as (keyof typeof weights)[]
  const draw = () => {
    let left = random() * names.reduce((sum, name) => sum + weights[name], 0)
    for (const name of names) {
      left -= weights[name]
      if (left < 0) return name
    }
    return 'wait'
  }

  const compare = async (step: number, name: string) => {
    const start = chain.timestamp - model.now
    for (const user of USERS) {
      const available = model.available.get(user)
      const ledger = await world.ledgerOf(user).catch(() => undefined)
      t.same(
        ledger,
        available === undefined ? undefined : { available, total: available + model.spread(user) },
        `${step} ${name}: ledger`
      )
      for (const provider of PROVIDERS) {
        for (const [contract, service] of [
          [world.inference, SERVICE_NAMES.inference],
          [fineTuning, SERVICE_NAMES.fineTuning]
        ] as const) {
          const sub = model.sub(user, provider, service)
          const a = await contract.read('getAccount', [user, provider]).then(
            ([a]) => a,
            () => undefined
          )
          const live = (a: Result) =>
            a.refunds
              .slice(0, Number(a.validRefundsLength))
              .map((r: Result) => ({ amount: r.amount, at: Number(r.createdAt) - start }))
          t.same(
            a && { balance: a.balance, pending: a.pendingRefund, refunds: live(a), nonce: a.nonce },
            sub && {
              balance: sub.balance,
              pending: waiting(sub),
              refunds: sub.refunds,
              nonce: model.nonces.get(`${user} ${provider} ${service}`) ?? 0n
            },
            `${step} ${name}: account`
          )
        }
      }
    }
    t.same(await world.discrepancies(USERS, stakes), [], `${step} ${name}: books`)
  }

  // Something to begin with, or most calls would fail for want of a ledger.
  for (const user of USERS) {
    agree('deposit', await world.deposit(user, 100n * OG), model.deposit(user, 100n * OG))
    for (const service of SERVICES) {
      agree(
        'transfer',
        await world.transfer(user, PROVIDERS[0]!, 9n * OG, service),
        model.transfer(user, PROVIDERS[0]!, service, 9n * OG)
      )
    }
  }
  const before = [await chain.balance(PROVIDERS[0]!), await chain.balance(PROVIDERS[1]!)]
  for (let step = 0; step < STEPS; step++) {
    const name = draw()
    await operations[name]!()
    // Books after every call; every account after some, since what differs once differs from then on.
    if (step % 5 === 4) await compare(step, name)
    else t.same(await world.discrepancies(USERS, stakes), [], `${step} ${name}`)
  }
  await compare(STEPS, 'end')
  for (const [i, provider] of PROVIDERS.entries()) {
    t.equal(
      (await chain.balance(provider)) - before[i]!,
      model.paid.get(provider) ?? 0n,
      'providers have what was taken from users'
    )
  }
  t.comment([...seen].map(([kind, count]) => `${kind} ${count}`).join(', '))
  for (const kind of [
    'deposit done',
    'transfer done',
    'turn done',
    'retrieve done',
    'settle done',
    'task done',
    'status 0',
    'status 1',
    'status 4'
  ]) {
    t.ok(seen.has(kind), `${kind} was among them`)
  }
})
