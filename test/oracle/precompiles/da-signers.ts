/**
 * DASigners at 0x…1000 (chain.md 4.1): who may sign for data availability, epoch by epoch. All state stands in the storage of its own
 * account, so it is in the state root and follows every reorganisation, snapshot and revert.
 *
 * Rules that upstream leaves open or gets wrong: bitmaps have exactly ⌈places / 8⌉ bytes; an unknown epoch or quorum is an error, never
 * zeros; keys at infinity or outside the subgroup cannot register; registration for an epoch ends two blocks before the epoch may
 * begin, and its ballots are mixed with the hash of the block after that, which nobody knew when registering.
 */
import { concat, equalBytes, fromUtf8, utf8 } from '../../../lib/base/bytes.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import * as da from '../../../lib/contracts/da-signers.ts'
import * as bls from '../../../lib/crypto/bn254.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { type AbiReader, abiBytes, abiDynamicArray, abiWord, abiWords, AbiReader as Reader } from './abi.ts'
import {
  type Precompile,
  type PrecompileAnswer,
  type PrecompileCall,
  PrecompileError,
  type PrecompileLog
} from './types.ts'

interface Method {
  gas: bigint
  /** May not be called statically. */
  mutates?: true
  run(args: AbiReader, call: PrecompileCall): Promise<Uint8Array | PrecompileAnswer>
}

const DA_SIGNERS_ADDRESS = fromHex('0x0000000000000000000000000000000000001000')
const NEW_SIGNER = fromHex('0x679917c2006df1daaa987a56bf1d66e99764d5ad317892d9e83a6eb4e3f051e7')
const SOCKET_UPDATED = fromHex('0x09617a966176a40f8f1410768b118506db0096484acd5811064fcc12038798de')
/** Signers of one getSigner: as many as a quorum can have. */
const MAX_ADDRESSES = 3072
const NOTHING = new Uint8Array(0)

/** @param registry - the only caller that may register signers, 20 bytes. */
export function daSigners(registry: Uint8Array): Precompile {
  const methods = methodsOf(registry)
  const methodOf = (data: Uint8Array): Method | undefined =>
    data.length < 4 ? undefined : methods[toHex(data.subarray(0, 4))]
  return {
    address: DA_SIGNERS_ADDRESS,
    gasOf: data => methodOf(data)?.gas,
    async run(call) {
      const method = methodOf(call.data)
      if (method === undefined) throw new PrecompileError('unknown selector')
      if (method.mutates && call.isStatic) throw new PrecompileError('write protection')
      const answer = await method.run(new Reader(call.data.subarray(4), 0), call)
      return answer instanceof Uint8Array ? { output: answer, logs: [] } : answer
    }
  }
}

function methodsOf(registry: Uint8Array): Record<string, Method> {
  function onlyRegistry(call: PrecompileCall): void {
    if (!equalBytes(call.caller, registry)) throw new PrecompileError('caller is not the DA registry')
  }

  return {
    /** params() */
    '0xcff0ab96': {
      gas: 1_000n,
      async run(_args, { state }) {
        const p = da.DA_SIGNERS
        return abiWords(
          p.tokensPerVote,
          p.maxVotesPerSigner,
          BigInt(p.maxQuorums),
          await epochBlocks(state),
          BigInt(p.encodedSlices)
        )
      }
    },
    /** epochNumber() */
    '0xf4145a83': {
      gas: 1_000n,
      run: async (_args, { state }) => abiWord(await da.readWord(state, da.KEYS.epochNumber()))
    },
    /** quorumCount(uint256) */
    '0x5ecba503': {
      gas: 1_000n,
      run: async (args, { state }) =>
        abiWord(await da.readWord(state, da.KEYS.quorumCount(await epochOf(state, args, 0))))
    },
    /** isSigner(address) */
    '0x7df73e27': {
      gas: 10_000n,
      run: async (args, { state }) => abiWord((await da.stringLength(state, da.KEYS.signer(args.address(0)))) > 0)
    },
    /** getSigner(address[]) */
    '0xd1f5e5f8': { gas: 100_000n, run: getSigner },
    /** getQuorum(uint256,uint256) */
    '0x6ab6f654': {
      gas: 100_000n,
      async run(args, { state }) {
        const { signers, places } = await da.readQuorum(state, ...(await quorumOf(state, args)))
        const words = signers.map(abiWord)
        return concat(abiWords(32n, BigInt(places.length)), ...places.map(p => words[p]!))
      }
    },
    /** getQuorumRow(uint256,uint256,uint32) */
    '0xfa6fcba6': {
      gas: 10_000n,
      async run(args, { state }) {
        const quorum = await quorumOf(state, args)
        const row = Number(args.uintBits(2, 32))
        if (row >= da.DA_SIGNERS.encodedSlices) throw new PrecompileError('row index out of bound')
        return abiWord(await da.readPlace(state, ...quorum, row))
      }
    },
    /** registeredEpoch(address,uint256) */
    '0x6c9e560c': {
      gas: 10_000n,
      async run(args, { state }) {
        const epoch = args.uint(1)
        if (epoch >> 64n !== 0n) return abiWord(false)
        return abiWord((await da.readWord(state, da.KEYS.registration(epoch, args.address(0)))) !== 0n)
      }
    },
    /** getAggPkG1(uint256,uint256,bytes) */
    '0x50b73739': { gas: 1_000_000n, run: getAggPkG1 },
    /** registerSigner(SignerDetail,G1Point) */
    '0x7ca4dd5e': {
      gas: 100_000n,
      mutates: true,
      run(args, call) {
        onlyRegistry(call)
        return registerSigner(args, call)
      }
    },
    /** updateSocket(string) */
    '0x0cf4b767': { gas: 50_000n, mutates: true, run: updateSocket },
    /** registerNextEpoch(address,G1Point,uint256) */
    '0x0f62bda5': {
      gas: 100_000n,
      mutates: true,
      run(args, call) {
        onlyRegistry(call)
        return registerNextEpoch(args, call)
      }
    },
    /** makeEpoch() */
    '0x5a889f0c': { gas: 100_000n, mutates: true, run: makeEpoch }
  }
}

