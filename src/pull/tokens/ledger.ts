// The ledger of issued tokens: in the record store, so that they survive a restart. The layers that came with them are content. A short
// record of each token is kept by caller and workflow, so that a list reads no more than it returns, whatever others have.
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import { type Change, isTransient, pagesOf, RecordConflict, type RecordStore } from '../../state/store.ts';
import { refuseFullDisk, type TokenLayers } from './layers.ts';
import { type NewTokenRecord, type TokenRecord, tokenIdSchema, tokenRecordSchema } from './record.ts';

export interface TokenLedger {
  /**
   * Issues a token with the ledger's ttl, or one for a workflow, which lives as long as it is used; durable when it resolves. Throws
   * UNAVAILABLE (507) on a disk that is nearly full.
   */
  issue(record: NewTokenRecord): Promise<TokenRecord>;
  /** Undefined for an id that is unknown, expired, revoked or malformed. Finding a token counts as using it. */
  find(id: string): Promise<TokenRecord | undefined>;
  /** Whether there was such a token. Its layers are retained until they expire: other tokens may share them. */
  revoke(id: string): Promise<boolean>;
  /** At most `limit` unexpired tokens of the scope after the id `after`, in the order of their ids. Does not count as using them. */
  list(
    scope: TokenScope,
    page: TokensPage,
  ): Promise<{ readonly tokens: readonly ListedToken[]; readonly hasMore: boolean }>;
  /** Revokes all of the scope, and returns how many there were. One that is issued meanwhile may be among them or not. */
  revokeAll(scope: TokenScope): Promise<number>;
  /**
   * Stores layers slightly longer than a token issued now, on the account of a caller. To be called first: a token never refers to layers
   * that a crash lost. Throws as TokenLayers.
   */
  keepLayers(layers: ReadonlyMap<Digest, Uint8Array>, account: string): Promise<void>;
}

/** Absent: of all callers; of all workflows, and of none. */
export interface TokenScope {
  /** The subject of who asked for them. */
  readonly caller?: string | undefined;
  readonly workflow?: string | undefined;
}

interface TokensPage {
  readonly after?: string | undefined;
  readonly limit: number;
}

