/** `zg-chain statetest --jsonl`: state tests of the public fixtures on the native engine. */
import { runner } from './conformance-runner.ts'

export const statetest = runner('state')
