// The configuration: precedence, units, secrets kept elsewhere, and every fault at once.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../src/config.ts';

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
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

test('an empty file gives every default', () => {
  expect(load('')).toEqual({
    listen: { host: '127.0.0.1', port: 8080 },
    dataDir: '.veneer',
    log: { level: 'info' },
    defaultUpstream: 'docker.io',
    openUpstreams: true,
    upstreams: {},
    tokens: { ttlMs: 129_600_000 },
    cache: { tagFreshnessMs: 300_000, stale: { maxAgeMs: 604_800_000 } },
    attestations: 'drop',
    limits: {
      requestBodyBytes: 20_971_520,
      layerLocation: 14_000_000,
      containerIncludes: 10,
      unpackedLayerBytes: 4_294_967_296,
      unpackRatio: 200,
    },
    layers: { allowPrivateAddresses: false },
    shutdownGraceMs: 30_000,
  });
});

test('without any named file the defaults do, as no ./veneer.yaml is there', () => {
  expect(loadConfig({ env: {}, flags: {} }).dataDir).toBe('.veneer');
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
  expect(config.cache).toEqual({ tagFreshnessMs: 0, stale: { maxAgeMs: 5_400_000 } });
  expect(config.limits.requestBodyBytes).toBe(524_288);
});

test('flags go over environment over file', () => {
  const yaml = 'listen: 127.0.0.1:1\ndataDir: file\nlog: { level: warn, format: json }';
  const env = { VENEER_LISTEN: '[::1]:2', VENEER_DATA_DIR: 'env', VENEER_LOG: 'error' };
  expect(load(yaml)).toMatchObject({ listen: { port: 1 }, dataDir: 'file', log: { level: 'warn' } });
  expect(load(yaml, env)).toMatchObject({
    listen: { host: '::1', port: 2 },
    dataDir: 'env',
    log: { level: 'error', format: 'json' },
  });
  expect(load(yaml, env, { listen: 'localhost:0', dataDir: 'flag' })).toMatchObject({
    listen: { host: 'localhost', port: 0 },
    dataDir: 'flag',
  });
});

test('the flag names the file before the environment does', () => {
  writeFileSync(file, 'dataDir: flag');
  writeFileSync(join(folder, 'env.yaml'), 'dataDir: env');
  const env = { VENEER_CONFIG: join(folder, 'env.yaml') };
  expect(loadConfig({ env, flags: {} }).dataDir).toBe('env');
  expect(loadConfig({ env, flags: { config: file } }).dataDir).toBe('flag');
});

test('the result is frozen, however deep', () => {
  const config = load('upstreams: { lab: { url: "http://lab", tls: { insecure: true } } }');
  for (const part of [config, config.cache.stale, config.listen, config.upstreams, config.upstreams.lab?.tls]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
});

describe('faults', () => {
  test('all are listed at once, each with its place', () => {
    const yaml = `
listen: nowhere
tokens: { ttl: soon, extra: 1 }
unknown: 1
upstreams:
  lab: { url: "ftp://lab", nope: 1 }
  docker.io: { credentials: { username: me, password: { env: NOT_SET } }, tls: { ca: { file: /does/not/exist } } }
attestations: maybe
`;
    expect(faults(yaml)).toEqual([
      expect.stringMatching(/^listen: expected host:port/),
      expect.stringMatching(/^upstreams\.lab\.url: expected an http/),
      'upstreams.lab.nope: unknown key',
      'upstreams["docker.io"].credentials.password: the environment variable NOT_SET is not set',
      'upstreams["docker.io"].tls.ca: cannot read /does/not/exist (ENOENT)',
      expect.stringMatching(/^tokens\.ttl: expected a duration/),
      'tokens.extra: unknown key',
      expect.stringMatching(/^attestations: .*drop/),
      'unknown: unknown key',
    ]);
  });

  test.each([
    ['a list for the file', '[1]', /^the file: /],
    ['a size without its unit', 'limits: { requestBody: "20" }', /^limits\.requestBody: expected a size/],
    ['a size of nothing', 'limits: { requestBody: 0MiB }', /too small/],
    ['a duration without its unit', 'shutdownGrace: 30', /^shutdownGrace: expected a duration/],
    ['a duration of an inherited name', 'shutdownGrace: 3constructor', /^shutdownGrace: expected a duration/],
    ['a grace that overflows a timer', 'shutdownGrace: 30d', /^shutdownGrace: is too large/],
    ['tokens that are over at once', 'tokens: { ttl: 0s }', /^tokens\.ttl: is too small/],
    ['a port out of range', 'listen: "127.0.0.1:65536"', /^listen: expected host:port/],
    ['credentials in a URL', 'upstreams: { lab: { url: "http://a:b@lab" } }', /^upstreams\.lab\.url: /],
    ['half of the credentials', 'upstreams: { lab: { credentials: { username: a } } }', /credentials\.password: /],
    ['a cert without a key', 'upstreams: { lab: { tls: { cert: PEM } } }', /^upstreams\.lab\.tls: cert and key/],
    [
      'a secret from two places',
      'upstreams: { lab: { tls: { ca: { env: A, file: B } } } }',
      /^upstreams\.lab\.tls\.ca: /,
    ],
    ['a key twice', 'dataDir: a\ndataDir: b', /veneer\.yaml:2: Map keys must be unique/],
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
