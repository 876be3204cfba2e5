/**
 * A peer-to-peer node: TCP, Noise, Yamux, signed gossip and framed streams. The only folder that knows libp2p; callers load it
 * lazily (`await import`) after their port answers, since it takes 0.3 s. Every limit is set here, none left at its default.
 * Peers learn protocol names and listening addresses, nothing else of us.
 */
import './compat.ts'
import { gossipsub, TopicValidatorResult } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { PrivateKey } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { assert, messageOf, ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { type Logger, silentLog } from '../../ops/log.ts'
import { type FrameStream, frames } from './framing.ts'
import { loadOrCreateKey } from './key-file.ts'

const MiB = 1024 * 1024
const DIAL_MS = 10_000
const HANDSHAKE_MS = 5_000
const CLOSE_MS = 2_000
/** Streams a peer may have open, all protocols together, and by default of one. */
const STREAMS_OF_PEER = 128
const STREAMS_OF_PROTOCOL = 32
/** What a gossip frame holds beside the largest message: signature, key, topic, control. */
const GOSSIP_FRAME_BYTES = LIMITS.gossipMessageBytes + 64 * 1024
/** Lost bootstrap peers are dialled again after 0.5 s, then twice as long each time. */
const REDIAL_MIN_MS = 500
const REDIAL_MAX_MS = 30_000

export interface P2pOptions {
  /** The identity: an Ed25519 key in this file, made on first use. */
  keyFile: string
  /** Multiaddrs such as `/ip4/127.0.0.1/tcp/0`; none: outgoing connections only. */
  listen: readonly string[]
  /** Multiaddrs to keep connections to; `/p2p/<id>` at the end makes sure who answers. */
  bootstrap?: readonly string[]
  /** Topics that may be published and subscribed to: no peer makes us keep state for another. */
  topics: readonly string[]
  /** Connections in both directions; default 64. */
  maxConnections?: number
  log?: Logger
}

/** What a subscriber thinks of a message. `reject` costs the sender score, `ignore` only stops it here. */
export type Verdict = 'accept' | 'ignore' | 'reject'

export interface P2pNode {
  readonly peerId: string
  /** Where it can be dialled, `/p2p/<id>` included. */
  addresses(): string[]
  /** Signs and sends to the topic; resolves to the number of peers it went to directly. */
  publish(topic: string, bytes: Uint8Array): Promise<number>
  /**
   * Receives messages of others on a topic.
   * @param onMessage - gets each message once, its signature checked, with the peer id of its author.
   * @param judge - decides before delivery and forwarding.
   * @returns ends the subscription.
   */
  subscribe(
    topic: string,
    onMessage: (bytes: Uint8Array, from: string) => void,
    judge?: (bytes: Uint8Array, from: string) => Verdict
  ): () => void
  /** Peers known to listen on a topic. */
  subscribers(topic: string): string[]
  /** Answers streams of a protocol. When `onStream` rejects, the stream is reset. */
  handle(
    protocol: string,
    onStream: (stream: FrameStream) => Promise<void>,
    opts?: { maxStreams?: number }
  ): Promise<void>
  /** Opens a stream to a connected peer, or to a multiaddr. @throws {ZgError} ERR_UNAVAILABLE, ERR_PROTOCOL. */
  open(peer: string, protocol: string, opts?: { timeoutMs?: number }): Promise<FrameStream>
  /** Peer ids of open connections. */
  peers(): string[]
  /** Each open connection: whom, who dialled, and the other end's address. */
  connections(): { peer: string; direction: 'inbound' | 'outbound'; address: string }[]
  /** Connects; resolves to the peer id. @throws {ZgError} ERR_UNAVAILABLE. */
  dial(address: string, opts?: { timeoutMs?: number }): Promise<string>
  /** Stops everything; nothing is left running. Safe to call twice. */
  close(): Promise<void>
}

/**
 * Starts a node.
 * @throws {ZgError} ERR_BAD_INPUT for a malformed address, ERR_PORT_IN_USE, and as {@link loadOrCreateKey}.
 */
export async function startP2p(opts: P2pOptions): Promise<P2pNode> {
  const log = opts.log ?? silentLog
  const bootstrap = (opts.bootstrap ?? []).map(parseAddress)
  const node = await start(opts, await loadOrCreateKey(opts.keyFile))
  const pubsub = node.services.pubsub
  const topics = new Set(opts.topics)
  const stopBootstrap = keepConnected(bootstrap, opts.maxConnections ?? 64, {
    connected: id => node.getConnections().some(c => c.remotePeer.toString() === id),
    dial: async address => (await node.dial(address, { signal: AbortSignal.timeout(DIAL_MS) })).remotePeer.toString(),
    log
  })

  let closed: Promise<void> | undefined
  return {
    peerId: node.peerId.toString(),
    addresses: () => node.getMultiaddrs().map(String),
    async publish(topic, bytes) {
      assert(topics.has(topic), `topic '${topic}' is not one of this node's`)
      assert(bytes.length <= LIMITS.gossipMessageBytes, `a gossip message of ${bytes.length} bytes is too large`)
      return (await pubsub.publish(topic, bytes)).recipients.length
    },
    subscribe(topic, onMessage, judge) {
      assert(topics.has(topic), `topic '${topic}' is not one of this node's`)
      assert(!pubsub.getTopics().includes(topic), `topic '${topic}' is subscribed to already`)
      pubsub.topicValidators.set(topic, (_, message) => {
        if (message.type !== 'signed' || message.data.length > LIMITS.gossipMessageBytes)
          return TopicValidatorResult.Reject
        return RESULT[judge?.(message.data, message.from.toString()) ?? 'accept']
      })
      const listener = ({
        detail
      }: {
        detail: { type: string; topic: string; data: Uint8Array; from?: unknown }
      }): void => {
        if (detail.type !== 'signed' || detail.topic !== topic) return
        try {
          onMessage(detail.data, String(detail.from))
        } catch (err) {
          log.error('gossip handler failed', { topic, error: messageOf(err) })
        }
      }
      pubsub.addEventListener('message', listener as never)
      pubsub.subscribe(topic)
      return () => {
        pubsub.unsubscribe(topic)
        pubsub.removeEventListener('message', listener as never)
        pubsub.topicValidators.delete(topic)
      }
    },
    subscribers: topic => pubsub.getSubscribers(topic).map(String),
    handle(protocol, onStream, handleOpts) {
      return node.handle(
        protocol,
        (raw, connection) => {
          const stream = frames(raw, connection.remotePeer.toString())
          onStream(stream).catch(err => {
            log.debug('stream failed', { protocol, peer: stream.peer, error: messageOf(err) })
            stream.abort('handler failed')
          })
        },
        { maxInboundStreams: handleOpts?.maxStreams ?? STREAMS_OF_PROTOCOL, maxOutboundStreams: STREAMS_OF_PROTOCOL }
      )
    },
    async open(peer, protocol, openOpts) {
      const target = peer.startsWith('/') ? parseAddress(peer) : parsePeer(peer)
      try {
        const signal = AbortSignal.timeout(openOpts?.timeoutMs ?? DIAL_MS)
        const raw = await node.dialProtocol(target, protocol, { signal, maxOutboundStreams: STREAMS_OF_PROTOCOL })
        return frames(raw, peer.startsWith('/') ? peerOf(peer) : peer)
      } catch (cause) {
        throw dialError(peer, cause)
      }
    },
    connections: () =>
      node.getConnections().map(c => ({
        peer: c.remotePeer.toString(),
        direction: c.direction,
        address: c.remoteAddr.toString()
      })),
    peers: () => [...new Set(node.getConnections().map(c => c.remotePeer.toString()))],
    async dial(address, dialOpts) {
      try {
        const signal = AbortSignal.timeout(dialOpts?.timeoutMs ?? DIAL_MS)
        return (await node.dial(parseAddress(address), { signal })).remotePeer.toString()
      } catch (cause) {
        throw dialError(address, cause)
      }
    },
    close() {
      stopBootstrap()
      closed ??= Promise.resolve(node.stop())
      return closed
    }
  }
}

const RESULT = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject
} as const

