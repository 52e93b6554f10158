// A server with users, grants and access tokens, and everybody who may ask it something.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAccessTokens } from '../../src/access/access-token.ts';
import type { Right } from '../../src/access/right.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { startServer, type TestServer } from '../support/server.ts';

export interface GuardedServer extends TestServer {
  /** The header of a caller by its credentials; undefined for anonymous. */
  authorizationOf(caller: Caller, scope: string): Promise<string | undefined>;
  /** The access token of a user's name. */
  readonly secrets: ReadonlyMap<string, string>;
}

export interface Caller {
  readonly user: string;
  readonly by: 'no credentials' | 'password' | 'access token' | 'bearer token';
}

/** What each user, and each access token of its name, may do in local/app. */
export const RIGHTS: Readonly<Record<string, readonly Right[]>> = {
  nobody: [],
  reader: ['pull'],
  writer: ['pull', 'push'],
  cleaner: ['pull', 'delete'],
  blind: ['push'],
  builder: ['pull', 'build'],
};

export const ADMIN = basic('admin', 'password');

const WAYS = ['password', 'access token', 'bearer token'] as const;

export const callers: readonly Caller[] = [
  { user: 'anonymous', by: 'no credentials' },
  ...Object.keys(RIGHTS).flatMap(user => WAYS.map(by => ({ user, by }))),
];

/** `admin` may do all, and all others have their rights in local/app alone. */
export async function startGuarded(
  config: Readonly<Record<string, unknown>> = {},
  moreGrants: readonly object[] = [],
): Promise<GuardedServer> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-users-'));
  const htpasswd = join(directory, 'htpasswd');
  const users = [...Object.keys(RIGHTS), 'admin'];
  await writeFile(htpasswd, htpasswdOf(Object.fromEntries(users.map(user => [user, 'password']))));
  const server = await startServer({ access: { htpasswd, grants: [...grants(), ...moreGrants] }, ...config });
  const secrets = await issueTokens(server);

  async function bearerOf(user: string, scope: string): Promise<string> {
    const query = new URLSearchParams({ service: 'veneer', scope });
    const { body } = await server.send('GET', `/token?${query}`, {
      headers: { Authorization: basic(user, 'password') },
    });
    return `Bearer ${JSON.parse(body.toString()).token}`;
  }

  return {
    ...server,
    secrets,
    async authorizationOf({ user, by }, scope) {
      switch (by) {
        case 'no credentials':
          return undefined;
        case 'password':
          return basic(user, 'password');
        case 'access token':
          return basic('token', secrets.get(user) ?? '');
        case 'bearer token':
          return bearerOf(user, scope);
      }
    },
    async close() {
      await server.close();
      await rm(directory, { recursive: true });
    },
  };
}

function grants() {
  return [
    { users: ['admin'], repositories: ['**'], allow: ['pull', 'push', 'delete'] },
    { users: ['admin'], allow: ['admin'] },
    ...Object.entries(RIGHTS)
      .filter(([, allow]) => allow.length > 0)
      .map(([user, allow]) => ({ users: [user], repositories: ['local/app'], allow })),
  ];
}

/** Beside the running server, as the command does. */
async function issueTokens({ directory }: TestServer): Promise<ReadonlyMap<string, string>> {
  const records = createSqliteStore({ path: join(directory, 'data', 'records.db'), now: () => new Date() });
  const tokens = createAccessTokens({ records, now: () => new Date() });
  const secrets = new Map<string, string>();
  for (const [name, allow] of Object.entries(RIGHTS)) {
    const permissions = allow.length > 0 ? [{ repositories: ['local/app'], allow }] : [];
    secrets.set(name, (await tokens.issue({ name, permissions, ttlMs: 3_600_000 })).secret);
  }
  await records.close();
  return secrets;
}
