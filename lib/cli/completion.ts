/** Completion scripts, made from the same ToolSpec as parsing and help. */
import { shapeOf, verbOptions } from './options.ts'
import type { ToolSpec } from './types.ts'

/** A script for `bash`, `zsh` or `fish`; undefined for another shell. */
export function completion(tool: ToolSpec, shell: string): string | undefined {
  const words = [...new Set(tool.verbs.map(v => v.name.split(' ')[0]!)), 'config', 'completion', 'help']
  const flags = (name: string): string[] =>
    tool.verbs
      .filter(v => v.name === name || v.name.startsWith(`${name} `))
      .flatMap(v => verbOptions(v).map(o => shapeOf(o, tool.name).long))
  const subs = (name: string): string[] =>
    tool.verbs.filter(v => v.name.startsWith(`${name} `)).map(v => v.name.split(' ')[1]!)
  const fn = tool.name.replaceAll('-', '_')
  if (shell === 'bash' || shell === 'zsh') {
    const cases = words.map(w => `    ${w}) words="${[...subs(w), ...new Set(flags(w)), '--help'].join(' ')}" ;;`)
    return [
      ...(shell === 'zsh' ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
      `_${fn}() {`,
      '  local cur="${COMP_WORDS[COMP_CWORD]}" words',
      `  if [ "$COMP_CWORD" -eq 1 ]; then words="${words.join(' ')}"; else case "\${COMP_WORDS[1]}" in`,
      ...cases,
      '  esac; fi',
      '  COMPREPLY=($(compgen -W "$words" -- "$cur"))',
      '  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))',
      '}',
      `complete -F _${fn} ${tool.name}`,
      ''
    ].join('\n')
  }
  if (shell !== 'fish') return undefined
  return [
    `complete -c ${tool.name} -n __fish_use_subcommand -f -a "${words.join(' ')}"`,
    ...words.flatMap(w => [
      ...subs(w).map(s => `complete -c ${tool.name} -n "__fish_seen_subcommand_from ${w}" -f -a ${s}`),
      ...[...new Set(flags(w))].map(
        f => `complete -c ${tool.name} -n "__fish_seen_subcommand_from ${w}" -l ${f.slice(2)}`
      )
    ]),
    ''
  ].join('\n')
}
