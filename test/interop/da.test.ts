/**
 * A stock gRPC client against our data availability: @grpc/grpc-js with proto files written from da.md alone, without our extra
 * fields. Sizes around every border come back bit for bit, statuses only move forward, refusals have the codes and texts of da.md
 * 12, the certificate stands on chain as ethers reads it, and a signer's rows have upstream's form.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Contract, JsonRpcProvider } from 'ethers'
import t from 'tap'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { startDaNetwork } from '../harness/da-network.ts'
import { endSoon, waitFor } from '../harness/tools.ts'

const PROTO: Record<string, string> = {
  'disperser.proto': `syntax = "proto3"; package disperser;
    service Disperser {
      rpc DisperseBlob(DisperseBlobRequest) returns (DisperseBlobReply) {}
      rpc GetBlobStatus(BlobStatusRequest) returns (BlobStatusReply) {}
      rpc RetrieveBlob(RetrieveBlobRequest) returns (RetrieveBlobReply) {}
    }
    message DisperseBlobRequest { bytes data = 1; uint32 target_chunk_num = 3; }
    message DisperseBlobReply { BlobStatus result = 1; bytes request_id = 2; }
    message BlobStatusRequest { bytes request_id = 1; }
    message BlobStatusReply { BlobStatus status = 1; BlobInfo info = 2; }
    message RetrieveBlobRequest { bytes storage_root = 1; uint64 epoch = 2; uint64 quorum_id = 3; }
    message RetrieveBlobReply { bytes data = 1; }
    message BlobInfo { BlobHeader blob_header = 1; }
    message BlobHeader { bytes storage_root = 1; uint64 epoch = 2; uint64 quorum_id = 3; } enum BlobStatus { UNKNOWN = 0; PROCESSING = 1; CONFIRMED = 2; FAILED = 3; FINALIZED = 4; INSUFFICIENT_SIGNATURES = 5; }`,
  'retriever.proto': `syntax = "proto3"; package retriever;
    service Retriever { rpc RetrieveBlob(BlobRequest) returns (BlobReply) {} }
    message BlobRequest { bytes storage_root = 1; uint64 epoch = 2; uint64 quorum_id = 3; }
    message BlobReply { bytes data = 1; }`,
  'signer.proto': `syntax = "proto3"; package signer;
    service Signer {
      rpc BatchSign(BatchSignRequest) returns (BatchSignReply) {}
      rpc BatchRetrieve(BatchRetrieveRequest) returns (BatchRetrieveReply) {}
      rpc GetStatus(Empty) returns (StatusReply) {}
    }
    message Empty {}
    message BatchSignRequest { repeated SignRequest requests = 1; }
    message SignRequest { uint64 epoch = 1; uint64 quorum_id = 2; bytes erasure_commitment = 3; bytes storage_root = 4; repeated bytes encoded_slice = 5; }
    message BatchSignReply { repeated bytes signatures = 1; }
    message BatchRetrieveRequest { repeated RetrieveRequest requests = 1; }
    message RetrieveRequest { uint64 epoch = 1; uint64 quorum_id = 2; bytes storage_root = 3; repeated uint32 row_indexes = 4; }
    message BatchRetrieveReply { repeated Slices encoded_slice = 1; }
    message Slices { repeated bytes encoded_slice = 1; }
    message StatusReply { uint64 status_code = 1; string entrance_contract = 2; }`,
  'health.proto': `syntax = "proto3"; package grpc.health.v1;
    service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; } ServingStatus status = 1; }`,
  'reflection.proto': `syntax = "proto3"; package grpc.reflection.v1alpha;
    service ServerReflection { rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse); }
    message ServerReflectionRequest { string host = 1; string file_containing_symbol = 4; string list_services = 7; }
    message ServerReflectionResponse { FileDescriptorResponse file_descriptor_response = 4; ListServiceResponse list_services_response = 6; }
    message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
    message ListServiceResponse { repeated ServiceResponse service = 1; }
    message ServiceResponse { string name = 1; }`
}
const MAX = 32_505_852
const BIG = { 'grpc.max_receive_message_length': 1 << 30, 'grpc.max_send_message_length': 1 << 30 }

interface Header {
  storage_root: Buffer
  epoch: string
  quorum_id: string
}
// A client made from a definition has methods by name that no type tells.
type Stub = Client &
  Record<string, (request: object, done: (err: ServiceError | null, reply: never) => void) => unknown>

const dir = mkdtempSync(join(tmpdir(), 'zg-proto-'))
const net = await startDaNetwork('da-interop')
const stubs: Stub[] = []
t.teardown(async () => {
  for (const s of stubs) s.close()
  await net.stop()
  rmSync(dir, { recursive: true })
  endSoon()
})

function stub(file: string, pkg: string, service: string, address: string): Stub {
  writeFileSync(join(dir, file), PROTO[file]!)
  const definition = loadPackageDefinition(loadSync(join(dir, file), { keepCase: true, longs: String, enums: String }))
  const found = pkg.split('.').reduce<unknown>((d, name) => (d as never)[name] as never, definition as unknown)
  const made = new (found as Record<string, new (...a: unknown[]) => Stub>)[service]!(
    address,
    credentials.createInsecure(),
    BIG
  )
  stubs.push(made)
  return made
}

function call<T>(s: Stub, method: string, request: object): Promise<T> {
  return new Promise((resolve, reject) => {
    s[method]!(request, (err, reply) => (err === null ? resolve(reply as T) : reject(err)))
  })
}

async function refusal(s: Stub, method: string, request: object): Promise<{ code: number; details: string }> {
  try {
    await call(s, method, request)
  } catch (err) {
    const { code, details } = err as ServiceError
    return { code, details }
  }
  return { code: 0, details: 'answered' }
}

const disperser = stub('disperser.proto', 'disperser', 'Disperser', net.disperser.address)
const retriever = stub('retriever.proto', 'retriever', 'Retriever', net.retriever.address)

/** Byte i of blob n. */
function bytes(size: number, n: number): Buffer {
  const out = Buffer.alloc(size)
  for (let i = 0; i < size; i++) out[i] = (7 * i + (i >> 8) + 31 * n) & 255
  return out
}

