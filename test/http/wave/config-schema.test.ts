// containerConfig: what is taken for none, what is kept, and which field and rule a refusal names.
import { expect, test } from 'vitest';
import { createConfigSchema } from '../../../src/http/wave/config-schema.ts';

const schema = createConfigSchema({ maxLocationCharacters: 120 });
const digest = `sha256:${'a'.repeat(64)}`;
const location = 'data:aGk=';

test.each([
  ['an empty object', {}],
  ['all null', { entrypoint: null, cmd: null, env: null, workingDir: null, layers: null }],
  ['all empty', { entrypoint: [], env: [], workingDir: '', user: '', labels: {}, layers: [] }],
])('takes a config that is %s for none', (_name, config) => {
  expect(schema.parse(config)).toBeUndefined();
});

test('keeps every field, ports with their protocol and platforms normalised', () => {
  const config = {
    entrypoint: ['/bin/sh', '-c', ''],
    cmd: ['true'],
    env: ['A=b=c', 'EMPTY='],
    workingDir: '/work',
    user: '1000:1000',
    labels: { empty: '' },
    annotations: { a: 'b' },
  };
  const layer = { location, gzipDigest: digest, gzipSize: 2, tarDigest: digest, skipHashing: true };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const layers = [{ ...layer, platforms: ['linux/aarch64'], mediaType }];
  expect(schema.parse({ ...config, exposedPorts: ['80', '53/udp'], layers })).toEqual({
    ...config,
    exposedPorts: ['80/tcp', '53/udp'],
    layers: [{ ...layer, platforms: ['linux/arm64'], mediaType }],
  });
});

test.each([location, 'http://h/l', 'https://h/l', `docker://h/v2/i/blobs/${digest}`, `oci://h/r@${digest}`])(
  'takes a layer at %s',
  location => {
    expect(schema.parse({ layers: [{ location, gzipDigest: null }] })).toEqual({ layers: [{ location }] });
  },
);

test('takes a size as text', () => {
  expect(schema.parse({ layers: [{ location, gzipSize: '1234' }] })).toEqual({
    layers: [{ location, gzipSize: 1234 }],
  });
});

test.each([
  ['entrypoint', 'Invalid input: expected array, received string', { entrypoint: '/bin/sh' }],
  ['entrypoint.1', 'Invalid input: expected string, received number', { entrypoint: ['a', 1] }],
  ['entrypoint.0', 'must not contain a NUL character', { entrypoint: ['\0'] }],
  ['cmd', 'Invalid input: expected array, received string', { cmd: 'ls' }],
  ['cmd.0', 'must not contain a NUL character', { cmd: ['\0'] }],
  ['env', 'Invalid input: expected array, received object', { env: { A: 'b' } }],
  ['env.1', 'must be KEY=VALUE, with a key that is not empty', { env: ['A=b', 'A'] }],
  ['env.0', 'must be KEY=VALUE, with a key that is not empty', { env: ['=b'] }],
  ['env.0', 'must not have the key "__proto__"', { env: ['__proto__=b'] }],
  ['env.0', 'must not contain a NUL character', { env: ['A=\0'] }],
  ['workingDir', 'Invalid input: expected string, received array', { workingDir: ['/'] }],
  ['workingDir', 'must not contain a NUL character', { workingDir: '/\0' }],
  ['workingDir', 'has 4097 characters, over the limit of 4096', { workingDir: '/'.repeat(4097) }],
  ['user', 'Invalid input: expected string, received number', { user: 1000 }],
  ['user', 'must not contain a NUL character', { user: '\0' }],
  ['user', 'has 257 characters, over the limit of 256', { user: 'u'.repeat(257) }],
  ['labels', 'must be an object', { labels: ['a=b'] }],
  ['labels.a', 'Invalid input: expected string, received number', { labels: { a: 1 } }],
  ['annotations.a', 'Invalid input: expected string, received null', { annotations: { a: null } }],
  ['exposedPorts', 'Invalid input: expected array, received string', { exposedPorts: '80' }],
  ['exposedPorts.0', 'must be a port from 1 to 65535', { exposedPorts: ['0/tcp'] }],
  ['exposedPorts.0', 'must be a port from 1 to 65535', { exposedPorts: ['65536'] }],
  ['exposedPorts.0', 'must be a port from 1 to 65535', { exposedPorts: ['80/icmp'] }],
  ['env', 'Invalid input: expected array, received string', { layers: {}, env: 'x' }],
  ['layers', 'Invalid input: expected array, received string', { layers: 'x' }],
  ['layers.0', 'Invalid input: expected object, received null', { layers: [null] }],
  ['layers', 'has 126 items, over the limit of 125', { layers: Array(126).fill({ location }) }],
  ['', 'has 1048590 characters besides its layers, over the limit of 1048576', { env: [`A=${'b'.repeat(2 ** 20)}`] }],
])('refuses %s: %s', (path, message, config) => {
  expect(firstIssue(config)).toEqual([path, expect.stringContaining(message)]);
});

