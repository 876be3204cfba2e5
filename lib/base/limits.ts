/**
 * Every bound of a server, decoder or queue that stands in more than one place, with its reason. docs/limits.md lists them;
 * `test/unit/limits.test.ts` compares the two.
 */
const MiB = 1024 * 1024

export const LIMITS = {
  /** HTTP request body of the chain's RPC, indexer RPC and KV RPC. */
  httpBodyBytes: 5 * MiB,
  /** HTTP request body of a storage node: one SDK call carries up to 100 segments as base64 JSON. */
  storeBodyBytes: 100 * MiB,
  /** All request headers together. */
  httpHeaderBytes: 16 * 1024,
  /** Time to receive all headers. */
  httpHeadersTimeoutMs: 10_000,
  /** Time to receive a whole request that is not a streamed upload. */
  httpRequestTimeoutMs: 30_000,
  /** A streamed upload or download without a byte. */
  httpIdleBodyMs: 30_000,
  /** After an answer that came before the end of its request: for how long the rest is read and dropped. */
  httpLingerMs: 3_000,
  /** How long clients are told that an idle connection is kept. */
  httpKeepAliveMs: 5_000,
  /** How long it is kept: a client that was busy meanwhile sends on it before it has looked at its clock. */
  httpKeepAliveCloseMs: 60_000,
  /** How often the three deadlines above are checked. */
  httpCheckIntervalMs: 2_000,
  /** Open connections of an RPC server. */
  httpConnections: 1_000,
  /** Open connections of a storage node: the SDK opens 4,096 for a 1 GiB file. */
  storeConnections: 10_000,
  /** Calls in one JSON-RPC batch. */
  rpcBatchCalls: 1_000,
  /** Bytes of one JSON-RPC answer, batch answers together. */
  rpcAnswerBytes: 25_000_000,
  /** Nesting of JSON accepted from outside, checked before it is used. */
  jsonDepth: 64,
  /** One WebSocket message. */
  wsMessageBytes: 5 * MiB,
  /** Subscriptions a connection. */
  wsSubscriptions: 32,
  /** Unsent bytes of a slow WebSocket reader before it is closed. */
  wsUnsentBytes: 8 * MiB,
  /** WebSocket ping interval. */
  wsPingMs: 30_000,
  /** Grace for requests in flight when a server stops. */
  shutdownMs: 10_000,
  /** Gas of one eth_call. */
  ethCallGas: 50_000_000n,
  /** Time of one eth_call. */
  ethCallMs: 5_000,
  /** Blocks scanned by one eth_getLogs. */
  logsBlocks: 10_000,
  /** Results of one eth_getLogs. */
  logsResults: 20_000,
  /** Unpolled filters expire. */
  filterTtlMs: 300_000,
  /** Installed filters a node keeps. */
  filters: 1_000,
  /** One libp2p stream frame. */
  p2pFrameBytes: 2 * MiB,
  /** One gossip message. */
  gossipMessageBytes: 1 * MiB,
  /** Memory an encrypted key file may ask of scrypt. */
  keystoreKdfBytes: 1024 * MiB,
  /** A key file. */
  keystoreFileBytes: 64 * 1024,
  /** A configuration file. */
  configFileBytes: 1 * MiB
} as const