async function start(opts: P2pOptions, privateKey: PrivateKey) {
  const maxConnections = opts.maxConnections ?? 64
  const listen = opts.listen.map(a => parseAddress(a).toString())
  try {
    return await createLibp2p({
      privateKey,
      nodeInfo: { name: 'zg', version: '', userAgent: 'zg' },
      addresses: { listen },
      transports: [
        tcp({
          maxConnections,
          backlog: 64,
          inboundSocketInactivityTimeout: 120_000,
          outboundSocketInactivityTimeout: 120_000,
          dialOpts: { noDelay: true },
          listenOpts: { noDelay: true }
        })
      ],
      connectionEncrypters: [noise()],
      streamMuxers: [
        yamux({
          maxInboundStreams: STREAMS_OF_PEER,
          maxOutboundStreams: STREAMS_OF_PEER,
          maxEarlyStreams: 10,
          maxMessageSize: 64 * 1024,
          keepAliveInterval: 30_000,
          // The read buffer holds a whole window, or a paused stream would be reset for what it had been allowed to send.
          streamOptions: {
            initialStreamWindowSize: 256 * 1024,
            maxStreamWindowSize: 4 * MiB,
            maxReadBufferLength: 8 * MiB,
            maxWriteBufferLength: 8 * MiB,
            inactivityTimeout: 120_000
          }
        })
      ],
      connectionManager: {
        maxConnections,
        maxParallelDials: 16,
        maxDialQueueLength: 256,
        maxPeerAddrsToDial: 8,
        dialTimeout: DIAL_MS,
        addressDialTimeout: HANDSHAKE_MS,
        inboundUpgradeTimeout: HANDSHAKE_MS,
        inboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
        outboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
        connectionCloseTimeout: CLOSE_MS,
        // Connections a second from one host: a whole local network starts from one.
        inboundConnectionThreshold: 16,
        maxIncomingPendingConnections: 16,
        reconnectRetries: 5,
        maxParallelReconnects: 4
      },
      // Finds dead peers: a ping every 10 s.
      connectionMonitor: { enabled: true, pingInterval: 10_000, abortConnectionOnPingFailure: true },
      services: {
        identify: identify({
          maxMessageSize: 8 * 1024,
          maxInboundStreams: 2,
          maxOutboundStreams: 2,
          maxObservedAddresses: 10,
          timeout: HANDSHAKE_MS
        }),
        ping: ping({ maxInboundStreams: 2, maxOutboundStreams: 2, timeout: HANDSHAKE_MS }),
        pubsub: gossipsub({
          globalSignaturePolicy: 'StrictSign',
          allowedTopics: [...opts.topics],
          allowPublishToZeroTopicPeers: true,
          fallbackToFloodsub: false,
          floodPublish: true,
          emitSelf: false,
          canRelayMessage: false,
          doPX: false,
          maxInboundStreams: 2,
          maxOutboundStreams: 2,
          maxInboundDataLength: GOSSIP_FRAME_BYTES,
          maxOutboundBufferSize: 8 * MiB,
          maxTopicBytesPerPeer: 64 * 1024,
          decodeRpcLimits: {
            maxSubscriptions: 64,
            maxMessages: 1_000,
            maxIhaveMessageIDs: 5_000,
            maxIwantMessageIDs: 5_000,
            maxIdontwantMessageIDs: 512,
            maxControlMessages: 1_000,
            maxPeerInfos: 16
          }
        })
      }
    })
  } catch (cause) {
    const words = messageOf(cause)
    if (/EADDRINUSE|in use/i.test(`${words} ${String((cause as { code?: unknown }).code)}`)) {
      throw new ZgError('ERR_PORT_IN_USE', `cannot listen on ${listen.join(', ')}: the port is in use`, { cause })
    }
    throw new ZgError('ERR_UNAVAILABLE', `cannot listen on ${listen.join(', ') || 'nothing'}: ${words}`, { cause })
  }
}

