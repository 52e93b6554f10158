// The command for an order.
import { expect, test } from 'vitest';
import type { BuildInput } from '../../../../src/builds/backend.ts';
import { planWorkspace } from '../../../../src/builds/backends/buildkit/workspace.ts';
import { buildArguments } from '../../../../src/builds/backends/docker/backend.ts';
import { parsePlatforms } from '../../../../src/oci/platform.ts';
import { plainOrder, type SpecFields } from '../../../support/plain-order.ts';

const FILE = ['--file', '/b/buildkit/file/Containerfile', '--platform', 'linux/amd64'];
const PLAIN = ['--sbom=false', '--provenance=false'];
const OUTPUT = ['--output', 'type=image,name=host:5000/repo:tag,push=true,oci-mediatypes=true'];
const END = ['--metadata-file', '/b/buildkit/metadata.json', '--progress', 'rawjson', '/b/context'];

test('a plain order is this command', () => {
  expect(argumentsOf({})).toEqual(['build', ...FILE, ...PLAIN, ...OUTPUT, ...END]);
});

test('several platforms are one build', () => {
  const args = argumentsOf({ platforms: parsePlatforms('linux/amd64,linux/arm64,linux/arm/v7') });
  expect(args).toEqual(expect.arrayContaining(['--platform', 'linux/amd64,linux/arm64,linux/arm/v7']));
});

test('builds on the builder that it is told to use', () => {
  const options = { builder: 'mine', hasCacheExport: true, network: 'default' } as const;
  const args = buildArguments(plainOrder(), planWorkspace(plainOrder()), options);
  expect(args).toEqual(['build', '--builder', 'mine', ...FILE, ...PLAIN, ...OUTPUT, ...END]);
});

test.each<[name: string, spec: SpecFields, args: readonly string[]]>([
  [
    'build arguments as they are',
    { args: { A: 'x,y "z"\n', EMPTY: '' } },
    ['--build-arg', 'A=x,y "z"\n', '--build-arg', 'EMPTY=', ...PLAIN],
  ],
  ['labels as they are', { labels: { 'org.x': 'a=b,c' } }, ['--label', 'org.x=a=b,c', ...PLAIN]],
  ['the stage', { stage: 'test' }, ['--target', 'test', ...PLAIN]],
  ['no network', { network: 'none' }, ['--network', 'none', ...PLAIN]],
  ["the host's network", { network: 'host' }, ['--network', 'host', '--allow', 'network.host', ...PLAIN]],
  ['attestations', { attestations: { sbom: true, provenance: 'max' } }, ['--sbom=true', '--provenance=mode=max']],
])('passes on %s', (_, spec, args) => {
  expect(argumentsOf({}, spec)).toEqual(['build', ...FILE, ...args, ...OUTPUT, ...END]);
});

test.each([
  [
    true,
    [
      ...['--cache-to', 'type=registry,mode=max,image-manifest=true,oci-mediatypes=true,ref=host:5000/cache:x'],
      ...['--cache-from', 'type=registry,ref=host:5000/cache:x'],
    ],
  ],
  [false, []],
])('keeps layers in a registry where the builder can: %s', (hasCacheExport, args) => {
  const cache = { name: 'host:5000/cache:x', image: 'cache:x', isInsecure: false };
  expect(argumentsOf({ cache }, {}, hasCacheExport)).toEqual(['build', ...FILE, ...PLAIN, ...args, ...OUTPUT, ...END]);
});

test('names secrets and agents by their ids and paths, never by their values', () => {
  const secrets = new Map([
    ['a', Buffer.from('canary')],
    ['b,"c"', Buffer.from('canary')],
  ]);
  const credentials = new Map([['registry.example', { username: 'canary', password: 'canary' }]]);
  const named = [
    ...['--secret', 'id=a,src=/b/buildkit/secrets/0', '--secret', '"id=b,""c""",src=/b/buildkit/secrets/1'],
    ...['--ssh', 'default=/run/agent.sock'],
  ];
  const args = argumentsOf({ secrets, credentials, ssh: new Map([['default', '/run/agent.sock']]) });
  expect(args).toEqual(['build', ...FILE, ...PLAIN, ...named, ...OUTPUT, ...END]);
});

function argumentsOf(order: Partial<BuildInput>, fields: SpecFields = {}, hasCacheExport = true): readonly string[] {
  const whole = plainOrder(order, fields);
  const { network } = whole.spec;
  return buildArguments(whole, planWorkspace(whole), { builder: undefined, hasCacheExport, network });
}