const RANK: Record<string, number> = { PROCESSING: 1, CONFIRMED: 2, FINALIZED: 3 }

/** Sends a blob and waits until it is final; every state seen must not be below the one before. */
async function disperse(t: { equal(a: unknown, b: unknown): unknown }, data: Buffer): Promise<Header> {
  const { result, request_id } = await call<{ result: string; request_id: Buffer }>(disperser, 'DisperseBlob', { data })
  t.equal(result, 'PROCESSING')
  let rank = 0
  let header: Header | undefined
  await waitFor(
    async () => {
      const { status, info } = await call<{ status: string; info: { blob_header?: Header | null } }>(
        disperser,
        'GetBlobStatus',
        { request_id }
      )
      const now = RANK[status]
      if (now === undefined || now < rank) throw new Error(`state ${status} after rank ${rank}`)
      rank = now
      if (rank === 1 && info.blob_header) throw new Error('a header before it was confirmed')
      if (rank > 1 && !info.blob_header) throw new Error('no header although it is confirmed')
      header = info.blob_header ?? undefined
      return rank === 3
    },
    { timeoutMs: 200_000, everyMs: 250, what: `a blob of ${data.length} bytes to be final` }
  )
  return header!
}

const known: { data: Buffer; header: Header }[] = []

t.test(
  'blobs of every size around the borders come back bit for bit, from disperser and retriever',
  { timeout: 240_000 },
  async t => {
    const sizes = [1, 30, 31, 32, 61, 62, 63, 64, 127, 128, 31 * 1024 - 1, 31 * 1024, 31 * 1024 + 1, 1024 * 1024]
    await Promise.all(
      sizes.map(async (size, n) => {
        const data = bytes(size, n)
        const header = await disperse(t, data)
        for (const s of [disperser, retriever]) {
          const { data: back } = await call<{ data: Buffer }>(s, 'RetrieveBlob', header)
          t.equal(Buffer.compare(back, data), 0, `${size} bytes`)
        }
        known.push({ data, header })
      })
    )
    for (const size of [MAX - 1, MAX]) {
      const data = bytes(size, 3)
      const header = await disperse(t, data)
      const { data: back } = await call<{ data: Buffer }>(retriever, 'RetrieveBlob', header)
      t.equal(Buffer.compare(back, data), 0, `${size} bytes`)
    }
  }
)

t.test('the same blob again has the same root and another request', async t => {
  const { data, header } = known[0]!
  const again = await disperse(t, data)
  t.equal(again.storage_root.toString('hex'), header.storage_root.toString('hex'))
})

