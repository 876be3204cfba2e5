/** The manual page of a tool in roff, made from the same ToolSpec as parsing, help and completion. */
import { EXIT_MEANING } from './exit.ts'
import { COMMON, shapeOf } from './options.ts'
import type { OptionSpec, ToolSpec } from './types.ts'

/** `man ./zg-store.1` shows it. */
export function manPage(tool: ToolSpec, version: string): string {
  const lines = [
    `.TH ${tool.name.toUpperCase()} 1 "" "zg ${version}" "zg manual"`,
    '.SH NAME',
    roff(`${tool.name} \\- ${tool.summary}`),
    '.SH SYNOPSIS',
    `.B ${tool.name}`,
    '.I VERB',
    '[options] [arguments]'
  ]
  if (tool.notes !== undefined) lines.push('.SH DESCRIPTION', roff(tool.notes))
  lines.push('.SH VERBS')
  for (const verb of tool.verbs) {
    lines.push(
      `.SS "${tool.name} ${verb.name}${verb.args === undefined ? '' : ` ${verb.args}`}"`,
      roff(`${verb.summary}.`)
    )
    for (const option of verb.options ?? []) lines.push(...optionLines(option, tool.name))
    lines.push('.PP', 'Examples:', '.nf', ...verb.examples.map(e => `  ${roff(e)}`), '.fi')
    for (const [exit, text] of Object.entries(verb.exits ?? {})) lines.push('.br', roff(`Exit ${exit}: ${text}.`))
  }
  lines.push('.SH COMMON OPTIONS')
  for (const option of COMMON) lines.push(...optionLines(option, tool.name))
  lines.push('.SH EXIT STATUS')
  for (const [exit, text] of Object.entries(EXIT_MEANING)) lines.push('.TP', exit, roff(text))
  lines.push('.SH SEE ALSO', roff(`${tool.name} help, docs/scripting.md`), '')
  return lines.join('\n')
}

function optionLines(option: OptionSpec, tool: string): string[] {
  const { env, takesValue } = shapeOf(option, tool)
  const tail = [option.help]
  if (option.choices !== undefined) tail.push(`(${option.choices.join(', ')})`)
  if (option.default !== undefined && takesValue) tail.push(`[${option.default}]`)
  if (env !== undefined) tail.push(`(${env})`)
  return ['.TP', `.B ${roff(option.flags)}`, roff(tail.join(' '))]
}

/** Escapes what roff would take for itself: backslashes, dashes, a dot or quote at the start of a line. */
function roff(text: string): string {
  const escaped = text.replace(/\\(?!-)/g, '\\e').replace(/(?<!\\)-/g, '\\-')
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped
}
