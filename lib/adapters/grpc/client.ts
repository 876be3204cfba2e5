/**
 * Unary calls of one service at one address. The connection is made at the first call, kept, and made again after a loss; every
 * call has a deadline; failures are ZgErrors whose cause tells the gRPC status.
 */
import type { Client, ServiceDefinition } from '@grpc/grpc-js'
import { assert, ZgError } from '../../base/errors.ts'
import { loadService } from './load.ts'
import { clientError } from './status.ts'

export interface GrpcClientOptions {
  /** Below share/proto. */
  file: string
  service: string
  /** In errors: `disperser`. */
  what: string
  hint?: string
  /** Largest answer taken. */
  receiveBytes: number
  /** Deadline of a call that names none. Default 30 s. */
  timeoutMs?: number
}

export interface CallOptions {
  timeoutMs?: number
  signal?: AbortSignal | undefined
}

const TIMEOUT_MS = 30_000
/** A lost peer is tried again after this at the earliest, and at least this often. */
const RECONNECT_MIN_MS = 100
const RECONNECT_MAX_MS = 2_000

export class GrpcClient {
  /** `host:port`. */
  readonly address: string
  readonly #opts: GrpcClientOptions
  #client: Promise<{ client: Client; service: ServiceDefinition }> | undefined
  #closed = false

  constructor(address: string, opts: GrpcClientOptions) {
    this.address = plainAddress(address)
    this.#opts = opts
  }

  /**
   * One call.
   * @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_STOPPED, or what the answered status means (status.ts).
   */
  async call<Req extends object, Res>(method: string, request: Req, opts: CallOptions = {}): Promise<Res> {
    if (this.#closed) throw new ZgError('ERR_STOPPED', 'stopped')
    if (opts.signal?.aborted) throw new ZgError('ERR_STOPPED', 'stopped')
    this.#client ??= this.#open()
    const { client, service } = await this.#client
    const definition = service[method]
    assert(definition !== undefined, `no method ${method} in ${this.#opts.service}`)
    const deadline = Date.now() + (opts.timeoutMs ?? this.#opts.timeoutMs ?? TIMEOUT_MS)
    return new Promise<Res>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = definition
      const call = client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, { deadline }, done)
      const onAbort = (): void => call.cancel()
      opts.signal?.addEventListener('abort', onAbort, { once: true })
      const { what, hint } = this.#opts
      const { address } = this
      function done(err: unknown, answer: unknown): void {
        opts.signal?.removeEventListener('abort', onAbort)
        if (opts.signal?.aborted) reject(new ZgError('ERR_STOPPED', 'stopped', { cause: err }))
        else if (err !== null && err !== undefined) reject(clientError(err, what, address, hint))
        else resolve(answer as Res)
      }
    })
  }

  close(): void {
    this.#closed = true
    void this.#client?.then(
      ({ client }) => client.close(),
      () => {}
    )
  }

  async #open(): Promise<{ client: Client; service: ServiceDefinition }> {
    const [grpc, service] = await Promise.all([
      import('@grpc/grpc-js'),
      loadService(this.#opts.file, this.#opts.service)
    ])
    const client = new grpc.Client(this.address, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': this.#opts.receiveBytes,
      'grpc.max_send_message_length': -1,
      // Retries would keep a copy of each message; callers know better when to try again.
      'grpc.enable_retries': 0,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_channelz': 0,
      'grpc-node.flow_control_window': FLOW_WINDOW_BYTES,
      'grpc.initial_reconnect_backoff_ms': RECONNECT_MIN_MS,
      'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS
    })
    return { client, service }
  }
}

/** What may be under way on a stream before its reader has taken it: HTTP/2's own 64 KiB make large messages crawl. */
export const FLOW_WINDOW_BYTES = 4 * 1024 * 1024

/**
 * `host:port` of what people and signers write: a scheme in front is dropped.
 * @throws {ZgError} ERR_USAGE when it is no address with a port.
 */
export function plainAddress(text: string): string {
  const plain = text
    .trim()
    .replace(/^(https?|grpc|dns):\/\/\/?/, '')
    .replace(/\/$/, '')
  const m = /^(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252}):([0-9]{1,5})$/.exec(plain)
  const port = Number(m?.[2])
  if (m === null || port < 1 || port > 65_535) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 96)}' is not a host with a port`, {
      hint: "write it as '127.0.0.1:51001'"
    })
  }
  return plain
}