t.test('fifty blobs in parallel all become final', { timeout: 240_000 }, async t => {
  await Promise.all(Array.from({ length: 50 }, (_, i) => disperse(t, bytes(2000 + i, i))))
})

t.test('refusals have their code and text', async t => {
  const { header } = known[0]!
  const is = async (s: Stub, method: string, request: object, code: number, text: string | RegExp): Promise<void> => {
    t.match(await refusal(s, method, request), { code, details: text }, `${method}: ${text}`)
  }
  await is(disperser, 'DisperseBlob', { data: Buffer.alloc(0) }, 3, 'blob size must be greater than 0')
  await is(disperser, 'DisperseBlob', { data: Buffer.alloc(MAX + 1) }, 3, 'blob size cannot exceed 31744 KiB')
  await is(disperser, 'GetBlobStatus', {}, 3, 'invalid request: request_id must not be empty')
  await is(disperser, 'GetBlobStatus', { request_id: Buffer.from('nonsense') }, 3, 'invalid metadata key: nonsense')
  const unknown = Buffer.from(`${'0'.repeat(64)}-1`)
  await is(disperser, 'GetBlobStatus', { request_id: unknown }, 5, 'disperse failed or request may not exist')
  for (const s of [disperser, retriever]) {
    const short = { ...header, storage_root: header.storage_root.subarray(1) }
    await is(s, 'RetrieveBlob', short, 3, 'parameter StorageRoot len is not accepted')
    await is(s, 'RetrieveBlob', { ...header, storage_root: Buffer.alloc(32, 1) }, 5, /fail to recover slice/)
    await is(s, 'RetrieveBlob', { ...header, epoch: 9_999 }, 5, /failed get signers from block chain: quorum of epoch/)
    await is(s, 'RetrieveBlob', { ...header, epoch: '18446744073709551615' }, 5, /out of range/)
    await is(s, 'RetrieveBlob', { ...header, quorum_id: 7 }, 5, /quorum_id out of bound/)
  }
})

t.test('a signer answers status, rows in upstream form, and refuses what it must', async t => {
  const { header } = known[0]!
  const signer = stub('signer.proto', 'signer', 'Signer', net.signers[1]!.address)
  const status = await call<{ status_code: string; entrance_contract: string }>(signer, 'GetStatus', {})
  const entrance = contractAddresses(31337).daEntrance.slice(2).toLowerCase()
  t.match(status, { status_code: '200', entrance_contract: entrance })
  const provider = new JsonRpcProvider(net.rpc)
  const registry = new Contract(
    contractAddresses(31337).daSigners,
    [
      'function getQuorum(uint256, uint256) view returns (address[])',
      'function getSigner(address[]) view returns (tuple(address signer, string socket, tuple(uint256, uint256) pkG1, tuple(uint256[2], uint256[2]) pkG2)[])'
    ],
    provider
  )
  const owners: string[] = [...(await registry.getFunction('getQuorum')(header.epoch, header.quorum_id))]
  t.equal(owners.length, 3072)
  const details = await registry.getFunction('getSigner')([...new Set(owners)])
  const me = details.find((d: { socket: string }) => d.socket === net.signers[1]!.address).signer
  provider.destroy()
  const mine = owners.flatMap((owner, place) => (owner === me ? [place] : []))
  const foreign = owners.findIndex(owner => owner !== me)
  const rows = (row_indexes: number[], over: object = {}): object => ({
    requests: [{ ...header, row_indexes, ...over }]
  })
  const asked = [mine[2]!, mine[0]!, mine[2]!]
  const reply = await call<{ encoded_slice: { encoded_slice: Buffer[] }[] }>(signer, 'BatchRetrieve', rows(asked))
  const slices = reply.encoded_slice[0]!.encoded_slice
  t.same(
    slices.map(s => [s.length, s.readBigUInt64LE(0)]),
    [
      [32_776, 1024n],
      [32_776, 1024n]
    ],
    'ascending, without the repeated one'
  )
  t.match(await refusal(signer, 'BatchRetrieve', rows([3072])), { code: 3, details: 'invalid row indexes' })
  t.match(await refusal(signer, 'BatchRetrieve', rows([foreign])), { code: 5, details: 'slice is missing' })
  t.match(await refusal(signer, 'BatchRetrieve', rows([0], { epoch: 77 })), { code: 5, details: 'slice is missing' })
  const sign = (over: object): object => ({
    requests: [
      {
        epoch: header.epoch,
        quorum_id: header.quorum_id,
        erasure_commitment: Buffer.alloc(64, 255),
        storage_root: header.storage_root,
        encoded_slice: [],
        ...over
      }
    ]
  })
  t.match(await refusal(signer, 'BatchSign', sign({ storage_root: Buffer.alloc(31) })), {
    code: 3,
    details: 'storage root'
  })
  t.match(await refusal(signer, 'BatchSign', sign({ erasure_commitment: Buffer.alloc(63) })), {
    code: 3,
    details: /failed to deserialize erasure commitment/
  })
  t.match(await refusal(signer, 'BatchSign', sign({ erasure_commitment: Buffer.alloc(64) })), {
    code: 3,
    details: /Incorrect commitment/
  })
  t.match(await refusal(signer, 'BatchSign', sign({ epoch: 9 })), { code: 5, details: 'invalid epoch' })
  t.match(await refusal(signer, 'BatchSign', sign({ quorum_id: 9 })), { code: 5, details: 'quorum_id out of bound' })
  t.match(await refusal(signer, 'BatchSign', sign({})), {
    code: 3,
    details: 'received slices and assigned slices are mismatch'
  })
})

