// Access tokens: found by their secret while they live, and kept without it.
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type AccessTokens, createAccessTokens, isAccessToken } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { START, temporaryDirectory } from './fixture.ts';

const DAY_MS = 86_400_000;
const NEW = {
  name: 'ci',
  permissions: [{ repositories: ['local/**'], allow: ['pull', 'push'] }],
  ttlMs: DAY_MS,
} as const;

test('is found by its secret, with its rights and its end', async () => {
  const { tokens } = createFixture();
  const { secret, token } = await tokens.issue(NEW);
  expect(secret).toMatch(/^vnr_[0-9a-f]{40}$/);
  expect(isAccessToken(secret)).toBe(true);
  expect(token).toMatchObject({ id: expect.stringMatching(/^[0-9a-f]{12}$/), expiresAt: '2030-01-02T00:00:00.000Z' });
  expect(await tokens.find(secret)).toEqual({ ...token, name: 'ci', permissions: NEW.permissions });
});

test('each is another', async () => {
  const { tokens } = createFixture();
  const issued = await issueMany(tokens, 50);
  expect(new Set(issued.map(({ secret }) => secret)).size).toBe(50);
});

test.each(['', 'vnr_', 'vnr_0123', `vnr_${'0'.repeat(40)}`, `vnr_${'G'.repeat(40)}`, `x${'0'.repeat(40)}`])(
  'nothing is found by "%s"',
  async secret => {
    const { tokens } = createFixture();
    await tokens.issue(NEW);
    expect(await tokens.find(secret)).toBeUndefined();
  },
);

test('is no more from its end on', async () => {
  const { tokens, pass } = createFixture();
  const { secret } = await tokens.issue(NEW);
  pass(DAY_MS - 1);
  expect(await tokens.find(secret)).toBeDefined();
  pass(1);
  expect(await tokens.find(secret)).toBeUndefined();
  expect(await tokens.list()).toEqual([]);
});

test('is no more once revoked, and others stay', async () => {
  const { tokens } = createFixture();
  const [first, second] = await issueMany(tokens, 2);
  expect(await tokens.revoke(first?.token.id ?? '')).toBe(true);
  expect(await tokens.revoke(first?.token.id ?? '')).toBe(false);
  expect(await tokens.find(first?.secret ?? '')).toBeUndefined();
  expect(await tokens.list()).toEqual([second?.token]);
});

test.each(['', '0', 'zzzzzzzzzzzz', '000000000000', 'ffffffffffff'])('revokes nothing by the id "%s"', async id => {
  const { tokens } = createFixture();
  await issueMany(tokens, 20);
  expect(await tokens.revoke(id)).toBe(false);
  expect(await tokens.list()).toHaveLength(20);
});

test('lists all, by their ids, over several pages', async () => {
  const { tokens } = createFixture();
  const issued = await issueMany(tokens, 1500);
  expect(await tokens.list()).toEqual(issued.map(({ token }) => token).sort((a, b) => (a.id < b.id ? -1 : 1)));
});

test('its secret is nowhere in the store', async () => {
  const { tokens, records } = createFixture();
  const { secret } = await tokens.issue(NEW);
  const entries = await records.entries('access-token', { limit: 10 });
  const stored = entries.map(({ key, value }) => key + new TextDecoder().decode(value)).join();
  expect(stored).toContain('local/**');
  expect(stored).not.toContain(secret.slice(4));
});

test('one that another process issued beside us is found at once, and revoked at once', async () => {
  const path = join(await temporaryDirectory(), 'records.db');
  const [service, cli] = [createSqliteStore({ path }), createSqliteStore({ path })];
  onTestFinished(() => Promise.all([service.close(), cli.close()]).then(() => {}));
  const now = () => new Date();
  const [ours, theirs] = [createAccessTokens({ records: service, now }), createAccessTokens({ records: cli, now })];
  const { secret, token } = await theirs.issue(NEW);
  expect((await ours.find(secret))?.id).toBe(token.id);
  await theirs.revoke(token.id);
  expect(await ours.find(secret)).toBeUndefined();
});

async function issueMany(tokens: AccessTokens, count: number) {
  return Promise.all(Array.from({ length: count }, () => tokens.issue(NEW)));
}

function createFixture() {
  const clock = { time: START.getTime() };
  const now = () => new Date(clock.time);
  const records = createMemoryStore({ now });
  return {
    records,
    tokens: createAccessTokens({ records, now }),
    pass(ms: number) {
      clock.time += ms;
    },
  };
}
