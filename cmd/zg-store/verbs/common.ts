/** What several verbs need: which nodes, which chain, who pays, keys and streams as people write them. */
import { stderr, stdin as terminal } from 'node:process'
import { dataDir, stateDir } from '../../../lib/adapters/paths.ts'
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type Account, findSigner } from '../../../lib/clients/accounts.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { findEndpoint, readNetwork } from '../../../lib/clients/network.ts'
import { sharedSignal } from '../../../lib/clients/store/retry.ts'
import {
  FlowClient,
  type Lock,
  makeEncryptionKey,
  NodePool,
  parsePublicKey,
  readEncryptionKey
} from '../../../lib/clients/store.ts'
import type { DecryptWith } from '../../../lib/codec/storage/encryption.ts'
import { readSecretFile } from '../../../lib/crypto/keystore-file.ts'

/** Nodes given by flag, else the indexer (flag, environment, file), else nodes from there, else the running network. */
export async function findPool(ctx: VerbContext, opts: Options): Promise<NodePool> {
  sharedSignal(ctx.signal)
  const nodes = opts.node as string[] | undefined
  const indexer = opts.indexer as string | undefined
  if (nodes !== undefined && (ctx.source('node') === 'flag' || indexer === undefined)) return new NodePool({ nodes })
  if (indexer !== undefined) return new NodePool({ indexer })
  const network = await readNetwork(ctx.network)
  const { endpoints } = network ?? { endpoints: {} as { indexer?: string; nodes?: string[] } }
  return new NodePool(endpoints.indexer === undefined ? { nodes: endpoints.nodes } : { indexer: endpoints.indexer })
}

/** The flow contract and the account that pays, found when first needed. */
export async function findPayer(
  ctx: VerbContext,
  opts: Options
): Promise<{ flow: FlowClient; signer: () => Promise<Account> }> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-store')
  const chain = new ChainClient(url, { signal: ctx.signal })
  return { flow: new FlowClient(chain, ctx.signal), signer: () => findAccount(ctx, opts, chain) }
}

export function findAccount(ctx: VerbContext, opts: Options, chain: ChainClient): Promise<Account> {
  return findSigner(chain, {
    account: opts.account as string | undefined,
    network: ctx.network,
    password: what => password(what, opts.passwordFile as string | undefined)
  })
}

/** Where interrupted puts of a network are remembered. */
export function journalDir(network: string): string {
  return stateDir(network, 'put')
}

/** A password from a file, else from the terminal without echo. @throws {ZgError} ERR_USAGE without either. */
async function password(what: string, file: string | undefined): Promise<string> {
  if (file !== undefined) return (await readSecretFile(file)).replace(/\r?\n$/, '')
  if (!terminal.isTTY || !stderr.isTTY) {
    throw new ZgError('ERR_USAGE', `${what.replace(/:\s*$/, '')} is needed and there is no terminal to ask`, {
      hint: "give '--password-file FILE'"
    })
  }
  stderr.write(what)
  terminal.setRawMode(true)
  try {
    return await readLine()
  } finally {
    terminal.setRawMode(false)
    terminal.pause()
    stderr.write('\n')
  }
}

function readLine(): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const onData = (part: Buffer): void => {
      for (const c of part.toString('utf8')) {
        if (c === '\r' || c === '\n') {
          finish(() => resolve(text))
          return
        }
        if (c === '\u0003') {
          finish(() => reject(new ZgError('ERR_STOPPED', 'stopped')))
          return
        }
        text = c === '\u007f' ? text.slice(0, -1) : text + c
      }
    }
    const finish = (fn: () => void): void => {
      terminal.off('data', onData)
      fn()
    }
    terminal.on('data', onData)
  })
}

/** The key that belongs to nobody's flag: made by the first `put --encrypt`. */
function defaultKeyFile(network: string): string {
  return dataDir(network, 'storage.key')
}

/**
 * The key of `--encryption-key-file`, or with `--encrypt` and `--decrypt` alone the user's own; undefined without any of them.
 * @param make - with `--encrypt` a key file that is not there is made.
 */
