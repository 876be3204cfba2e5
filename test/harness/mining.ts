/** What a miner's records say of its answers. */
import type { JsonRecord } from './tools.ts'

/** The chain's words for an answer that was right but late, which a busy machine may make of any. */
const LATE = /Mine deadline exceed|Inconsistent mining digest/

/** Answers that were wrong: refused for anything but the hour. */
export function wrongAnswers(answers: readonly JsonRecord[]): JsonRecord[] {
  return answers.filter(a => a.accepted !== true && !LATE.test(String(a.reason)))
}
