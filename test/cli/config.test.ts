// `veneer config`, as it is typed: every fault with its place, what is in effect and why, and a schema that says what the checks say.
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { findStartFaults } from '../../src/app/probing.ts';
import { createConfigCommand } from '../../src/cli/config.ts';
import { createJsonSchema } from '../../src/config/json-schema.ts';
import { configSchema } from '../../src/config/schema.ts';
import { runCommand } from './run.ts';

let file: string;

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'veneer-config-'));
  file = join(folder, 'veneer.yaml');
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

function run(args: readonly string[], env: Record<string, string> = {}, flags: { listen?: string } = {}) {
  const findConfigSources = () => ({ env, flags: { config: file, ...flags } });
  return runCommand(createConfigCommand({ findConfigSources, findStartFaults }), args);
}

test('check says that there is nothing wrong', async () => {
  writeFileSync(file, 'rules:\ncache: { maxSize: 50GiB }\n');
  expect(await run(['check'])).toEqual({ out: '', err: `${file}: no faults\n`, exitCode: 0 });
});

test('check takes another file', async () => {
  writeFileSync(`${file}.new`, 'lissen: x\n');
  expect(await run(['check', `${file}.new`])).toMatchObject({
    err: `invalid configuration:\n  ${file}.new:1: lissen: unknown key; did you mean listen?\n`,
    exitCode: 1,
  });
});

test.each([
  ['cache:\n  maxSize: 50 gigs\n', 2, 'cache.maxSize', 'expected none, or a size such as 512KiB, 20MiB or 50GiB'],
  ['cache:\n\n  maxSizes: 50GiB\n', 3, 'cache.maxSizes', 'unknown key; did you mean maxSize?'],
  ['a: b: c\n', 1, undefined, expect.stringContaining('Nested mappings')],
  ['access: { htpasswd: /nowhere/htpasswd }\n', undefined, undefined, 'cannot read /nowhere/htpasswd (ENOENT)'],
  ['access: { signingKey: abc }\n', undefined, undefined, expect.stringContaining('expected a private key')],
  [
    'access: { grants: [{ users: [me], repositories: ["local/**"], allow: [pull] }] }\n',
    ...[undefined, undefined, 'access.grants.0.users: there are no users without access.htpasswd'],
  ],
  [
    'rules: [{ name: ca, match: { image: "**" }, layers: [{ directory: /nowhere/ca }] }]\n',
    ...[undefined, 'rules.0.layers.0', 'there is no /nowhere/ca'],
  ],
  [
    'builds: { recipes: [{ match: "docker.io/app", containerFile: x }] }\n',
    ...[undefined, 'builds.recipes', expect.stringContaining('the pattern "docker.io/app"')],
  ],
])('check --json tells the place of a fault in %j', async (yaml, line, key, message) => {
  writeFileSync(file, yaml);
  const { out, exitCode } = await run(['check', '--json']);
  const { faults, ...rest } = JSON.parse(out);
  expect([rest, exitCode]).toEqual([{ file, valid: false }, 1]);
  expect(faults).toEqual([{ ...(line !== undefined && { file, line }), ...(key !== undefined && { key }), message }]);
});

