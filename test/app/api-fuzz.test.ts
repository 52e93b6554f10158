// Whatever the API is sent, the answer is one that tells what was wrong: never a 500, and nothing that is no JSON.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dataUrl, HOST, makeLayer, startApp, type TestApp } from '../support/app.ts';

let app: TestApp;
const layer = dataUrl(await makeLayer('opt/hello', 'hi'));
const digest = `sha256:${'a'.repeat(64)}`;

beforeAll(async () => {
  app = await startApp({ config: { openUpstreams: false, tokens: { ttl: '1h' } } });
  app.putImage();
});

afterAll(() => app.close());

const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(
    null,
    '',
    ' ',
    0,
    -1,
    1.5,
    1e308,
    2 ** 53,
    true,
    [],
    {},
    [null],
    [[]],
    [{}],
    '\0',
    '\ud800',
    'a\nb',
    '..',
  ),
  fc.string({ unit: 'binary', maxLength: 40 }),
);

/** Mostly the first, which is what it should be: otherwise one odd field would hide all others. */
function field(...right: unknown[]) {
  return fc.oneof(
    { weight: 60, arbitrary: fc.constant(right[0]) },
    { weight: 4, arbitrary: fc.constantFrom(...right) },
    { weight: 1, arbitrary: odd },
  );
}

function lists(...right: unknown[]) {
  const list = fc.array(field(...right), { maxLength: 3 });
  return fc.oneof({ weight: 30, arbitrary: list }, { weight: 1, arbitrary: odd });
}

function maps() {
  const map = fc.dictionary(fc.string(), field('x'), { maxKeys: 3 });
  return fc.oneof({ weight: 30, arbitrary: map }, { weight: 1, arbitrary: odd });
}

function some(fields: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<unknown> {
  const record = fc.record(fields, { requiredKeys: [] });
  return fc.oneof({ weight: 30, arbitrary: record }, { weight: 1, arbitrary: odd });
}

const locations = [
  ...[layer, 'data:', 'data:_-_-', 'data:text/plain,hello', 'docker://x', 'oci://x', `oci://lab/library/app@${digest}`],
  ...[
    `docker://lab/v2/library/app/blobs/${digest}`,
    'https://me:secret@example.com/l',
    'http://[',
    'http://127.0.0.1:1/l',
  ],
  ...['file:///etc/passwd', 'oci://docker.io/library/app@sha256:zz', 'data:,', 'data:;base64,=', 'ftp://x'],
];

const layers = some({
  location: field(...locations),
  gzipDigest: field(null, digest),
  gzipSize: field(null, 1, '1'),
  tarDigest: field(null, digest),
  skipHashing: field(true),
  platforms: lists('linux/amd64', 'arm64', 'linux/linux'),
  mediaType: field('application/vnd.oci.image.layer.v1.tar+gzip'),
});

const containerConfig = some({
  entrypoint: lists('/bin/sh', ''),
  cmd: lists('true'),
  env: lists('A=b', '=b', '__proto__=x', 'constructor=x'),
  workingDir: field('/srv', 'rel'),
  user: field('1000'),
  labels: maps(),
  exposedPorts: lists('80', '80/tcp', '0'),
  annotations: maps(),
  layers: fc.oneof({ weight: 30, arbitrary: fc.array(layers, { maxLength: 3 }) }, { weight: 1, arbitrary: odd }),
});

const base64 = (text: string) => Buffer.from(text).toString('base64');
const environments = ['dependencies: [a]', '- - -', '{', 'a: &a [*a]', '@EXPLICIT', 'https://x', ': :'].map(base64);

/** What is built, of which there is to be one. */
const sources = {
  containerFile: field(
    base64('FROM scratch\nCOPY a /\n'),
    base64('FROM lab/library/app:1\nCOPY a /\n'),
    base64('RUN'),
    '!',
  ),
  condaFile: field(...environments),
  packages: some({
    type: field('CONDA', 'CRAN'),
    environment: field(null, ...environments),
    entries: lists('a=1', 'a', 'pip:b', 'https://x'),
    channels: lists('conda-forge'),
    condaOpts: some({ mambaImage: field('mamba'), commands: lists('RUN a'), basePackages: field('a b') }),
    cranOpts: some({ rImage: field('r'), basePackages: field('a') }),
  }),
};

const build = {
  buildContext: fc.oneof(some({ location: field(...locations) }), fc.dictionary(fc.string(), field('text'))),
  buildRepository: field('local/builds', 'lab/x', 'local/x:1'),
  cacheRepository: field('local/cache'),
  freeze: field(false, true),
  mirror: field(false, true),
  nameStrategy: field('none', 'tagPrefix', 'imageSuffix'),
  buildCompression: some({ mode: field('gzip', 'zstd'), level: field(1), force: field(true) }),
  buildTemplate: field(null, 'conda/micromamba:v2', 'conda/pixi:v1', 'x'),
  buildTag: field(null, '1', '-'),
  buildTimeout: field('1m', '0s', '99h'),
  buildArgs: maps(),
  buildTarget: field(null, 'a'),
  buildLabels: maps(),
  buildSecrets: field([], ['a']),
  buildSsh: field([], ['default']),
  buildNetwork: field('default', 'none', 'host'),
  buildAttestations: some({ sbom: field(true), provenance: field('min', 'max') }),
};

const submit = some({
  containerImage: field(
    'lab/library/app:1',
    'lab/library/none',
    'https://x',
    'a@b@c',
    `lab/library/app@${digest}`,
    'wt/x/y',
  ),
  containerConfig,
  containerPlatform: field('amd64', 'linux/arm64,linux/amd64,', 'linux/linux', 'x/y/z/w', ',', 'windows/amd64'),
  containerIncludes: lists('lab/library/app:1', 'lab/none'),
  towerAccessToken: field('x'),
  towerRefreshToken: field('x'),
  towerEndpoint: field('http://x'),
  towerWorkspaceId: field(1, '1'),
  workflowId: field('x'),
  fingerprint: field('x'),
  timestamp: field('x'),
  // Nothing is to be built here.
  dryRun: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.jsonValue() }),
  format: field('docker', 'sif'),
  scanMode: field('none', 'async'),
});

