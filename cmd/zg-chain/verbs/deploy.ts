/** `zg-chain deploy`: creates a contract from an artifact or from bare code. */

import { concat } from '../../../lib/base/bytes.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { connect, signer } from '../options.ts'
import { shown } from '../print.ts'
import { readInput } from './input.ts'
import { submit } from './submit.ts'

/** An artifact with all its metadata. */
const MAX_BYTES = 32 * 1024 * 1024

export const deploy: VerbFn = async (ctx, [file, ...args], opts) => {
  const { abi, code } = readArtifact(await readInput(ctx, file!, MAX_BYTES), file!)
  const data = concat(code, await constructorArguments(abi, args))
  const value = (opts.value as bigint | undefined) ?? 0n
  const client = await connect(ctx, opts)
  const account = await signer(ctx, opts, client)
  const { checksumAddress } = await import('../../../lib/crypto/address.ts')
  const address = (text: string) => checksumAddress(new Uint8Array(Buffer.from(text.slice(2), 'hex')))
  await submit(ctx, opts, {
    client,
    account,
    message: { to: null, value, data },
    show: receipt => shown(ctx, address(receipt.contractAddress!))
  })
  if (opts.wait !== false && opts.dryRun !== true) hint(ctx, abi)
}

function hint(ctx: VerbContext, abi: unknown[] | undefined): void {
  if (abi === undefined && ctx.tty) ctx.say("next: zg-chain call ADDRESS 'name()(string)'")
}

/** Reads solc, Hardhat and Foundry artifacts, or hex. @throws {ZgError} ERR_BAD_INPUT. */
function readArtifact(text: string, file: string): { abi: unknown[] | undefined; code: Uint8Array } {
  const trimmed = text.trim()
  if (/^(0x)?[0-9a-fA-F]+$/.test(trimmed)) return { abi: undefined, code: toCode(trimmed, file) }
  let json: Record<string, unknown>
  try {
    json = JSON.parse(trimmed)
  } catch {
    throw new ZgError('ERR_BAD_INPUT', `'${file}' is neither hex nor JSON`)
  }
  const evm = (json?.evm ?? {}) as { bytecode?: unknown }
  const bytecode = json?.bytecode ?? evm.bytecode
  const object =
    typeof bytecode === 'object' && bytecode !== null ? (bytecode as { object?: unknown }).object : bytecode
  if (typeof object !== 'string') {
    throw new ZgError('ERR_BAD_INPUT', `'${file}' has no bytecode`, {
      hint: 'give an artifact of solc, Hardhat or Foundry'
    })
  }
  return { abi: Array.isArray(json.abi) ? json.abi : undefined, code: toCode(object, file) }
}

function toCode(hex: string, file: string): Uint8Array {
  const digits = hex.replace(/^0x/, '')
  if (digits.includes('__')) {
    throw new ZgError('ERR_BAD_INPUT', `the code in '${file}' has unlinked libraries`)
  }
  if (digits === '' || digits.length % 2 !== 0 || !/^[0-9a-fA-F]+$/.test(digits)) {
    throw new ZgError('ERR_BAD_INPUT', `the code in '${file}' is not hex, or is empty (an interface has none)`)
  }
  return new Uint8Array(Buffer.from(digits, 'hex'))
}

async function constructorArguments(abi: unknown[] | undefined, args: string[]): Promise<Uint8Array> {
  if (abi === undefined) {
    if (args.length === 0) return new Uint8Array(0)
    throw new ZgError('ERR_USAGE', 'arguments need an ABI, and bare code has none', { hint: 'give an artifact JSON' })
  }
  const entry = abi.find(e => (e as { type?: unknown } | null)?.type === 'constructor') as
    | { inputs?: unknown[] }
    | undefined
  const [{ ParamType }, { encodeConstructor }] = await Promise.all([import('ethers'), import('../abi.ts')])
  const inputs = (entry?.inputs ?? []).map(i => ParamType.from(i))
  return encodeConstructor(inputs, args)
}
