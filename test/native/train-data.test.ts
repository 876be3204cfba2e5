/**
 * Proves that datasets become the tokens that they should: what is learnt, read back as text, is the assistant's words, the completion or the
 * text and the token that ends it, whatever the template and the vocabulary; nothing is learnt twice or lost where texts are cut.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/base/package-root.ts'
import { ChatTemplate, templateOf } from '../../lib/infer/chat-template.ts'
import { inferAddon } from '../../lib/infer/native.ts'
import { type ModelTokenizer, openTokenizer } from '../../lib/infer/tokenizer.ts'
import { addSample, addText, emptySet, type Sample, SampleReader } from '../../lib/infer/train/dataset.ts'
import { COUNTS } from '../../lib/infer/train/token-file.ts'
import { nativePath } from '../../lib/native.ts'

const skip = existsSync(nativePath('infer')) ? false : 'no native build here'
const FIXTURES = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)
const noFixtures = skip || (FIXTURES === undefined && 'no fixtures')
const TINY = join(packageRoot(), 'share', 'models', 'tiny-zg.gguf')

const textOf = (tokenizer: ModelTokenizer, ids: number[]): string =>
  Buffer.concat(ids.map(id => tokenizer.piece(id, true))).toString()
/** The learnt parts of a sample as text. */
const learnt = (tokenizer: ModelTokenizer, sample: Sample): string[] =>
  sample.learnt.map(([from, to]) => textOf(tokenizer, sample.ids.slice(from, to)))

const TALK = JSON.stringify({
  messages: [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'One <|im_end|> two?' },
    { role: 'assistant', content: 'Three.' },
    { role: 'user', content: 'And then?' },
    { role: 'assistant', content: 'Four, five.' }
  ]
})

t.test('of a conversation the answers are learnt, with the token that ends each', { skip: noFixtures }, async t => {
  const tokenizer = openTokenizer(inferAddon(), join(FIXTURES!, 'vocab-qwen3.gguf'))
  const chatml = new ChatTemplate(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    { bos: '', eos: '' }
  )
  const [sample, ...more] = new SampleReader(tokenizer, chatml, 512).line(TALK)
  t.equal(more.length, 0, 'one sample for the whole talk')
  t.strictSame(learnt(tokenizer, sample!), ['Three.<|im_end|>\n', 'Four, five.<|im_end|>\n'])
  t.match(textOf(tokenizer, sample!.ids), /^<\|im_start\|>system\nBe brief\.<\|im_end\|>\n/)
  // The file's own template drops thoughts of earlier turns, and so prints them otherwise once they are past.
  const own = new SampleReader(tokenizer, templateOf(tokenizer), 512).line(TALK)
  const said = own.flatMap(s => learnt(tokenizer, s)).join('')
  t.match(said, /Three\./)
  t.match(said, /Four, five\.<\|im_end\|>/)
  t.notMatch(said, /One|And then|Be brief/)
})

t.test('of a completion the completion is learnt, of a text all of it, each once', { skip }, async t => {
  const tokenizer = openTokenizer(inferAddon(), TINY)
  const end = tokenizer.name(tokenizer.info.eosId)
  const reader = new SampleReader(tokenizer, templateOf(tokenizer), 16)
  const [completion] = reader.line(JSON.stringify({ prompt: 'The ship', completion: ' sailed on.' }))
  t.strictSame(learnt(tokenizer, completion!), [` sailed on.${end}`])
  t.equal(completion!.ids[0], tokenizer.info.bosId)
  const long = 'The people of this country are justly proud of their ships. '.repeat(5)
  const pieces = reader.line(JSON.stringify({ text: long }))
  t.ok(pieces.length > 2)
  t.equal(pieces.flatMap(s => learnt(tokenizer, s)).join(''), long + end)
  for (const piece of pieces) t.ok(piece.ids.length <= 17)
  t.equal(reader.cut, 0)
  const [cut] = reader.line(JSON.stringify({ prompt: 'x', completion: long }))
  t.equal(cut!.ids.length, 17)
  t.equal(reader.cut, 1)
  t.throws(() => reader.line(JSON.stringify({ prompt: long, completion: 'x' })), /nothing is left to learn/)
  t.throws(() => reader.line(JSON.stringify({ text: '' })), { code: 'ERR_BAD_INPUT' })
})

t.test('a set holds samples one behind another, their marks and their beginnings', { skip }, async t => {
  const set = emptySet('x')
  addSample(set.training, {
    ids: [5, 6, 7, 8],
    learnt: [
      [1, 2],
      [3, 4]
    ]
  })
  addSample(set.training, { ids: [9, 10], learnt: [[1, 2]] })
  t.strictSame([...set.training.starts.values], [0, 4])
  t.strictSame([...set.training.tokens.values], [5, 6 + COUNTS, 7, 8 + COUNTS, 9, 10 + COUNTS])
})

t.test('of plain text a share is held out in blocks, and no word is in both or in neither', { skip }, async t => {
  const tokenizer = openTokenizer(inferAddon(), TINY)
  const paragraphs = Array.from({ length: 200 }, (_, i) => `Paragraph ${i} tells of ships.`)
  const set = emptySet('x')
  addText(set, tokenizer, paragraphs.join('\n\n'), 0.1)
  const back = (values: Uint32Array): string => tokenizer.decode([...values].map(v => v % COUNTS))
  const [training, heldOut] = [back(set.training.tokens.values), back(set.heldOut.tokens.values)]
  for (const paragraph of paragraphs) {
    t.equal([training, heldOut].filter(text => text.includes(paragraph)).length, 1, paragraph)
  }
  t.ok(set.heldOut.starts.length >= 15 && set.heldOut.starts.length <= 25, `${set.heldOut.starts.length} held out`)
  t.equal(set.training.starts.length + set.heldOut.starts.length, 200)
})
