// The command for an order, and how it compares with the examples of the specification of multi-platform builds.
import { expect, test } from 'vitest';
import type { BuildInput } from '../../../../src/builds/backend.ts';
import { buildArguments } from '../../../../src/builds/backends/buildkit/command.ts';
import { connectionArguments } from '../../../../src/builds/backends/buildkit/network.ts';
import { planWorkspace } from '../../../../src/builds/backends/buildkit/workspace.ts';
import { specSchema } from '../../../../src/builds/spec.ts';
import { parsePlatforms } from '../../../../src/oci/platform.ts';

const ALWAYS = [
  ...[
    'build',
    '--frontend',
    'dockerfile.v0',
    '--local',
    'context=/b/context',
    '--local',
    'dockerfile=/b/buildkit/file',
  ],
  ...['--opt', 'filename=Containerfile', '--opt', 'platform=linux/amd64'],
  ...['--source-policy-file', '/b/buildkit/source-policy.json'],
];
const END = ['--progress', 'rawjson', '--metadata-file', '/b/buildkit/metadata.json'];
const OUTPUT = ['--output', 'type=image,name=repo:tag,push=true,oci-mediatypes=true'];

test('a plain order is this command', () => {
  expect(argumentsOf({})).toEqual([...ALWAYS, ...OUTPUT, ...END]);
});

test.each([
  ['single platform', 'linux/amd64', 'build --opt platform=linux/amd64 --output type=image,name=repo:tag,push=true'],
  [
    'several platforms',
    'linux/amd64,linux/arm64',
    'build --opt platform=linux/amd64,linux/arm64 --output type=image,name=repo:tag,push=true',
  ],
  [
    'three platforms with variants',
    'linux/amd64,linux/arm64,linux/arm/v7',
    'build --opt platform=linux/amd64,linux/arm64,linux/arm/v7 --output type=image,name=repo:tag,push=true',
  ],
  [
    'the frontend',
    'linux/amd64,linux/arm64',
    'build --frontend dockerfile.v0 --opt platform=linux/amd64,linux/arm64 --output type=image,name=repo:tag,push=true',
  ],
])('has every part of the specified example: %s', (_, platforms, example) => {
  const args = argumentsOf({ platforms: parsePlatforms(platforms) });
  const [command, ...options] = example.split(' ');
  expect(args[0]).toBe(command);
  for (let i = 0; i < options.length; i += 2) {
    const values = args.filter((_, at) => args[at - 1] === options[i]);
    const parts = options[i + 1]?.split(',') ?? [];
    const sameParts = values.filter(value => parts.every(part => value.split(',').includes(part)));
    expect(sameParts).toHaveLength(1);
  }
});

test.each<[name: string, spec: object, args: readonly string[]]>([
  [
    'build arguments as they are',
    { args: { A: 'x,y "z"\n', EMPTY: '' } },
    ['--opt', 'build-arg:A=x,y "z"\n', '--opt', 'build-arg:EMPTY='],
  ],
  ['labels as they are', { labels: { 'org.x': 'a=b,c' } }, ['--opt', 'label:org.x=a=b,c']],
  ['the stage', { stage: 'test' }, ['--opt', 'target=test']],
  ['no network', { network: 'none' }, ['--opt', 'force-network-mode=none']],
  ["the host's network", { network: 'host' }, ['--opt', 'force-network-mode=host', '--allow', 'network.host']],
  [
    'attestations',
    { attestations: { sbom: true, provenance: 'max' } },
    ['--opt', 'attest:sbom=', '--opt', 'attest:provenance=mode=max'],
  ],
])('passes on %s', (_, spec, args) => {
  expect(argumentsOf({}, spec)).toEqual([...ALWAYS, ...args, ...OUTPUT, ...END]);
});

test.each([
  ['gzip', { mode: 'gzip' }, 'compression=gzip'],
  ['a level', { mode: 'zstd', level: 19 }, 'compression=zstd,compression-level=19'],
  ['the least level', { mode: 'gzip', level: 0 }, 'compression=gzip,compression-level=0'],
  ['layers of bases', { mode: 'estargz', force: true }, 'compression=estargz,force-compression=true'],
])('packs layers as asked for: %s', (_, compression, fields) => {
  expect(argumentsOf({}, { compression })).toContain(`${OUTPUT[1]},${fields}`);
});

test('says which registries speak plain HTTP', () => {
  const target = { name: 'repo:tag', image: 'repo:tag', isInsecure: true };
  const args = argumentsOf({ target, cache: { name: 'host:5000/cache:x', image: 'cache:x', isInsecure: true } });
  expect(args.slice(ALWAYS.length)).toEqual([
    '--export-cache',
    'type=registry,mode=max,image-manifest=true,oci-mediatypes=true,ref=host:5000/cache:x,registry.insecure=true',
    '--import-cache',
    'type=registry,ref=host:5000/cache:x,registry.insecure=true',
    '--output',
    'type=image,name=repo:tag,push=true,oci-mediatypes=true,registry.insecure=true',
    ...END,
  ]);
});

test('names secrets and agents by their ids and paths, never by their values', () => {
  const secrets = new Map([
    ['a', Buffer.from('canary')],
    ['b,"c"', Buffer.from('canary')],
  ]);
  const credentials = new Map([['registry.example', { username: 'canary', password: 'canary' }]]);
  const args = argumentsOf({ secrets, credentials, ssh: new Map([['default', '/run/agent.sock']]) });
  expect(args.slice(ALWAYS.length, -OUTPUT.length - END.length)).toEqual([
    ...['--secret', 'id=a,src=/b/buildkit/secrets/0', '--secret', '"id=b,""c""",src=/b/buildkit/secrets/1'],
    ...['--ssh', 'default=/run/agent.sock'],
  ]);
  expect(args.join()).not.toContain('canary');
});

test.each([
  ['a socket', { address: 'unix:///run/b.sock' }, '--addr unix:///run/b.sock'],
  [
    'TLS',
    { address: 'tcp://b:1', tls: { caPath: '/ca', certPath: '/cert', keyPath: '/key', serverName: 'name' } },
    '--addr tcp://b:1 --tlsservername name --tlscacert /ca --tlscert /cert --tlskey /key',
  ],
])('connects to %s', (_, connection, args) => {
  expect(connectionArguments(connection).join(' ')).toBe(args);
});

function argumentsOf(order: Partial<BuildInput>, fields: object = {}): readonly string[] {
  const spec = specSchema.parse({
    kind: 'containerfile',
    containerFile: 'FROM scratch\n',
    platforms: ['linux/amd64'],
    bases: {},
    target: { repository: 'repo' },
    ...fields,
  });
  if (spec.kind !== 'containerfile') throw new Error('not the spec of a Containerfile');
  const whole: BuildInput = {
    id: 'bd-0123456789abcdef_1',
    spec,
    platforms: parsePlatforms('linux/amd64'),
    directory: '/b',
    target: { name: 'repo:tag', image: 'repo:tag', isInsecure: false },
    cache: undefined,
    bases: new Map(),
    secrets: new Map(),
    ssh: new Map(),
    credentials: new Map(),
    ...order,
  };
  return buildArguments(whole, planWorkspace(whole));
}
