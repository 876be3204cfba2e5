/**
 * From a ToolSpec to a running command. Light on purpose: `--help` loads this, commander and the help text, nothing else; a
 * verb's own code and `run.ts` are imported when the verb runs.
 */
import { Command, CommanderError, Option } from 'commander'
import { toolHelp, topicHelp, verbHelp } from './help.ts'
import { shapeOf, verbOptions } from './options.ts'
import { endQuietlyOnClosedPipe } from './pipe.ts'
import { suggest } from './suggest.ts'
import type { Options, ToolSpec, VerbSpec } from './types.ts'

/** Parses process.argv and runs the verb. Sets the exit status; never throws. */
export async function tool(spec: ToolSpec): Promise<void> {
  const argv = process.argv.slice(2)
  endQuietlyOnClosedPipe(spec.name)
  if (argv.length === 0) return finish(process.stderr, toolHelp(spec), 64)
  if (argv.includes('--version')) {
    const { versionText } = await import('./version.ts')
    return finish(process.stdout, await versionText(spec.name, argv.includes('--verbose')), 0)
  }
  if (argv[0] === '--help' || argv[0] === '-h') return finish(process.stdout, toolHelp(spec), 0)
  if (argv[0] === 'help' && argv[1] === '--man') {
    const [{ manPage }, { version }] = await Promise.all([import('./man.ts'), import('./version.ts')])
    return finish(process.stdout, manPage(spec, version()), 0)
  }
  if (argv[0] === 'help') return help(spec, argv.slice(1))
  const asked = argv.indexOf('--help') >= 0 ? argv.indexOf('--help') : argv.indexOf('-h')
  const verb = findVerb(spec, argv)
  if (verb === undefined) return builtIn(spec, argv)
  const end = argv.indexOf('--')
  if (asked >= 0 && (end < 0 || asked < end))
    return finish(process.stdout, verbHelp(spec, verb, argv.includes('--all')), 0)
  await parseAndRun(spec, verb, argv.slice(verb.name.split(' ').length))
}

function findVerb(spec: ToolSpec, argv: string[]): VerbSpec | undefined {
  const two = `${argv[0]} ${argv[1]}`
  return spec.verbs.find(v => v.name === two) ?? spec.verbs.find(v => v.name === argv[0])
}

/** commander reads flags and arguments of one verb; values are resolved in run.ts, where every source takes the same path. */
async function parseAndRun(spec: ToolSpec, verb: VerbSpec, argv: string[]): Promise<void> {
  const command = new Command(`${spec.name} ${verb.name}`)
  command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} })
  command.helpOption(false).allowExcessArguments(false)
  const specs = verbOptions(verb)
  for (const o of specs) {
    const option = new Option(o.flags)
    if (o.repeat) option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value])
    command.addOption(option)
  }
  for (const arg of verb.args?.split(/\s+/) ?? []) command.argument(arg)
  try {
    command.parse(argv, { from: 'user' })
  } catch (err) {
    if (!(err instanceof CommanderError)) throw err
    const { report } = await import('./report.ts')
    const { ZgError } = await import('../base/errors.ts')
    const hint = `${spec.name} ${verb.name} --help`
    process.exitCode = report(spec.name, new ZgError('ERR_USAGE', plainUsage(err.message), { hint: `run '${hint}'` }), {
      json: argv.includes('--json'),
      verbose: false
    })
    return
  }
  const flags: Options = {}
  for (const o of specs) {
    const { name } = shapeOf(o, spec.name)
    if (command.getOptionValueSource(name) === 'cli') flags[name] = command.getOptionValue(name)
  }
  const { runVerb } = await import('./run.ts')
  await runVerb(spec, verb, command.args, flags)
}

/** commander's two-line message as one line in the house's form. */
function plainUsage(message: string): string {
  return message
    .replace(/^error: /, '')
    .replace(
      /\s*\(Did you mean (one of )?([^)?]+)\?\)/,
      (_, _many, words: string) => `, did you mean '${words.split(',')[0]!.trim()}'?`
    )
    .replace(/\.(?=,|$)/, '')
    .replace(/\s+/g, ' ')
}

async function builtIn(spec: ToolSpec, argv: string[]): Promise<void> {
  if (argv[0] === 'config') {
    const { printConfig } = await import('./config.ts')
    return printConfig(spec, argv.slice(1))
  }
  if (argv[0] === 'completion') {
    const { completion } = await import('./completion.ts')
    const text = completion(spec, argv[1] ?? 'bash')
    if (text === undefined) return usage(spec, `unknown shell '${argv[1]}': bash, zsh or fish`)
    return finish(process.stdout, text, 0)
  }
  const group = spec.verbs.filter(v => v.name.startsWith(`${argv[0]} `))
  if (group.length > 0) {
    const names = group.map(v => v.name.split(' ')[1]!)
    if (argv[1] === undefined || argv[1] === '--help')
      return finish(
        argv[1] === undefined ? process.stderr : process.stdout,
        group.map(v => verbHelp(spec, v, false)).join('\n'),
        argv[1] === undefined ? 64 : 0
      )
    return usage(spec, unknown(`verb`, `${argv[0]} ${argv[1]}`, argv[1], names, `${argv[0]} `))
  }
  const words = [...new Set(spec.verbs.map(v => v.name.split(' ')[0]!)), 'config', 'help', 'completion']
  return usage(
    spec,
    argv[0]!.startsWith('-') ? `a verb must come before '${argv[0]}'` : unknown('verb', argv[0]!, argv[0]!, words, '')
  )
}

function unknown(kind: string, shown: string, word: string, candidates: string[], prefix: string): string {
  const near = suggest(word, candidates)
  return `unknown ${kind} '${shown.slice(0, 60)}'${near === undefined ? `; run '--help' for the list` : `, did you mean '${prefix}${near}'?`}`
}

function help(spec: ToolSpec, words: string[]): Promise<void> | void {
  const all = words.includes('--all')
  const names = words.filter(w => !w.startsWith('-'))
  if (names.length === 0) return finish(process.stdout, toolHelp(spec), 0)
  const verb = findVerb(spec, names)
  if (verb !== undefined) return finish(process.stdout, verbHelp(spec, verb, all), 0)
  const topic = topicHelp(spec, names[0]!)
  if (topic !== undefined) return finish(process.stdout, topic, 0)
  return builtIn(spec, names)
}

async function usage(spec: ToolSpec, message: string): Promise<void> {
  const { report } = await import('./report.ts')
  const { ZgError } = await import('../base/errors.ts')
  process.exitCode = report(spec.name, new ZgError('ERR_USAGE', message), {
    json: process.argv.includes('--json'),
    verbose: false
  })
}

function finish(stream: NodeJS.WriteStream, text: string, exit: number): void {
  process.exitCode = exit
  stream.write(text)
}
