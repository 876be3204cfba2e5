/** Placeholder during construction: replaced when the libp2p adapter is there. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import type { SegmentPeers } from './replicator.ts'

export interface PeerNetwork extends SegmentPeers {
  count(): number
  addresses(): string[]
  addressOf(peer: string): string | undefined
  announce(txs: readonly Tx[]): void
  info(): unknown
  describe(): unknown
  close(): Promise<void>
}

export interface PeersOptions {
  chainId: number
  flow: string
  dir: string
  port: number
  host: string
  bootstrap: string[]
  publicUrl: string
  store: FileStore
  index: FlowIndex
  clock: Clock
  logger: Logger
  onAnnounced: (root: Uint8Array, peer: string) => void
}

export async function startPeers(_o: PeersOptions): Promise<PeerNetwork> {
  throw new ZgError('ERR_UNAVAILABLE', 'peers are not built yet')
}
