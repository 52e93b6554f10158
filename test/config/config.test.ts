// The configuration: precedence, units, secrets kept elsewhere, and every fault at once.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/faults.ts';
import { configSchema } from '../../src/config/schema.ts';

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'veneer-config-'));
  file = join(folder, 'veneer.yaml');
});

afterEach(() => rmSync(folder, { recursive: true }));

function load(yaml: string, env: Record<string, string> = {}, flags: { listen?: string; dataDir?: string } = {}) {
  writeFileSync(file, yaml);
  return loadConfig({ file, env, flags });
}

function faults(yaml: string, env: Record<string, string> = {}, flags: { listen?: string } = {}): readonly string[] {
  try {
    load(yaml, env, flags);
  } catch (error) {
    // Their lines have tests of their own.
    if (error instanceof ConfigError) return error.faults.map(fault => fault.replace(/^\S+\/veneer\.yaml:\d+: /, ''));
    throw error;
  }
  return [];
}

/** The line and key of each fault. */
function linesOf(yaml: string): readonly (readonly [number, string | undefined])[] {
  try {
    load(yaml);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults.map(fault => {
      const [, line, key] = /veneer\.yaml:(\d+): (\S+):/.exec(fault) ?? [];
      return [Number(line), key];
    });
  }
  return [];
}

test('an empty file gives every default', () => {
  expect(load('')).toEqual({
    listen: { host: '127.0.0.1', port: 8080 },
    hosts: [],
    trustedProxies: { addresses: [], header: 'X-Forwarded-For' },
    dataDir: resolve('.veneer'),
    state: {},
    content: {},
    workers: 1,
    console: true,
    metrics: { enabled: true, networks: [] },
    log: { level: 'info' },
    defaultUpstream: 'docker.io',
    openUpstreams: true,
    offline: false,
    upstreams: {},
    hosted: {
      prefixes: ['local/'],
      sparse: 'indexes',
      deletes: { tags: true, manifests: true, blobs: true },
      immutableTags: [],
      uploadTimeoutMs: 86_400_000,
      maxUploads: 1_000,
      collect: { everyMs: 86_400_000, graceMs: 86_400_000 },
      retention: [],
      quotas: [],
    },
    builds: {
      backends: [{ type: 'auto' }],
      repository: 'local/builds',
      platforms: ['linux/amd64'],
      timeoutMs: 900_000,
      concurrency: 4,
      queue: { max: 200, maxPerCaller: 50 },
      hold: { tokenMs: 900_000, pullMs: 240_000 },
      retries: 2,
      keepMs: 2_592_000_000,
      failureMemoryMs: 60_000,
      maxLogBytes: 16_777_216,
      rate: { anonymous: { count: 25, perMs: 86_400_000 }, known: { count: 250, perMs: 3_600_000 } },
      secrets: {},
      ssh: {},
      requests: { secrets: [], ssh: [], networks: ['default', 'none'] },
      limits: { containerFileBytes: 1_048_576, contextBytes: 1_073_741_824, contextEntries: 100_000 },
      sif: { timeoutMs: 600_000, maxImageBytes: 10 * 1024 ** 3, maxSifBytes: 10 * 1024 ** 3 },
      recipes: [],
    },
    pulls: { rate: { anonymous: { count: 1_000, perMs: 60_000 }, known: { count: 10_000, perMs: 60_000 } } },
    scans: {
      ...{ timeoutMs: 600_000, maxOutput: 16_777_216, maxImageBytes: 10 * 1024 ** 3, concurrency: 1, maxQueued: 100 },
      ...{ freshMs: 86_400_000, keepMs: 30 * 86_400_000 },
    },
    rules: [],
    ruleDigests: { keepMs: 90 * 86_400_000 },
    events: { endpoints: [] },
    memoryBytes: 67_108_864,
    tokens: {
      ttlMs: 129_600_000,
      workflow: { idleMs: 129_600_000, maxMs: 172_800_000 },
      rate: { anonymous: { count: 250, perMs: 600_000 }, known: { count: 2500, perMs: 600_000 } },
      layers: { maxBytes: 10 * 1024 ** 3, maxBytesPerAccount: 1024 ** 3 },
    },
    cache: {
      tagFreshnessMs: 300_000,
      freshness: [],
      stale: { maxAgeMs: 604_800_000, on: ['unavailable'] },
      negativeMs: 10_000,
      abandonedMs: 300_000,
      finish: { part: 0.5, restBytes: 16 * 1024 ** 2 },
      budget: { highBytes: 0.95 * 50 * 1024 ** 3, lowBytes: 0.85 * 50 * 1024 ** 3, maxAgeMs: undefined },
      pin: [],
    },
    scrub: { everyMs: 604_800_000, bytesPerSecond: 32 * 1024 ** 2, isOfBucket: false },
    attestations: 'drop',
    limits: {
      connections: 4096,
      connectionsPerAddress: 512,
      requestHeadMs: 30_000,
      keepAliveMs: 65_000,
      requestBodyRateBytes: 1024,
      requestBodyGraceMs: 20_000,
      unreadResponseMs: 120_000,
      idleConnectionMs: 600_000,
      requestBodyBytes: 20_971_520,
      upstreamRateBytes: 1024,
      layerLocation: 14_000_000,
      containerIncludes: 10,
      unpackedLayerBytes: 4_294_967_296,
      unpackedRequestBytes: 8_589_934_592,
      requestTimeMs: 600_000,
      unpackRatio: 200,
      indexedLayerBytes: 32 * 1024 ** 3,
      indexedEntries: 1_000_000,
      linkWaitMs: 45_000,
      statusWaitMs: 5000,
      statusWaits: 1000,
    },
    layers: { allowPrivateAddresses: false },
    shutdownGraceMs: 30_000,
  });
});

