/**
 * Response signatures (compute.md 4.1) and what a client makes of them (4.2).
 *
 *   text      = sha256hex(request bytes) ":" sha256hex(response bytes)          forwarded: ":providerType:providerIdentity:tlsCertificate"
 *   signature = EIP-191 over the text, 65 bytes
 *
 * The hashes are of raw bytes: the request body as received, the response body as sent, of a stream everything down to the last
 * `[DONE]`.
 */
import { utf8 } from '../../base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../base/hex.ts'
import { checksumAddress } from '../../crypto/address.ts'
import { recoverPersonal, signPersonal } from './personal-sign.ts'

/** How a forwarding provider names where the answer came from. */
export interface RoutingProof {
  providerType: string
  providerIdentity: string
  /** SHA-256 of the upstream's TLS certificate, hex without 0x. */
  tlsCertFingerprint: string
}

/** What `GET /v1/proxy/signature/{id}` answers. */
export interface SignatureRecord {
  text: string
  signature: Hex
  signing_address: string
  signing_algo: 'ecdsa'
  provider_type?: string
  provider_identity?: string
  tls_cert_fingerprint?: string
}

/** The signed text. @param requestHash, responseHash - SHA-256, 32 bytes each. */
export function responseText(requestHash: Uint8Array, responseHash: Uint8Array, routing?: RoutingProof): string {
  const pair = `${bare(requestHash)}:${bare(responseHash)}`
  if (routing === undefined) return pair
  return `${pair}:${routing.providerType}:${routing.providerIdentity}:${routing.tlsCertFingerprint}`
}

/** Signs a text; 65 bytes. */
export function signResponse(text: string, key: Uint8Array): Uint8Array {
  return signPersonal(utf8(text), key)
}

/** The answer of the signature route. */
export function signatureRecord(
  text: string,
  signature: Uint8Array,
  signer: Uint8Array,
  routing?: RoutingProof
): SignatureRecord {
  return {
    text,
    signature: toHex(signature),
    signing_address: checksumAddress(signer),
    signing_algo: 'ecdsa',
    ...(routing === undefined
      ? {}
      : {
          provider_type: routing.providerType,
          provider_identity: routing.providerIdentity,
          tls_cert_fingerprint: routing.tlsCertFingerprint
        })
  }
}

/** True when the record's signature over its text is by `signer` (20 bytes). Never throws. */
export function signedBy(record: { text: string; signature: string }, signer: Uint8Array): boolean {
  try {
    const found = recoverPersonal(utf8(record.text), fromHex(record.signature, 'signature', { size: 65 }))
    return toHex(found) === toHex(signer)
  } catch {
    return false
  }
}

/** Of a service, what the decision needs. */
export interface VerifiableService {
  serviceType: string
  model: string
  verifiability: string
  additionalInfo: string
  teeSignerAddress: string
  teeSignerAcknowledged: boolean
}

const KNOWN_TYPES = new Set(['chatbot', 'text-to-image', 'image-editing', 'speech-to-text'])
const VERIFIABLE = new Set(['TeeML', 'OpML', 'ZKML'])

/** What to do about a response: nothing (`null`: no id; `false`: not verifiable), or ask `path` and compare with `signer`. */
export type VerifyPlan = { result: null | false } | { path: string; signer: string }

/**
 * The decision of the network's client (`processResponse`), before any request.
 * @throws {Error} `Unknown service type` for types that it cannot price.
 */
export function planVerification(service: VerifiableService, chatId: string): VerifyPlan {
  if (!KNOWN_TYPES.has(service.serviceType)) throw new Error('Unknown service type')
  if (chatId === '') return { result: null }
  if (!VERIFIABLE.has(service.verifiability) || !service.teeSignerAcknowledged) return { result: false }
  let info: unknown
  try {
    info = JSON.parse(service.additionalInfo)
  } catch {
    return { result: false }
  }
  if (typeof info !== 'object' || info === null) return { result: false }
  const { TargetSeparated, ProviderType, TargetTeeAddress } = info as Record<string, unknown>
  const separated =
    TargetSeparated === true &&
    ProviderType !== 'centralized' &&
    typeof TargetTeeAddress === 'string' &&
    TargetTeeAddress !== ''
  return {
    path: `/v1/proxy/signature/${chatId}?model=${service.model}`,
    signer: separated ? TargetTeeAddress : service.teeSignerAddress
  }
}

/**
 * zg's stricter rule: the signature must be by the address on chain AND over the very bytes that the client sent and got.
 * @param requestHash, responseHash - SHA-256 of what this client sent and received.
 */
export function verifyResponse(
  record: SignatureRecord,
  o: { signer: Uint8Array; requestHash: Uint8Array; responseHash: Uint8Array }
): { ok: boolean; why?: string } {
  if (record.signing_address.toLowerCase() !== toHex(o.signer))
    return { ok: false, why: `signed by ${record.signing_address}, not by the signer on chain` }
  const [request, response] = record.text.split(':')
  if (request !== bare(o.requestHash)) return { ok: false, why: 'the signature is for another request' }
  if (response !== bare(o.responseHash)) return { ok: false, why: 'the signature is for another response' }
  return signedBy(record, o.signer) ? { ok: true } : { ok: false, why: 'the signature does not verify' }
}

function bare(hash: Uint8Array): string {
  return toHex(hash).slice(2)
}
