/** `zg-chain blocktest --jsonl`: block tests of the public fixtures on the native engine. */
import { runner } from './conformance-runner.ts'

export const blocktest = runner('block')
