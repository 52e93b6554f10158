// Access tokens: secrets issued by the operator, each with its own rights and expiry. Only their SHA-256 is stored.
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { createCollection } from '../state/collection.ts';
import { keysOf, type RecordStore } from '../state/store.ts';
import { grantable } from './right.ts';

const accessTokenSchema = z.object({
  name: z.string(),
  permissions: z
    .array(z.object({ repositories: z.array(z.string()).readonly(), allow: z.array(z.enum(grantable)).readonly() }))
    .readonly(),
  /** Whether it was issued to one of our builds. */
  isBuild: z.boolean().optional(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
});

/** The record of an access token; contains no secret. */
type AccessTokenRecord = Readonly<z.infer<typeof accessTokenSchema>>;

export interface AccessToken extends AccessTokenRecord {
  /** 12 hex characters, the beginning of the secret's SHA-256. */
  readonly id: string;
}

export interface NewAccessToken extends Pick<AccessTokenRecord, 'name' | 'permissions' | 'isBuild'> {
  readonly ttlMs: number;
}

export interface AccessTokens {
  /** Durable when it resolves. The secret is only in the result. */
  issue(token: NewAccessToken): Promise<{ readonly token: AccessToken; readonly secret: string }>;
  /** Undefined for a secret that is unknown, expired, revoked, or not an access token. */
  find(secret: string): Promise<AccessToken | undefined>;
  /** Undefined for one that has expired or was revoked. */
  findById(id: string): Promise<AccessToken | undefined>;
  /** Unexpired ones, in the order of their ids. */
  list(): Promise<readonly AccessToken[]>;
  /** Whether there was such a token. */
  revoke(id: string): Promise<boolean>;
}

const COLLECTION = 'access-token';
const SECRET = /^vnr_[0-9a-f]{40}$/;
const ID = /^[0-9a-f]{12}$/;

/** Whether a password has the form of an access token. */
export function isAccessToken(text: string): boolean {
  return SECRET.test(text);
}

export function createAccessTokens({ records, now }: { records: RecordStore; now: () => Date }): AccessTokens {
  const collection = createCollection({ store: records, name: COLLECTION, schema: accessTokenSchema });

  async function get(key: string): Promise<AccessToken | undefined> {
    const record = await collection.get(key);
    return record && { ...record, id: idOf(key) };
  }

  async function findKey(id: string): Promise<string | undefined> {
    const [key] = ID.test(id) ? await collection.list({ prefix: id, limit: 1 }) : [];
    return key;
  }

  return {
    async issue({ ttlMs, ...token }) {
      const secret = `vnr_${randomBytes(20).toString('hex')}`;
      const expiresAt = new Date(now().getTime() + ttlMs);
      const record = { ...token, createdAt: now().toISOString(), expiresAt: expiresAt.toISOString() };
      await collection.put(keyOf(secret), record, { expiresAt });
      return { token: { ...record, id: idOf(keyOf(secret)) }, secret };
    },
    find: async secret => (isAccessToken(secret) ? get(keyOf(secret)) : undefined),
    async findById(id) {
      const key = await findKey(id);
      return key === undefined ? undefined : get(key);
    },
    async list() {
      const tokens: AccessToken[] = [];
      for await (const key of keysOf(collection, '')) tokens.push(...toArray(await get(key)));
      return tokens;
    },
    async revoke(id) {
      const key = await findKey(id);
      return key !== undefined && collection.delete(key);
    },
  };
}

/** An unsalted hash is enough for a random secret of 160 bits, and allows looking it up without comparing it. */
function keyOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function idOf(key: string): string {
  return key.slice(0, 12);
}

function toArray<T>(value: T | undefined): readonly T[] {
  return value === undefined ? [] : [value];
}
