/** A chain of key-value submissions in memory, for the follower without sockets: what a test adds is what there is. */
import type { KvChain, PlacedEvent } from '../../cmd/zg-store/kv/follow.ts'
import { concat, utf8 } from '../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { hashBytes } from '../../lib/codec/storage/hasher.ts'
import { encodeStreamTags } from '../../lib/codec/storage/kv.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'

export const account = (n: number): Uint8Array => new Uint8Array(20).fill(n)

export class TestChain implements KvChain {
  blocks: { hash: Uint8Array; events: PlacedEvent[] }[] = [{ hash: keccak256(utf8('genesis')), events: [] }]
  files = new Map<string, Uint8Array>()
  fork = 0

  /** A block with these files; each `lost` one is nowhere to be had. */
  add(...list: { by: number; streams: Uint8Array[]; data: Uint8Array; lost?: boolean }[]): void {
    const block = this.blocks.length
    let seq = this.blocks.reduce((n, b) => n + b.events.length, 0)
    const events = list.map((f): PlacedEvent => {
      const hash = hashBytes(f.data)
      if (!f.lost) this.files.set(toHex(hash.root), f.data)
      const submission = { size: f.data.length, tags: encodeStreamTags(f.streams), nodes: hash.nodes }
      // The event's sender is free text: a forger writes somebody else's name there.
      const event = {
        sender: account(1),
        identity: hash.root,
        seq: seq++,
        startPos: 0,
        sectors: 1,
        submission,
        root: hash.root
      }
      return { event, block, txHash: toHex(concat(account(f.by), new Uint8Array(12))) }
    })
    this.blocks.push({ hash: keccak256(utf8(`${block} ${this.fork}`)), events })
  }

  head = async (): Promise<number> => this.blocks.length - 1
  blockHash = async (n: number): Promise<Uint8Array | undefined> => this.blocks[n]?.hash
  submissions = async (from: number, to: number): Promise<PlacedEvent[]> =>
    this.blocks.slice(from, to + 1).flatMap(b => b.events)
  count = async (): Promise<number> => this.blocks.reduce((n, b) => n + b.events.length, 0)
  sender = async (txHash: string): Promise<Uint8Array> => fromHex(txHash).slice(0, 20)
  nextHead = async (): Promise<void> => {}
}
