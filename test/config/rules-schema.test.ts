// The keys `rules` and `ruleDigests`: what they become, and every fault.
import { expect, test } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';
import type { RuleOptions } from '../../src/rules/rules.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const ANY = { image: 'docker.io/**' };
const CHANGE = { env: { A: '1' } };

const parse = (...rules: readonly object[]) => configSchema({}).safeParse({ rules });

function accepted(rule: object): RuleOptions | undefined {
  const { data, error } = parse({ name: 'one', match: ANY, ...rule });
  expect(error?.issues).toBeUndefined();
  return data?.rules[0];
}

test('a rule with everything is what the rules take', () => {
  const rule = {
    match: { image: '**', not: 'docker.io/library/scratch*', platform: ['linux/*', 'AArch64'], caller: 'ci-*' },
    layers: [
      { directory: './layers/ca' },
      { file: './tool.tar.gz', platforms: ['linux/arm64/v8', 'arm'] },
      { url: 'https://example.com/a.tar?x=1', digest: DIGEST },
      { location: `oci://ghcr.io/org/tools@${DIGEST}` },
      { image: 'docker.io/org/tools:1' },
    ],
    env: { SSL_CERT_FILE: '/etc/ssl/ca.pem' },
    entrypoint: ['/wrap'],
    cmd: [],
    workingDir: '/srv',
    user: '10:10',
    labels: { audit: 'yes' },
    exposedPorts: [80, '53/udp'],
    annotations: { a: 'b' },
    pinned: 'refused',
  };
  expect(accepted(rule)).toEqual({
    name: 'one',
    match: {
      image: ['**'],
      not: ['docker.io/library/scratch*'],
      platform: ['linux/*', 'linux/arm64'],
      caller: ['ci-*'],
    },
    layers: [
      { kind: 'directory', path: './layers/ca' },
      { kind: 'file', path: './tool.tar.gz', platforms: ['linux/arm64', 'linux/arm/v7'] },
      { kind: 'url', url: 'https://example.com/a.tar?x=1', digest: DIGEST },
      { kind: 'blob', location: `oci://ghcr.io/org/tools@${DIGEST}` },
      { kind: 'image', image: 'docker.io/org/tools:1' },
    ],
    changes: {
      env: { SSL_CERT_FILE: '/etc/ssl/ca.pem' },
      entrypoint: ['/wrap'],
      cmd: [],
      workingDir: '/srv',
      user: '10:10',
      labels: { audit: 'yes' },
      exposedPorts: ['80/tcp', '53/udp'],
      annotations: { a: 'b' },
    },
    pinned: 'refused',
  });
});

test('env may be a list, in which a later entry wins', () => {
  expect(accepted({ env: ['A=1', 'B=x=y', 'A=2'] })?.changes.env).toEqual({ A: '2', B: 'x=y' });
});

test.each([
  ['arm', 'linux/arm'],
  ['linux/ARM', 'linux/arm'],
  ['linux/arm/v7', 'linux/arm/v7'],
  ['armhf', 'linux/arm/v7'],
  ['linux/x86_64', 'linux/amd64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['Linux/*', 'linux/*'],
  ['{linux,windows}/amd64', '{linux,windows}/amd64'],
])('the platform %s is %s', (platform, expected) => {
  expect(accepted({ match: { ...ANY, platform }, ...CHANGE })?.match.platform).toEqual([expected]);
});

test.each([
  ['no name', { name: undefined, ...CHANGE }, 'name'],
  ['a name of other characters', { name: 'a b', ...CHANGE }, 'expected letters'],
  ['a long name', { name: 'a'.repeat(65), ...CHANGE }, 'expected letters'],
  ['no match', { match: undefined, ...CHANGE }, 'match'],
  ['no pattern', { match: {}, ...CHANGE }, 'image'],
  ['an empty list of patterns', { match: { image: [] }, ...CHANGE }, 'image'],
  ['a pattern without a registry', { match: { image: 'alpine' }, ...CHANGE }, 'expected a full name'],
  [
    'an official image without library',
    { match: { image: 'docker.io/alpine' }, ...CHANGE },
    'docker.io/library/alpine',
  ],
  ['another name of Docker Hub', { match: { image: 'index.docker.io/**' }, ...CHANGE }, 'use docker.io for Docker Hub'],
  ['a pattern with a digest', { match: { image: `docker.io/a/b@${DIGEST}` }, ...CHANGE }, 'digest'],
  ['a pattern in upper case', { match: { image: 'docker.io/Org/*' }, ...CHANGE }, 'lower-case'],
  ['a pattern with an empty tag', { match: { image: 'docker.io/a/b:' }, ...CHANGE }, 'nothing follows'],
  ['a pattern that takes long for some name', { match: { image: '**/*-*-*-*x' }, ...CHANGE }, 'at most 3 times'],
  ['a caller that takes long for some name', { match: { ...ANY, caller: '*a*a*a*x' }, ...CHANGE }, 'at most 3 times'],
  [
    'a platform that repeats a group',
    { match: { ...ANY, platform: 'linux/+(*a)b' }, ...CHANGE },
    'expected a platform',
  ],
  ['a pattern that repeats a group', { match: { image: 'ghcr.io/org/+(*a)b' }, ...CHANGE }, 'no +('],
  ['a pattern that says not', { match: { image: '!docker.io/a/b' }, ...CHANGE }, '`not`'],
  [
    'a pattern that is cut in its braces',
    { match: { image: 'docker.io/a/{b:1,c}' }, ...CHANGE },
    'lacks a closing \\"}\\"',
  ],
  ['a pattern with a tag in its midst', { match: { image: 'docker.io/{a/b:1,c/d}' }, ...CHANGE }, 'a colon comes'],
  ['a closing brace', { match: { image: 'docker.io/a}/b' }, ...CHANGE }, 'has an unmatched'],
  ['a faulty pattern of not', { match: { ...ANY, not: ['x'] }, ...CHANGE }, '"not",0'],
  ['an unknown key of match', { match: { ...ANY, images: '**' }, ...CHANGE }, 'images'],
  ['a platform that is none', { match: { ...ANY, platform: 'a b' }, ...CHANGE }, 'is not a platform'],
  ['a glob that is no platform', { match: { ...ANY, platform: 'linux/*/a/b' }, ...CHANGE }, 'expected a platform'],
  ['an empty caller', { match: { ...ANY, caller: '' }, ...CHANGE }, 'caller'],
  ['nothing that changes', {}, 'changes nothing'],
  ['changes that are empty', { env: {}, labels: {}, exposedPorts: [] }, 'changes nothing'],
  ['an unknown key', { ...CHANGE, envs: {} }, 'envs'],
  ['a number as a value', { env: { A: 1 } }, '"env"'],
  ['an entry without a value', { env: ['A'] }, '"env"'],
  ['a key with =', { env: { 'A=B': '1' } }, 'without \\"=\\"'],
  ['a key that would get lost', { labels: JSON.parse('{"__proto__": "x"}') }, '__proto__'],
  ['a NUL', { cmd: ['a\0'] }, 'NUL'],
  ['a command as text', { cmd: 'echo' }, 'cmd'],
  ['an empty user', { user: '' }, 'user'],
  ['a long user', { user: 'a'.repeat(257) }, 'has 257 characters'],
  ['a long folder', { workingDir: 'a'.repeat(4097) }, 'has 4097 characters'],
  ['a port out of range', { exposedPorts: [70_000] }, 'must be a port'],
  ['a port range', { exposedPorts: ['80-90'] }, 'must be a port'],
  ['labels of a megabyte', { labels: { a: 'x'.repeat(1024 * 1024) } }, 'over the limit'],
  ['too many layers', { layers: Array(126).fill({ directory: 'a' }) }, 'has 126 items'],
  ['a layer from nowhere', { layers: [{}] }, 'it has none'],
  ['a layer from two places', { layers: [{ file: 'a', directory: 'b' }] }, 'it has directory and file'],
  ['a layer with an empty path', { layers: [{ file: '' }] }, '"file"'],
  ['a path with a NUL', { layers: [{ directory: 'a\0b' }] }, 'NUL'],
  ['a digest of a file', { layers: [{ file: 'a', digest: DIGEST }] }, 'only be used with url'],
  ['a digest that is none', { layers: [{ url: 'https://a.b/c', digest: 'sha256:1' }] }, 'expected sha256'],
  ['another scheme', { layers: [{ url: 'ftp://a.b/c' }] }, 'expected an http or https URL'],
  ['data as an address', { layers: [{ url: 'data:;base64,AAAA' }] }, 'expected an http or https URL'],
  ['a password in an address', { layers: [{ url: 'https://u:hunter2@a.b/c' }] }, 'without a user name'],
  ['a location without a digest', { layers: [{ location: 'oci://ghcr.io/org/tools:1' }] }, 'expected oci://'],
  ['a location with a bad digest', { layers: [{ location: 'oci://ghcr.io/org/tools@sha256:1' }] }, 'expected oci://'],
  ['a location of another scheme', { layers: [{ location: 'https://a.b/c' }] }, 'expected oci://'],
  ['an image that is none', { layers: [{ image: 'A B' }] }, 'expected an image'],
  ['an empty list of platforms', { layers: [{ file: 'a', platforms: [] }] }, 'platforms'],
  ['a glob as a platform of a layer', { layers: [{ file: 'a', platforms: ['linux/*'] }] }, 'is not a platform'],
  ['an unknown key of a layer', { layers: [{ file: 'a', path: 'b' }] }, 'path'],
  ['another policy', { ...CHANGE, pinned: 'maybe' }, 'pinned'],
])('a rule with %s is refused', (_, rule, message) => {
  const { error } = parse({ name: 'one', match: ANY, ...rule });
  expect(JSON.stringify(error?.issues)).toContain(message);
  expect(JSON.stringify(error?.issues)).not.toContain('hunter2');
});

