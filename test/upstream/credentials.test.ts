// Docker's config file and credential helpers: what we take from them, and what one that fails can do.
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createDockerCredentials } from '../../src/upstream/auth/credentials.ts';

const HOST = 'registry.lab.test:5000';
const encode = (text: string) => Buffer.from(text).toString('base64');
const password = { username: 'me', password: 'canary-secret' };
const identity = { username: 'me', identityToken: 'canary-identity' };

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-'));
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env.PATH}`);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

/** The credentials found with this config file, and the reported failures of helpers. */
async function find(config: unknown, host = HOST, helperTimeoutMs = 30_000) {
  const configPath = join(folder, 'config.json');
  await writeFile(configPath, typeof config === 'string' ? config : JSON.stringify(config));
  const failures: string[] = [];
  const onHelperFailed = (failure: Error) => failures.push(String(failure.stack));
  const onFault = (fault: string) => failures.push(fault);
  const look = createDockerCredentials({ configPath, onHelperFailed, onFault, helperTimeoutMs });
  const credentials = await look(host);
  return { credentials, failures };
}

async function writeHelper(script: string): Promise<void> {
  const path = join(folder, 'docker-credential-canary');
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
}

const answer = (fields: object) => `cat > "$0.asked"; echo '${JSON.stringify(fields)}'`;

test.each<[string, object, object | undefined]>([
  ['a name and password in one', { auth: encode('me:canary-secret') }, password],
  ['a password with a colon', { auth: encode('me:a:b') }, { username: 'me', password: 'a:b' }],
  ['a password that is padded', { auth: encode('me:canary-secret\0\0') }, password],
  ['a name and password apart', { username: 'me', password: 'canary-secret' }, password],
  ['an identity token', { auth: encode('me:'), identitytoken: 'canary-identity' }, identity],
  ['an identity token alone', { identitytoken: 'x' }, { username: '<token>', identityToken: 'x' }],
  ['a name alone', { auth: encode('me:') }, undefined],
  ['no base64', { auth: '!' }, undefined],
  ['nothing', {}, undefined],
])('takes from an entry %s', async (_, entry, expected) => {
  expect(await find({ auths: { [HOST]: entry } })).toEqual({ credentials: expected, failures: [] });
});

test.each([
  [HOST, HOST],
  [`https://${HOST}`, HOST],
  ['https://index.docker.io/v1/', 'docker.io'],
  ['index.docker.io/v1', 'docker.io'],
  ['https://registry-1.docker.io/v2/', 'docker.io'],
  [`${HOST}/`, HOST],
  [`${HOST}/v1/`, HOST],
  [`https://${HOST}/v2/`, HOST],
  [`http://${HOST.toUpperCase()}/any/path`, HOST],
])('finds under %s what %s wants', async (key, host) => {
  const entry = { auth: encode('me:canary-secret') };
  expect((await find({ auths: { [key]: entry } }, host)).credentials).toEqual(password);
  expect((await find({ auths: { [key]: entry } }, 'other.lab.test')).credentials).toBeUndefined();
});

test('the very key goes before others of the same host', async () => {
  const [own, other] = ['me:canary-secret', 'other:x'].map(text => ({ auth: encode(text) }));
  expect((await find({ auths: { [`https://${HOST}/v1/`]: other, [HOST]: own } })).credentials).toEqual(password);
});

test.each([
  ['', 'nothing in it can be used: it is not JSON'],
  ['{"canary', 'nothing in it can be used: it is not JSON'],
  ['[]', expect.stringContaining('nothing in it can be used: Invalid input')],
  ['{"auths":[]}', 'auths: Invalid input: expected record, received array'],
  ['{"auths":{"a":1}}', 'auths["a"]: Invalid input: expected object, received number'],
])('finds nothing in the file %j, and says why', async (config, fault: unknown) => {
  expect(await find(config)).toEqual({ credentials: undefined, failures: [fault] });
});

const own = { auth: encode('me:canary-secret') };

