/**
 * What an answer has to be, as requests say it: `response_format` and the names that other servers have for it (`structured_outputs`,
 * `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`, `grammar`, `json_schema`), tools and `tool_choice`. Part of openai.ts.
 */
import type { Constraint } from './grammar/constraint.ts'
import { type Fields, flag, isObject, MAX_TOOLS, text, unsupported, wrong } from './openai.ts'

/** A function that the model may call. */
export interface Tool {
  type: 'function'
  function: { name: string; description?: string; parameters?: unknown; strict?: boolean }
}

export type ToolChoice = 'none' | 'auto' | 'required' | { name: string }

/** Undefined: any text. @throws {ApiError} 400 naming the field. */
export function parseConstraint(body: Fields): Constraint | undefined {
  const found: Constraint[] = []
  const add = (constraint: Constraint | undefined): void => {
    if (constraint !== undefined) found.push(constraint)
  }
  add(responseFormat(body.response_format))
  const nested = body.structured_outputs
  if (nested !== undefined && nested !== null) {
    if (!isObject(nested)) throw wrong('structured_outputs', 'is not an object')
    for (const kind of KINDS) add(guided(nested, kind, `structured_outputs.${kind}`, kind))
    if (nested.json_object === true) add({ kind: 'json' })
  }
  for (const kind of KINDS) add(guided(body, `guided_${kind}`, `guided_${kind}`, kind))
  add(guided(body, 'json_schema', 'json_schema', 'json'))
  add(guided(body, 'grammar', 'grammar', 'grammar'))
  if (found.length > 1) throw wrong('response_format', 'and its likes constrain the answer in two ways at once')
  return found[0]
}

const KINDS = ['json', 'regex', 'choice', 'grammar'] as const

function responseFormat(format: unknown): Constraint | undefined {
  if (format === undefined || format === null) return undefined
  if (!isObject(format) || typeof format.type !== 'string') {
    throw wrong('response_format', 'is not an object with a type')
  }
  switch (format.type) {
    case 'text':
      return undefined
    case 'json_object':
      return isObject(format.schema) ? { kind: 'schema', schema: format.schema, strict: false } : { kind: 'json' }
    case 'json_schema': {
      const named = format.json_schema
      if (!isObject(named)) throw wrong('response_format.json_schema', 'is not an object')
      if (!isObject(named.schema) && typeof named.schema !== 'boolean') {
        throw wrong('response_format.json_schema.schema', 'is not a schema')
      }
      const strict = flag(named, 'strict', 'response_format.json_schema.strict') ?? false
      return { kind: 'schema', schema: named.schema, strict }
    }
    default:
      throw unsupported('response_format', `of type '${format.type.slice(0, 64)}' is not supported`)
  }
}

function guided(body: Fields, key: string, at: string, kind: (typeof KINDS)[number]): Constraint | undefined {
  const value = body[key]
  if (value === undefined || value === null) return undefined
  switch (kind) {
    case 'json': {
      let schema: unknown = value
      if (typeof value === 'string') {
        try {
          schema = JSON.parse(value)
        } catch {
          throw wrong(at, 'is not JSON')
        }
      }
      if (!isObject(schema) && typeof schema !== 'boolean') throw wrong(at, 'is not a schema')
      return { kind: 'schema', schema, strict: false }
    }
    case 'choice':
      if (!Array.isArray(value) || !value.every(x => typeof x === 'string')) throw wrong(at, 'is not a list of strings')
      return { kind: 'choice', texts: value as string[] }
    case 'regex':
      return { kind: 'regex', pattern: text(body, key, at)! }
    default:
      return { kind: 'grammar', text: text(body, key, at)! }
  }
}

/** @throws {ApiError} 400 naming the field. */
export function parseTools(body: Fields): {
  tools: Tool[] | undefined
  toolChoice: ToolChoice
  parallelToolCalls: boolean
} {
  const { tools, tool_choice: choice } = body
  const parallelToolCalls = flag(body, 'parallel_tool_calls') ?? true
  let list: Tool[] = []
  if (tools !== undefined && tools !== null) {
    if (!Array.isArray(tools) || tools.length > MAX_TOOLS) {
      throw wrong('tools', `is not a list of at most ${MAX_TOOLS} tools`)
    }
    for (const tool of tools) {
      if (!isObject(tool) || tool.type !== 'function' || !isObject(tool.function)) {
        throw wrong('tools', 'has an entry that is no function')
      }
      if (typeof tool.function.name !== 'string' || !/^[\w.-]{1,64}$/.test(tool.function.name)) {
        throw wrong('tools', 'has a function without a name of 1 to 64 letters, digits, dots, dashes and underscores')
      }
      const { parameters } = tool.function
      if (parameters !== undefined && parameters !== null && !isObject(parameters)) {
        throw wrong('tools', `has parameters of '${tool.function.name}' that are no schema`)
      }
    }
    list = tools as Tool[]
  }
  const toolChoice = parseChoice(choice, list)
  return {
    tools: list.length === 0 || toolChoice === 'none' ? undefined : list,
    toolChoice: list.length === 0 ? 'none' : toolChoice,
    parallelToolCalls
  }
}

function parseChoice(choice: unknown, tools: readonly Tool[]): ToolChoice {
  if (choice === undefined || choice === null) return 'auto'
  if (choice === 'none' || choice === 'auto') return choice
  if (tools.length === 0) throw wrong('tool_choice', 'forces a call, but there are no tools')
  if (choice === 'required') return choice
  const name = isObject(choice) && isObject(choice.function) ? choice.function.name : undefined
  if (typeof name !== 'string') throw wrong('tool_choice', 'is none of none, auto, required and a function')
  if (!tools.some(t => t.function.name === name)) throw wrong('tool_choice', 'names a function that tools lacks')
  return { name }
}
