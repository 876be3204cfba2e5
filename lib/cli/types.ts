/** The shape every command of the family has. `lib/cli/tool.ts` turns it into a commander tree; verbs load lazily. */
import type { Readable } from 'node:stream'
import type { Logger } from '../ops/log.ts'

/** Options as a verb gets them: long names in camelCase. */
export type Options = Record<string, unknown>

/** A verb answers its exit status; nothing is 0. */
export type VerbFn = (ctx: VerbContext, args: string[], opts: Options) => Promise<number | undefined> | Promise<void>

export interface OptionSpec {
  /** commander's notation: `-n, --dry-run` or `--rpc-port <port>`. */
  flags: string
  help: string
  default?: string | number | boolean
  /** Shown and read environment name; `ZG_<TOOL>_<NAME>` when absent. `false`: none (flags that make no sense there). */
  env?: string | false
  /** Turns the text of flag, environment or file into the value; throws ZgError ERR_USAGE. */
  parse?: (text: string) => unknown
  /** Allowed words. */
  choices?: string[]
  /** May be given several times: the value is an array. */
  repeat?: boolean
  /** Shown only under `--help --all`. */
  advanced?: boolean
}

export interface VerbSpec {
  /** `put`, or `kv get` for a verb of a group. */
  name: string
  /** commander's notation: `[FILE]`, `<root>`, `[name...]`. */
  args?: string
  /** Under 72 characters, lower case, no full stop. */
  summary: string
  /** Two or three command lines that work. */
  examples: string[]
  options?: OptionSpec[]
  /** Exit statuses beside the common ones. */
  exits?: Record<number, string>
  /** True for a long-running verb: SIGTERM ends it with 0, logs go to stderr. */
  daemon?: boolean
  /** Loads the implementation: `async () => (await import('./verbs/put.ts')).put`. */
  load: () => Promise<VerbFn>
}

export interface ToolSpec {
  name: string
  /** First line of the help, under 72 characters. */
  summary: string
  verbs: VerbSpec[]
  /** Longer help: files, sockets. */
  notes?: string
}

/** A progress line or bar on stderr; silent when nobody watches. */
export interface Progress {
  /** Sets what is done (and the total, once known). */
  update(done: number, total?: number): void
  /** Ends the phase; `note` stands in for the bar's tail. */
  done(note?: string): void
}

export interface VerbContext {
  readonly tool: string
  readonly verb: string
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  /** True when stdout is a terminal and shortened hashes and relative times are welcome. */
  readonly tty: boolean
  /** One-shot verbs: aborted by SIGINT or SIGTERM. Daemons: aborted by the first stop signal. */
  readonly signal: AbortSignal
  readonly stdin: Readable & { isTTY?: boolean }
  /** The network name: --network, ZG_NETWORK, else `devnet`. */
  readonly network: string
  /** Writes one result: `human` and a newline, or the record as one JSON line under --json. `human` null prints nothing. */
  print(record: { type: string; [field: string]: unknown }, human: string | null): void
  /** Raw bytes to stdout; waits for back-pressure. */
  write(bytes: Uint8Array): Promise<void>
  /** Words for people on stderr; silent under --quiet and --json. */
  say(text: string): void
  /** Same, but also under --json; silent only under --quiet. */
  warn(text: string): void
  progress(phase: string, opts?: { total?: number; unit?: 'bytes' | 'items' }): Progress
  log(module: string): Logger
  /** Daemons: announces readiness: a record on stdout under --json, else the line on stderr. */
  ready(record: { type: 'ready'; [field: string]: unknown }, human: string): void
  /** Daemons: resolves at the first SIGINT or SIGTERM (a second one ends the process at once). */
  stopped(): Promise<void>
  /** Where an option's value came from. */
  source(option: string): 'flag' | 'environment' | 'file' | 'default' | undefined
}
