// The ledger of issued tokens: in the record store, so that they survive a restart. The layers that came with them are content.
import { randomBytes } from 'node:crypto';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import { refuseFullDisk, type TokenLayers } from './layers.ts';
import { type NewTokenRecord, type TokenRecord, tokenIdSchema, tokenRecordSchema } from './record.ts';

export interface TokenLedger {
  /** Issues a token with the ledger's ttl; durable when it resolves. Throws UNAVAILABLE (507) on a disk that is nearly full. */
  issue(record: NewTokenRecord): Promise<TokenRecord>;
  /** Undefined for an id that is unknown, expired, revoked or malformed. */
  find(id: string): Promise<TokenRecord | undefined>;
  /** Whether there was such a token. Its layers are retained until they expire: other tokens may share them. */
  revoke(id: string): Promise<boolean>;
  /**
   * Stores layers slightly longer than a token issued now, on the account of a caller. To be called first: a token never refers to layers
   * that a crash lost. Throws as TokenLayers.
   */
  keepLayers(layers: ReadonlyMap<Digest, Uint8Array>, account: string): Promise<void>;
}

export interface LedgerDeps {
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly layers: Pick<TokenLayers, 'keep' | 'requireRoom'>;
  readonly now: () => Date;
  readonly ttlMs: number;
}

/** Too many to guess one. */
const ID_BYTES = 12;
/** Layers outlive the token that is issued a moment later. */
const EXPIRY_SLACK_MS = 60_000;

/** Undefined for a record in a format that this version does not know. */
const storedSchema = tokenRecordSchema.optional().catch(undefined);

export function createLedger({ records, memory, layers: stored, now, ttlMs }: LedgerDeps): TokenLedger {
  const tokens = createCollection({ store: records, name: 'token', schema: storedSchema, memory });

  return { issue, find, revoke, keepLayers };

  async function issue(record: NewTokenRecord): Promise<TokenRecord> {
    await stored.requireRoom();
    const createdAt = now();
    const expiresAt = new Date(createdAt.getTime() + ttlMs);
    const issued = tokenRecordSchema.parse({
      ...record,
      id: randomBytes(ID_BYTES).toString('hex'),
      createdAt: createdAt.toISOString(),
      expiresAt: expiresAt.toISOString(),
    });
    await refuseFullDisk(tokens.put(issued.id, issued, { expiresAt }));
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

  async function keepLayers(layers: ReadonlyMap<Digest, Uint8Array>, account: string): Promise<void> {
    const until = new Date(now().getTime() + ttlMs + EXPIRY_SLACK_MS);
    for (const [digest, bytes] of layers) await stored.keep(bytes, digest, { until, account });
  }

  function isAlive(expiresAtMs: number): boolean {
    return now().getTime() < expiresAtMs;
  }
}

function isTokenId(text: string): boolean {
  return tokenIdSchema.safeParse(text).success;
}
