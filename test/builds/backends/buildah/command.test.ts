// The commands for an order.
import { expect, test } from 'vitest';
import type { BuildInput } from '../../../../src/builds/backend.ts';
import {
  buildArguments,
  pushArguments,
  pushListArguments,
  storageArguments,
} from '../../../../src/builds/backends/buildah/command.ts';
import type { RunMode } from '../../../../src/builds/backends/buildah/isolation.ts';
import { planWorkspace } from '../../../../src/builds/backends/buildah/workspace.ts';
import { parsePlatform, parsePlatforms } from '../../../../src/oci/platform.ts';
import { plainOrder, type SpecFields } from '../../../support/plain-order.ts';

const OWN = '/b/buildah';
const BEGIN = ['--registries-conf', `${OWN}/registries.conf`, 'build', '--platform', 'linux/amd64'];
const FILES = ['--file', `${OWN}/Containerfile`, '--iidfile', `${OWN}/image-id`];
const WAY = ['--isolation', 'oci', '--pid', 'private', '--network', 'private'];
const END = [
  ...['--format', 'oci', '--layers', '--force-rm'],
  ...['--http-proxy=false', '--authfile', `${OWN}/auth.json`, '/b/context'],
];

test('a plain order is this command', () => {
  expect(argumentsOf({})).toEqual([...BEGIN, ...FILES, ...WAY, ...END]);
});

test('one of several platforms is added to the list of the build', () => {
  const args = argumentsOf({ platforms: parsePlatforms('linux/arm64,linux/amd64') });
  expect(args).toEqual([...BEGIN, '--manifest', 'localhost/veneer-unique', ...FILES, ...WAY, ...END]);
});

test.each<[name: string, spec: SpecFields, args: readonly string[]]>([
  [
    'build arguments as they are',
    { args: { A: 'x,y "z"\n', EMPTY: '' } },
    ['--build-arg', 'A=x,y "z"\n', '--build-arg', 'EMPTY='],
  ],
  ['labels as they are', { labels: { 'org.x': 'a=b,c' } }, ['--label', 'org.x=a=b,c']],
  ['the stage', { stage: 'test' }, ['--target', 'test']],
])('passes on %s', (_, spec, args) => {
  expect(argumentsOf({}, spec)).toEqual([...BEGIN, ...FILES, ...args, ...WAY, ...END]);
});

test.each(['none', 'host'] as const)('gives a RUN the network that was asked for: %s', network => {
  expect(argumentsOf({}, { network })).toEqual([...BEGIN, ...FILES, ...WAY.with(-1, network), ...END]);
});

test('reads what was pulled before, and no registry, where it has no network', () => {
  const bases = new Map([['alpine:3', { name: 'docker.io/library/alpine@sha256:1', isInsecure: false }]]);
  const cache = { name: 'host:5000/cache:x', image: 'cache:x', isInsecure: true };
  const pulled = ['--build-context', 'alpine:3=container-image://0123', '--pull-never'];
  const mode: RunMode = { isolation: 'chroot', runtime: undefined, network: 'none', wrapper: ['unshare'] };
  expect(argumentsOf({ bases, cache }, {}, mode, new Map([['alpine:3', '0123']]))).toEqual([
    ...BEGIN,
    ...FILES,
    ...pulled,
    '--isolation',
    'chroot',
    ...END,
  ]);
});

test('keeps layers in the repository of the cache, which has tags of its own', () => {
  const cache = { name: 'host:5000/cache:x', image: 'cache:x', isInsecure: true };
  const args = ['--cache-from', 'host:5000/cache', '--cache-to', 'host:5000/cache'];
  expect(argumentsOf({ cache })).toEqual([...BEGIN, ...FILES, ...args, ...WAY, ...END]);
});

test('pins the bases', () => {
  const bases = new Map([['alpine:3', { name: 'docker.io/library/alpine@sha256:1', isInsecure: false }]]);
  const args = ['--build-context', 'alpine:3=docker-image://docker.io/library/alpine@sha256:1'];
  expect(argumentsOf({ bases })).toEqual([...BEGIN, ...FILES, ...args, ...WAY, ...END]);
});

test('names secrets and agents by their ids and paths, never by their values', () => {
  const secrets = new Map([['a', Buffer.from('canary')]]);
  const credentials = new Map([['registry.example', { username: 'canary', password: 'canary' }]]);
  const args = argumentsOf({ secrets, credentials, ssh: new Map([['default', '/run/agent.sock']]) });
  const named = ['--secret', `id=a,src=${OWN}/secrets/0`, '--ssh', 'default=/run/agent.sock'];
  expect(args).toEqual([...BEGIN, ...FILES, ...named, ...WAY, ...END]);
});

test('isolates by the runtime that works', () => {
  const mode: RunMode = { isolation: 'rootless', runtime: 'runc', network: 'none', wrapper: [] };
  const args = ['--isolation', 'rootless', '--runtime', 'runc', '--pid', 'private', '--network', 'none'];
  expect(argumentsOf({}, {}, mode)).toEqual([...BEGIN, ...FILES, ...args, ...END]);
});

test('pushes one image by its id', () => {
  const order = plainOrder();
  expect(pushArguments(order, planWorkspace(order, 'unique'), 'sha256:1')).toEqual([
    ...[...BEGIN.slice(0, 2), 'push', '--authfile', `${OWN}/auth.json`, '--format', 'oci'],
    ...['--digestfile', `${OWN}/digest`, 'sha256:1', 'docker://host:5000/repo:tag'],
  ]);
});

test.each([
  [true, ['--digestfile', `${OWN}/digest`]],
  [false, []],
])('pushes a list with all its images: with a file for the digest %s', (hasDigestFile, digest) => {
  const order = plainOrder();
  expect(pushListArguments(order, planWorkspace(order, 'unique'), { hasDigestFile })).toEqual([
    ...[...BEGIN.slice(0, 2), 'manifest', 'push', '--all', '--authfile', `${OWN}/auth.json`, '--format', 'oci'],
    ...[...digest, 'localhost/veneer-unique', 'docker://host:5000/repo:tag'],
  ]);
});

test('every build has a list of its own', () => {
  expect(planWorkspace(plainOrder()).list).not.toBe(planWorkspace(plainOrder()).list);
});

test('works in the storage that it is told to use, or in that of the machine', () => {
  expect(storageArguments({})).toEqual([]);
  expect(storageArguments({ root: '/r', runRoot: '/rr', storageDriver: 'vfs' })).toEqual(
    '--root /r --runroot /rr --storage-driver vfs'.split(' '),
  );
});

const PLAIN: RunMode = { isolation: 'oci', runtime: undefined, network: 'private', wrapper: [] };

function argumentsOf(
  order: Partial<BuildInput>,
  fields: SpecFields = {},
  mode = PLAIN,
  pulled?: ReadonlyMap<string, string>,
) {
  const whole = plainOrder(order, fields);
  const platform = parsePlatform('linux/amd64');
  return buildArguments(whole, planWorkspace(whole, 'unique'), { platform, mode, pulled });
}
