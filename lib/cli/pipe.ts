/** What happens when the reader of stdout goes away. */

/** Ends the process as SIGPIPE would end a C tool (141); a full disk behind stdout is an I/O error (74). */
export function endQuietlyOnClosedPipe(tool: string): void {
  process.stdout.on('error', (err: NodeJS.ErrnoException) => {
    if (err.code === 'EPIPE') process.exit(141)
    process.stderr.write(`${tool}: cannot write to stdout: ${err.code === 'ENOSPC' ? 'no space left' : err.message}\n`)
    process.exit(74)
  })
  process.stderr.on('error', () => {})
}
