/**
 * What the node itself signs, with the well-known keys of a development network alone: eth_sendTransaction, eth_sign and
 * eth_signTypedData_v4. `personal_*` is absent on purpose (reliability.md 7).
 */
import { RPC, RpcError, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { bigToBytes, concat, equalBytes, utf8 } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { encodeUnsigned, signTransaction, type UnsignedTransaction } from '../../../lib/clients/sign.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { sign } from '../../../lib/crypto/secp256k1.ts'
import { type CallArgs, readCall } from './call.ts'
import { LATEST, type RpcSetup } from './context.ts'
import { arg, asAddress, asBytes } from './decode.ts'
import { encodeTransaction } from './encode.ts'
import { estimateGas } from './execution.ts'
import { refusals, submit } from './transactions.ts'
import { typedDataDigest } from './typed-data.ts'

export function accountMethods(s: RpcSetup, isImpersonated: (address: Uint8Array) => boolean): RpcMethods {
  const { chain } = s
  const asCall = readCall(s)

  // From reading the next nonce to having used it no other transaction may pass: callers send several at once.
  let last: Promise<unknown> = Promise.resolve()
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work)
    last = turn.catch(() => undefined)
    return turn
  }

  function keyOf(address: Uint8Array): Uint8Array | undefined {
    return chain.devAccounts.find(a => equalBytes(a.address, address))?.privateKey
  }

  function needKey(address: Uint8Array): Uint8Array {
    const key = keyOf(address)
    if (key === undefined)
      throw new RpcError(RPC.server, `unknown account: ${toHex(address)} is not one of eth_accounts`)
    return key
  }

  return {
    eth_sendTransaction: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const from = args.from ?? chain.devAccounts[0]?.address
      if (from === undefined) throw new RpcError(RPC.params, "missing value for required field 'from'")
      const key = keyOf(from)
      if (key === undefined && !isImpersonated(from)) needKey(from)
      const filled = await fillTransaction(s, args, from)
      return inTurn(async () => {
        const tx = { ...filled, nonce: args.nonce ?? (await chain.pool.pendingNonce(from)) }
        if (key !== undefined && !isImpersonated(from)) return toHex(await submit(s, signTransaction(tx, key)))
        const { pool } = chain
        if (pool.addImpersonated === undefined) needKey(from)
        return toHex(await refusals(() => pool.addImpersonated!(tx)))
      })
    },
    eth_sign: params => {
      const address = arg(params, 0, 'address', asAddress)
      const data = arg(params, 1, 'data', asBytes)
      const prefix = utf8(`\x19Ethereum Signed Message:\n${data.length}`)
      return signDigest(keccak256(prefix, data), needKey(address))
    },
    eth_signTypedData_v4: params => {
      const address = arg(params, 0, 'address', asAddress)
      return signDigest(arg(params, 1, 'typedData', typedDataDigest), needKey(address))
    },
    eth_signTransaction: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const from = args.from ?? chain.devAccounts[0]?.address ?? new Uint8Array(20)
      const key = needKey(from)
      return toHex(signTransaction(await fillTransaction(s, args, from), key))
    }
  }
}

/** eth_fillTransaction: settles what was left out; the caller signs. Needs no key, so every node has it. */
export function fillMethods(s: RpcSetup): RpcMethods {
  const asCall = readCall(s)
  return {
    eth_fillTransaction: async params => {
      const args = arg(params, 0, 'transaction', asCall)
      const tx = await fillTransaction(s, args, args.from ?? new Uint8Array(20))
      const raw = encodeUnsigned(tx)
      return { raw: toHex(raw), tx: encodeTransaction({ ...tx, raw, hash: keccak256(raw), v: 0n, r: 0n, s: 0n }) }
    }
  }
}

/** 65 bytes r ‖ s ‖ v with v 27 or 28, as eth_sign answers it. */
function signDigest(digest: Uint8Array, key: Uint8Array): string {
  const sig = sign(digest, key)
  return toHex(concat(bigToBytes(sig.r, 32), bigToBytes(sig.s, 32), Uint8Array.of(27 + sig.yParity)))
}

/** Adds what the caller left out: nonce after the pool, estimated gas, EIP-1559 fees of twice the base fee plus the usual tip. */
export async function fillTransaction(
  s: RpcSetup,
  args: CallArgs,
  from: Uint8Array
): Promise<UnsignedTransaction & { from: Uint8Array }> {
  const { chain } = s
  const legacy = args.gasPrice !== undefined
  const tip =
    args.maxPriorityFeePerGas ?? (args.maxFeePerGas !== undefined && args.maxFeePerGas < TIP ? args.maxFeePerGas : TIP)
  const maxFee = args.maxFeePerGas ?? 2n * chain.nextBaseFee() + tip
  const gasLimit = args.gas ?? (await estimateGas(s, { ...args, from, nonce: undefined }, LATEST, {}))
  const type = args.authorizationList !== undefined ? 4 : !legacy ? 2 : args.accessList !== undefined ? 1 : 0
  return {
    type,
    chainId: BigInt(chain.chainId),
    nonce: args.nonce ?? (await chain.pool.pendingNonce(from)),
    ...(legacy ? { gasPrice: args.gasPrice! } : { maxFeePerGas: maxFee, maxPriorityFeePerGas: tip }),
    gasLimit,
    to: args.to,
    value: args.value,
    data: args.data,
    ...(type === 0 ? {} : { accessList: args.accessList ?? [] }),
    ...(args.authorizationList === undefined ? {} : { authorizationList: args.authorizationList }),
    from
  }
}

/** 1 gneuron. */
const TIP = 1_000_000_000n
