/** `GET /v1/peers`: where the other nodes that this one is connected to are reached by clients, as they say themselves. */
import { sendJson } from '../../../lib/adapters/http.ts'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'
import type { PeerNetwork } from './peers.ts'

/** Peers in one answer. */
const PEERS_SHOWN = 256

export function peersRoute(peers: () => PeerNetwork | undefined): HttpRoute {
  return (req, res, url) => {
    if (url.pathname !== '/v1/peers' || (req.method !== 'GET' && req.method !== 'HEAD')) return false
    const network = peers()
    const list = (network?.ids() ?? []).slice(0, PEERS_SHOWN).map(id => ({ id, url: network!.addressOf(id) ?? null }))
    sendJson(res, 200, { peers: list })
    return true
  }
}
