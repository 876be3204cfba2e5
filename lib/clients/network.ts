/**
 * The description of a network that `zg-devnet up` runs: how client verbs find their nodes without flags. One JSON file in the
 * runtime directory, written whole by rename, believed only while its process lives.
 */
import { readFile } from 'node:fs/promises'
import { runtimeDir } from '../adapters/paths.ts'
import { messageOf, systemCode, ZgError } from '../base/errors.ts'
import { LIMITS } from '../base/limits.ts'

export interface ServiceRecord {
  name: string
  /** `chain`, `store`, `indexer`, `kv`, `signer`, `retriever`, `da`, `compute`. */
  kind: string
  state: string
  url: string
  port: number
  pid: number
  restarts: number
}

export interface NetworkFile {
  version: 1
  name: string
  chainId: number
  /** The process of `zg-devnet up`. */
  pid: number
  dataDir: string
  startedAt: string
  /** Unix socket on which `zg-devnet up` takes orders. */
  controlSocket: string
  services: ServiceRecord[]
  endpoints: {
    rpc?: string
    ws?: string
    indexer?: string
    nodes?: string[]
    kv?: string
    /** `host:port` of the disperser, and of the retriever. */
    da?: string
    retriever?: string
    /** The provider's URL as it stands in the registry, without `/v1`. */
    compute?: string
    /** The provider's address. */
    provider?: string
  }
  contracts: Record<string, string>
}

export function networkFilePath(name: string): string {
  return runtimeDir(name, 'network.json')
}

/** The running network of that name, or undefined. @throws {ZgError} ERR_CORRUPT when the file is damaged. */
export async function readNetwork(name: string): Promise<NetworkFile | undefined> {
  let text: string
  try {
    text = await readFile(networkFilePath(name), 'utf8')
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw new ZgError('ERR_IO', `cannot read '${networkFilePath(name)}': ${messageOf(err)}`, { cause: err })
  }
  let file: NetworkFile
  try {
    if (text.length > LIMITS.configFileBytes) throw new Error('too large')
    file = JSON.parse(text)
    if (file.version !== 1 || typeof file.pid !== 'number' || typeof file.endpoints !== 'object')
      throw new Error('not a network file')
  } catch (err) {
    throw new ZgError('ERR_CORRUPT', `'${networkFilePath(name)}' is damaged: ${messageOf(err)}`, {
      hint: `remove it and run 'zg-devnet up --name ${name}'`
    })
  }
  return alive(file.pid) ? file : undefined
}

/** True when a process with this id exists. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (err) {
    return systemCode(err) === 'EPERM'
  }
}

type EndpointName = 'rpc' | 'indexer' | 'kv' | 'da' | 'retriever' | 'compute'

/** Where the flag is not the endpoint's own name with a URL. */
const FLAGS: Partial<Record<EndpointName, string>> = {
  rpc: '--rpc-url URL',
  da: '--disperser HOST:PORT',
  retriever: '--retriever HOST:PORT'
}

/**
 * Where a client verb finds a service: the option (flag, environment or file), else the running network.
 * @throws {ZgError} ERR_NO_NETWORK with what to do.
 */
export async function findEndpoint(
  given: string | undefined,
  network: string,
  name: EndpointName,
  tool: string
): Promise<string> {
  if (given !== undefined) return given
  const file = await readNetwork(network)
  const url = file?.endpoints[name]
  if (url !== undefined) return url
  const flag = FLAGS[name] ?? `--${name} URL`
  throw new ZgError(
    'ERR_NO_NETWORK',
    file === undefined ? 'no network found' : `network '${network}' runs no ${name}`,
    { hint: `run 'zg-devnet up', or give '${tool} … ${flag}'` }
  )
}