const built = fc
  .tuple(
    submit,
    fc.record(build, { requiredKeys: [] }),
    fc.oneof(...Object.entries(sources).map(([name, source]) => fc.record({ [name]: source }))),
  )
  .map(([image, more, source]) => {
    const { containerImage: _, ...rest } = Object(image);
    return { ...rest, ...more, ...source, dryRun: true };
  });

const RUNS = { numRuns: 400 };

test('a submit of anything is answered in words', async () => {
  const statuses = new Map<number, number>();
  const bodies = fc.oneof({ weight: 2, arbitrary: submit }, { weight: 2, arbitrary: built });
  const paths = fc.constantFrom('/v1alpha2/container', '/container-token');
  await fc.assert(
    fc.asyncProperty(paths, bodies, async (path, body) => {
      const status = await ask(path, body);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }),
    RUNS,
  );
  // Some come through, so that what lies behind the schema is met too.
  expect([...statuses.keys()]).toEqual(expect.arrayContaining([200, 400]));
});

test('so is an inspection, and whatever is no JSON at all', async () => {
  const image = some({ containerImage: field('lab/library/app:1', 'lab/none', 'a\nb', '://') });
  const platforms = fc.oneof(fc.constantFrom('amd64', 'linux/linux', ''), fc.string({ unit: 'binary' }));
  await fc.assert(
    fc.asyncProperty(image, platforms, async (body, platform) => {
      await ask(`/v1alpha1/inspect?${new URLSearchParams({ platform })}`, body);
    }),
    RUNS,
  );
  const paths = fc.constantFrom('/v1alpha2/container', '/container-token', '/v1alpha1/inspect', '/token');
  await fc.assert(
    fc.asyncProperty(paths, fc.uint8Array(), async (path, body) => void (await ask(path, body))),
    RUNS,
  );
});

const ROUTES = [
  ...['/v1alpha2/container/', '/container-token/', '/v1alpha1/builds/', '/v1alpha1/mirrors/', '/v1alpha1/builds?'],
  ...['/v1/rules/explain?', '/v1/cache/content?', '/v1/cache/prune?', '/v1/cache/verify?', '/v1/hosted/collect?'],
  ...['/v2/', '/v2/lab/library/app/manifests/', '/v2/lab/library/app/blobs/', '/v2/lab/library/app/tags/list?'],
  ...[`/v2/lab/library/app/referrers/${digest}?`, '/v2/local/x/blobs/uploads/', '/v2/local/x/manifests/', '/token?'],
];

test('so is any path and query', async () => {
  const word = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.constantFrom(
      '..',
      '%',
      '%2e%2e',
      '%00',
      digest,
      'bd-0123456789abcdef_1',
      '1/status',
      '1/logs',
      'x'.repeat(3000),
    ),
    fc.constantFrom(
      'n=-1',
      'n=1e9',
      'last=%ff',
      'limit=0',
      'status=x',
      'after=%00',
      'image=lab/library/app:1&image=',
      'ns=x',
    ),
    fc.constantFrom('image=lab/library/app&platform=linux', 'unusedMs=1&toBytes=x', 'bytesPerSecond=0', 'dryRun=maybe'),
  );
  const methods = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS');
  const paths = fc.tuple(fc.constantFrom(...ROUTES), word).map(([route, end]) => `${route}${end}`);
  const headers = fc.record(
    {
      Accept: fc.constantFrom('', ',,;', '*/*;q=x'),
      Range: fc.constantFrom('bytes=-1', 'bytes=9-1', 'x'),
      'Content-Range': fc.constantFrom('1-0', 'x', '0-99999999999999999999'),
      Authorization: fc.constantFrom('Basic', 'Basic !!!', 'Bearer ', 'Bearer a.b.c', 'Digest x', ' '),
      'If-None-Match': fc.constantFrom('*', '"', 'W/'),
    },
    { requiredKeys: [] },
  );
  await fc.assert(
    fc.asyncProperty(methods, paths, headers, async (method, path, given) => {
      const url = `http://${HOST}${path}`;
      if (!URL.canParse(url)) return;
      const { pathname, search } = new URL(url);
      const response = await app.request(`${pathname}${search}`, { method, headers: { ...given } });
      requireWords(response.status, await response.text());
    }),
    { numRuns: 1500 },
  );
});

async function ask(path: string, body: unknown): Promise<number> {
  const headers = { 'Content-Type': 'application/json' };
  const sent = body instanceof Uint8Array ? new Blob([Buffer.from(body)]).stream() : JSON.stringify(body);
  const response = await app.request(path, { method: 'POST', headers, body: sent });
  const text = await response.text();
  requireWords(response.status, text);
  if (!path.startsWith('/token')) expect(Object(JSON.parse(text))).toBeTypeOf('object');
  return response.status;
}

/** 502 and the like are of upstreams. */
function requireWords(status: number, text: string): void {
  if (status === 500) throw new Error(`500: ${text}\n${app.log.slice(-1)}`);
  if (status >= 400 && status < 500 && text !== '') expect(text).toMatch(/"message":"[^"]/);
}
