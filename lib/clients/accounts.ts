/**
 * Accounts as people name them: an address, a key file by name or path, or 0 to 9 on a devnet. The ten devnet keys are public
 * knowledge, so they sign nothing on a chain that zg-devnet (or `zg-chain node --dev`) did not start. Any other key comes from an
 * encrypted file: never from a flag, never from the environment (style.md, configuration).
 */
import { basename, join } from 'node:path'
import { keystoreDir } from '../adapters/paths.ts'
import { ZgError } from '../base/errors.ts'
import { fromHex } from '../base/hex.ts'
import { checksumAddress, parseAddress } from '../crypto/address.ts'
import { DEV_ACCOUNTS, isDevKey } from '../crypto/dev-accounts.ts'
import { decryptKey, keystoreAddress } from '../crypto/keystore.ts'
import { readSecretFile } from '../crypto/keystore-file.ts'
import { addressOf } from '../crypto/secp256k1.ts'
import type { ChainClient } from './chain.ts'
import { readNetwork } from './network.ts'

/** Chain id of local networks (chain.md 1). */
const LOCAL_CHAIN_ID = 31337

/** Someone who can sign. */
export interface Account {
  readonly address: Uint8Array
  /** How the user named it. */
  readonly name: string
  /** One of the ten well-known ones. */
  readonly wellKnown: boolean
  /** The key, 32 bytes; asks for the password when first needed. */
  privateKey(): Promise<Uint8Array>
}

export interface AccountSource {
  /** What the user wrote; absent: account 0 on a devnet. */
  account: string | undefined
  /** `--private-key`: one of the ten devnet keys, nothing else. */
  privateKey?: string | undefined
  /** Asked when a key file needs its password. */
  password: (what: string) => Promise<string>
  network: string
}

/**
 * The account that signs.
 * @throws {ZgError} ERR_USAGE (no account, a key that does not belong on a command line), ERR_WRONG_NETWORK (devnet key on another
 *   chain), ERR_NO_INPUT, ERR_PERMISSION, ERR_CORRUPT.
 */
export async function findSigner(client: ChainClient, source: AccountSource): Promise<Account> {
  if (source.privateKey !== undefined) {
    const key = readDevKey(source.privateKey)
    return devnetAccount(client, source.network, key, checksumAddress(addressOf(key)))
  }
  const { account } = source
  if (account === undefined) {
    if (!(await isDevnet(client, source.network))) {
      throw new ZgError('ERR_USAGE', 'no account given', {
        hint: "give a key file by name or path; 'zg-chain keys list' shows yours"
      })
    }
    return devnetAccount(client, source.network, fromHex(DEV_ACCOUNTS[0]!.privateKey), '0')
  }
  const dev = devIndex(account)
  if (dev !== undefined) return devnetAccount(client, source.network, fromHex(DEV_ACCOUNTS[dev]!.privateKey), account)
  return keyFileAccount(account, source.password)
}

/**
 * The address an argument names: an address, 0 to 9, a key file's name or path. No key is read.
 * @throws {ZgError} ERR_USAGE, ERR_NO_INPUT, ERR_CORRUPT.
 */
export async function findAddress(text: string): Promise<Uint8Array> {
  if (/^0x/i.test(text)) {
    try {
      return parseAddress(text)
    } catch (err) {
      throw err instanceof ZgError ? new ZgError('ERR_USAGE', err.message, { hint: err.hint }) : err
    }
  }
  const dev = devIndex(text)
  if (dev !== undefined) return fromHex(DEV_ACCOUNTS[dev]!.address)
  return addressInFile(keyFilePath(text))
}

/**
 * True when the chain behind the client is a local network of ours: the running network of that name says so, or its id and its
 * client name do.
 */
export async function isDevnet(client: ChainClient, network: string): Promise<boolean> {
  const [chainId, file] = await Promise.all([client.chainId(), readNetwork(network)])
  if (file !== undefined && file.chainId === chainId && sameEndpoint(file.endpoints.rpc, client.url)) return true
  if (chainId !== LOCAL_CHAIN_ID) return false
  return (await client.call<string>('web3_clientVersion')).startsWith('zg-chain')
}

