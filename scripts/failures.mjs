// The failures of a TAP stream, told again at its end: of twenty thousand lines, those are the ones that are looked for.
import { Transform } from 'node:stream'

const LINES_EACH = 30
const LINES_ALL = 160

/**
 * Passes TAP on unchanged and appends, when any assertion failed, each failing one with its file, its subtest and its diagnostics
 * (at most 30 lines each, 160 in all). An assertion marked as skipped or to come is no failure; a parent that fails because of a child is not repeated.
 * @returns {Transform}
 */
export function tellFailures() {
  /** @type {{ title: string, lines: string[] }[]} */
  const found = []
  /** Names of the open subtests by depth. */
  const open = []
  let rest = ''
  let diagnostics = -1

  function line(text) {
    const indent = text.length - text.trimStart().length
    const body = text.trimStart()
    if (diagnostics >= 0) {
      if (found.at(-1).lines.length < LINES_EACH) found.at(-1).lines.push(text.slice(diagnostics))
      if (body === '...' && indent <= diagnostics + 2) diagnostics = -1
      return
    }
    if (body.startsWith('# Subtest: ')) {
      open.length = Math.floor(indent / 4)
      open.push(body.slice('# Subtest: '.length))
    } else if (/^not ok /.test(body) && !/# (todo|skip)/i.test(body)) {
      const within = open.slice(0, Math.floor(indent / 4)).filter(name => name !== undefined)
      const title = [...within, body].join(' > ')
      // The parent's own line comes after its children's and says nothing new, unless no child failed (a limit of time, an exit status).
      const name = body.replace(/^not ok \d+( - )?/, '').replace(/ # time=.*/, '')
      if (found.some(one => one.title.startsWith([...within, name].join(' > ')))) return
      found.push({ title, lines: [] })
    } else if (body === '---' && found.length > 0 && found.at(-1).lines.length === 0) {
      diagnostics = indent
      found.at(-1).lines.push(body)
    } else if (/^(ok|not ok) /.test(body) && found.length > 0 && found.at(-1).lines.length === 0) {
      found.at(-1).lines.push('(no diagnostics)')
    }
  }

  return new Transform({
    transform(chunk, _encoding, done) {
      rest += chunk
      const lines = rest.split('\n')
      rest = lines.pop() ?? ''
      for (const one of lines) line(one)
      done(null, chunk)
    },
    flush(done) {
      if (found.length === 0) return done()
      const out = ['', `# ${found.length} failed:`]
      for (const { title, lines } of found) out.push(`# ${title}`, ...lines.map(one => `#     ${one}`))
      if (out.length > LINES_ALL) out.splice(LINES_ALL, out.length, '# (the rest stands above)')
      done(null, `${out.join('\n')}\n`)
    }
  })
}
