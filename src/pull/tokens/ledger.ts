// The ledger of issued tokens: in the record store, so that they survive a restart. The layers that came with them are content.
import { randomBytes } from 'node:crypto';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import { isTransient, type RecordStore } from '../../state/store.ts';
import { refuseFullDisk, type TokenLayers } from './layers.ts';
import { type NewTokenRecord, type TokenRecord, tokenIdSchema, tokenRecordSchema } from './record.ts';

export interface TokenLedger {
  /**
   * Issues a token with the ledger's ttl, or one for a workflow, which lives as long as it is used; durable when it resolves. Throws UNAVAILABLE
   * (507) on a disk that is nearly full.
   */
  issue(record: NewTokenRecord): Promise<TokenRecord>;
  /** Undefined for an id that is unknown, expired, revoked or malformed. Finding a token counts as using it. */
  find(id: string): Promise<TokenRecord | undefined>;
  /** Whether there was such a token. Its layers are retained until they expire: other tokens may share them. */
  revoke(id: string): Promise<boolean>;
  /** Those that are alive and wanted, behind `after`, at most `limit` of them, in the order of their ids. It is no use of them. */
  list(page: TokensPage): Promise<{ readonly tokens: readonly TokenRecord[]; readonly hasMore: boolean }>;
  /**
   * Stores layers slightly longer than a token issued now, on the account of a caller. To be called first: a token never refers to layers
   * that a crash lost. Throws as TokenLayers.
   */
  keepLayers(layers: ReadonlyMap<Digest, Uint8Array>, account: string): Promise<void>;
}

interface TokensPage {
  readonly after?: string | undefined;
  readonly limit: number;
  readonly isWanted: (record: TokenRecord) => boolean;
}

export interface LedgerDeps {
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly layers: Pick<TokenLayers, 'store' | 'requireSpace'>;
  readonly now: () => Date;
  readonly ttlMs: number;
  /** For tokens whose request names a workflow. Absent: they have the same ttl as others. */
  readonly workflow?: WorkflowLife | undefined;
}

interface WorkflowLife {
  /** How long a token lives without being used. */
  readonly idleMs: number;
  /** How long it lives however much it is used. */
  readonly maxMs: number;
}

/** A token in constant use is written at most this often. */
const RENEW_EVERY_MS = 60_000;
const MAX_REVOKED = 10_000;
const LIST_AT_ONCE = 200;

/** Too many to guess one. */
const ID_BYTES = 12;
/** Layers outlive the token that is issued a moment later. */
const EXPIRY_SLACK_MS = 60_000;

/** Undefined for a record in a format that this version does not know. */
const storedSchema = tokenRecordSchema.optional().catch(undefined);

export function createLedger({ records, memory, layers: stored, now, ttlMs, workflow }: LedgerDeps): TokenLedger {
  const tokens = createCollection({ store: records, name: 'token', schema: storedSchema, memory });

  /** Ids whose new end is being written. */
  const renewing = new Set<string>();
  /** The last ones. */
  const revoked = new Set<string>();

  return { issue, find, revoke, list, keepLayers };

  async function issue(record: NewTokenRecord): Promise<TokenRecord> {
    await stored.requireSpace();
    const createdAt = now();
    const life = record.request.workflowId === undefined ? undefined : workflow;
    const expiresAt = new Date(createdAt.getTime() + (life ? Math.min(life.idleMs, life.maxMs) : ttlMs));
    const issued = tokenRecordSchema.parse({
      ...record,
      id: randomBytes(ID_BYTES).toString('hex'),
      createdAt: createdAt.toISOString(),
      expiresAt: expiresAt.toISOString(),
      ...(life && { renewUntil: new Date(createdAt.getTime() + life.maxMs).toISOString() }),
    });
    await refuseFullDisk(tokens.put(issued.id, issued, { expiresAt }));
    return issued;
  }

  async function find(id: string): Promise<TokenRecord | undefined> {
    if (!isTokenId(id)) return undefined;
    const record = await tokens.get(id);
    if (!record || !isAlive(Date.parse(record.expiresAt))) return undefined;
    return record.renewUntil === undefined ? record : renew(record, Date.parse(record.renewUntil));
  }

  /** If the disk is full, the token keeps its expiry. */
  async function renew(record: TokenRecord, untilMs: number): Promise<TokenRecord> {
    const expiresAt = new Date(Math.min(now().getTime() + (workflow?.idleMs ?? 0), untilMs));
    const gain = expiresAt.getTime() - Date.parse(record.expiresAt);
    if (gain < Math.min(RENEW_EVERY_MS, (workflow?.idleMs ?? 0) / 2) || renewing.has(record.id)) return record;
    const renewed = { ...record, expiresAt: expiresAt.toISOString() };
    renewing.add(record.id);
    try {
      await tokens.put(record.id, renewed, { expiresAt });
      // A token that was revoked meanwhile stays revoked.
      if (revoked.has(record.id)) await tokens.delete(record.id);
      return renewed;
    } catch (error) {
      if (!isTransient(error)) throw error;
      return record;
    } finally {
      renewing.delete(record.id);
    }
  }

  async function revoke(id: string): Promise<boolean> {
    if ((await find(id)) === undefined) return false;
    revoked.add(id);
    if (revoked.size > MAX_REVOKED) revoked.delete(revoked.values().next().value ?? '');
    return tokens.delete(id);
  }

  async function list({ after = '', limit, isWanted }: TokensPage) {
    const found: TokenRecord[] = [];
    for (let last = after; ; ) {
      const entries = await tokens.entries({ after: last, limit: LIST_AT_ONCE });
      for (const { value } of entries) {
        if (!value || !isAlive(Date.parse(value.expiresAt)) || !isWanted(value)) continue;
        if (found.length === limit) return { tokens: found, hasMore: true };
        found.push(value);
      }
      const end = entries.at(-1);
      if (!end) return { tokens: found, hasMore: false };
      last = end.key;
    }
  }

  async function keepLayers(layers: ReadonlyMap<Digest, Uint8Array>, account: string): Promise<void> {
    const until = new Date(now().getTime() + Math.max(ttlMs, workflow?.maxMs ?? 0) + EXPIRY_SLACK_MS);
    for (const [digest, bytes] of layers) await stored.store(bytes, digest, { until, account });
  }

  function isAlive(expiresAtMs: number): boolean {
    return now().getTime() < expiresAtMs;
  }
}

function isTokenId(text: string): boolean {
  return tokenIdSchema.safeParse(text).success;
}
