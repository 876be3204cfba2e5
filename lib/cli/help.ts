/** Help, in one shape for the whole family: summary, usage, examples, arguments, options, exit statuses; 80 columns. */
import { EXIT_MEANING } from './exit.ts'
import { COMMON, shapeOf } from './options.ts'
import type { OptionSpec, ToolSpec, VerbSpec } from './types.ts'

const WIDTH = 80

/** Help of a tool: its verbs. */
export function toolHelp(tool: ToolSpec): string {
  const width = Math.max('completion'.length, ...tool.verbs.map(v => v.name.length)) + 3
  const examples = tool.verbs.flatMap(v => v.examples.slice(0, 1)).slice(0, 3)
  return [
    `${tool.name}: ${tool.summary}`,
    `Usage: ${tool.name} VERB [options] [arguments]`,
    'Examples:',
    ...examples.map(e => `  ${e}`),
    'Verbs:',
    ...tool.verbs.map(v => `  ${v.name.padEnd(width)}${v.summary}`),
    `  ${'config'.padEnd(width)}print every setting with its source`,
    `  ${'completion'.padEnd(width)}print a completion script for bash, zsh or fish`,
    `  ${'help'.padEnd(width)}help of a verb, or of a topic: exit, environment, config, json`,
    ...(tool.notes === undefined ? [] : wrap(tool.notes, 0)),
    `Details: ${tool.name} help VERB`,
    ''
  ].join('\n')
}

/** Help of one verb; `all` shows the advanced options too. */
export function verbHelp(tool: ToolSpec, verb: VerbSpec, all: boolean): string {
  const own = (verb.options ?? []).filter(o => all || !o.advanced)
  const hidden = (verb.options ?? []).length - own.length
  const specs = all ? [...own, ...COMMON] : own
  const exits = { 0: 'done', ...verb.exits, 64: 'wrong flags or arguments' }
  return [
    `${tool.name} ${verb.name}: ${verb.summary}`,
    `Usage: ${tool.name} ${verb.name} [options]${verb.args === undefined ? '' : ` ${verb.args}`}`,
    'Examples:',
    ...verb.examples.map(e => `  ${e}`),
    ...(specs.length === 0 ? [] : [hidden === 0 && all ? 'Options:' : 'Options (more with --help --all):']),
    ...specs.flatMap(o => optionLines(o, tool.name)),
    ...(all ? [] : wrap('Common: --json, --quiet, --verbose, --no-color, --config FILE, --network NAME', 8)),
    ...wrap(
      `Exit status: ${Object.entries(exits)
        .map(([n, text]) => `${n} ${text}`)
        .join(', ')}. Details: ${tool.name} help exit`,
      2
    ),
    ''
  ].join('\n')
}

function optionLines(spec: OptionSpec, tool: string): string[] {
  const shape = shapeOf(spec, tool)
  const flags = spec.flags.startsWith('-') && !spec.flags.startsWith('--') ? spec.flags : `    ${spec.flags}`
  const notes = [spec.help]
  if (spec.choices !== undefined) notes.push(`(${spec.choices.join(', ')})`)
  if (spec.default !== undefined && shape.takesValue) notes.push(`[${spec.default}]`)
  if (shape.env !== undefined) notes.push(`(${shape.env})`)
  const column = 30
  const head = `  ${flags}`
  const body = wrapWords(notes.join(' '), WIDTH - column)
  const pad = ' '.repeat(column)
  if (head.length >= column - 1) return [head, ...body.map(l => pad + l)]
  return body.map((l, i) => (i === 0 ? head.padEnd(column) : pad) + l)
}

/** The topics of `help`. */
export function topicHelp(tool: ToolSpec, topic: string): string | undefined {
  switch (topic) {
    case 'exit':
      return [
        'Exit statuses:',
        ...Object.entries(EXIT_MEANING).map(([n, text]) => `  ${n.padStart(3)}  ${text}`),
        ''
      ].join('\n')
    case 'environment':
      return [
        'Environment (a flag wins over it, it wins over the configuration file):',
        ...names(tool).map(([env, help]) => `  ${env.padEnd(34)}${help}`),
        '  NO_COLOR, CI, TERM=dumb           plain text, no progress bars',
        'Local networks set them all: eval "$(zg-devnet env)"',
        ''
      ].join('\n')
    case 'config':
      return [
        'Configuration file: JSON, one key for each long flag without its dashes.',
        `Looked for: --config FILE, else $XDG_CONFIG_HOME/zg/${tool.name}.json, else /etc/zg/${tool.name}.json.`,
        'An unknown key is an error. Secrets never stand in it.',
        `'${tool.name} config' prints every value with its source.`,
        ''
      ].join('\n')
    case 'json':
      return [
        'With --json stdout has one JSON object a line, each with a "type"; streams add "time".',
        'Hashes and bytes are 0x hex, amounts decimal strings in neuron, sizes numbers in bytes.',
        'An error is the last line of stderr: {"type":"error","code","exit","message","hint"}.',
        'Fields are only ever added. All records: docs/scripting.md.',
        ''
      ].join('\n')
    default:
      return undefined
  }
}

function names(tool: ToolSpec): [string, string][] {
  const byEnv = new Map<string, string>()
  for (const verb of tool.verbs) {
    for (const spec of [...(verb.options ?? []), ...COMMON]) {
      const { env, long } = shapeOf(spec, tool.name)
      if (env !== undefined) byEnv.set(env, long)
    }
  }
  return [...byEnv].sort()
}

function wrap(text: string, indent: number): string[] {
  const [first, ...rest] = wrapWords(text, WIDTH - indent)
  return [first ?? '', ...rest.map(l => ' '.repeat(indent) + l)]
}

function wrapWords(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  if (line !== '') lines.push(line)
  return lines
}