// ---------------------------------------------------------------------------------------------------------------------------- views

async function getSigner(args: AbiReader, { state }: PrecompileCall): Promise<Uint8Array> {
  const known = new Map<string, Uint8Array>()
  const items: Uint8Array[] = []
  for (const address of args.addresses(0, MAX_ADDRESSES)) {
    const name = toHex(address)
    let item = known.get(name)
    if (item === undefined) {
      const signer = await da.readSigner(state, address)
      if (signer === undefined) throw new PrecompileError(`signer ${name} not found`)
      const { pkG1, pkG2, socket } = signer
      // address, offset of the socket, 2 + 4 coordinates, then the socket.
      item = concat(abiWords(address, 256n, pkG1.x, pkG1.y, ...bls.g2Words(pkG2)), abiBytes(utf8(socket)))
      known.set(name, item)
    }
    items.push(item)
  }
  return concat(abiWord(32n), abiDynamicArray(items))
}

/**
 * The sum of the keys whose places are marked. A signer's key comes in once, at its first marked place; from there on each of its places
 * counts as hit, marked or not: it signed with one key for all of them.
 */
async function getAggPkG1(args: AbiReader, { state }: PrecompileCall): Promise<Uint8Array> {
  const quorum = await quorumOf(state, args)
  const bitmap = args.bytes(2, da.BITMAP_BYTES)
  if (bitmap.length !== da.BITMAP_BYTES) throw new PrecompileError('quorum bitmap length mismatch')
  const { signers, places } = await da.readQuorum(state, ...quorum)
  const isIn = new Set<number>()
  let hit = 0
  for (const [place, signer] of places.entries()) {
    const isMarked = ((bitmap[place >> 3]! >> (place & 7)) & 1) === 1
    if (isMarked) isIn.add(signer)
    if (isIn.has(signer)) hit++
  }
  const keys: bls.G1[] = []
  for (const index of isIn) {
    const signer = await da.readSigner(state, signers[index]!)
    if (signer === undefined) throw new PrecompileError(`signer ${toHex(signers[index]!)} not found`)
    keys.push(signer.pkG1)
  }
  const sum = bls.sumG1(keys)
  return abiWords(sum.x, sum.y, BigInt(places.length), BigInt(hit))
}

// --------------------------------------------------------------------------------------------------------------------- registration

async function registerSigner(args: AbiReader, { state, chainId }: PrecompileCall): Promise<PrecompileAnswer> {
  const detail = args.tuple(0)
  const signature = { x: args.uint(1), y: args.uint(2) }
  const address = detail.address(0)
  const socket = socketOf(detail, 1)
  const pkG1 = { x: detail.uint(2), y: detail.uint(3) }
  const pkG2 = {
    x: [detail.uint(4), detail.uint(5)],
    y: [detail.uint(6), detail.uint(7)]
  } as const
  if ((await da.stringLength(state, da.KEYS.signer(address))) > 0) throw new PrecompileError('signer already exists')
  if (!bls.isG1(pkG1) || !bls.isG2(pkG2)) throw new PrecompileError('invalid public key')
  if (!bls.verifyPossession(bls.registrationDigest(address, chainId), signature, pkG1, pkG2)) {
    throw new PrecompileError('invalid signature')
  }
  await da.writeSigner(state, address, { socket, pkG1, pkG2 })
  const newSigner: PrecompileLog = {
    topics: [NEW_SIGNER, abiWord(address)],
    data: abiWords(pkG1.x, pkG1.y, ...bls.g2Words(pkG2))
  }
  return { output: NOTHING, logs: [newSigner, socketUpdated(address, socket)] }
}

