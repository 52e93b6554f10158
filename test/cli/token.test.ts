// `veneer token`, as it is typed: the token alone on standard output, explanations on standard error, and clear refusals.
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { createAccessTokens } from '../../src/access/access-token.ts';
import type { ServiceCommandDeps } from '../../src/cli/service-command.ts';
import { createTokenCommand } from '../../src/cli/token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';

const NO_SERVICE: ServiceCommandDeps = {
  findService() {
    throw new Error('access tokens need no service');
  },
  ...{ stdin: process.stdin, terminal: undefined, listenForInterrupt: () => new AbortController().signal },
};
const START = new Date('2030-01-01T00:00:00Z');
const now = () => START;

let path: string;

beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-cli-'));
  path = join(directory, 'records.db');
  onTestFinished(() => rm(directory, { recursive: true }));
});

test('create prints the token alone, and the service knows it', async () => {
  const { out, err } = await run('create', '--push', 'local/**', '--ttl', '12h', '--name', 'ci');
  expect(out).toMatch(/^vnr_[0-9a-f]{40}\n$/);
  expect(err).toMatch(/^access token [0-9a-f]{12} \(ci\) expires at 2030-01-01T12:00:00.000Z; stored in \//);
  expect(err).not.toContain(out.trim());
  expect(await find(out.trim())).toMatchObject({
    name: 'ci',
    permissions: [{ repositories: ['local/**'], allow: ['pull', 'push'] }],
    expiresAt: '2030-01-01T12:00:00.000Z',
  });
});

test('--json has the token with its id, and the list', async () => {
  const created = await run('create', '--pull', 'local/**', '--name', 'ci', '--json');
  const { token, ...rest } = JSON.parse(created.out);
  expect(token).toMatch(/^vnr_[0-9a-f]{40}$/);
  expect(created.err).toBe('');
  const list = JSON.parse((await run('ls', '--json')).out);
  expect(list).toEqual([{ ...rest, createdAt: expect.anything() }]);
  expect(JSON.stringify(list)).not.toContain(token);
});

test('create takes several rights and patterns, and lives for 30 days by default', async () => {
  const { out } = await run(
    'create',
    '--pull',
    'docker.io/**',
    'quay.io/**',
    '--delete',
    'local/a',
    '--delete',
    'local/b',
  );
  expect(await find(out.trim())).toMatchObject({
    name: 'unnamed',
    permissions: [
      { repositories: ['docker.io/**', 'quay.io/**'], allow: ['pull'] },
      { repositories: ['local/a', 'local/b'], allow: ['pull', 'delete'] },
    ],
    expiresAt: '2030-01-31T00:00:00.000Z',
  });
});

test('create gives rights to build and to administer, which list shows', async () => {
  const { out } = await run('create', '--build', 'local/builds', '--admin');
  expect(await find(out.trim())).toMatchObject({
    permissions: [
      { repositories: ['local/builds'], allow: ['pull', 'build'] },
      { repositories: [], allow: ['admin'] },
    ],
  });
  expect((await run('list')).out).toMatch(/pull,build local\/builds; admin$/m);
});

test.each([
  ['no right', ['create'], /a token needs a right: --pull, --push or --delete/],
  [
    'a bad pattern',
    ['create', '--push', 'local/a**'],
    /'--push <pattern...>' argument 'local\/a\*\*' is invalid. expected a pattern/,
  ],
  ['a ttl with no unit', ['create', '--pull', '**', '--ttl', '30'], /expected a duration such as 30s, 5m, 36h or 7d/],
  ['a ttl too short', ['create', '--pull', '**', '--ttl', '59s'], /is too small: at least 1m/],
  ['a ttl too long', ['create', '--pull', '**', '--ttl', '3651d'], /is too large/],
  ['a name with a line break', ['create', '--pull', '**', '--name', 'a\nb'], /expected at most 64 letters/],
  ['an unknown option', ['create', '--pull', '**', '--root'], /unknown option '--root'/],
  ['list with no records', ['list'], /there is no .*records.db: name the data directory of the service/],
  ['revoke with no records', ['revoke', '0123456789ab'], /there is no .*records.db/],
  ['revoke with no id', ['revoke'], /give the id of a token, or --workflow/],
])('%s is refused, and nothing is made', async (_name, args, message) => {
  const { out, err, exitCode } = await run(...args);
  expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
  expect(err).toMatch(message);
  expect(existsSync(path)).toBe(false);
});

test('list shows ids, ends, names and rights, and no token', async () => {
  const tokens = [
    await run('create', '--push', 'local/**', '--name', 'ci'),
    await run('create', '--pull', '**', '--delete', 'local/a', '--ttl', '1m'),
  ];
  const { out } = await run('list');
  const lines = out.trimEnd().split('\n');
  expect(lines[0]).toMatch(/^ID {12}EXPIRES {19}NAME {5}RIGHTS$/);
  expect(
    lines
      .slice(1)
      .map(line => line.slice(14))
      .sort(),
  ).toEqual([
    '2030-01-01T00:01:00.000Z  unnamed  pull **; pull,delete local/a',
    '2030-01-31T00:00:00.000Z  ci       pull,push local/**',
  ]);
  for (const token of tokens) expect(out).not.toContain(token.out.trim().slice(4));
});

test('revoke ends a token by its id, once', async () => {
  const { out, err } = await run('create', '--pull', '**');
  const id = /^access token (\w+)/.exec(err)?.[1] ?? '';
  expect(await run('revoke', id)).toEqual({ out: '', err: `access token ${id} is revoked\n`, exitCode: 0 });
  expect(await find(out.trim())).toBeUndefined();
  expect(await run('revoke', id)).toMatchObject({
    err: expect.stringContaining('there is no access token with this id'),
    exitCode: 1,
  });
});

test('create makes a data directory that is not there yet, for this user alone', async () => {
  const directory = join(path, '..', 'data');
  path = join(directory, 'records.db');
  const { out } = await run('create', '--pull', '**');
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect(await find(out.trim())).toBeDefined();
});

test('the secret is in no file', async () => {
  const { out } = await run('create', '--pull', '**');
  expect((await readFile(path)).includes(out.trim().slice(4))).toBe(false);
});

function findRecords() {
  return { name: path, hasRecords: () => existsSync(path), open: async () => createSqliteStore({ path, now }) };
}

async function run(...args: readonly string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const written = () => ({ out: out.join(''), err: err.join('') });
  const token = createTokenCommand({ ...NO_SERVICE, findRecords, now });
  for (const command of [token, ...token.commands]) {
    command.exitOverride().configureOutput({
      writeOut: text => out.push(text),
      writeErr: text => err.push(text),
    });
  }
  try {
    await new Command('veneer').addCommand(token).parseAsync(['token', ...args], { from: 'user' });
    return { ...written(), exitCode: 0 };
  } catch (error) {
    if (error instanceof CommanderError) return { ...written(), exitCode: error.exitCode };
    throw error;
  }
}

async function find(secret: string) {
  const records = createSqliteStore({ path, now });
  try {
    return await createAccessTokens({ records, now }).find(secret);
  } finally {
    await records.close();
  }
}
