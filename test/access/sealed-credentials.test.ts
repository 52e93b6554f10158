// Credentials in a bearer token: only we can open it, for a few minutes, and what is wrong with one is never quoted.
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { PasswordCredentials } from '../../src/access/authorization.ts';
import { loadPassThroughKeys } from '../../src/access/keys.ts';
import { createSealedCredentials } from '../../src/access/sealed-credentials.ts';

const TTL_MS = 300_000;
const alice: PasswordCredentials = { kind: 'password', username: 'älice', password: 'canary:with a colon' };
let nowMs = Date.UTC(2030, 0, 1);

function createDesk(key: Uint8Array = Buffer.alloc(32, 1)) {
  return createSealedCredentials({ key, ttlMs: TTL_MS, now: () => new Date(nowMs) });
}

async function seal(credentials: PasswordCredentials | undefined, key?: Uint8Array): Promise<string> {
  return (await createDesk(key).issue({ credentials, asked: [] })).token;
}

test('is opened again, also after a restart, and is of characters that a header may have', async () => {
  const token = await seal(alice);
  expect(createDesk().open(token)).toEqual(alice);
  expect(token).toMatch(/^[\w-]+$/);
  expect(Buffer.from(token, 'base64url').toString('latin1')).not.toContain('canary');
});

test('fits into a header with the longest password that is taken', async () => {
  expect((await seal({ ...alice, password: 'p'.repeat(8192) })).length).toBeLessThan(12_000);
});

test('of who shows none is opened as none, and so is one of an empty name and password', async () => {
  expect(createDesk().open(await seal(undefined))).toBeUndefined();
  expect(createDesk().open(await seal({ kind: 'password', username: '', password: '' }))).toBeUndefined();
});

test('says how long it lives and what was asked for', async () => {
  const asked = [{ repository: 'lab/app', verbs: ['pull'] as const }];
  expect(await createDesk().issue({ credentials: alice, asked })).toMatchObject({
    issuedAt: new Date(nowMs),
    expiresInSeconds: 300,
    granted: asked,
  });
});

test('never looks the same twice', async () => {
  expect(await seal(alice)).not.toBe(await seal(alice));
});

test('is refused once it has expired', async () => {
  const token = await seal(alice);
  nowMs += TTL_MS;
  expect(() => createDesk().open(token)).toThrow('the bearer token has expired');
});

test.each([
  ['a bit of it is another', (token: string) => flip(token)],
  ['its end is missing', (token: string) => token.slice(0, -4)],
  ['it is too short to be one', () => 'abcd'],
  ['it is empty', () => ''],
  ['it is a JWT', () => 'eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIifQ.c2ln'],
  ['it was sealed with another key', () => seal(alice, Buffer.alloc(32, 2))],
])('is refused where %s', async (_, change) => {
  const token = await change(await seal(alice));
  expect(() => createDesk().open(token)).toThrow(/^the bearer token is not one of ours$/);
});

function flip(token: string): string {
  const bytes = Buffer.from(token, 'base64url');
  bytes[30] = (bytes[30] ?? 0) ^ 1;
  return bytes.toString('base64url');
}

test('the keys are made once, in a file that only this user may read, and are two', async () => {
  const path = join(await makeFolder(), 'passing-key');
  const keys = await loadPassThroughKeys(path);
  expect(await loadPassThroughKeys(path)).toEqual(keys);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect([keys.sealing.length, keys.scopes.length]).toEqual([32, 32]);
  expect(keys.sealing).not.toEqual(keys.scopes);
  expect(await readFile(path, 'utf8')).not.toContain(Buffer.from(keys.scopes).toString('hex'));
});

test('a file that holds no key is a fault that does not quote it', async () => {
  const path = join(await makeFolder(), 'passing-key');
  await writeFile(path, 'canary');
  await expect(loadPassThroughKeys(path)).rejects.toThrow(`${path}: expected a key of 64 hex characters`);
});

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-keys-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}
