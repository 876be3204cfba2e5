/**
 * `zg-compute chat`: with a prompt or a pipe one question and its answer, on a terminal a conversation (ux.md section 2). Ctrl-C stops
 * an answer, a second one leaves.
 */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createInterface, type Interface } from 'node:readline'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { formatAmount, shortHash } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { findTarget, meter, report, type Target, type Told, tell } from './answer.ts'
import { readPrompt, sampling } from './common.ts'

interface Message {
  role: 'system' | 'user' | 'assistant'
  content: string
}

/** Turns of a conversation that are sent along; older ones are left out first. */
export const TURNS_MAX = 64

export async function chat(ctx: VerbContext, args: string[], opts: Options): Promise<void> {
  const talk = args.length === 0 && ctx.stdin.isTTY === true && ctx.tty && !ctx.json
  const system = opts.system as string | undefined
  const first: Message[] = system === undefined ? [] : [{ role: 'system', content: system }]
  if (talk) {
    const target = await findTarget(ctx, opts)
    await converse(ctx, target, first, opts)
    return
  }
  const content = await readPrompt(ctx, args)
  const target = await findTarget(ctx, opts)
  const body = { messages: [...first, { role: 'user', content }], ...sampling(opts) }
  const told = await tell(ctx, target, 'chat/completions', body, { check: opts.check !== false })
  if (!ctx.json) await ctx.write(new TextEncoder().encode('\n'))
  report(ctx, target, told)
  if (opts.meter === true) ctx.say(meter(told))
}

interface Talk {
  ctx: VerbContext
  target: Target
  messages: Message[]
  opts: Options
  spent: bigint
  lines: Interface
}

const HELP = `/help  /model  /system TEXT  /set temperature|top_p|seed|max_tokens VALUE  /history  /retry  /undo  /clear  /save FILE  /load FILE  /cost  /quit
""" opens and closes several lines, Ctrl-C stops an answer, a second one leaves`

async function converse(ctx: VerbContext, target: Target, messages: Message[], opts: Options): Promise<void> {
  ctx.say(headLine(target))
  const lines = createInterface({ input: ctx.stdin, output: process.stderr, prompt: '> ', historySize: 500 })
  const talk: Talk = { ctx, target, messages, opts: { ...opts }, spent: 0n, lines }
  const queue: string[] = []
  let wake: (() => void) | undefined
  let closed = false
  let answering: AbortController | undefined
  let stops = 0
  lines.on('line', line => {
    queue.push(line)
    wake?.()
  })
  lines.on('close', () => {
    closed = true
    answering?.abort()
    wake?.()
  })
  lines.on('SIGINT', () => {
    stops++
    if (answering !== undefined) answering.abort()
    if (answering === undefined || stops > 1) lines.close()
  })
  const nextLine = async (): Promise<string | undefined> => {
    while (queue.length === 0 && !closed) await new Promise<void>(resolve => (wake = resolve))
    return queue.shift()
  }
  try {
    for (;;) {
      lines.prompt()
      const text = await readTurn(nextLine)
      if (text === undefined || text === '/quit') break
      stops = 0
      if (text.trim() === '') continue
      let question = text
      if (text.startsWith('/')) {
        const again = await command(talk, text)
        if (again === undefined) continue
        question = again
      }
      answering = new AbortController()
      try {
        await turn(talk, question, answering.signal)
      } finally {
        answering = undefined
      }
    }
  } finally {
    lines.close()
  }
}

/** One line, or several between lines of three quotation marks. */
async function readTurn(nextLine: () => Promise<string | undefined>): Promise<string | undefined> {
  const line = await nextLine()
  if (line === undefined || !line.startsWith('"""')) return line
  const parts = [line.slice(3)]
  if (parts[0]!.endsWith('"""')) return parts[0]!.slice(0, -3)
  for (;;) {
    const more = await nextLine()
    if (more === undefined) return parts.join('\n')
    if (more.endsWith('"""')) return [...parts, more.slice(0, -3)].join('\n').trim()
    parts.push(more)
  }
}

/** Tokens of an answer in a conversation unless asked otherwise: what a small context leaves room for. */
const TALK_TOKENS = 128

/** A failed question leaves the conversation as it was; the person may try again. */
async function turn(talk: Talk, content: string, signal: AbortSignal): Promise<void> {
  const { ctx, target, messages } = talk
  const kept = messages.filter(m => m.role === 'system')
  let history = messages.filter(m => m.role !== 'system').slice(-TURNS_MAX)
  try {
    let told: Told | undefined
    while (told === undefined) {
      const body = {
        max_tokens: TALK_TOKENS,
        ...sampling(talk.opts),
        messages: [...kept, ...history, { role: 'user', content }]
      }
      try {
        told = await tell(ctx, target, 'chat/completions', body, { check: talk.opts.check !== false, signal })
      } catch (err) {
        // The talk has outgrown the model: what was said first is left out.
        if (!(err instanceof ZgError && err.code === 'ERR_BAD_INPUT' && history.length > 0)) throw err
        history = history.slice(2)
      }
    }
    await ctx.write(new TextEncoder().encode('\n'))
    ctx.say(`  ${meter(told)}`)
    messages.push({ role: 'user', content }, { role: 'assistant', content: told.text })
    talk.spent += told.feeNeuron ?? 0n
  } catch (err) {
    if (signal.aborted) ctx.say('\n  stopped; what was made until then is paid')
    else if (err instanceof ZgError)
      ctx.say(`\n  ${err.message}${err.hint === undefined ? '' : `\n  hint: ${err.hint}`}`)
    else throw err
  }
}