/** Dials each address until it answers, and again whenever it is gone. The answer stops it. */
function keepConnected(
  addresses: readonly Multiaddr[],
  max: number,
  net: { connected: (id: string) => boolean; dial: (address: Multiaddr) => Promise<string>; log: Logger }
): () => void {
  assert(addresses.length <= max, `${addresses.length} bootstrap peers are more than ${max} connections`)
  const timers = new Map<Multiaddr, NodeJS.Timeout>()
  let stopped = false
  const watch = async (address: Multiaddr, id: string | undefined, pauseMs: number): Promise<void> => {
    let peer = id
    let nextMs = REDIAL_MIN_MS
    if (peer === undefined || !net.connected(peer)) {
      try {
        peer = await net.dial(address)
      } catch (err) {
        net.log.debug('bootstrap peer does not answer', { address: address.toString(), error: messageOf(err) })
        nextMs = Math.min(REDIAL_MAX_MS, 2 * pauseMs)
      }
    }
    if (!stopped) timers.set(address, setTimeout(() => void watch(address, peer, nextMs), nextMs).unref())
  }
  for (const address of addresses) void watch(address, undefined, REDIAL_MIN_MS)
  return () => {
    stopped = true
    for (const timer of timers.values()) clearTimeout(timer)
  }
}

function parseAddress(text: string | Multiaddr): Multiaddr {
  try {
    return multiaddr(text)
  } catch (cause) {
    throw new ZgError('ERR_BAD_INPUT', `'${text}' is not a multiaddr`, {
      hint: "as in '/ip4/127.0.0.1/tcp/4001'",
      cause
    })
  }
}

function parsePeer(text: string) {
  try {
    return peerIdFromString(text)
  } catch (cause) {
    throw new ZgError('ERR_BAD_INPUT', `'${text}' is not a peer id`, { cause })
  }
}

/** The peer id at the end of a multiaddr, else the address itself. */
function peerOf(address: string): string {
  return /\/p2p\/([^/]+)$/.exec(address)?.[1] ?? address
}

function dialError(peer: string, cause: unknown): ZgError {
  if (cause instanceof ZgError) return cause
  const name = cause instanceof Error ? cause.name : ''
  if (name === 'UnsupportedProtocolError') {
    return new ZgError('ERR_PROTOCOL', `peer '${peer}' does not speak the protocol`, { cause })
  }
  return new ZgError('ERR_UNAVAILABLE', `cannot reach peer '${peer}': ${messageOf(cause)}`, { cause })
}
