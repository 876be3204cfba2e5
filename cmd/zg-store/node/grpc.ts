/**
 * The gRPC face of a storage node (storage.md 3.8): segments for a submission, as `zgs_uploadSegmentsByTxSeq` takes them, without
 * base64. The same checks in the same order; a refusal has the text of JSON-RPC, message and data together, since clients look for
 * parts of it (`already uploaded and finalized`, `too many data writing`).
 */
import { type GrpcListener, serveGrpc } from '../../../lib/adapters/grpc/server.ts'
import { GrpcError, STATUS } from '../../../lib/adapters/grpc/status.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import { type RefusalReason, type SegmentUpload, UploadRefusal } from '../core/upload-checks.ts'
import { uploadList } from './rpc.ts'

export interface HostPort {
  host: string
  port: number
}

export interface NodeGrpcOptions extends HostPort {
  store: FileStore
  index: FlowIndex
  onCall: (method: string, ms: number, errorCode: number | undefined) => void
  onBug: (method: string, err: unknown) => void
}

/** A call carries up to 100 segments, as by JSON-RPC. The library holds a whole request before anybody sees it. */
export const GRPC_REQUEST_BYTES = 32 * 1024 * 1024
/** Calls at once; with the bound above, what strangers can make this node hold. */
export const GRPC_CALLS = 12
/** Calls at once on one connection; its further ones wait in the client. */
export const GRPC_CALLS_EACH = 4

export const GRPC_METHODS = ['Ping', 'UploadSegmentsByTxSeq']

const STATUS_OF: Record<RefusalReason, number> = {
  input: STATUS.invalidArgument,
  proof: STATUS.invalidArgument,
  final: STATUS.alreadyExists,
  pruned: STATUS.failedPrecondition,
  'large-before-tx': STATUS.failedPrecondition,
  duplicate: STATUS.alreadyExists,
  busy: STATUS.resourceExhausted,
  'other-shard': STATUS.failedPrecondition
}

/** Listens. @throws {ZgError} ERR_PORT_IN_USE, ERR_PERMISSION, ERR_UNAVAILABLE. */
export function serveNodeGrpc(o: NodeGrpcOptions): Promise<GrpcListener> {
  return serveGrpc({
    port: o.port,
    host: o.host,
    receiveBytes: GRPC_REQUEST_BYTES,
    calls: GRPC_CALLS,
    streams: GRPC_CALLS_EACH,
    health: true,
    onCall: (method, ms, status) => o.onCall(method, ms, status === STATUS.ok ? undefined : status),
    onBug: o.onBug,
    services: [
      {
        file: 'zg-store/node.proto',
        name: 'zgs_grpc.ZgsGrpcService',
        handlers: {
          Ping: async (request: { message: string }) => ({ message: `Echo: ${request.message}` }),
          UploadSegmentsByTxSeq: async (request: WireUpload) => {
            const ups = request.segments.map(segmentOf)
            const tx = await o.index.tx(number(request.tx_seq, 'tx_seq'))
            try {
              await uploadList(o.store, ups, tx ?? (async () => undefined), 'skip')
            } catch (err) {
              throw refusal(err)
            }
            return {}
          }
        }
      }
    ]
  })
}

interface WireUpload {
  segments: WireSegment[]
  tx_seq: string
}

interface WireSegment {
  root: { value: Buffer } | null
  data: Buffer
  index: string
  proof: { lemma: Buffer[]; path: boolean[] } | null
  file_size: string
}

function segmentOf(s: WireSegment): SegmentUpload {
  const index = number(s.index, 'index')
  if (index > 0xffff_ffff) throw invalid('index', 'index out of bound')
  const { lemma, path } = s.proof ?? { lemma: [], path: [] }
  // Longer than any tree: refused before the hashes are read.
  if (lemma.length > 66 || path.length > 64) throw invalid('proof', 'invalid proof')
  return {
    root: hash(s.root?.value, 'root'),
    index,
    fileSize: number(s.file_size, 'file_size'),
    // Not a Buffer, whose slices share memory where a copy is expected.
    data: new Uint8Array(s.data.buffer, s.data.byteOffset, s.data.length),
    proof: { lemma: lemma.map(h => hash(h, 'proof')), path }
  }
}

function hash(bytes: Buffer | undefined, name: string): Uint8Array {
  if (bytes?.length !== 32) throw invalid(name, 'not 32 bytes')
  return Uint8Array.from(bytes)
}

/** A counter, which comes as decimal text: uint64 does not fit a number. */
function number(text: string, name: string): number {
  const n = Number(text)
  if (!Number.isSafeInteger(n)) throw invalid(name, 'out of range')
  return n
}

function invalid(name: string, why: string): GrpcError {
  return new GrpcError(STATUS.invalidArgument, `Invalid params: ${name}: ${why}`)
}

function refusal(err: unknown): unknown {
  if (err instanceof UploadRefusal) {
    const text = err.data === undefined ? err.message : `${err.message}: ${err.data}`
    return new GrpcError(STATUS_OF[err.reason], text, { cause: err })
  }
  if (err instanceof ZgError && err.code === 'ERR_IO') {
    return new GrpcError(STATUS.internal, err.message, { cause: err })
  }
  return err
}
