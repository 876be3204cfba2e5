/**
 * Loads the native execution client (native/evm, native/napi/evm_*.cpp). There is no other in the product: without a build the caller
 * gets an error that says how to make one.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ZgError } from '../base/errors.ts'
import { loadError, nativePath } from '../native.ts'
import type { EvmAddon } from './types.ts'

let loaded: EvmAddon | undefined

/**
 * The native part, loaded at the first call.
 * @throws {ZgError} ERR_NATIVE when it is not built, or was built for another Node or platform.
 */
export function evmAddon(): EvmAddon {
  if (loaded !== undefined) return loaded
  const file = nativePath('evm')
  if (!existsSync(file)) {
    throw new ZgError('ERR_NATIVE', 'the native execution client is not built', { hint: "run 'npm run build:native'" })
  }
  try {
    loaded = createRequire(import.meta.url)(file) as EvmAddon
  } catch (err) {
    throw loadError(err, file)
  }
  return loaded
}
