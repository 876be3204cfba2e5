/** Server reflection, versions 1 and 1alpha: generic clients learn from it which services there are and how messages look. */
import type { Server, ServerDuplexStream, ServiceDefinition } from '@grpc/grpc-js'
import type { MessageTypeDefinition } from '@grpc/proto-loader'
import { loadService } from './load.ts'
import { STATUS } from './status.ts'

interface Question {
  message_request?: string
  file_by_filename?: string
  file_containing_symbol?: string
  list_services?: string
  all_extension_numbers_of_type?: string
}

/** A symbol's file, encoded with what it imports. */
type Files = Map<string, Buffer[]>

const VERSIONS = ['v1', 'v1alpha'] as const
/** Questions on one stream. */
const QUESTIONS = 10_000

/** Adds both versions; they tell about `services`, health and themselves. */
export async function addReflection(
  server: Server,
  services: readonly { file: string; name: string }[]
): Promise<void> {
  const all = [
    ...services,
    { file: 'zg-da/health.proto', name: 'grpc.health.v1.Health' },
    ...VERSIONS.map(v => ({ file: `zg-da/reflection_${v}.proto`, name: `grpc.reflection.${v}.ServerReflection` }))
  ]
  const bySymbol: Files = new Map()
  const byName: Files = new Map()
  for (const { file, name } of all) {
    const base = file.slice(file.lastIndexOf('/') + 1)
    for (const [symbol, files] of symbols(name, await loadService(file, name))) {
      bySymbol.set(symbol, files)
      byName.set(base, files)
    }
  }
  const names = all.map(s => ({ name: s.name }))
  for (const v of VERSIONS) {
    server.addService(await loadService(`zg-da/reflection_${v}.proto`, `grpc.reflection.${v}.ServerReflection`), {
      ServerReflectionInfo: (call: ServerDuplexStream<Question, object>) => serve(call, names, bySymbol, byName)
    })
  }
}

function serve(call: ServerDuplexStream<Question, object>, names: object[], bySymbol: Files, byName: Files): void {
  let asked = 0
  call.on('data', (question: Question) => {
    if (++asked > QUESTIONS) call.end()
    else call.write({ original_request: question, ...answer(question, names, bySymbol, byName) })
  })
  call.on('end', () => call.end())
  call.on('error', () => {})
}

function answer(q: Question, names: object[], bySymbol: Files, byName: Files): object {
  if (q.list_services) return { list_services_response: { service: names } }
  if (q.all_extension_numbers_of_type)
    return { all_extension_numbers_response: { base_type_name: q.all_extension_numbers_of_type } }
  const wanted = q.file_containing_symbol || q.file_by_filename || ''
  const files = q.file_containing_symbol ? bySymbol.get(wanted) : byName.get(wanted)
  if (files === undefined)
    return { error_response: { error_code: STATUS.notFound, error_message: `'${wanted.slice(0, 200)}' not found` } }
  return { file_descriptor_response: { file_descriptor_proto: files } }
}

/** The service, its methods and the messages they take and give, each with its file. */
function symbols(service: string, definition: ServiceDefinition): [string, Buffer[]][] {
  const out: [string, Buffer[]][] = []
  const scope = service.slice(0, service.lastIndexOf('.'))
  for (const [method, d] of Object.entries(definition)) {
    const typed = d as unknown as {
      requestType: MessageTypeDefinition<object, object>
      responseType: MessageTypeDefinition<object, object>
    }
    const files = typed.requestType.fileDescriptorProtos
    out.push([service, files], [`${service}.${method}`, files])
    for (const { type } of [typed.requestType, typed.responseType]) {
      const { name } = type as { name?: unknown }
      if (typeof name === 'string') out.push([`${scope}.${name}`, files])
    }
  }
  return out
}
