/** Where files live (style.md "Configuration"): XDG directories; under systemd its own variables win. */
import { homedir, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'

const env = process.env

/** Data that must not be lost: chain, segments, keys. */
export function dataDir(...parts: string[]): string {
  return join(env.STATE_DIRECTORY ?? join(env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'zg'), ...parts)
}

/** Histories, logs, journals of client verbs. */
export function stateDir(...parts: string[]): string {
  return join(env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'zg', ...parts)
}

/** What can be made again. */
export function cacheDir(...parts: string[]): string {
  return join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'zg', ...parts)
}

/** Sockets and the description of a running network. */
export function runtimeDir(...parts: string[]): string {
  const root =
    env.RUNTIME_DIRECTORY ??
    (env.XDG_RUNTIME_DIR === undefined ? join(tmpdir(), `zg-${userInfo().uid}`) : join(env.XDG_RUNTIME_DIR, 'zg'))
  return join(root, ...parts)
}

/** Configuration files of a tool, the user's first. */
export function configFiles(tool: string): string[] {
  return [
    join(env.XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'zg', `${tool}.json`),
    join('/etc/zg', `${tool}.json`)
  ]
}

/** Encrypted key files. */
export function keystoreDir(): string {
  return dataDir('keystore')
}
