// The ledger of tokens given out, and of the layer bytes that came with them. All of it is in the record store, so it outlives a restart.
import { randomBytes } from 'node:crypto';
import type { Digest } from '../oci/digest.ts';
import { verifyBytes } from '../oci/verify.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { type NewTokenRecord, type TokenRecord, tokenIdSchema, tokenRecordSchema } from './record.ts';

export interface TokenLedger {
  /** Gives out a token that lives for the ledger's ttl; durable when it resolves. */
  issue(record: NewTokenRecord): Promise<TokenRecord>;
  /** Undefined for an id that is unknown, expired, revoked or no id at all. */
  find(id: string): Promise<TokenRecord | undefined>;
  /** Whether there was such a token. Its layers stay until they expire: other tokens may share them. */
  revoke(id: string): Promise<boolean>;
  /** Keeps a layer at least until `expiresAt`; an earlier keep that lasts longer wins. Throws ContentMismatch for bytes of another digest. */
  keepLayer(bytes: Uint8Array, digest: Digest, expiresAt: Date): Promise<void>;
  /** Keeps layers a little longer than a token that is issued now. To be called before: a token never names layers that a crash lost. */
  keepLayers(layers: ReadonlyMap<Digest, Uint8Array>): Promise<void>;
  /** Undefined for a layer that was never kept or has expired. */
  findLayer(digest: Digest): Promise<Uint8Array | undefined>;
}

export interface LedgerDeps {
  readonly records: RecordStore;
  readonly now: () => Date;
  readonly ttlMs: number;
}

/** Nobody guesses one of so many. */
const ID_BYTES = 12;
const LAYERS = 'layer';
/** Layers outlive the token that is given out a moment later. */
const EXPIRY_SLACK_MS = 60_000;

/** Undefined for a record of a shape that this version does not know. */
const storedSchema = tokenRecordSchema.optional().catch(undefined);

export function createLedger({ records, now, ttlMs }: LedgerDeps): TokenLedger {
  const tokens = createCollection({ store: records, name: 'token', schema: storedSchema });
  // One after the other: two keeps of a layer at once could otherwise both read the old expiry, and the shorter one win.
  let lastKeep: Promise<unknown> = Promise.resolve();

  return { issue, find, revoke, keepLayer, keepLayers, findLayer };

  async function issue(record: NewTokenRecord): Promise<TokenRecord> {
    const createdAt = now();
    const expiresAt = new Date(createdAt.getTime() + ttlMs);
    const issued = tokenRecordSchema.parse({
      ...record,
      id: randomBytes(ID_BYTES).toString('hex'),
      createdAt: createdAt.toISOString(),
      expiresAt: expiresAt.toISOString(),
    });
    await tokens.put(issued.id, issued, { expiresAt });
    return issued;
  }

  async function find(id: string): Promise<TokenRecord | undefined> {
    if (!isTokenId(id)) return undefined;
    const record = await tokens.get(id);
    return record && isAlive(Date.parse(record.expiresAt)) ? record : undefined;
  }

  async function revoke(id: string): Promise<boolean> {
    if ((await find(id)) === undefined) return false;
    return tokens.delete(id);
  }

  function keepLayer(bytes: Uint8Array, digest: Digest, expiresAt: Date): Promise<void> {
    const kept = lastKeep.then(() => keepOne(bytes, digest, expiresAt));
    lastKeep = kept.catch(() => undefined);
    return kept;
  }

  async function keepLayers(layers: ReadonlyMap<Digest, Uint8Array>): Promise<void> {
    const expiresAt = new Date(now().getTime() + ttlMs + EXPIRY_SLACK_MS);
    for (const [digest, bytes] of layers) await keepLayer(bytes, digest, expiresAt);
  }

  async function keepOne(bytes: Uint8Array, digest: Digest, expiresAt: Date): Promise<void> {
    verifyBytes(bytes, { digest });
    const stored = await records.get(LAYERS, digest);
    if (stored && unpackLayer(stored).expiresAtMs >= expiresAt.getTime()) return;
    await records.put(LAYERS, digest, packLayer(bytes, expiresAt), { expiresAt });
  }

  async function findLayer(digest: Digest): Promise<Uint8Array | undefined> {
    const stored = await records.get(LAYERS, digest);
    const layer = stored && unpackLayer(stored);
    return layer && isAlive(layer.expiresAtMs) ? layer.bytes : undefined;
  }

  function isAlive(expiresAtMs: number): boolean {
    return now().getTime() < expiresAtMs;
  }
}

function isTokenId(text: string): boolean {
  return tokenIdSchema.safeParse(text).success;
}

const HEADER_BYTES = 8;

/** The record store does not tell expiries, so a layer carries its own: milliseconds as a double, then the bytes. */
function packLayer(bytes: Uint8Array, expiresAt: Date): Uint8Array {
  const packed = new Uint8Array(HEADER_BYTES + bytes.byteLength);
  new DataView(packed.buffer).setFloat64(0, expiresAt.getTime());
  packed.set(bytes, HEADER_BYTES);
  return packed;
}

function unpackLayer(packed: Uint8Array): { readonly expiresAtMs: number; readonly bytes: Uint8Array } {
  const expiresAtMs = new DataView(packed.buffer, packed.byteOffset).getFloat64(0);
  return { expiresAtMs, bytes: packed.subarray(HEADER_BYTES) };
}
