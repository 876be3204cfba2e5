/**
 * Who belongs to the group and who lives: the signed list (highest version wins) and the time each member was last heard. A message
 * from a member counts, and an answer does. Suspected members get nothing new; lost ones are repaired away from. Most absences are restarts.
 */
import { equalBytes } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { type GroupList, groupFault, type Member } from '../../../lib/codec/storage/members.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { GroupTimes } from './ports.ts'

export type Health = 'live' | 'suspected' | 'lost'

interface Seen {
  heardMs: number
  /** A request failed at once: not asked for reads until it is heard again, at most until this time. */
  downUntilMs: number
}

export class Membership {
  readonly #clock: Clock
  readonly #times: GroupTimes
  readonly #self: Uint8Array
  readonly #seen = new Map<string, Seen>()
  readonly #startedMs: number
  #list: GroupList
  #byId = new Map<string, Member>()
  /** Times at which members became lost, for the partition rule. */
  readonly #lostAtMs = new Map<string, number>()

  constructor(list: GroupList, self: Uint8Array, clock: Clock, times: GroupTimes) {
    this.#clock = clock
    this.#times = times
    this.#self = self
    this.#list = list
    this.#startedMs = clock.monotonic()
    this.#index()
  }

  get list(): GroupList {
    return this.#list
  }

  get members(): readonly Member[] {
    return this.#list.members
  }

  /** Members other than this node. */
  others(): Member[] {
    return this.#list.members.filter(m => !equalBytes(m.id, this.#self))
  }

  isMember(id: Uint8Array): boolean {
    return this.#byId.has(name(id))
  }

  get(id: Uint8Array): Member | undefined {
    return this.#byId.get(name(id))
  }

  /** Takes a newer list of the same group. @returns false when it is not one. */
  adopt(list: GroupList): boolean {
    const mine = this.#list
    const same = equalBytes(list.group, mine.group) && list.chainId === mine.chainId && list.flow === mine.flow
    if (!same || list.version <= mine.version || groupFault(list) !== undefined) return false
    this.#list = list
    this.#index()
    return true
  }

  heard(id: Uint8Array): void {
    const seen = this.#seen.get(name(id))
    const nowMs = this.#clock.monotonic()
    if (seen === undefined) this.#seen.set(name(id), { heardMs: nowMs, downUntilMs: 0 })
    else {
      seen.heardMs = nowMs
      seen.downUntilMs = 0
    }
  }

  /** A request to it failed without an answer. */
  failed(id: Uint8Array): void {
    const seen = this.#seen.get(name(id))
    if (seen !== undefined) seen.downUntilMs = this.#clock.monotonic() + 2 * this.#times.beatMs
  }

  health(id: Uint8Array): Health {
    if (equalBytes(id, this.#self)) return 'live'
    // Nobody is lost because this node has just started: it may be the one that was away.
    const seen = this.#seen.get(name(id))
    const quietMs = this.#clock.monotonic() - (seen?.heardMs ?? this.#startedMs)
    if (quietMs >= this.#times.lostMs) return 'lost'
    return seen === undefined || quietMs >= this.#times.suspectMs ? 'suspected' : 'live'
  }

  /** True when asking it promises an answer. */
  answers(id: Uint8Array): boolean {
    if (equalBytes(id, this.#self)) return true
    const seen = this.#seen.get(name(id))
    return this.health(id) === 'live' && (seen?.downUntilMs ?? 0) <= this.#clock.monotonic()
  }

  /** True when every member was heard or has had the time to be: before, what lives is not known. */
  known(): boolean {
    return this.#starting().length === 0
  }

  /** How many live, as far as that is known: who was not heard yet and may still be counts. */
  expected(): number {
    return this.live().length + this.#starting().length
  }

  #starting(): Member[] {
    if (this.#clock.monotonic() - this.#startedMs >= this.#times.suspectMs) return []
    return this.others().filter(m => !this.#seen.has(name(m.id)))
  }

  live(): Member[] {
    return this.#list.members.filter(m => this.health(m.id) === 'live')
  }

  notLost(): Member[] {
    return this.#list.members.filter(m => this.health(m.id) !== 'lost')
  }

  /**
   * Members lost at present, and how many of them within the last `lostMs` (more than the code bears: taken for a partition).
   */
  losses(): { lost: string[]; recent: number; oldestMs: number } {
    const nowMs = this.#clock.monotonic()
    const lost: string[] = []
    for (const m of this.#list.members) {
      const key = name(m.id)
      if (this.health(m.id) !== 'lost') {
        this.#lostAtMs.delete(key)
        continue
      }
      lost.push(toHex(m.id))
      if (!this.#lostAtMs.has(key)) this.#lostAtMs.set(key, nowMs)
    }
    const times = [...this.#lostAtMs.values()]
    const recent = times.filter(t => nowMs - t < this.#times.lostMs).length
    return { lost, recent, oldestMs: times.length === 0 ? 0 : nowMs - Math.min(...times) }
  }

  #index(): void {
    this.#byId = new Map(this.#list.members.map(m => [name(m.id), m]))
    for (const key of this.#seen.keys()) if (!this.#byId.has(key)) this.#seen.delete(key)
    for (const key of this.#lostAtMs.keys()) if (!this.#byId.has(key)) this.#lostAtMs.delete(key)
  }
}

/** An id as a map key. */
export function name(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1')
}