test.each<[string, object, string[]]>([
  ['null for a name and password elsewhere', { auths: { 'gone.test': { auth: null }, [HOST]: own } }, []],
  ['null for an entry', { auths: { 'gone.test': null, [HOST]: own } }, []],
  ['null for helpers', { auths: { [HOST]: own }, credHelpers: null, credsStore: null }, []],
  ['null for a helper', { auths: { [HOST]: own }, credHelpers: { [HOST]: null } }, []],
  ['null for fields of its own', { auths: { [HOST]: { ...own, username: null, identitytoken: null } } }, []],
  [
    'an entry that is none elsewhere',
    { auths: { 'gone.test': { auth: ['canary-secret'] }, [HOST]: own } },
    ['auths["gone.test"]: auth: Invalid input: expected string, received array'],
  ],
  [
    'a helper that is none',
    { auths: { [HOST]: own }, credHelpers: { 'gone.test': 7 } },
    ['credHelpers["gone.test"]: Invalid input: expected string, received number'],
  ],
  [
    'a list of helpers',
    { auths: { [HOST]: own }, credHelpers: [] },
    ['credHelpers: Invalid input: expected record, received array'],
  ],
  [
    'a store that is none',
    { auths: { [HOST]: own }, credsStore: 7 },
    ['credsStore: Invalid input: expected string, received number'],
  ],
])('finds its own beside %s', async (_, config, failures) => {
  expect(await find(config)).toEqual({ credentials: password, failures });
});

test('tells of a fault once, until it is another', async () => {
  const configPath = join(folder, 'config.json');
  const faults: string[] = [];
  const look = createDockerCredentials({ configPath, onFault: fault => faults.push(fault) });
  for (const config of ['{', '{', '{}', '{', '{"auths":{"a":1}}']) {
    await writeFile(configPath, config);
    await look(HOST);
  }
  expect(faults).toHaveLength(3);
});

test('finds nothing without a file', async () => {
  const configPath = join(folder, 'absent.json');
  expect(await createDockerCredentials({ configPath })(HOST)).toBeUndefined();
});

test.each<[string, object]>([
  ['credHelpers', { credHelpers: { [HOST]: 'canary' }, auths: { [HOST]: { auth: encode('a:b') } } }],
  ['credsStore', { auths: { [HOST]: {} }, credsStore: 'canary' }],
])('asks the helper of %s', async (_, config) => {
  await writeHelper(answer({ ServerURL: HOST, Username: 'me', Secret: 'canary-secret' }));
  expect(await find(config)).toEqual({ credentials: password, failures: [] });
});

test('takes an identity token from a helper', async () => {
  await writeHelper(answer({ Username: '<token>', Secret: 'canary-identity' }));
  const { credentials } = await find({ credsStore: 'canary' });
  expect(credentials).toEqual({ username: '<token>', identityToken: 'canary-identity' });
});

test.each([
  ['says so', 'echo "credentials not found in native keychain"; exit 1'],
  ['gives an empty secret', answer({ Username: 'me', Secret: '' })],
])('has no credentials where the helper %s', async (_, script) => {
  await writeHelper(script);
  expect(await find({ credsStore: 'canary' })).toEqual({ credentials: undefined, failures: [] });
});

test.each<[string, string, string, number?]>([
  ['hangs', 'sleep 20', 'did not answer within 300 ms', 300],
  ['hangs and ignores signals', 'trap "" TERM; sleep 20', 'did not answer within 300 ms', 300],
  ['fails', 'echo canary-out; echo canary-err >&2; exit 3', 'failed (3)'],
  ['ends by a signal', 'kill -9 $$', 'ended by a signal'],
  ['prints garbage', 'echo canary-out', 'as JSON'],
  ['prints another shape', answer({ Secret: ['canary-secret'] }), 'as JSON'],
  ['prints without end', 'yes canary-out', 'printed too much'],
])('continues without credentials, and tells of it, where the helper %s', async (_, script, reason, timeoutMs) => {
  await writeHelper(script);
  const { credentials, failures } = await find({ credsStore: 'canary' }, HOST, timeoutMs);
  expect([credentials, failures.length]).toEqual([undefined, 1]);
  expect(failures[0]).toContain(reason);
  expect(failures[0]?.replaceAll('docker-credential-canary', '')).not.toContain('canary');
});

test.each([
  ['is not there', 'absent', 'is not in PATH'],
  ['has a path for a name', '../evil', 'name'],
])('runs nothing where the helper %s', async (_, name, reason) => {
  const { credentials, failures } = await find({ credsStore: name });
  expect([credentials, failures.length]).toEqual([undefined, 1]);
  expect(failures[0]).toContain(reason);
});