const listedSchema = z.object({
  id: tokenIdSchema,
  containerImage: z.string(),
  workflowId: z.string().optional(),
  caller: z.string().optional(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
});

/** A token as listed. */
export type ListedToken = z.infer<typeof listedSchema>;

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
/** Read, or written, in one step. */
const AT_ONCE = 200;

/** Too long to be guessed. */
const ID_BYTES = 12;
/** Layers outlive the token that is issued a moment later. */
const EXPIRY_SLACK_MS = 60_000;

/** The key that says that all tokens are in the lists: those of an older version were not. */
const COMPLETE = 'complete';

/** Undefined for a record in a format that this version does not know. */
const storedSchema = tokenRecordSchema.optional().catch(undefined);

export function createLedger({ records, memory, layers: stored, now, ttlMs, workflow }: LedgerDeps): TokenLedger {
  const tokens = createCollection({ store: records, name: 'token', schema: storedSchema, memory });
  const listed = createCollection({ store: records, name: 'token-list', schema: listedSchema });

  /** Ids whose new end is being written. */
  const renewing = new Set<string>();
  /** The most recently revoked ones. */
  const revoked = new Set<string>();
  let completing: Promise<void> | undefined;

  return { issue, find, revoke, list, revokeAll, keepLayers };

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
    await refuseFullDisk(records.write(putting(issued)));
    return issued;
  }

  async function find(id: string): Promise<TokenRecord | undefined> {
    if (!isTokenId(id)) return undefined;
    const record = await tokens.get(id);
    if (!record || !isAlive(Date.parse(record.expiresAt))) return undefined;
    return record.renewUntil === undefined ? record : renew(record, Date.parse(record.renewUntil));
  }

  /** If the disk is full, the token keeps its expiry. */
  async function renew(record: TokenRecord, untilMs: number): Promise<TokenRecord | undefined> {
    const expiresAt = new Date(Math.min(now().getTime() + (workflow?.idleMs ?? 0), untilMs));
    const gain = expiresAt.getTime() - Date.parse(record.expiresAt);
    if (gain < Math.min(RENEW_EVERY_MS, (workflow?.idleMs ?? 0) / 2) || renewing.has(record.id)) return record;
    const renewed = { ...record, expiresAt: expiresAt.toISOString() };
    renewing.add(record.id);
    try {
      // A token that was revoked meanwhile, or renewed by another process, stays as that left it.
      const current = await tokens.expecting(record.id);
      if (current.record?.expiresAt !== record.expiresAt) return current.record;
      await records.write(putting(renewed), { expected: [current.expected] });
      return renewed;
    } catch (error) {
      if (error instanceof RecordConflict) return tokens.get(record.id);
      if (!isTransient(error)) throw error;
      return record;
    } finally {
      renewing.delete(record.id);
    }
  }

  async function revoke(id: string): Promise<boolean> {
    const record = await find(id);
    if (record === undefined) return false;
    await remove([listedOf(record)]);
    return true;
  }

  async function list(scope: TokenScope, { after = '', limit }: TokensPage) {
    await complete();
    const prefix = prefixOf(scope);
    const found: ListedToken[] = [];
    const options = { prefix, after: prefix + after, limit: Math.min(limit + 1, AT_ONCE) };
    for await (const page of pagesOf(listed.entries, options)) {
      for (const { value } of page) {
        if (!isAlive(Date.parse(value.expiresAt))) continue;
        if (found.length === limit) return { tokens: found, hasMore: true };
        found.push(value);
      }
    }
    return { tokens: found, hasMore: false };
  }

  async function revokeAll(scope: TokenScope): Promise<number> {
    let count = 0;
    for (let after = ''; ; ) {
      const { tokens: page, hasMore } = await list(scope, { after, limit: AT_ONCE });
      if (page.length > 0) await remove(page);
      count += page.length;
      after = page.at(-1)?.id ?? after;
      if (!hasMore) return count;
    }
  }

  /** The record, and what the lists have of it. */
  function putting(record: TokenRecord): readonly Change[] {
    const expiresAt = new Date(record.expiresAt);
    return [tokens.putting(record.id, record, { expiresAt }), ...listing(record)];
  }

  function listing(record: TokenRecord): readonly Change[] {
    const token = listedOf(record);
    return listKeysOf(token).map(key => listed.putting(key, token, { expiresAt: new Date(record.expiresAt) }));
  }

  async function remove(gone: readonly ListedToken[]): Promise<void> {
    for (const { id } of gone) {
      revoked.add(id);
      if (revoked.size > MAX_REVOKED) revoked.delete(revoked.values().next().value ?? '');
    }
    const changes = gone.flatMap(token => [tokens.deleting(token.id), ...listKeysOf(token).map(listed.deleting)]);
    await records.write(changes, { makesRoom: true });
  }

  /** Adds the tokens of an older version to the lists, once for all. */
  async function complete(): Promise<void> {
    completing ??= addUnlisted().catch(error => {
      completing = undefined;
      throw error;
    });
    await completing;
  }

  async function addUnlisted(): Promise<void> {
    if (await records.get('token-list', COMPLETE)) return;
    for await (const page of pagesOf(tokens.entries, { limit: AT_ONCE })) {
      const kept = page.flatMap(({ value }) => (value && isAlive(Date.parse(value.expiresAt)) ? [value] : []));
      if (kept.length > 0) await records.write(kept.flatMap(listing));
      const gone = kept.filter(({ id }) => revoked.has(id));
      if (gone.length > 0) await remove(gone.map(listedOf));
    }
    await records.put('token-list', COMPLETE, new TextEncoder().encode('{}'));
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

function listedOf(record: TokenRecord): ListedToken {
  const { id, containerImage, request, caller, createdAt, expiresAt } = record;
  return { id, containerImage, workflowId: request.workflowId, caller, createdAt, expiresAt };
}

/** In the list of all, in those of its caller and of its workflow, and in that of both. */
function listKeysOf({ id, caller, workflowId }: Pick<ListedToken, 'id' | 'caller' | 'workflowId'>): readonly string[] {
  const callers = caller ? [undefined, caller] : [undefined];
  const workflows = workflowId === undefined ? [undefined] : [undefined, workflowId];
  return callers.flatMap(of => workflows.map(workflow => prefixOf({ caller: of, workflow }) + id));
}

function prefixOf({ caller, workflow }: TokenScope): string {
  return `${keyOf(caller)}/${keyOf(workflow)}/`;
}

/** Of a fixed length, without a character that separates. */
function keyOf(name: string | undefined): string {
  return name === undefined ? 'all' : createHash('sha256').update(name).digest('hex').slice(0, 32);
}