test('without any named file the defaults do, as no ./veneer.yaml is there', () => {
  expect(loadConfig({ env: {}, flags: {} }).dataDir).toBe(resolve('.veneer'));
});

test('a full file is read', () => {
  writeFileSync(join(folder, 'ca.pem'), 'PEM\n');
  const config = load(
    `
publicUrl: https://veneer.example.com
log: { level: debug, format: pretty }
upstreams:
  docker.io: { credentials: { username: me, password: { env: HUB_PASSWORD } } }
  lab: { url: "http://127.0.0.1:5000", tls: { ca: { file: ${folder}/ca.pem }, insecure: true } }
cache: { tagFreshness: 0s, stale: { maxAge: 1.5h } }
limits: { requestBody: 512KiB }
`,
    { HUB_PASSWORD: 'secret' },
  );
  expect(config.publicUrl?.href).toBe('https://veneer.example.com/');
  expect(config.log).toEqual({ level: 'debug', format: 'pretty' });
  expect(config.upstreams['docker.io']?.credentials).toEqual({ username: 'me', password: 'secret' });
  expect(config.upstreams.lab?.url?.host).toBe('127.0.0.1:5000');
  expect(config.upstreams.lab?.tls).toEqual({ ca: 'PEM', insecure: true });
  expect(config.cache).toMatchObject({ tagFreshnessMs: 0, stale: { maxAgeMs: 5_400_000 } });
  expect(config.limits.requestBodyBytes).toBe(524_288);
});

test('hosts of an upstream are read in lower case and without port 443', () => {
  const { upstreams } = load(`
upstreams:
  registry.example:5000:
    tokenRealms: [Auth.Example.com, "auth.example.org:443", "[::1]:5001"]
    redirectHosts: ["10.0.0.1:9000"]
  lab: { url: "http://127.0.0.1:1" }
defaultUpstream: Lab
`);
  expect(upstreams['registry.example:5000']?.tokenRealms).toEqual([
    'auth.example.com',
    'auth.example.org',
    '[::1]:5001',
  ]);
  expect(upstreams['registry.example:5000']?.redirectHosts).toEqual(['10.0.0.1:9000']);
  expect(upstreams.lab).toMatchObject({ tokenRealms: [], redirectHosts: [] });
});