export async function encryptionKey(ctx: VerbContext, opts: Options, make: boolean): Promise<Uint8Array | undefined> {
  const given = opts.encryptionKeyFile as string | undefined
  const wanted = opts.encrypt === true || opts.decrypt === true
  if (given === undefined && !wanted) return undefined
  const path = given ?? defaultKeyFile(ctx.network)
  try {
    return await readEncryptionKey(path)
  } catch (err) {
    if (!(make && opts.encrypt === true && err instanceof ZgError && err.code === 'ERR_NO_INPUT')) throw err
  }
  const key = await makeEncryptionKey(path)
  ctx.warn(`${ctx.tool}: made a key in '${path}'; whoever loses it loses what is encrypted with it`)
  return key
}

/** What a put encrypts with: the public key of `--encrypt-to`, or a shared one as {@link encryptionKey}. */
export async function encryptionLock(ctx: VerbContext, opts: Options): Promise<Lock | undefined> {
  const to = opts.encryptTo as string | undefined
  if (to === undefined) return encryptionKey(ctx, opts, true)
  if (opts.encrypt === true || opts.encryptionKeyFile !== undefined) {
    throw new ZgError('ERR_USAGE', "'--encrypt-to' takes no other key", {
      hint: "leave out '--encrypt' and '--encryption-key-file'"
    })
  }
  return { publicKey: parsePublicKey(to) }
}

/** What opens encrypted files: one secret, which is the shared key of some and the private key for others, as their headers say. */
export async function decryption(ctx: VerbContext, opts: Options): Promise<DecryptWith | undefined> {
  const secret = await encryptionKey(ctx, opts, false)
  return secret === undefined ? undefined : { key: secret, privateKey: secret }
}

/** `ROOT`, or `ROOT/path/in/folder`. */
export function parsePathInFolder(text: string): { root: Uint8Array; path: string } {
  const slash = text.indexOf('/')
  if (slash < 0) return { root: parseRoot(text), path: '' }
  return { root: parseRoot(text.slice(0, slash)), path: text.slice(slash + 1).replace(/\/+$/, '') }
}

/**
 * A range of bytes as HTTP and curl write it: `0-499`, `500-`, `-500` (the last 500).
 * @returns [start, end) for a size. @throws {ZgError} ERR_USAGE now, ERR_BAD_INPUT for a size that it does not fit.
 */
export function parseByteRange(text: string): (sizeBytes: number) => [number, number] {
  const m = /^([0-9]{0,15})-([0-9]{0,15})$/.exec(text.trim())
  const [from, to] = [m?.[1] ?? '', m?.[2] ?? '']
  if (m === null || (from === '' && to === '') || (from !== '' && to !== '' && Number(to) < Number(from))) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not a range of bytes`, {
      hint: "write '0-499', '500-' or '-500'"
    })
  }
  return size => {
    if (from === '') return [Math.max(0, size - Number(to)), size]
    const end = to === '' ? size : Math.min(size, Number(to) + 1)
    if (Number(from) >= size) throw new ZgError('ERR_BAD_INPUT', `range begins at ${from}, the file has ${size} bytes`)
    return [Number(from), end]
  }
}

/** A file root. @throws {ZgError} ERR_USAGE. */
export function parseRoot(text: string): Uint8Array {
  try {
    return fromHex(text, 'root', { size: 32, bare: true })
  } catch (err) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not a root`, {
      cause: err,
      hint: "a root is 0x and 64 hex digits, as 'zg-store put' prints it"
    })
  }
}

/** A stream id; leading zeros may be left out: `0xf2bd`. @throws {ZgError} ERR_USAGE. */
export function parseStream(text: string): Uint8Array {
  const digits = text.replace(/^0x/i, '')
  if (!/^[0-9a-fA-F]{1,64}$/.test(digits)) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not a stream`, {
      hint: "a stream is up to 64 hex digits, as '0xf2bd'"
    })
  }
  return fromHex(digits.padStart(64, '0'), 'stream', { bare: true })
}

/** Bytes as hex (with 0x) or as text. */
export function parseBytes(text: string): Uint8Array {
  return /^0x([0-9a-fA-F]{2})*$/.test(text) ? fromHex(text) : new TextEncoder().encode(text)
}
