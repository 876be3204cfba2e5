/**
 * Unary gRPC services on one port, plaintext HTTP/2 as the public services speak it (da.md 2), with a bound on each thing a
 * stranger controls: message size, streams of a connection, calls at once, time until a request is there. On demand with the
 * standard health service and server reflection.
 */
import type {
  Server,
  ServerInterceptor,
  ServerUnaryCall,
  sendUnaryData,
  UntypedServiceImplementation
} from '@grpc/grpc-js'
import { messageOf, ZgError } from '../../base/errors.ts'
import { LIMITS } from '../../base/limits.ts'
import { FLOW_WINDOW_BYTES } from './client.ts'
import { loadService } from './load.ts'
import { GrpcError, STATUS, statusFor } from './status.ts'

/** Answers one call. @param signal - aborted when the caller has gone or its deadline has passed. */
export type UnaryHandler = (request: never, signal: AbortSignal) => Promise<object>

export interface GrpcService {
  /** Below share/proto. */
  file: string
  name: string
  handlers: Record<string, UnaryHandler>
}

export interface GrpcServerOptions {
  services: GrpcService[]
  port: number
  host?: string
  /** Largest request. */
  receiveBytes: number
  /** Calls at once, over all connections. */
  calls: number
  /** Calls at once on one connection; its further ones wait in the client. 16 by default. */
  streams?: number
  /** Health service and reflection beside the services. */
  health?: boolean
  onCall?: (method: string, ms: number, status: number) => void
  /** Failures that nobody expected. */
  onBug?: (method: string, err: unknown) => void
}

export interface GrpcListener {
  port: number
  /** Host and port as clients write them. */
  address: string
  /** Takes no further calls; those in flight get `LIMITS.shutdownMs`. */
  close(): Promise<void>
}

/** Streams that one connection may have open; further calls of that client wait. */
const STREAMS_MAX = 16
/** Time until the whole request is there. */
const REQUEST_MS = 60_000
const IDLE_CONNECTION_MS = 300_000
/** A silent connection is asked for a sign of life, and cut when none comes. */
const KEEPALIVE_MS = 60_000
const KEEPALIVE_TIMEOUT_MS = 20_000

/** Listens. @throws {ZgError} ERR_PORT_IN_USE, ERR_PERMISSION, ERR_UNAVAILABLE. */
export async function serveGrpc(opts: GrpcServerOptions): Promise<GrpcListener> {
  const grpc = await import('@grpc/grpc-js')
  const host = opts.host ?? '127.0.0.1'
  const server = new grpc.Server({
    'grpc.max_receive_message_length': opts.receiveBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': opts.streams ?? STREAMS_MAX,
    'grpc.max_connection_idle_ms': IDLE_CONNECTION_MS,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.enable_channelz': 0,
    'grpc-node.flow_control_window': FLOW_WINDOW_BYTES,
    interceptors: [admission(grpc, opts.calls)]
  })
  for (const service of opts.services) {
    const definition = await loadService(service.file, service.name)
    const handlers: UntypedServiceImplementation = {}
    for (const [name, handler] of Object.entries(service.handlers)) handlers[name] = unary(name, handler, opts)
    server.addService(definition, handlers)
  }
  if (opts.health === true) {
    const [{ addHealth }, { addReflection }] = await Promise.all([import('./health.ts'), import('./reflection.ts')])
    await addHealth(server)
    await addReflection(server, opts.services)
  }
  const port = await bind(server, grpc.ServerCredentials.createInsecure(), host, opts.port)
  const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host
  return { port, address: `${shown}:${port}`, close: () => shutDown(server) }
}

function unary(name: string, handler: UnaryHandler, opts: GrpcServerOptions) {
  return (call: ServerUnaryCall<unknown, object>, reply: sendUnaryData<object>): void => {
    const begun = performance.now()
    const gone = new AbortController()
    call.on('cancelled', () => gone.abort(new GrpcError(STATUS.cancelled, 'the caller has gone')))
    const end = (status: number): void => opts.onCall?.(name, performance.now() - begun, status)
    handler(call.request as never, gone.signal).then(
      answer => {
        end(STATUS.ok)
        reply(null, answer)
      },
      err => {
        const status = statusFor(err)
        if (status === undefined && !gone.signal.aborted) opts.onBug?.(name, err)
        const { code, details } = status ?? { code: STATUS.internal, details: 'internal error' }
        end(code)
        reply({ code, details }, null)
      }
    )
  }
}

/** Refuses calls above the bound before their bodies are read, and those whose bodies do not come. */
function admission(grpc: typeof import('@grpc/grpc-js'), calls: number): ServerInterceptor {
  let open = 0
  return (_method, call) => {
    let counted = false
    let timer: NodeJS.Timeout | undefined
    const leave = (): void => {
      clearTimeout(timer)
      if (counted) open--
      counted = false
    }
    const listener = new grpc.ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        if (open >= calls) {
          call.sendStatus({ code: STATUS.resourceExhausted, details: 'request pool is full' })
          return
        }
        open++
        counted = true
        timer = setTimeout(() => {
          call.sendStatus({ code: STATUS.deadlineExceeded, details: 'the request did not arrive in time' })
          leave()
        }, REQUEST_MS)
        next(metadata)
      })
      .withOnReceiveHalfClose(next => {
        clearTimeout(timer)
        next()
      })
      .withOnCancel(leave)
      .build()
    const responder = new grpc.ResponderBuilder()
      .withStart(next => next(listener))
      .withSendStatus((status, next) => {
        leave()
        next(status)
      })
      .build()
    return new grpc.ServerInterceptingCall(call, responder)
  }
}

function bind(
  server: Server,
  credentials: Parameters<Server['bindAsync']>[1],
  host: string,
  port: number
): Promise<number> {
  const at = `${host.includes(':') ? `[${host}]` : host}:${port}`
  return new Promise((resolve, reject) => {
    server.bindAsync(at, credentials, (err, bound) => {
      if (err === null) {
        resolve(bound)
        return
      }
      const text = messageOf(err)
      if (/EADDRINUSE/.test(text)) {
        const hint = 'choose another port, or stop the process that holds it'
        reject(new ZgError('ERR_PORT_IN_USE', `port ${port} is in use`, { cause: err, hint }))
      } else if (/EACCES/.test(text)) {
        reject(new ZgError('ERR_PERMISSION', `may not listen on ${at}`, { cause: err }))
      } else reject(new ZgError('ERR_UNAVAILABLE', `cannot listen on ${at}: ${text}`, { cause: err }))
    })
  })
}

function shutDown(server: Server): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(() => server.forceShutdown(), LIMITS.shutdownMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