/** Where a key file of that name lies. A path (with a slash, or ending in .json) stays what it is. */
export function keyFilePath(name: string): string {
  if (name.includes('/') || name.endsWith('.json')) return name
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new ZgError('ERR_USAGE', `'${name}' is neither an address nor the name of a key file`)
  }
  return join(keystoreDir(), `${name}.json`)
}

function devIndex(text: string): number | undefined {
  return /^[0-9]$/.test(text) ? Number(text) : undefined
}

function readDevKey(text: string): Uint8Array {
  let key: Uint8Array
  try {
    key = fromHex(text, 'private key', { size: 32, bare: true })
  } catch {
    // The text itself stays out of the message: it may be a real key with a slip in it.
    throw new ZgError('ERR_USAGE', 'private key does not have 64 hex digits')
  }
  if (!isDevKey(key)) {
    throw new ZgError('ERR_USAGE', 'only devnet keys may stand on a command line, others would be seen by everybody', {
      hint: "run 'zg-chain keys import NAME' and name the account instead"
    })
  }
  return key
}

async function devnetAccount(client: ChainClient, network: string, key: Uint8Array, name: string): Promise<Account> {
  if (!(await isDevnet(client, network))) {
    throw new ZgError(
      'ERR_WRONG_NETWORK',
      `devnet keys are refused on chain ${await client.chainId()} at ${client.url}: everybody knows them`,
      { hint: "give a key file of your own; 'zg-chain keys new NAME' makes one" }
    )
  }
  return { address: addressOf(key), name, wellKnown: true, privateKey: async () => key }
}

async function keyFileAccount(text: string, password: AccountSource['password']): Promise<Account> {
  if (/^0x[0-9a-fA-F]{64}$/.test(text)) {
    throw new ZgError('ERR_USAGE', 'an account is named by its key file, never by its private key')
  }
  const path = /^0x/i.test(text) ? await pathOfAddress(text) : keyFilePath(text)
  const json = await readSecretFile(path)
  const known = keystoreAddress(json)
  let key: Promise<Uint8Array> | undefined
  const open = (): Promise<Uint8Array> => {
    key ??= password(`password of '${basename(path, '.json')}': `).then(text => decryptKey(json, text))
    return key
  }
  return {
    address: known ?? addressOf(await open()),
    name: basename(path, '.json'),
    wellKnown: false,
    privateKey: open
  }
}

/** The key file of an address, looked for among the named ones. */
async function pathOfAddress(text: string): Promise<string> {
  const wanted = await findAddress(text)
  const shown = checksumAddress(wanted)
  for (const entry of await listKeyFiles()) if (entry.address === shown) return entry.path
  throw new ZgError('ERR_NO_INPUT', `no key file for ${shown} in '${keystoreDir()}'`, {
    hint: "run 'zg-chain keys list' to see what there is"
  })
}

async function addressInFile(path: string): Promise<Uint8Array> {
  const address = keystoreAddress(await readSecretFile(path))
  if (address === undefined) throw new ZgError('ERR_CORRUPT', `key file '${path}' names no address`)
  return address
}

export interface KeyFileEntry {
  name: string
  path: string
  /** With checksum; undefined when the file cannot be read. */
  address: string | undefined
}

/** The key files of this user, by name. */
export async function listKeyFiles(): Promise<KeyFileEntry[]> {
  const { readdir } = await import('node:fs/promises')
  const dir = keystoreDir()
  const names = await readdir(dir).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return []
    throw err
  })
  const entries: KeyFileEntry[] = []
  for (const file of names.filter(n => n.endsWith('.json') && !n.startsWith('.')).sort()) {
    const path = join(dir, file)
    const address = await addressInFile(path).then(checksumAddress, () => undefined)
    entries.push({ name: basename(file, '.json'), path, address })
  }
  return entries
}

/** True when two URLs name the same loopback or remote endpoint. */
function sameEndpoint(a: string | undefined, b: string): boolean {
  if (a === undefined) return false
  const plain = (url: string) => url.replace('://localhost', '://127.0.0.1').replace(/\/$/, '')
  return plain(a) === plain(b)
}
