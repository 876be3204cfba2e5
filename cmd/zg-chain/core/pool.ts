/**
 * Transactions that wait for a block (chain.md 9.6).
 *
 *   sender ──▶ next nonce 7:  7 8 9 │ 11 12          pending: gapless from the next nonce    queued: behind a gap
 *
 * Each sender's transactions are a map by nonce; what is pending follows from the next nonce and needs no second list, so
 * promotion is nothing but a filled gap. A block touches accounts; only those are looked at again. Bounds: count and bytes
 * over all, 64 queued a sender; when full, the tail of the sender that pays least goes, queued ones before pending ones, and a
 * newcomer that pays no more than it is refused.
 */
import { toHex } from '../../../lib/base/hex.ts'
import { type Pool, PoolRefusal } from './api.ts'
import { effectiveTip, feeCap, tipCap } from './fees.ts'
import {
  decodeTransaction,
  floorGas,
  impersonated,
  intrinsicGas,
  isImpersonated,
  MAX_INITCODE_BYTES,
  recoverAuthority
} from './transaction.ts'
import type { Transaction } from './types.ts'

export interface PoolLimits {
  /** Transactions, pending and queued. */
  count: number
  /** Their raw bytes together. */
  bytes: number
  /** Queued transactions a sender. */
  queuedPerSender: number
}

export const POOL_LIMITS: PoolLimits = { count: 8_192, bytes: 64 * 1024 * 1024, queuedPerSender: 64 }

/** What the pool must know of an account at the head. */
export interface SenderState {
  nonce: bigint
  balance: bigint
  /** The code is a delegation (EIP-7702): such accounts have one transaction in flight. */
  delegated: boolean
}

export interface PoolOptions {
  chainId: bigint
  /** State of an account at the head. */
  account(address: Uint8Array): Promise<SenderState>
  /** Base fee of the next block. */
  baseFee(): bigint
  /** Gas limit of the next block. */
  gasLimit(): bigint
  /** Makes an accepted transaction durable before its hash is returned. */
  persist(tx: Transaction): Promise<void>
  /** A transaction became executable; it is in the pool already. */
  onPending(tx: Transaction): void
  /** Lets others run when this work has taken long; recovering a sender takes milliseconds. */
  turn(): Promise<void>
  /** Development: accepts transactions of impersonated accounts. */
  dev: boolean
  limits?: Partial<PoolLimits>
}

interface Entry {
  tx: Transaction
  /** Order of arrival. */
  seq: number
  /** The most it can cost its sender. */
  cost: bigint
  announced: boolean
  /** Accounts (hex) it delegates. */
  authorities: string[]
}

interface Sender extends SenderState {
  address: Uint8Array
  txs: Map<bigint, Entry>
  /** The nonce behind the gapless ones, and what those cost together. */
  next: bigint
  pendingCost: bigint
}

export class TxPool implements Pool {
  readonly #opts: PoolOptions
  readonly #limits: PoolLimits
  readonly #senders = new Map<string, Sender>()
  readonly #byHash = new Map<string, Entry>()
  /** How many pool transactions delegate an account. */
  readonly #reserved = new Map<string, number>()
  #bytes = 0
  #seq = 0
  #decoding: Promise<void> = Promise.resolve()
  /** Grows with every change of the head: an account read before it is stale. */
  #generation = 0

  constructor(opts: PoolOptions) {
    this.#opts = opts
    this.#limits = { ...POOL_LIMITS, ...opts.limits }
  }

  async add(raw: Uint8Array): Promise<Uint8Array> {
    return this.#admit(await this.#decode(raw.slice()), true)
  }

