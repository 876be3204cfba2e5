/**
 * Service definitions from the .proto files under share/proto. They are read when the first server or client needs them, so a
 * tool that never speaks gRPC never loads the library.
 */
import { join } from 'node:path'
import type { ServiceDefinition } from '@grpc/grpc-js'
import type { PackageDefinition } from '@grpc/proto-loader'
import { assert } from '../../base/errors.ts'
import { packageRoot } from '../../base/package-root.ts'

/**
 * Field names as in the file; 64-bit integers as decimal strings, since a stranger's may not fit a number; absent fields of
 * proto3 get their default.
 */
const FORM = { keepCase: true, longs: String, enums: Number, defaults: true, arrays: true } as const

const loaded = new Map<string, Promise<PackageDefinition>>()

/** All definitions of one file. @param file - below share/proto: `zg-da/signer.proto`. */
export function loadProto(file: string): Promise<PackageDefinition> {
  let found = loaded.get(file)
  if (found === undefined) {
    found = import('@grpc/proto-loader').then(({ load }) => load(join(packageRoot(), 'share', 'proto', file), FORM))
    loaded.set(file, found)
  }
  return found
}

/** One service. @param name - with its package: `signer.Signer`. */
export async function loadService(file: string, name: string): Promise<ServiceDefinition> {
  const definition = (await loadProto(file))[name]
  assert(definition !== undefined && !('format' in definition), `no service ${name} in ${file}`)
  return definition as unknown as ServiceDefinition
}