test('more rules than there may be are refused, with the limit', () => {
  const { error } = parse(...Array.from({ length: 1001 }, (_, at) => ({ name: `r${at}`, match: ANY, ...CHANGE })));
  expect(error?.issues[0]).toMatchObject({
    path: ['rules'],
    message: 'at most 1000 rules; one rule may have up to 1000 patterns in match.image',
  });
});

test('two rules of one name are refused, by the later one', () => {
  const { error } = parse(...['a', 'b', 'a'].map(name => ({ name, match: ANY, ...CHANGE })));
  expect(error?.issues).toMatchObject([{ path: ['rules', 2, 'name'], message: 'another rule is named "a"' }]);
});

test('every fault of a rule is reported at once', () => {
  const { error } = parse({ name: 'a b', match: { image: 'alpine' }, layers: [{}], user: '' });
  expect(error?.issues.map(({ path }) => path.slice(2).join('.'))).toEqual([
    'name',
    'match.image.0',
    'layers.0',
    'user',
  ]);
});

test.each([
  ['1d', undefined],
  ['2d', 2 * 86_400_000],
])('digests are kept for %s or more: %s', (keep, expected) => {
  expect(configSchema({}).safeParse({ ruleDigests: { keep } }).data?.ruleDigests.keepMs).toBe(expected);
});
