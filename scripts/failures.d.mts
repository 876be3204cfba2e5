import type { Transform } from 'node:stream'

export function tellFailures(): Transform
