/** The standard health service: whoever can ask is told SERVING, as upstream's disperser does (da.md 2). */
import type { Server, ServerUnaryCall, ServerWritableStream, sendUnaryData } from '@grpc/grpc-js'
import { loadService } from './load.ts'

const SERVING = { status: 1 }

export async function addHealth(server: Server): Promise<void> {
  server.addService(await loadService('zg-da/health.proto', 'grpc.health.v1.Health'), {
    Check: (_call: ServerUnaryCall<unknown, object>, reply: sendUnaryData<object>) => reply(null, SERVING),
    // The state never changes while there is someone to tell it: one message, then the stream stays open until its reader goes.
    Watch: (call: ServerWritableStream<unknown, object>) => {
      call.write(SERVING)
      call.on('cancelled', () => call.end())
    }
  })
}
