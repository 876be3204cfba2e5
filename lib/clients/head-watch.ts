/**
 * What a follower of the chain need not ask: the newest blocks as their pushed headers tell them. While heads are pushed, an
 * idle chain costs its followers no call at all; when they are not, everything is asked as if this were not here.
 *
 * The bloom of a header says which addresses have no log in its block. Some chains push headers whose bloom is wrong (zeroes), so
 * it counts only where the node is one that is known to fill it.
 */
import { type Hex, toHex } from '../base/hex.ts'
import { keccak256 } from '../crypto/hash.ts'
import type { Clock } from '../ports/clock.ts'
import { type ChainClient, type RpcHeader, toNumber } from './chain.ts'

/** `web3_clientVersion` of nodes that are not a balancer and fill the bloom. */
const SOUND_BLOOMS = /^zg-chain\//
/** A pushed head counts as the newest for so long; a chain that is silent for longer is asked. */
const FRESH_MS = 2_000
const HEADERS_KEPT = 128
/** How often a follower looks at the chain: without pushed heads, and with them only in case the push goes silent. */
const POLL_MS = 100
const PUSHED_POLL_MS = 2_000

export interface Head {
  number: number
  /** Monotonic ms at which this was the newest block. */
  asOfMs: number
}

export class HeadWatch {
  readonly #client: ChainClient
  readonly #clock: Clock
  readonly #freshMs: number
  readonly #stop: () => void
  /** Pushed headers that follow each other, by number, oldest first. */
  readonly #headers = new Map<number, RpcHeader>()
  readonly #blooms = new Map<string, (bloom: string) => boolean>()
  #newest: Head | undefined
  #up = false
  #sound = false
  /** The last head given out was a pushed one: only then are the pushed headers known to be on its chain. */
  #told = false
  /** A head came while nobody waited: the next wait ends at once. */
  #news = false
  #wake: (() => void) | undefined

  /** @param freshMs - how old the last pushed head may be to be taken for the newest. */
  constructor(client: ChainClient, clock: Clock, freshMs: number = FRESH_MS) {
    this.#client = client
    this.#clock = clock
    this.#freshMs = freshMs
    this.#stop = client.subscribeHeads(header => this.#pushed(header), { onState: up => this.#state(up) })
  }

  /** The newest block, pushed or asked for. @throws {ZgError} as the chain does. */
  async head(): Promise<Head> {
    const asOfMs = this.#clock.monotonic()
    this.#told = this.#up && this.#newest !== undefined && asOfMs - this.#newest.asOfMs < this.#freshMs
    if (this.#told) return this.#newest!
    const number = await this.#client.blockNumber()
    // A development node went back and has made no block since.
    if (this.#newest !== undefined && number < this.#newest.number) this.#forget()
    return { number, asOfMs }
  }

  /**
   * The header of a block if it was pushed and is on the chain of the head that {@link head} gave last. A head that was asked for may
   * be on another chain than what was pushed before: with it, every block is asked for.
   */
  header(number: number): RpcHeader | undefined {
    return this.#told ? this.#headers.get(number) : undefined
  }

  /** True when it is certain that no block of the range has a log of the address (0x hex). */
  quiet(address: string, from: number, to: number): boolean {
    if (!this.#sound || !this.#told) return false
    const may = this.#bloomTest(address)
    for (let n = from; n <= to; n++) {
      const bloom = this.#headers.get(n)?.logsBloom
      if (typeof bloom !== 'string' || may(bloom)) return false
    }
    return true
  }

  /** Resolves when there may be a new head: a pushed header, or `pollMs`. Never rejects. */
  next(signal: AbortSignal, pollMs: number = this.#up ? PUSHED_POLL_MS : POLL_MS): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        cancel()
        signal.removeEventListener('abort', done)
        this.#wake = undefined
        this.#news = false
        resolve()
      }
      const cancel = this.#clock.after(pollMs, done)
      signal.addEventListener('abort', done, { once: true })
      this.#wake = done
      if (signal.aborted || this.#news) done()
    })
  }

  close(): void {
    this.#stop()
  }

  #pushed(header: RpcHeader): void {
    const number = toNumber(header.number)
    // After a step back the blocks above are gone; a header that does not follow the last one says nothing about those below.
    for (const n of [...this.#headers.keys()]) if (n >= number) this.#headers.delete(n)
    if (this.#headers.get(number - 1)?.hash !== header.parentHash) this.#headers.clear()
    this.#headers.set(number, header)
    if (this.#headers.size > HEADERS_KEPT) this.#headers.delete(this.#headers.keys().next().value!)
    this.#newest = { number, asOfMs: this.#clock.monotonic() }
    this.#news = true
    this.#wake?.()
  }

  #state(up: boolean): void {
    this.#up = up
    // Behind the address there may be another node now.
    this.#sound = false
    if (!up) {
      this.#forget()
      return
    }
    this.#client.call<string>('web3_clientVersion').then(
      name => {
        this.#sound = this.#up && SOUND_BLOOMS.test(String(name))
      },
      () => {}
    )
  }

  #forget(): void {
    this.#headers.clear()
    this.#newest = undefined
  }

  #bloomTest(address: string): (bloom: string) => boolean {
    let test = this.#blooms.get(address)
    if (test === undefined) {
      test = bloomTest(address as Hex)
      this.#blooms.set(address, test)
    }
    return test
  }
}

/** Whether a bloom of 256 bytes (0x hex) may hold an address: three bits of its hash (yellow paper 4.4.3). */
export function bloomTest(address: Hex): (bloom: string) => boolean {
  const hash = toHex(keccak256(Buffer.from(address.slice(2), 'hex')))
  const bits = [0, 1, 2].map(i => Number.parseInt(hash.slice(2 + 4 * i, 6 + 4 * i), 16) & 2047)
  return bloom =>
    bloom.length !== 514 || bits.every(bit => (Number.parseInt(bloom[513 - (bit >> 2)]!, 16) & (1 << (bit & 3))) !== 0)
}
