// Access without configuration: who is on this machine may do all, anyone else may pull.
import { expect, test } from 'vitest';
import type { Access, Caller } from '../../src/access/access.ts';
import { createAccess } from '../../src/access/granted.ts';
import { verbs } from '../../src/access/right.ts';
import { createMemory } from '../../src/memory.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { basic, START } from './fixture.ts';

const memory = createMemory();

const open = (listenHost: string, publicHost?: string) =>
  createAccess({
    memory,
    options: undefined,
    listenHost,
    publicHost,
    records: createMemoryStore(),
    dataDir: '/nowhere',
    onFault: () => {},
    now: () => START,
  });

test.each<[listen: string, publicHost: string | undefined, host: string | undefined, isLocal: boolean]>([
  ['127.0.0.1', undefined, '127.0.0.1', true],
  ['127.0.0.1', undefined, 'localhost', true],
  ['127.0.0.1', 'localhost', '127.0.0.1', true],
  ['::1', undefined, '[::1]', true],
  ['localhost', undefined, 'LOCALHOST', true],
  ['127.1.2.3', undefined, '127.1.2.3', true],
  ['127.0.0.1', undefined, 'rebound.example', false],
  ['127.0.0.1', undefined, 'localhost.example', false],
  ['127.0.0.1', undefined, '0.0.0.0', false],
  ['127.0.0.1', undefined, undefined, false],
  ['127.0.0.1', 'registry.example', '127.0.0.1', false],
  ['0.0.0.0', undefined, '127.0.0.1', false],
  ['::', undefined, 'localhost', false],
  ['192.0.2.1', undefined, '192.0.2.1', false],
  ['registry.example', undefined, 'localhost', false],
])('listening on %s, public as %s, asked for as %s: writable is %s', async (listen, publicHost, host, isLocal) => {
  const access = await open(listen, publicHost);
  const caller = await access.authenticate({ host });
  expect(allowed(access, caller, 'local/app')).toEqual(isLocal ? ['pull', 'push', 'delete'] : ['pull']);
  expect(allowed(access, caller, 'docker.io/library/alpine')).toEqual(isLocal ? ['pull', 'push', 'delete'] : ['pull']);
});

test.each(['http://127.0.0.1:8080', 'http://localhost:3000', 'https://page.example', 'null', ''])(
  'a request that a page of "%s" sent may not write',
  async origin => {
    const access = await open('127.0.0.1');
    const caller = await access.authenticate({ host: '127.0.0.1', origin });
    expect(access.isAllowed(caller, 'push', 'local/app')).toBe(false);
    expect(access.isAllowed(caller, 'pull', 'local/app')).toBe(true);
  },
);

test('says in one line what is open', async () => {
  expect((await open('127.0.0.1')).summary).toMatch(
    /^access is open: anyone on this machine may pull, push and delete/,
  );
  expect((await open('0.0.0.0')).summary).toMatch(/^access is for reading: anyone may pull, and nobody may push/);
});

test('a refusal says what to configure', async () => {
  const access = await open('0.0.0.0');
  expect(() => access.requireRight({ kind: 'anonymous' }, 'push', 'local/app')).toThrow(
    expect.objectContaining({
      code: 'DENIED',
      message: 'nobody may push here: set "access" in veneer.yaml to change who may',
    }),
  );
});

test('credentials are not looked at, nobody has to show any, and there are no bearer tokens', async () => {
  const access = await open('0.0.0.0');
  expect(await access.authenticate({ authorization: basic('ci', 'wrong') })).toEqual({ kind: 'anonymous' });
  expect(await access.authenticate({ authorization: 'nonsense' })).toEqual({ kind: 'anonymous' });
  expect(() => access.requireCaller({ kind: 'anonymous' })).not.toThrow();
  expect(access.bearer).toBeUndefined();
});

function allowed(access: Access, caller: Caller, repository: string): readonly string[] {
  return verbs.filter(verb => access.isAllowed(caller, verb, repository));
}