async function updateSocket(args: AbiReader, call: PrecompileCall): Promise<PrecompileAnswer> {
  const { state, caller } = call
  if (!equalBytes(caller, call.origin)) throw new PrecompileError('sender is not the origin')
  const socket = socketOf(args, 0)
  const signer = await da.readSigner(state, caller)
  if (signer === undefined) throw new PrecompileError('signer not found')
  await da.writeSigner(state, caller, { ...signer, socket })
  return { output: NOTHING, logs: [socketUpdated(caller, socket)] }
}

async function registerNextEpoch(args: AbiReader, call: PrecompileCall): Promise<Uint8Array> {
  const { state, chainId, blockNumber } = call
  const address = args.address(0)
  const signature = { x: args.uint(1), y: args.uint(2) }
  const votes = args.uint(3)
  const signer = await da.readSigner(state, address)
  if (signer === undefined) throw new PrecompileError('signer not found')
  const current = await da.readWord(state, da.KEYS.epochNumber())
  const next = current + 1n
  if ((await da.readWord(state, da.KEYS.registration(next, address))) !== 0n) {
    throw new PrecompileError('signer already registered for the epoch')
  }
  if (votes === 0n) throw new PrecompileError('no votes')
  if (blockNumber >= (await mixBlock(state, current))) throw new PrecompileError('registration for the epoch is over')
  const digest = bls.epochDigest(address, next, chainId)
  if (!bls.verifyPossession(digest, signature, signer.pkG1, signer.pkG2)) throw new PrecompileError('invalid signature')
  await da.register(state, next, address, keccak256(bls.encodeG1Be(signature)), votes)
  return NOTHING
}

async function makeEpoch(_args: AbiReader, call: PrecompileCall): Promise<Uint8Array> {
  const { state, blockNumber } = call
  const current = await da.readWord(state, da.KEYS.epochNumber())
  const mix = await mixBlock(state, current)
  if (blockNumber <= mix) return NOTHING
  // An epoch that comes later than BLOCKHASH reaches takes the newest hash: it was not known at the deadline either.
  const seed = await call.blockHash(blockNumber - mix <= 256n ? mix : blockNumber - 1n)
  const next = current + 1n
  await da.openEpoch(state, next, blockNumber, da.drawQuorums(await da.candidatesOf(state, next), seed))
  return NOTHING
}

// ------------------------------------------------------------------------------------------------------------------------ epochs

async function epochBlocks(state: da.SlotStore): Promise<bigint> {
  return (await da.readWord(state, da.KEYS.epochBlocks())) || da.DA_SIGNERS.epochBlocks
}

/**
 * The last block of an epoch's time, whose hash is mixed into the ballots of the next one. Registration ends before it, so that who
 * registers in the last possible block does not know that hash.
 */
async function mixBlock(state: da.SlotStore, epoch: bigint): Promise<bigint> {
  return (await da.readWord(state, da.KEYS.epochStart(epoch))) + (await epochBlocks(state)) - 1n
}

/** Argument i as an epoch that has begun. */
async function epochOf(state: da.SlotStore, args: AbiReader, i: number): Promise<bigint> {
  const epoch = args.uint(i)
  if (epoch > (await da.readWord(state, da.KEYS.epochNumber()))) throw new PrecompileError('epoch has not begun')
  return epoch
}

/** Arguments 0 and 1 as a quorum that exists. */
async function quorumOf(state: da.SlotStore, args: AbiReader): Promise<[epoch: bigint, id: bigint]> {
  const epoch = await epochOf(state, args, 0)
  const id = args.uint(1)
  if (id >= (await da.readWord(state, da.KEYS.quorumCount(epoch)))) throw new PrecompileError('quorum not found')
  return [epoch, id]
}

function socketOf(args: AbiReader, i: number): string {
  const bytes = args.bytes(i, da.DA_SIGNERS.socketMaxBytes)
  const socket = fromUtf8(bytes)
  if (!equalBytes(utf8(socket), bytes)) throw new PrecompileError('socket is not UTF-8')
  return socket
}

function socketUpdated(address: Uint8Array, socket: string): PrecompileLog {
  return { topics: [SOCKET_UPDATED, abiWord(address)], data: concat(abiWord(32n), abiBytes(utf8(socket))) }
}
