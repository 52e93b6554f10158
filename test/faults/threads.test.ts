// Threads of the service that get what strangers send, where nothing of the program is compiled yet: a thread whose heap is full fails what
// it was at, and the process continues.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { checkUrl, findFreePort, type Killable, startProcess } from '../clients/support/process.ts';

vi.setConfig({ testTimeout: 600_000 });

const MIB = 1024 * 1024;
const fill = (unit: string, bytes = MIB) => unit.repeat(Math.floor(bytes / unit.length));

let folder: string;
let address: string;
let veneer: Killable | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-threads-'));
  address = `127.0.0.1:${await findFreePort()}`;
});

afterEach(async () => {
  await veneer?.kill();
  await rm(folder, { recursive: true });
});

async function start(env: Readonly<Record<string, string>>): Promise<Killable> {
  await writeFile(join(folder, 'users'), `ci:${hashSync('right', 4)}\n`);
  const access = {
    htpasswd: join(folder, 'users'),
    grants: [{ users: ['ci'], repositories: ['**'], allow: ['pull', 'push', 'build'] }],
  };
  const config = { listen: address, dataDir: join(folder, 'data'), access, builds: { backends: ['embedded'] } };
  await writeFile(join(folder, 'veneer.yaml'), JSON.stringify(config));
  const args = ['src/main.ts', '--config', join(folder, 'veneer.yaml')];
  const checkReady = () => checkUrl(`http://${address}/health/ready`);
  veneer = await startProcess(process.execPath, args, { checkReady, env });
  return veneer;
}

async function send(method: string, path: string, body: Uint8Array | string, type: string, password = 'right') {
  const authorization = `Basic ${Buffer.from(`ci:${password}`).toString('base64')}`;
  const headers = { authorization, 'content-type': type };
  const sent = method === 'GET' ? {} : { body: new Uint8Array(Buffer.from(body)) };
  const response = await fetch(`http://${address}${path}`, { method, headers, ...sent });
  await response.arrayBuffer();
  return response.status;
}

const build = (packages: object) =>
  send('POST', '/v1alpha2/container', JSON.stringify({ packages }), 'application/json');

/** Each takes far more to read than the heap of its thread. */
const ENVIRONMENTS = {
  'open brackets': fill('[', MIB / 2),
  'maps in maps': fill('<<: {}\n', MIB / 2),
  colons: fill(': ', MIB / 2),
  directives: fill('%a\n', MIB / 2),
};

const caches: [string, () => Promise<Record<string, string>>][] = [
  ['that is empty', async () => ({ NODE_COMPILE_CACHE: await makeFolder() })],
  ['that there is none of', async () => ({ NODE_DISABLE_COMPILE_CACHE: '1' })],
];

async function makeFolder(): Promise<string> {
  const made = join(folder, 'compiled');
  await mkdir(made);
  return made;
}

test.each(caches)('with a cache of compiled code %s no input ends the process', async (_, prepare) => {
  const env = await prepare();
  const first = await start(env);
  // Passwords: by the first comparison, and by many at once, of any length.
  const passwords = ['right', ...Array.from({ length: 20 }, (_, at) => `wrong ${at}`), 'x'.repeat(8000)];
  const probe = (password: string) => send('GET', '/v2/', '', 'text/plain', password);
  expect(await probe('right')).toBe(200);
  for (const status of await Promise.all(passwords.map(probe))) expect(status).toBeLessThan(500);
  // Environments: one after the other, as each has the thread for itself.
  for (const [name, text] of Object.entries(ENVIRONMENTS)) {
    const environment = Buffer.from(text).toString('base64');
    expect([name, await build({ type: 'CONDA', environment })]).toEqual([name, 400]);
  }
  const environment = Buffer.from('dependencies: [numpy]').toString('base64');
  expect(await build({ type: 'CONDA', environment })).toBeLessThan(500);
  // Records: as large as they get, and many at once.
  const config = Buffer.from('{}');
  await send('POST', `/v2/local/app/blobs/uploads/?digest=${digestOf(config)}`, config, 'application/octet-stream');
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const annotations = { note: 'x'.repeat(2 * MIB) };
  const empty = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(config), size: 2 };
  const pushes = Array.from({ length: 10 }, (_, at) => {
    const subject = { mediaType, digest: digestOf(Buffer.from('absent')), size: 1 };
    const manifest = { schemaVersion: 2, mediaType, config: empty, layers: [], subject, annotations, at };
    return send('PUT', `/v2/local/app/manifests/t${at}`, JSON.stringify(manifest), mediaType);
  });
  for (const status of await Promise.all(pushes)) expect([201, 413, 503]).toContain(status);
  expect(isAlive(first)).toBe(true);
  // The thread that reads all records, after a kill.
  await first.kill();
  const second = await start(env);
  expect(isAlive(second)).toBe(true);
});

function isAlive({ pid }: Killable): boolean {
  try {
    return process.kill(pid ?? 0, 0);
  } catch {
    return false;
  }
}