  async addImpersonated(fields: Parameters<NonNullable<Pool['addImpersonated']>>[0]): Promise<Uint8Array> {
    if (!this.#opts.dev) throw new PoolRefusal('invalid sender')
    return this.#admit(impersonated(fields, this.#opts.chainId), true)
  }

  /** Takes a transaction back from the journal or a snapshot; what is no longer valid is dropped. */
  async restore(entry: { from: Uint8Array; raw: Uint8Array }): Promise<boolean> {
    try {
      const tx = decodeTransaction(entry.raw, { chainId: this.#opts.chainId, from: entry.from })
      if (isImpersonated(tx) && !this.#opts.dev) return false
      await this.#admit(tx, false)
      return true
    } catch (err) {
      if (err instanceof PoolRefusal) return false
      throw err
    }
  }

  get(hash: Uint8Array): Transaction | undefined {
    return this.#byHash.get(toHex(hash))?.tx
  }

  async pendingNonce(address: Uint8Array): Promise<bigint> {
    const sender = this.#senders.get(toHex(address))
    return sender === undefined ? (await this.#opts.account(address)).nonce : sender.next
  }

  content(): { pending: Transaction[]; queued: Transaction[] } {
    const pending: Transaction[] = []
    const queued: Transaction[] = []
    for (const sender of this.#senders.values()) {
      for (const e of inNonceOrder(sender)) (e.tx.nonce < sender.next ? pending : queued).push(e.tx)
    }
    return { pending, queued }
  }

  counts(): { pending: number; queued: number } {
    let pending = 0
    for (const sender of this.#senders.values()) pending += Number(sender.next - sender.nonce)
    return { pending, queued: this.#byHash.size - pending }
  }

  remove(hash: Uint8Array): boolean {
    const entry = this.#byHash.get(toHex(hash))
    if (entry === undefined) return false
    this.#drop(this.#senders.get(toHex(entry.tx.from))!, entry)
    return true
  }

  /** Everything in the pool, oldest first. */
  all(): Transaction[] {
    return [...this.#byHash.values()].sort((a, b) => a.seq - b.seq).map(e => e.tx)
  }

  clear(): void {
    this.#senders.clear()
    this.#byHash.clear()
    this.#reserved.clear()
    this.#bytes = 0
    this.#generation++
  }

  /**
   * The order for a block: highest effective tip first, nonces of a sender in order, first come first on ties. Only what pays the
   * base fee.
   * @param gas - stops when the gas limits reach this sum.
   */
  select(baseFee: bigint, gas: bigint): Transaction[] {
    const heap: { sender: Sender; entry: Entry; tip: bigint }[] = []
    const offer = (sender: Sender, nonce: bigint) => {
      const entry = sender.txs.get(nonce)
      if (entry === undefined || feeCap(entry.tx) < baseFee) return
      push(heap, { sender, entry, tip: effectiveTip(entry.tx, baseFee) }, before)
    }
    for (const sender of this.#senders.values()) offer(sender, sender.nonce)
    const chosen: Transaction[] = []
    let sum = 0n
    for (let best = pop(heap, before); best !== undefined && sum < gas; best = pop(heap, before)) {
      chosen.push(best.entry.tx)
      sum += best.entry.tx.gasLimit
      offer(best.sender, best.entry.tx.nonce + 1n)
    }
    return chosen
  }

  /** True when a block at this base fee could hold something. */
  hasExecutable(baseFee: bigint): boolean {
    for (const sender of this.#senders.values()) {
      const first = sender.txs.get(sender.nonce)
      if (first !== undefined && feeCap(first.tx) >= baseFee) return true
    }
    return false
  }

  /** Looks again at senders whose accounts changed; absent: at all. Call when the head has moved. */
  async revalidate(touched?: readonly Uint8Array[]): Promise<void> {
    const generation = ++this.#generation
    const keys = touched === undefined ? [...this.#senders.keys()] : touched.map(a => toHex(a))
    for (const key of keys) {
      const sender = this.#senders.get(key)
      if (sender === undefined) continue
      const state = await this.#opts.account(sender.address)
      if (generation !== this.#generation) return
      Object.assign(sender, state, { next: state.nonce, pendingCost: 0n })
      advance(sender)
      for (const entry of [...sender.txs.values()]) {
        const { tx } = entry
        const dead = tx.nonce < sender.nonce || entry.cost > sender.balance || tx.gasLimit > this.#opts.gasLimit()
        if (dead) this.#drop(sender, entry)
      }
      this.#announce(sender)
    }
  }

  /** One after the other, with turns between: a thousand at once must not keep a block from being made. */
  async #decode(raw: Uint8Array): Promise<Transaction> {
    const before = this.#decoding
    let done = () => {}
    this.#decoding = new Promise(resolve => {
      done = resolve
    })
    try {
      await before
      await this.#opts.turn()
      return decodeTransaction(raw, { chainId: this.#opts.chainId })
    } finally {
      done()
    }
  }

  /** Who signed the authorizations, hex. A list fills a block with a thousand recoveries: only for who can pay it. */
  async #authorities(tx: Transaction): Promise<string[]> {
    const list = tx.authorizationList ?? []
    if (list.length === 0) return []
    const { balance } = await this.#opts.account(tx.from)
    if (tx.gasLimit * feeCap(tx) + tx.value > balance)
      throw new PoolRefusal('insufficient funds for gas * price + value')
    const found: string[] = []
    for (const a of list) {
      await this.#opts.turn()
      const who = recoverAuthority(a)
      if (who !== undefined) found.push(toHex(who))
    }
    return found
  }

  async #admit(tx: Transaction, persist: boolean): Promise<Uint8Array> {
    const hash = toHex(tx.hash)
    if (this.#byHash.has(hash)) throw new PoolRefusal('already known')
    this.#checkAlone(tx)
    const authorities = await this.#authorities(tx)
    const key = toHex(tx.from)
    let state: SenderState | undefined
    for (let generation = -1; !this.#senders.has(key) && generation !== this.#generation; ) {
      generation = this.#generation
      state = await this.#opts.account(tx.from)
    }
    // From here to the insertion nothing waits: checks and insertion see one state of pool and head.
    if (this.#byHash.has(hash)) throw new PoolRefusal('already known')
    const sender = this.#senders.get(key) ?? newSender(tx.from, state!)
    const entry: Entry = {
      tx,
      seq: this.#seq++,
      cost: tx.gasLimit * feeCap(tx) + tx.value,
      announced: false,
      authorities
    }
    const replaced = this.#checkWithSender(sender, entry)
    this.#makeRoom(sender, entry, replaced)
    if (replaced !== undefined) this.#drop(sender, replaced)
    this.#insert(sender, entry)
    if (persist) {
      try {
        await this.#opts.persist(tx)
      } catch (err) {
        this.remove(tx.hash)
        throw err
      }
    }
    this.#announce(sender)
    return tx.hash
  }

  /** What a transaction must be whatever the state. Order: geth's. */
  #checkAlone(tx: Transaction): void {
    if (tx.to === null && tx.data.length > MAX_INITCODE_BYTES) {
      throw new PoolRefusal(`max initcode size exceeded: code size ${tx.data.length}, limit ${MAX_INITCODE_BYTES}`)
    }
    const limit = this.#opts.gasLimit()
    if (tx.gasLimit > limit) throw new PoolRefusal('exceeds block gas limit')
    if (tipCap(tx) > feeCap(tx)) {
      throw new PoolRefusal(
        `max priority fee per gas higher than max fee per gas: address ${toHex(tx.from)}, maxPriorityFeePerGas: ${tipCap(tx)}, maxFeePerGas: ${feeCap(tx)}`
      )
    }
    const intrinsic = intrinsicGas(tx)
    if (tx.gasLimit < intrinsic) {
      throw new PoolRefusal(`intrinsic gas too low: gas ${tx.gasLimit}, minimum needed ${intrinsic}`)
    }
    const floor = floorGas(tx)
    if (tx.gasLimit < floor) {
      throw new PoolRefusal(`insufficient gas for floor data gas cost: gas ${tx.gasLimit}, minimum needed ${floor}`)
    }
  }

  /** @returns the transaction it would replace. */
  #checkWithSender(sender: Sender, entry: Entry): Entry | undefined {
    const { tx, cost } = entry
    if (tx.nonce < sender.nonce) {
      throw new PoolRefusal(`nonce too low: next nonce ${sender.nonce}, tx nonce ${tx.nonce}`)
    }
    if (cost > sender.balance) {
      throw new PoolRefusal(
        `insufficient funds for gas * price + value: balance ${sender.balance}, tx cost ${cost}, overshot ${cost - sender.balance}`
      )
    }
    const replaced = sender.txs.get(tx.nonce)
    if (tx.nonce <= sender.next) {
      const { pendingCost } = sender
      const sum = pendingCost + cost - (tx.nonce < sender.next ? replaced!.cost : 0n)
      if (sum > sender.balance) {
        throw new PoolRefusal(
          `insufficient funds for gas * price + value: balance ${sender.balance}, queued cost ${pendingCost}, tx cost ${cost}, overshot ${sum - sender.balance}`
        )
      }
    }
    if (replaced !== undefined && !outbids(tx, replaced.tx)) {
      throw new PoolRefusal('replacement transaction underpriced')
    }
    this.#checkDelegations(sender, entry, replaced)
    return replaced
  }

  /** A delegated account's balance may be moved by others: one transaction in flight keeps what it can void small. */
  #checkDelegations(sender: Sender, entry: Entry, replaced: Entry | undefined): void {
    if (sender.delegated || this.#reserved.has(toHex(sender.address))) {
      const hasPending = sender.next > sender.nonce
      if (hasPending && replaced === undefined) {
        throw new PoolRefusal('in-flight transaction limit reached for delegated accounts')
      }
      if (!hasPending && entry.tx.nonce !== sender.nonce) {
        throw new PoolRefusal('gapped-nonce tx from delegated accounts')
      }
    }
    for (const authority of entry.authorities) {
      if ((this.#senders.get(authority)?.txs.size ?? 0) > 1) throw new PoolRefusal('authority already reserved')
    }
  }

  /** Evicts until the newcomer fits, or refuses it. */
  #makeRoom(sender: Sender, entry: Entry, replaced: Entry | undefined): void {
    const gapped = entry.tx.nonce > sender.next
    if (gapped && replaced === undefined) {
      const queued = sender.txs.size - Number(sender.next - sender.nonce)
      if (queued >= this.#limits.queuedPerSender) {
        const tail = inNonceOrder(sender).at(-1)!
        if (tail.tx.nonce < entry.tx.nonce)
          throw new PoolRefusal('txpool is full: too many queued transactions of the sender')
        this.#drop(sender, tail)
      }
    }
    const baseFee = this.#opts.baseFee()
    const tip = effectiveTip(entry.tx, baseFee)
    const spared = replaced === undefined ? 0 : 1
    const sparedBytes = replaced === undefined ? 0 : replaced.tx.raw.length
    while (
      this.#byHash.size - spared >= this.#limits.count ||
      this.#bytes - sparedBytes + entry.tx.raw.length > this.#limits.bytes
    ) {
      const worst = this.#worstTail(baseFee, sender)
      if (worst === undefined || (gapped && !worst.queued)) throw new PoolRefusal('txpool is full')
      if (!worst.queued && worst.tip >= tip) throw new PoolRefusal('transaction underpriced')
      if (worst.queued && gapped && worst.tip >= tip) throw new PoolRefusal('transaction underpriced')
      this.#drop(worst.sender, worst.entry)
    }
  }

  /** The last transaction of the sender that pays least; queued ones first. Never the newcomer's own sender's. */
  #worstTail(
    baseFee: bigint,
    except: Sender
  ): { sender: Sender; entry: Entry; tip: bigint; queued: boolean } | undefined {
    let worst: { sender: Sender; entry: Entry; tip: bigint; queued: boolean } | undefined
    for (const sender of this.#senders.values()) {
      if (sender === except || sender.txs.size === 0) continue
      let tail: Entry | undefined
      for (const e of sender.txs.values()) if (tail === undefined || e.tx.nonce > tail.tx.nonce) tail = e
      const queued = tail!.tx.nonce >= sender.next
      const tip = effectiveTip(tail!.tx, baseFee)
      const isWorse =
        worst === undefined ||
        (queued !== worst.queued ? queued : tip < worst.tip || (tip === worst.tip && tail!.seq > worst.entry.seq))
      if (isWorse) worst = { sender, entry: tail!, tip, queued }
    }
    return worst
  }

  #insert(sender: Sender, entry: Entry): void {
    this.#senders.set(toHex(sender.address), sender)
    sender.txs.set(entry.tx.nonce, entry)
    advance(sender)
    this.#byHash.set(toHex(entry.tx.hash), entry)
    this.#bytes += entry.tx.raw.length
    for (const a of entry.authorities) this.#reserved.set(a, (this.#reserved.get(a) ?? 0) + 1)
  }

  #drop(sender: Sender, entry: Entry): void {
    const { nonce } = entry.tx
    if (nonce >= sender.nonce && nonce < sender.next) {
      for (let n = nonce; n < sender.next; n++) sender.pendingCost -= sender.txs.get(n)!.cost
      sender.next = nonce
    }
    sender.txs.delete(nonce)
    this.#byHash.delete(toHex(entry.tx.hash))
    this.#bytes -= entry.tx.raw.length
    for (const a of entry.authorities) {
      const left = this.#reserved.get(a)! - 1
      if (left === 0) this.#reserved.delete(a)
      else this.#reserved.set(a, left)
    }
    if (sender.txs.size === 0) this.#senders.delete(toHex(sender.address))
  }

  /** Tells of transactions that have become pending. */
  #announce(sender: Sender): void {
    for (let n = sender.nonce; n < sender.next; n++) {
      const entry = sender.txs.get(n)!
      if (entry.announced) continue
      entry.announced = true
      this.#opts.onPending(entry.tx)
    }
  }
}

function newSender(address: Uint8Array, state: SenderState): Sender {
  return { ...state, address, txs: new Map(), next: state.nonce, pendingCost: 0n }
}

/** Extends what is gapless as far as it goes. */
function advance(sender: Sender): void {
  for (let e = sender.txs.get(sender.next); e !== undefined; e = sender.txs.get(sender.next)) {
    sender.pendingCost += e.cost
    sender.next++
  }
}

function inNonceOrder(sender: Sender): Entry[] {
  return [...sender.txs.values()].sort((a, b) => (a.tx.nonce < b.tx.nonce ? -1 : 1))
}

/** Ten per cent more on both fees. */
function outbids(tx: Transaction, old: Transaction): boolean {
  const enough = (a: bigint, b: bigint) => a > b && a * 100n >= b * 110n
  return enough(feeCap(tx), feeCap(old)) && enough(tipCap(tx), tipCap(old))
}

type Ranked = { entry: Entry; tip: bigint }

function before(a: Ranked, b: Ranked): boolean {
  return a.tip !== b.tip ? a.tip > b.tip : a.entry.seq < b.entry.seq
}

/** A binary heap: the first is before all others. */
function push<T>(heap: T[], item: T, isBefore: (a: T, b: T) => boolean): void {
  let i = heap.length
  heap.push(item)
  while (i > 0) {
    const up = (i - 1) >> 1
    if (!isBefore(heap[i]!, heap[up]!)) return
    ;[heap[i], heap[up]] = [heap[up]!, heap[i]!]
    i = up
  }
}

function pop<T>(heap: T[], isBefore: (a: T, b: T) => boolean): T | undefined {
  const top = heap[0]
  const last = heap.pop()
  if (top === undefined || heap.length === 0) return top
  heap[0] = last!
  for (let i = 0; ; ) {
    let best = i
    for (const child of [2 * i + 1, 2 * i + 2]) {
      if (child < heap.length && isBefore(heap[child]!, heap[best]!)) best = child
    }
    if (best === i) return top
    ;[heap[i], heap[best]] = [heap[best]!, heap[i]!]
    i = best
  }
}
