/** Options of `zg-compute train`. */
import { ZgError } from '../../../lib/base/errors.ts'
import { parseInteger } from '../../../lib/cli/options.ts'
import type { OptionSpec } from '../../../lib/cli/types.ts'

export const TRAIN_OPTIONS: OptionSpec[] = [
  { flags: '-o, --output <file>', help: 'model or adapter to write, in GGUF', env: false },
  { flags: '--from <file>', help: 'model to go on from; absent: a new one' },
  { flags: '--lora', help: 'leave that model as it is and train an adapter beside it', env: false },
  { flags: '--text', help: 'the files are plain text, not JSON lines', env: false },
  {
    flags: '--validation <file>',
    help: 'text that is never learnt, to check with; repeatable',
    repeat: true,
    env: false
  },
  {
    flags: '--held-out <share>',
    help: 'share of the dataset to check with instead; 0: none',
    default: '0.05',
    parse: number(0, 0.5)
  },
  { flags: '--epochs <n>', help: 'times that everything is seen', default: '3', parse: number(0.001, 100_000) },
  { flags: '--steps <n>', help: 'steps instead of epochs', parse: parseInteger(1, 100_000_000) },
  { flags: '--batch <n>', help: 'windows of a step', default: '16', parse: parseInteger(1, 4_096) },
  { flags: '--context <n>', help: 'tokens of a window; default 512', parse: parseInteger(2, 32_768) },
  {
    flags: '--rate <r>',
    help: 'largest learning rate; default 2e-3 new, 1e-4 from a model, 5e-4 adapter',
    parse: number(1e-9, 10)
  },
  {
    flags: '--warmup <n>',
    help: 'steps in which the rate rises; default 3 % of all',
    parse: parseInteger(0, 10_000_000)
  },
  {
    flags: '--final-rate <share>',
    help: 'share of the rate that the cosine ends at',
    default: '0.05',
    parse: number(0, 1)
  },
  { flags: '--decay <d>', help: 'weight decay of matrices; default 0.1, adapters 0', parse: number(0, 10) },
  { flags: '--clip <n>', help: "largest norm of a step's gradient; 0: any", default: '1', parse: number(0, 1_000_000) },
  {
    flags: '--seed <n>',
    help: 'same seed, same result',
    default: '1',
    parse: parseInteger(0, Number.MAX_SAFE_INTEGER)
  },
  {
    flags: '--precision <name>',
    help: 'of products; auto: bf16 where the processor has it. Sums and weights are f32',
    choices: ['auto', 'f32', 'bf16'],
    default: 'auto'
  },
  { flags: '--threads <n>', help: 'threads to use; the result does not depend on it', parse: parseInteger(1, 1_024) },
  { flags: '--checkpoint <s>', help: 'seconds between two savings', default: '60', parse: number(0, 86_400) },
  {
    flags: '--check-every <n>',
    help: 'steps between two looks at the held-out text',
    default: '100',
    parse: parseInteger(1, 100_000_000)
  },
  {
    flags: '--interval <s>',
    help: 'seconds between two lines where there is no terminal',
    default: '10',
    parse: number(0, 86_400)
  },
  { flags: '--resume', help: 'go on with the run of this output that was stopped', env: false },
  { flags: '-f, --force', help: 'replace an existing file and run', env: false },
  { flags: '--keep', help: 'keep OUTPUT.train with the last checkpoint', env: false },
  { flags: '-t, --type <name>', help: 'type of the weights written (models)', default: 'Q8_0' },
  { flags: '--name <text>', help: 'name of the model or adapter; default: that of the file', env: false },
  { flags: '--rank <n>', help: 'rank of an adapter', default: '8', parse: parseInteger(1, 4_096) },
  { flags: '--alpha <a>', help: 'its strength: alpha / rank', default: '16', parse: number(1e-6, 1_000_000) },
  { flags: '--targets <list>', help: 'matrices that it adapts: q, k, v, o, gate, up, down', default: 'q,k,v,o' },
  { flags: '--vocabulary-from <file>', help: 'vocabulary of a new model; absent: learnt from the text' },
  { flags: '--vocabulary-size <n>', help: 'tokens to learn', default: '2048', parse: parseInteger(258, 65_535) },
  { flags: '--architecture <name>', help: 'llama, qwen2, qwen3, qwen3moe, gemma, gemma2 or gemma3', default: 'llama' },
  { flags: '--layers <n>', help: 'layers of a new model', default: '6', parse: parseInteger(1, 256) },
  { flags: '--width <n>', help: 'its width', default: '256', parse: parseInteger(2, 16_384) },
  { flags: '--heads <n>', help: 'its heads', default: '8', parse: parseInteger(1, 256) },
  { flags: '--kv-heads <n>', help: 'its key-value heads; default: as many', parse: parseInteger(1, 256) },
  { flags: '--feed <n>', help: 'its feed-forward width; default 8/3 of the width', parse: parseInteger(1, 65_536) },
  {
    flags: '--head-size <n>',
    help: 'size of a head; default width / heads',
    parse: parseInteger(2, 512),
    advanced: true
  },
  {
    flags: '--experts <n>',
    help: 'experts of a layer; 0: none',
    default: '0',
    parse: parseInteger(0, 1_024),
    advanced: true
  },
  {
    flags: '--experts-used <n>',
    help: 'those that a token uses',
    default: '2',
    parse: parseInteger(1, 1_024),
    advanced: true
  },
  {
    flags: '--window <n>',
    help: 'sliding window of architectures that have one',
    default: '0',
    parse: parseInteger(0, 32_768),
    advanced: true
  },
  {
    flags: '--rope-base <n>',
    help: 'base of RoPE',
    default: '10000',
    parse: parseInteger(2, 100_000_000),
    advanced: true
  }
]

function number(min: number, max: number): (text: string) => number {
  return text => {
    const n = Number(text)
    if (!/^\d{1,9}(\.\d{1,12})?(e-?\d{1,2})?$/i.test(text) || n < min || n > max)
      throw new ZgError('ERR_USAGE', `'${text.slice(0, 40)}' is not a number from ${min} to ${max}`)
    return n
  }
}