test('a default upstream is a host, an alias of any case, or none', () => {
  for (const name of ['quay.io', 'localhost', '127.0.0.1:5000', 'none', 'LAB']) {
    const yaml = `defaultUpstream: "${name}"\nupstreams: { lab: { url: "http://127.0.0.1:1" } }`;
    expect(load(yaml).defaultUpstream).toBe(name);
  }
});

test('flags go over environment over file', () => {
  const yaml = 'listen: 127.0.0.1:1\ndataDir: file\nlog: { level: warn, format: json }';
  const env = { VENEER_LISTEN: '[::1]:2', VENEER_DATA_DIR: 'env', VENEER_LOG: 'error' };
  expect(load(yaml)).toMatchObject({ listen: { port: 1 }, dataDir: resolve('file'), log: { level: 'warn' } });
  expect(load(yaml, env)).toMatchObject({
    listen: { host: '::1', port: 2 },
    dataDir: resolve('env'),
    log: { level: 'error', format: 'json' },
  });
  expect(load(yaml, env, { listen: 'localhost:0', dataDir: 'flag' })).toMatchObject({
    listen: { host: 'localhost', port: 0 },
    dataDir: resolve('flag'),
  });
});

test('the flag names the file before the environment does', () => {
  writeFileSync(file, 'dataDir: flag');
  writeFileSync(join(folder, 'env.yaml'), 'dataDir: env');
  const env = { VENEER_CONFIG: join(folder, 'env.yaml') };
  expect(loadConfig({ env, flags: {} }).dataDir).toBe(resolve('env'));
  expect(loadConfig({ env, flags: { config: file } }).dataDir).toBe(resolve('flag'));
});