test.each([
  ['location', 'is required, as a string', { location: null }],
  ['location', 'must be data:<base64>, or an http://, https://, docker:// or', { location: 'file:///etc/passwd' }],
  ['location', 'not a valid http:// or https:// URL', { location: 'http://[/x' }],
  ['location', 'data: is empty', { location: 'data:' }],
  ['location', 'data: is not base64 of the standard alphabet', { location: 'data:_-_-' }],
  ['location', 'data: must be base64', { location: 'data:text/plain,hello' }],
  ['location', 'has line breaks: base64 in one line is needed', { location: 'data:aG\nk=\n' }],
  ['location', 'not of the form docker://', { location: 'docker://x' }],
  ['location', 'not of the form oci://', { location: 'oci://docker.io/library/app@sha256:zz' }],
  ['location', 'a URL with a user name or password', { location: 'https://me:secret@h/l' }],
  ['location', 'has 121 characters, over the limit of 120', { location: `data:${'A'.repeat(116)}` }],
  ['gzipDigest', 'must be sha256:<64 hex> or sha512:<128 hex>', { location, gzipDigest: 'x' }],
  ['tarDigest', 'must be sha256:<64 hex> or sha512:<128 hex>', { location, tarDigest: 'sha1:x' }],
  ['gzipSize', 'must not be negative', { location, gzipSize: -1 }],
  ['gzipSize', 'must be a whole number', { location, gzipSize: 1.5 }],
  ['gzipSize', 'must be a whole number', { location, gzipSize: '1 kB' }],
  ['skipHashing', 'Invalid input: expected boolean, received string', { location, skipHashing: 'no' }],
  ['platforms', 'Invalid input: expected array, received string', { location, platforms: 'amd64' }],
  ['platforms.0', '"a b" is not a platform', { location, platforms: ['a b'] }],
  ['mediaType', 'must be an OCI or Docker layer media type', { location, mediaType: 'text/plain' }],
])('refuses a layer for its %s: %s', (field, message, layer) => {
  expect(firstIssue({ layers: [layer] })).toEqual([`layers.0.${field}`, expect.stringContaining(message)]);
});

test.each([
  ['env', 'has 10001 items, over the limit of 10000', { env: Array(10_001).fill(0) }],
  [
    'labels',
    'has 10001 items, over the limit of 10000',
    {
      labels: Object.fromEntries(
        Array(10_001)
          .keys()
          .map(key => [key, 0]),
      ),
    },
  ],
  ['exposedPorts.0', 'must be a port', { exposedPorts: Array(10_000).fill('x') }],
  ['layers.0.location', 'is required', { layers: Array(125).fill({}) }],
  [
    'layers.0.platforms',
    'has 101 items, over the limit of 100',
    { layers: [{ location, platforms: Array(101).fill('!') }] },
  ],
])('looks at %s no further than its first fault', (path, message, config) => {
  expect(schema.safeParse(config).error?.issues).toEqual([
    expect.objectContaining({
      path: path.split('.').map(step => (/^\d+$/.test(step) ? Number(step) : step)),
      message: expect.stringContaining(message),
    }),
  ]);
});

test.each(['labels', 'annotations'])('refuses %s with the key __proto__, or a NUL character in one', field => {
  expect(firstIssue({ [field]: JSON.parse('{"__proto__":"a"}') })).toEqual([
    field,
    'must not have the key "__proto__"',
  ]);
  expect(firstIssue({ [field]: { 'a\0': 'b' } })).toEqual([field, 'must not have a NUL character in a key']);
});

function firstIssue(config: unknown): readonly [path: string, message: string] {
  const { path = [], message = '' } = schema.safeParse(config).error?.issues[0] ?? {};
  return [path.join('.'), message];
}