test('show tells every value and where it comes from, and hides secrets', async () => {
  writeFileSync(
    file,
    `upstreams:
  docker.io:
    credentials: { username: me, password: hunter2 }
    mirrors: [{ url: "https://mirror.example", credentials: { username: me, password: { env: MIRROR } } }]
  lab:
access: { credentialKeys: [topsecret] }
events:
  endpoints: [{ name: ci, url: "https://me:hunter2@ci.example/x?key=hunter2", headers: { Authorization: hunter2 } }]
rules: [{ name: a, match: { image: "**" }, layers: [{ url: "https://files.example/a.tar?sig=hunter2" }] }]
`.replace('  lab:\n', '  quay.io:\n'),
  );
  const env = { MIRROR: 'hunter2', VENEER_LOG: 'debug' };
  const { out } = await run(['show'], env, { listen: '127.0.0.1:9' });
  expect(out).not.toMatch(/hunter2|topsecret|\bme\b/);
  const lines = out.split('\n').map(line => line.split(/ {2,}/));
  expect(lines).toContainEqual(['listen', '127.0.0.1:9', '--listen']);
  expect(lines).toContainEqual(['log.level', 'debug', 'VENEER_LOG']);
  expect(lines).toContainEqual(['cache.maxSize', '50GiB', 'default']);
  expect(lines).toContainEqual(['upstreams["docker.io"].credentials.password', '(hidden)', `${file}:3`]);
  expect(lines).toContainEqual(['upstreams["docker.io"].mirrors.0.url', 'https://mirror.example', `${file}:4`]);
  expect(lines).toContainEqual([
    'upstreams["docker.io"].mirrors.0.credentials.password',
    '{"env":"MIRROR"}',
    `${file}:4`,
  ]);
  expect(lines).toContainEqual(['upstreams["quay.io"].queue', '1000', 'default']);
  expect(lines).toContainEqual(['access.credentialKeys.0', '(hidden)', `${file}:6`]);
  expect(lines).toContainEqual(['rules.0.layers.0.url', 'https://files.example/a.tar (hidden)', `${file}:9`]);
});

test('show --json is a list', async () => {
  writeFileSync(file, 'hosts: [veneer]\n');
  const { out } = await run(['show', '--json']);
  expect(JSON.parse(out)).toContainEqual({ key: 'hosts', value: ['veneer'], source: `${file}:1` });
});

test('show refuses what a start would', async () => {
  writeFileSync(file, 'lissen: x\n');
  expect(await run(['show'])).toMatchObject({
    out: '',
    err: expect.stringContaining('did you mean listen?'),
    exitCode: 1,
  });
});

const validate = new Ajv2020({ strict: true, validateFormats: false }).compile(createJsonSchema());

/** Blocks whose keys are those of a file; others are a part of one, or another document. */
function listExamples(): readonly { readonly place: string; readonly yaml: string }[] {
  const keys = Object.keys(configSchema({}).in.shape);
  return globSync(['docs/*.md', 'README.md']).flatMap(path =>
    [...readFileSync(path, 'utf8').matchAll(/```yaml\n([^`]+)```/g)]
      .map(({ 1: yaml = '' }, at) => ({ place: `${path}, block ${at + 1}`, yaml }))
      .filter(({ yaml }) => Object.keys(parse(yaml)).every(key => keys.includes(key))),
  );
}

test('the documents have examples', () => {
  expect(listExamples().length).toBeGreaterThan(10);
});

test.each(listExamples())('the schema takes the example of $place', ({ yaml }) => {
  expect([validate(parse(yaml)), validate.errors]).toEqual([true, null]);
});

test.each([
  ['rules:\nupstreams:\n  quay.io:\n', true],
  ['lissen: x\n', false],
  ['cache: { maxSize: 50 gigs }\n', false],
  ['cache: { maxSize: 50GiB }\n', true],
  ['tokens: { ttl: 1.5h }\n', true],
  ['tokens: { ttl: 3 }\n', false],
  ['attestations: keeps\n', false],
  ['rules: [{ name: a, match: { image: x, not: [] }, env: { A: b } }]\n', true],
  ['rules: [{ name: a, match: { image: [x, y] }, env: [A=b] }]\n', true],
  ['rules: [{ name: a, match: { image: 3 }, env: [A=b] }]\n', false],
  ['upstreams: { quay.io: { credentials: { username: a, password: { env: B } } } }\n', true],
  ['upstreams: { quay.io: { credentials: { username: a } } }\n', false],
])('of %j the schema says that it is right: %j', (yaml, isValid) => {
  expect(validate(parse(yaml))).toBe(isValid);
});

test('schema prints it, with examples for editors', async () => {
  const { out } = await run(['schema']);
  const schema = JSON.parse(out);
  expect(schema).toMatchObject({ $schema: 'https://json-schema.org/draft/2020-12/schema', title: 'veneer.yaml' });
  expect(JSON.stringify(schema.properties.shutdownGrace)).toContain('"examples":["30s","5m","36h","7d"]');
});
