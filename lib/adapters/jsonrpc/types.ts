/** JSON-RPC 2.0 as every zg server and client speaks it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ConnectionGate } from '../http.ts'

/** Positional parameters, as received. Trailing absent ones are `undefined`. */
export type RpcParams = readonly unknown[]

/** What a method may ask of the exchange it answers. */
export interface RpcContext {
  readonly transport: 'http' | 'ws' | 'unix'
  /** Aborted when the connection closes or the server stops. */
  readonly signal: AbortSignal
  /** WebSocket and Unix socket only: pushes a notification; false when the slow reader has been dropped. */
  readonly notify?: (method: string, params: unknown) => boolean
  /** One bag a connection, for subscriptions; a fresh one for each HTTP request. */
  readonly session: Map<string, unknown>
  /** Called once when the connection closes. */
  onClose(fn: () => void): void
}

/** A result that is JSON already: it goes into the answer as it is, without being parsed or made again. */
export class JsonText {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** A value or a promise of one; a value is answered in the same turn. */
export type RpcMethod = (params: RpcParams, ctx: RpcContext) => unknown
export type RpcMethods = Record<string, RpcMethod>

/** An error that goes to the caller as it is. Anything else thrown by a method is logged and answered as −32603. */
export class RpcError extends Error {
  readonly code: number
  readonly data: unknown
  constructor(code: number, message: string, data?: unknown) {
    super(message)
    this.name = 'RpcError'
    this.code = code
    this.data = data
  }
}

/** Standard codes (chain.md 9.1). */
export const RPC = {
  parse: -32700,
  request: -32600,
  method: -32601,
  params: -32602,
  internal: -32603,
  server: -32000,
  notFound: -32001,
  unavailable: -32002,
  rejected: -32003,
  limit: -32005,
  reverted: 3
} as const

/** A plain HTTP route beside the RPC; true when it answered. May be async. Errors become 500 with a JSON envelope. */
export type HttpRoute = (req: IncomingMessage, res: ServerResponse, url: URL) => boolean | Promise<boolean>

export interface RpcServerOptions {
  methods: RpcMethods
  /**
   * Methods whose neighbouring calls in a batch are begun in their order without waiting for each other's answers; their answers are short.
   * Every other call of a batch is begun when all before it are answered.
   */
  together?: ReadonlySet<string>
  /** TCP: loopback unless `host` says otherwise; port 0 chooses a free one. Absent: no TCP listener. */
  port?: number
  host?: string
  /** Path of a Unix socket (0600): newline-delimited JSON-RPC, both ways. */
  socketPath?: string
  /** Accept WebSocket upgrades on the TCP port. */
  websocket?: boolean
  /** Tried in order before JSON-RPC. `/health`, `/ready` and `/metrics` come from lib/ops. */
  routes?: HttpRoute[]
  /** 'any' answers preflights and sends Access-Control-Allow-Origin: *. */
  cors?: 'any' | 'none'
  /** Host header names accepted beside localhost and IP literals. */
  allowedHosts?: string[]
  /** The short way for `POST /` (fast.ts). Only where no route takes `POST /`. */
  fast?: boolean
  /** Asked with the Authorization header before a call is read; false: 401. Switches the short way and WebSocket off. */
  authorize?: (header: string | undefined) => boolean
  bodyBytes?: number
  /** Bytes of one answer; LIMITS.rpcAnswerBytes when absent. */
  answerBytes?: number
  connections?: number
  /** When a new TCP connection is first read; not together with `fast`. */
  gate?: ConnectionGate
  /** Called for each answered call: for metrics and logs. */
  onCall?: (method: string, ms: number, errorCode: number | undefined) => void
  /** An unexpected exception of a method. */
  onBug?: (method: string, err: unknown) => void
}

export interface RpcServer {
  /** `http://127.0.0.1:PORT`, or undefined without TCP. */
  readonly url: string | undefined
  readonly port: number | undefined
  /** Stops accepting, lets what is in flight finish within LIMITS.shutdownMs, closes. */
  close(): Promise<void>
}

/** The connections and requests a server has open; aborted when it stops. */
export type Live = Set<AbortController>
