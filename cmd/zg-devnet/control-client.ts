/** How the other verbs reach a running network. */
import { createConnection } from 'node:net'
import { JsonSplitter } from '../../lib/adapters/jsonrpc/unix.ts'
import { messageOf, ZgError } from '../../lib/base/errors.ts'
import { LIMITS } from '../../lib/base/limits.ts'
import { type NetworkFile, readNetwork } from '../../lib/clients/network.ts'

/** The running network of that name. @throws {ZgError} ERR_NO_NETWORK. */
export async function requireNetwork(name: string): Promise<NetworkFile> {
  const file = await readNetwork(name)
  if (file === undefined)
    throw new ZgError('ERR_NO_NETWORK', `network '${name}' is not running`, {
      hint: name === 'devnet' ? "run 'zg-devnet up'" : `run 'zg-devnet up --name ${name}'`
    })
  return file
}

/** One call on the control socket. @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_REJECTED. */
export function control<T>(file: NetworkFile, method: string, params: unknown[] = [], timeoutMs = 20_000): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(file.controlSocket)
    const splitter = new JsonSplitter(LIMITS.wsMessageBytes)
    const timer = setTimeout(
      () => end(new ZgError('ERR_TIMEOUT', `network '${file.name}' did not answer within ${timeoutMs / 1000} s`)),
      timeoutMs
    )
    const end = (err: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(err)
    }
    socket.once('error', err =>
      end(
        new ZgError('ERR_UNAVAILABLE', `cannot reach network '${file.name}': ${messageOf(err)}`, {
          cause: err,
          hint: `run 'zg-devnet up --name ${file.name}'`
        })
      )
    )
    socket.once('close', () => end(new ZgError('ERR_UNAVAILABLE', `network '${file.name}' closed the connection`)))
    socket.once('connect', () => socket.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })))
    socket.on('data', data => {
      const [text] = splitter.push(data) ?? []
      if (text === undefined) return
      clearTimeout(timer)
      socket.removeAllListeners('close')
      socket.destroy()
      const answer = JSON.parse(text) as { result?: T; error?: { message: string } }
      if (answer.error !== undefined) reject(new ZgError('ERR_REJECTED', answer.error.message))
      else resolve(answer.result as T)
    })
  })
}