test('the result is frozen, however deep', () => {
  const config = load('upstreams: { lab: { url: "http://lab", tls: { insecure: true } } }');
  for (const part of [config, config.cache.stale, config.listen, config.upstreams, config.upstreams.lab?.tls]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});

test('a key with nothing behind it is as good as absent', () => {
  const keys = Object.keys(configSchema({}).in.shape);
  expect(keys).toContain('upstreams');
  expect(load(keys.map(key => `${key}:\n`).join(''))).toEqual(load(''));
  const nested = 'cache: { maxSize: , stale: { maxAge: } }\nbuilds: { queue: , hold: { pull: } }\nlog: { level: }';
  expect(load(nested)).toEqual(load(''));
});

test('an upstream with nothing behind its name has every default of an entry', () => {
  expect(load('openUpstreams: false\nupstreams:\n  quay.io:\n')).toEqual(
    load('openUpstreams: false\nupstreams:\n  quay.io: {}\n'),
  );
});

test.each([
  ['of AWS', '', { endpoint: undefined, region: undefined, pathStyle: false }],
  ['of another', ', endpoint: "http://s3:9000"', { endpoint: 'http://s3:9000/', region: 'us-east-1', pathStyle: true }],
])('a bucket %s needs nothing but its name and place', (_, more, expected) => {
  expect(load(`content: { s3: { bucket: abc${more} } }`).content).toEqual({
    s3: { bucket: 'abc', prefix: '', upstreams: false, ...expected },
  });
});

test('clients are redirected to a bucket only from networks that are named, for large blobs and a short time', () => {
  const withRedirect = (text: string) => `content: { s3: { bucket: abc, redirect: { ${text} } } }`;
  expect(load(withRedirect('networks: [10.0.0.0/8]')).content.s3?.redirect).toEqual({
    ...{ networks: ['10.0.0.0/8'], minBytes: 16 * 1024 ** 2, expiresMs: 300_000 },
  });
  expect(faults(withRedirect('networks: []'))).toEqual([expect.stringContaining('content.s3.redirect.networks')]);
  expect(faults(withRedirect('networks: [10.0.0.0/8], expires: 1d'))).toEqual([
    expect.stringContaining('content.s3.redirect.expires'),
  ]);
});

test('text that is left empty where names are chosen freely is not taken for absent', () => {
  const rule = 'rules: [{ name: a, match: { image: "docker.io/**" }, env: { A: } }]';
  expect(faults(rule)).toEqual(['rules.0.env: expected a mapping of text, or a list of KEY=VALUE']);
});

describe('faults', () => {
  test('all are listed at once, each with its place', () => {
    const yaml = `
listen: nowhere
tokens: { ttl: soon, extra: 1 }
unknown: 1
upstreams:
  lab: { url: "ftp://lab", nope: 1 }
  bare: { nope: 1 }
  docker.io: { credentials: { username: me, password: { env: NOT_SET } }, tls: { ca: { file: /does/not/exist } } }
attestations: maybe
defaultUpstream: labb
`;
    expect(faults(yaml)).toEqual([
      expect.stringMatching(/^listen: expected host:port/),
      expect.stringMatching(/^tokens\.ttl: expected a duration/),
      'tokens.extra: unknown key: expected ttl, workflow, rate or layers',
      'unknown: unknown key',
      expect.stringMatching(/^upstreams\.lab\.url: expected an http/),
      'upstreams.lab.nope: unknown key',
      'upstreams.bare.nope: unknown key',
      expect.stringMatching(/^upstreams\.bare\.url: "bare" is not a host/),
      'upstreams["docker.io"].credentials.password: the environment variable NOT_SET is not set',
      'upstreams["docker.io"].tls.ca: cannot read /does/not/exist (ENOENT)',
      'attestations: expected drop or keep',
      expect.stringMatching(/^defaultUpstream: "labb" is neither a host/),
    ]);
  });

  test('each has the line of its key, or of the nearest above it', () => {
    const yaml = `dataDir: data

cache:
  maxSize: 50
base: &base
  url: nowhere
upstreams:
  lab: *base
rules:
  - name: a
    env: { A: b }
  -
    name: b
    match: { image: "docker.io/**", images: x }
    env: { A: b }
tokens: { ttl: 5 }
`;
    expect(linesOf(yaml)).toEqual([
      [4, 'cache.maxSize'],
      [5, 'base'],
      [6, 'upstreams.lab.url'],
      [10, 'rules.0.match'],
      [14, 'rules.1.match.images'],
      [16, 'tokens.ttl'],
    ]);
  });

  test.each([
    ['a key', 'lisen: 1', 'lisen: unknown key; did you mean listen?'],
    [
      'an inner key',
      'upstreams: { quay.io: { credential: {} } }',
      'upstreams["quay.io"].credential: unknown key; did you mean credentials?',
    ],
    [
      'a key of a list',
      'events: { endpoints: [{ name: a, url: "http://a", reposotories: [] }] }',
      /endpoints\.0\.reposotories: unknown key; did you mean repositories\?/,
    ],
    ['a word', 'attestations: kep', 'attestations: expected drop or keep; did you mean keep?'],
  ])('of %s that is misspelt, the nearest one is suggested', (_, yaml, expected) => {
    expect(faults(yaml)).toEqual([typeof expected === 'string' ? expected : expect.stringMatching(expected)]);
  });

  test.each([
    ['a list for text', 'dataDir: [a]', 'dataDir: expected text, got a list'],
    ['text for a list', 'hosted: { prefixes: local/ }', 'hosted.prefixes: expected a list, got text'],
    ['a list for a mapping', 'upstreams: [quay.io]', 'upstreams: expected a mapping of keys, got a list'],
    ['text for a switch', 'offline: "yes"', 'offline: expected true or false, got text'],
    [
      'a number for a size',
      'cache: { maxSize: 50 }',
      'cache.maxSize: expected none, or a size such as 512KiB, 20MiB or 50GiB',
    ],
    [
      'nothing for an entry of a list',
      'rules: [ ]\nhosted: { prefixes: [local/, ] }\nevents: { endpoints: [~] }',
      'events.endpoints.0: expected a mapping of keys, got empty',
    ],
  ])('%s is reported in the words of YAML', (_, yaml, expected) => {
    expect(faults(yaml)).toEqual([expected]);
  });

  test.each([
    ['a list for the file', '[1]', /^expected a mapping of keys, got a list$/],
    ['a size without its unit', 'limits: { requestBody: "20" }', /^limits\.requestBody: expected a size/],
    ['a size of nothing', 'limits: { requestBody: 0MiB }', /too small/],
    ['a duration without its unit', 'shutdownGrace: 30', /^shutdownGrace: expected a duration/],
    ['a duration of an inherited name', 'shutdownGrace: 3constructor', /^shutdownGrace: expected a duration/],
    ['a grace that overflows a timer', 'shutdownGrace: 30d', /^shutdownGrace: is too large/],
    ['tokens that are over at once', 'tokens: { ttl: 0s }', /^tokens\.ttl: is too small/],
    ['a port out of range', 'listen: "127.0.0.1:65536"', /^listen: expected host:port/],
    ['a public URL with a path', 'publicUrl: https://veneer.example/registry', /^publicUrl: must have no path/],
    ['credentials in a URL', 'upstreams: { lab: { url: "http://a:b@lab" } }', /^upstreams\.lab\.url: /],
    ['half of the credentials', 'upstreams: { a.b: { credentials: { username: a } } }', /credentials\.password: /],
    ['a key that is missing', 'rules: [{ name: a, env: { A: b } }]', /^rules\.0\.match: must be given$/],
    ['a cert without a key', 'upstreams: { a.b: { tls: { cert: PEM } } }', /^upstreams\["a\.b"\]\.tls: cert and key/],
    [
      'a secret from two places',
      'upstreams: { a.b: { tls: { ca: { env: A, file: B } } } }',
      /^upstreams\["a\.b"\]\.tls\.ca: /,
    ],
    ['an alias that does not say where it is', 'upstreams: { lab: {} }', /^upstreams\.lab\.url: .*needs the url/],
    [
      'a name that no image can start with',
      'upstreams: { "my lab": { url: "http://lab" } }',
      /neither a host nor an alias/,
    ],
    ['a path for a name', 'upstreams: { "quay.io/org": {} }', /^upstreams\["quay\.io\/org"\]: is neither a host/],
    [
      'the name of tokens for an alias',
      'upstreams: { wt: { url: "http://lab" } }',
      /^upstreams\.wt: is reserved for tokens/,
    ],
    ['a default upstream that is nowhere', 'defaultUpstream: lab', /^defaultUpstream: "lab" is neither a host/],
    [
      'a URL for a host',
      'upstreams: { a.b: { redirectHosts: ["https://c.d"] } }',
      /redirectHosts\[?.?0.*expected a host/,
    ],
    ['a path behind a host', 'upstreams: { a.b: { tokenRealms: ["c.d/token"] } }', /tokenRealms.*expected a host/],
    ['a host with a name', 'upstreams: { a.b: { tokenRealms: ["me@c.d"] } }', /tokenRealms.*expected a host/],
    ['a prefix of a token', 'hosted: { prefixes: [wt/] }', /^hosted\.prefixes\[?\.?0.*reserved for tokens/],
    [
      'an alias that is a prefix',
      'upstreams: { local: { url: "http://lab" } }',
      /^hosted\.prefixes.*entry of upstreams/,
    ],
    [
      'credentials of clients for an upstream beside users of our own',
      'access: {}\nupstreams: { lab: { url: "http://127.0.0.1:1", passCredentials: true } }',
      /^upstreams\.lab\.passCredentials: with "access"/,
    ],
    ['a grant to nobody', 'access: { grants: [{ repositories: ["**"], allow: [pull] }] }', /^access\.grants\[?\.?0/],
    ['an endpoint without an address', 'events: { endpoints: [{ name: a }] }', /^events\.endpoints\[?\.?0.*url/],
    ['content without a bucket', 'content: { s3: { region: eu-west-1 } }', /^content\.s3\.bucket: must be given$/],
    ['a bucket that is an address', 'content: { s3: { bucket: "s3://b" } }', /^content\.s3\.bucket: expected 3 to 63/],
    [
      'a prefix without its slash',
      'content: { s3: { bucket: abc, prefix: a } }',
      /^content\.s3\.prefix: expected a path/,
    ],
    [
      'credentials in an endpoint',
      'content: { s3: { bucket: abc, endpoint: "http://a:b@s3" } }',
      /^content\.s3\.endpoint:/,
    ],
    ['no backend at all', 'builds: { backends: [] }', /^builds\.backends: expected at least 1 entry$/],
    ['a key twice', 'dataDir: a\ndataDir: b', /^Map keys must be unique/],
    ['a file that is too large', `#${'x'.repeat(1024 * 1024)}`, /veneer\.yaml: more than 1048576 characters/],
    ['an alias of nothing', 'dataDir: *gone', /veneer\.yaml.*gone/],
  ])('%s is one', (_name, yaml, expected) => {
    expect(faults(yaml)).toEqual([expect.stringMatching(expected)]);
  });

  test('an environment variable or a flag is named as the source', () => {
    expect(faults('', { VENEER_LOG: 'loud', VENEER_LISTEN: 'x' }, { listen: 'y' })).toEqual([
      expect.stringMatching(/^--listen: /),
      expect.stringMatching(/^VENEER_LOG: /),
    ]);
  });

  test('a named file must be there', () => {
    const missing = join(folder, 'missing.yaml');
    for (const named of [
      { file: missing, env: {}, flags: {} },
      { env: {}, flags: { config: missing } },
      { env: { VENEER_CONFIG: missing }, flags: {} },
    ]) {
      expect(() => loadConfig(named)).toThrow(`cannot read ${missing} (ENOENT)`);
    }
  });

  test('no fault quotes a secret', () => {
    const yaml =
      'upstreams: { lab: { url: "http://u:hunter2@lab", credentials: { username: [hunter2], password: 1 } } }';
    expect(faults(yaml).join()).not.toContain('hunter2');
    expect(faults('upstreams: { lab: { credentials: { password: hunter2 }').join()).not.toContain('hunter2');
  });
});

test('replicas that know their callers need keys that all of them have', () => {
  const state = 'state: { postgres: { url: postgres://db.example.com/veneer, replicas: true } }\n';
  const access = (keys: string) => `access: { credentialKeys: [${keys}] }\n`;
  expect(faults(state + access(''))).toEqual([
    'access.credentialKeys: with state.postgres.replicas, all replicas need the same keys: set at least one',
  ]);
  expect(faults(state + access('a'.repeat(32)))).toEqual([]);
  expect(faults(state.replace(', replicas: true', '') + access(''))).toEqual([]);
  expect(load(state).state.postgres).toMatchObject({ isShared: true });
});

test('workers are a number or auto, and share a database only with replicas', () => {
  expect([load('workers: 4').workers, load('workers: auto').workers]).toEqual([4, 'auto']);
  expect(faults('workers: all')).toEqual(['workers: expected auto, or a number from 1 to 64']);
  for (const wrong of ['0', '65', '1.5'])
    expect(faults(`workers: ${wrong}`)).toEqual([expect.stringMatching(/^workers: /)]);
  const postgres = (replicas: boolean) =>
    `state: { postgres: { url: postgres://db.example.com/veneer, replicas: ${replicas} } }\n`;
  expect(faults(`workers: 2\n${postgres(false)}`)).toEqual([
    'workers: several workers share the database: set state.postgres.replicas, too',
  ]);
  expect(faults(`workers: 2\n${postgres(true)}`)).toEqual([]);
  expect(faults(`workers: 1\n${postgres(false)}`)).toEqual([]);
});