const NUMBERS: Record<string, { option: string; min: number; max: number }> = {
  temperature: { option: 'temperature', min: 0, max: 2 },
  top_p: { option: 'topP', min: 0, max: 1 },
  seed: { option: 'seed', min: 0, max: Number.MAX_SAFE_INTEGER },
  max_tokens: { option: 'maxTokens', min: 1, max: 1e9 }
}

/** A saved conversation. */
export const TALK_MAX_BYTES = 16 * 1024 * 1024

/** Takes the last question and its answer away; answers the question. */
function undo(messages: Message[]): string | undefined {
  const at = messages.findLastIndex(m => m.role === 'user')
  return at === -1 ? undefined : messages.splice(at)[0]!.content
}

async function load(talk: Talk, file: string): Promise<void> {
  const { ctx, messages } = talk
  try {
    const { size } = await stat(file)
    if (size > TALK_MAX_BYTES) throw new Error('it is longer than 16 MiB')
    const list: unknown = JSON.parse(await readFile(file, 'utf8'))
    const known = (m: unknown): m is Message => {
      const { role, content } = (m ?? {}) as Record<string, unknown>
      return (role === 'system' || role === 'user' || role === 'assistant') && typeof content === 'string'
    }
    if (!Array.isArray(list) || !list.every(known)) throw new Error('it holds no conversation')
    messages.splice(0, messages.length, ...list)
    ctx.say(`${list.length} messages from ${file}`)
  } catch (err) {
    ctx.say(`not loaded: ${messageOf(err)}`)
  }
}

/** Answers a question that is to be asked now; nothing otherwise. */
async function command(talk: Talk, line: string): Promise<string | undefined> {
  const text = line.slice(line.split(/\s+/, 1)[0]!.length).trim()
  const { ctx, messages } = talk
  switch (line.split(/\s+/, 1)[0]) {
    case '/history':
      ctx.say(messages.map(m => `${m.role}: ${m.content}`).join('\n') || 'nothing was said yet')
      return undefined
    case '/clear':
      messages.splice(0, messages.length, ...messages.filter(m => m.role === 'system'))
      ctx.say('forgotten')
      return undefined
    case '/undo': {
      ctx.say(undo(messages) === undefined ? 'nothing was said yet' : 'the last question is forgotten')
      return undefined
    }
    case '/retry': {
      const question = undo(messages)
      if (question === undefined) ctx.say('nothing was said yet')
      return question
    }
    case '/load':
      if (text === '') ctx.say('name a file: /load chat.json')
      else await load(talk, text)
      return undefined
    default:
      await setting(talk, line)
      return undefined
  }
}

async function setting(talk: Talk, line: string): Promise<void> {
  const { ctx, messages } = talk
  const [name, ...rest] = line.split(/\s+/)
  const text = line.slice(name!.length).trim()
  switch (name) {
    case '/help':
      return ctx.say(HELP)
    case '/model':
      return ctx.say(headLine(talk.target))
    case '/cost':
      return ctx.say(
        talk.target.session === undefined
          ? 'nothing: this server is not paid'
          : `${formatAmount(talk.spent)} 0G in this chat`
      )
    case '/system': {
      const others = messages.filter(m => m.role !== 'system')
      messages.splice(
        0,
        messages.length,
        ...(text === '' ? [] : [{ role: 'system' as const, content: text }]),
        ...others
      )
      return ctx.say(text === '' ? 'no system message' : 'system message set')
    }
    case '/set': {
      const rule = NUMBERS[rest[0] ?? '']
      const value = Number(rest[1])
      if (rule === undefined || rest[1] === undefined || !(value >= rule.min && value <= rule.max))
        return ctx.say(
          `names and ranges: ${Object.entries(NUMBERS)
            .map(([n, r]) => `${n} ${r.min} to ${r.max}`)
            .join(', ')}`
        )
      talk.opts[rule.option] = value
      return ctx.say(`${rest[0]} is ${value}`)
    }
    case '/save':
      if (text === '') return ctx.say('name a file: /save chat.json')
      try {
        await writeFile(text, `${JSON.stringify(messages, null, 2)}\n`, { flag: 'wx' })
        return ctx.say(`saved to ${text}`)
      } catch (err) {
        return ctx.say(`not saved: ${messageOf(err)}`)
      }
    default:
      return ctx.say(`unknown command ${name}; ${HELP.split('\n')[0]}`)
  }
}

function headLine(target: Target): string {
  if (target.session === undefined)
    return `${target.model ?? 'the server’s model'} on ${target.endpoint.base}, not paid     /help`
  const { service } = target.session
  const price = (neuron: bigint): string => formatAmount(neuron * 1_000_000n)
  return `${service.model} on ${shortHash(checksumAddress(service.provider))}, ${price(service.inputPrice)} in, ${price(service.outputPrice)} out 0G per million tokens     /help`
}