t.test('ethers finds the certificates: posted, recorded once, not zero', async t => {
  const provider = new JsonRpcProvider(net.rpc)
  const entrance = new Contract(
    contractAddresses(31337).daEntrance,
    [
      'function commitmentExists(bytes32, uint256, uint256) view returns (bool)',
      'function verifiedErasureCommitment(bytes32, uint256, uint256) view returns (tuple(uint256 X, uint256 Y))',
      'event DataUpload(address sender, bytes32 dataRoot, uint256 epoch, uint256 quorumId, uint256 blobPrice)',
      'event ErasureCommitmentVerified(bytes32 dataRoot, uint256 epoch, uint256 quorumId)'
    ],
    provider
  )
  const [uploads, verified] = await Promise.all(
    ['DataUpload', 'ErasureCommitmentVerified'].map(name => entrance.queryFilter(name, 0))
  )
  const keyOf = (e: object): string => {
    const args = (e as { args: unknown }).args as { dataRoot: string; epoch: bigint; quorumId: bigint }
    return `${args.dataRoot} ${args.epoch} ${args.quorumId}`
  }
  const keys = verified!.map(keyOf)
  t.equal(new Set(keys).size, keys.length, 'each recorded once')
  const posted = new Set(uploads!.map(keyOf))
  for (const { header } of known) {
    const id = [header.storage_root, header.epoch, header.quorum_id] as const
    t.equal(await entrance.getFunction('commitmentExists')(...id), true)
    const point = await entrance.getFunction('verifiedErasureCommitment')(...id)
    t.ok(point.X > 0n && point.Y >> 248n === 0xffn, 'a commitment of the fast mode')
    const key = `0x${header.storage_root.toString('hex')} ${header.epoch} ${header.quorum_id}`
    t.ok(posted.has(key) && keys.includes(key), 'posted and recorded')
  }
  provider.destroy()
})

t.test('health and reflection answer', async t => {
  const health = stub('health.proto', 'grpc.health.v1', 'Health', net.disperser.address)
  t.match(await call(health, 'Check', { service: '' }), { status: 'SERVING' })
  const reflection = stub('reflection.proto', 'grpc.reflection.v1alpha', 'ServerReflection', net.disperser.address)
  interface Answer {
    list_services_response?: { service: { name: string }[] } | null
    file_descriptor_response?: { file_descriptor_proto: Buffer[] } | null
  }
  const ask = (question: object): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const open = reflection.ServerReflectionInfo as unknown as () => {
        on(event: string, fn: (x: never) => void): void
        write(q: object): void
        end(): void
      }
      const stream = open.call(reflection)
      stream.on('data', (answer: Answer) => resolve(answer))
      stream.on('error', reject as never)
      stream.write(question)
      stream.end()
    })
  const names = (await ask({ list_services: '*' })).list_services_response?.service.map(s => s.name)
  t.ok(names?.includes('disperser.Disperser') && names.includes('grpc.health.v1.Health'), String(names))
  const file = await ask({ file_containing_symbol: 'disperser.Disperser' })
  t.ok(file.file_descriptor_response!.file_descriptor_proto[0]!.includes('DisperseBlobRequest'))
})
