// Credentials for buildah: for the repositories of a build, and for nothing else of their hosts.
import { expect, test } from 'vitest';
import type { BuildInput } from '../../../../src/builds/backend.ts';
import { authFile } from '../../../../src/builds/backends/buildah/workspace.ts';
import { plainOrder } from '../../../support/plain-order.ts';

const CREDENTIALS = new Map([
  ['host:5000', { username: 'user', password: 'password' }],
  ['docker.io', { username: 'hub', password: 'password' }],
]);

test('has the credentials of a host for the repositories of the build alone', () => {
  const target = { name: 'host:5000/team/app:1', image: 'host:5000/team/app:1', isInsecure: true };
  const cache = { name: 'host:5000/team/cache:x', image: 'host:5000/team/cache:x', isInsecure: true };
  const base = { name: `host:5000/base@sha256:${'a'.repeat(64)}`, isInsecure: true };
  const containerFile = 'FROM alias/base:1\nCOPY --from=alpine:3 a b\nCOPY --from=other:5000/x c d\n';
  expect(keysOf({ target, cache, bases: new Map([['alias/base:1', base]]) }, containerFile)).toEqual([
    'docker.io/alias/base',
    'docker.io/library/alpine',
    'host:5000/base',
    'host:5000/team/app',
    'host:5000/team/cache',
  ]);
});

test('writes credentials as Basic has them', () => {
  const target = { name: 'host:5000/app:1', image: 'host:5000/app:1', isInsecure: true };
  expect(authOf({ target }, 'FROM scratch\n')).toEqual({
    'host:5000/app': { auth: Buffer.from('user:password').toString('base64') },
  });
});

function keysOf(order: Partial<BuildInput>, containerFile: string): readonly string[] {
  return Object.keys(authOf(order, containerFile)).toSorted();
}

function authOf(order: Partial<BuildInput>, containerFile: string) {
  return authFile(plainOrder({ credentials: CREDENTIALS, ...order }, { containerFile })).auths;
}
