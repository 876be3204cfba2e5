/** What `npm test` says at its end: every failing assertion once, with file, subtest and diagnostics, and nothing when all pass. */
import t from 'tap'
// biome-ignore lint/correctness/useImportExtensions: plain JavaScript, which a fresh clone runs before it has anything else
import { tellFailures } from '../../scripts/failures.mjs'

async function through(text: string, size: number): Promise<string> {
  const stream = tellFailures()
  let out = ''
  stream.on('data', (chunk: Buffer) => {
    out += chunk
  })
  for (let at = 0; at < text.length; at += size) stream.write(text.slice(at, at + size))
  stream.end()
  await new Promise(resolve => stream.on('end', resolve))
  return out
}

const PASSING = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: one
        ok 1 - fine
        not ok 2 - later # todo
        1..2
    ok 1 - one # time=1ms

    1..1
ok 1 - test/a.test.ts # time=2ms
1..1
`

const FAILING = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: one
        ok 1 - fine
        not ok 2 - the sum
          ---
          diff: |
            -2
            +1
          ...
        1..2
    not ok 1 - one # time=1ms
    1..1
not ok 1 - test/a.test.ts # time=2ms
  ---
  exitCode: 1
  ...
# Subtest: test/b.test.ts
    ok 1 - fine
    1..1
ok 2 - test/b.test.ts # time=2ms
not ok 3 - test/c.test.ts # time=600000ms
  ---
  signal: SIGKILL
  ...
1..3
`

t.test('a run that passes is passed on as it is', async t => {
  for (const size of [1, 7, 10_000]) t.equal(await through(PASSING, size), PASSING)
})

t.test('what failed stands at the end, once, with its diagnostics', async t => {
  for (const size of [1, 13, 10_000]) {
    const out = await through(FAILING, size)
    t.ok(out.startsWith(FAILING), 'nothing is taken away')
    t.same(out.slice(FAILING.length).trim().split('\n'), [
      '# 2 failed:',
      '# test/a.test.ts > one > not ok 2 - the sum',
      '#     ---',
      '#     diff: |',
      '#       -2',
      '#       +1',
      '#     ...',
      '# not ok 3 - test/c.test.ts # time=600000ms',
      '#     ---',
      '#     signal: SIGKILL',
      '#     ...'
    ])
  }
})
