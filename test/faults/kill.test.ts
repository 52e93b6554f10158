// Veneer as a process, killed in a loop while it brings what many clients want and makes room for it: what is there is whole, and all pulls go on.
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { type Server, startVeneer } from '../clients/support/daemons.ts';
import { type Killable, run, waitUntil } from '../clients/support/process.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

const KILLS = 6;
const CLIENTS = 8;
const MIB = 2 ** 20;
const NAME = 'library/app';
/** Less than all that is pulled. */
const CACHE = { maxSize: '12MiB', water: { high: 1, low: 0.5 } };

/** Of 10 kB to 1 MiB. */
const BLOBS = Array.from({ length: 40 }, (_, i) => Buffer.alloc(10_000 + (i % 8) * 130_000, `the bytes of ${i} `));
/** Its transfer stops half way. */
const HELD = Buffer.alloc(4 * MIB, 'it never comes to its end ');

let folder: string;
let dataDir: string;
let registry: TestRegistry;
let digests: readonly Digest[];
let running: Killable | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-kill-'));
  dataDir = join(folder, 'data');
  registry = await startRegistry();
  const put = (raw: Buffer) => registry.put(NAME, [{ mediaType: 'application/octet-stream', raw }]);
  digests = BLOBS.flatMap(put);
  put(HELD);
});

afterEach(async () => {
  await running?.kill();
  await registry.close();
  await rm(folder, { recursive: true });
});

test('after each kill `veneer cache verify` finds nothing damaged, and in the end each pull is right and the budget holds', async () => {
  for (let kill = 0; kill < KILLS; kill += 1) {
    await killWhilePulling(15 + kill * 7);
    const { seen, damaged } = await verify();
    expect(damaged.count).toBe(0);
    expect(seen.count).toBeGreaterThan(0);
    expect(await readdir(join(dataDir, 'content', 'ingest'))).toEqual([]);
  }
  const veneer = await start();
  for (const digest of digests) expect(await pull(veneer, digest)).toBe(digest);
  await waitUntil(async () => expect(await measureKept()).toBeLessThanOrEqual(12 * MIB));
}, 120_000);

/** Veneer dies with one transfer half done, while the others come and go. */
async function killWhilePulling(pulls: number): Promise<void> {
  registry.intercept(({ url }, response) => {
    if (!url?.includes(digestOf(HELD))) return false;
    response.writeHead(200, { 'content-length': HELD.length }).write(HELD.subarray(0, HELD.length / 2));
    return true;
  });
  const veneer = await start();
  let left = pulls;
  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    for (let at = client; left > 0; at += CLIENTS + 1) {
      const digest = digests[at % digests.length];
      // What a dying Veneer sends is cut, but never wrong.
      if (digest) expect([digest, undefined]).toContain(await pull(veneer, digest).catch(() => undefined));
      left -= 1;
    }
  });
  const held = pull(veneer, digestOf(HELD)).catch(() => undefined);
  await waitUntil(async () => expect(await measureIngest()).toBeGreaterThan(MIB));
  await waitUntil(async () => expect(left).toBeLessThanOrEqual(CLIENTS));
  await veneer.kill();
  await Promise.all([...clients, held]);
  registry.intercept();
}

async function start(): Promise<Server & Killable> {
  const veneer = await startVeneer(folder, registry.host, { dataDir, cache: CACHE });
  running = veneer;
  return veneer;
}

async function pull({ address }: Server, digest: Digest): Promise<Digest> {
  const response = await fetch(`http://${address}/v2/lab/${NAME}/blobs/${digest}`);
  if (response.status !== 200) throw new Error(`${digest}: ${response.status}`);
  return digestOf(await response.bytes());
}

const tally = z.object({ count: z.number() });
const Verified = z.object({ kind: z.literal('verified'), seen: tally, damaged: tally });

/** As an operator does it, where no service runs. */
async function verify(): Promise<z.infer<typeof Verified>> {
  const file = join(folder, 'veneer.yaml');
  await writeFile(file, JSON.stringify({ dataDir }));
  const said = await run(process.execPath, ['src/main.ts', '--config', file, 'cache', 'verify', '--json']);
  return Verified.parse(JSON.parse(said.split('\n').at(-1) ?? ''));
}

async function measureIngest(): Promise<number> {
  const ingest = join(dataDir, 'content', 'ingest');
  const sizes = await Promise.all((await readdir(ingest)).map(name => stat(join(ingest, name)).catch(() => undefined)));
  return Math.max(0, ...sizes.map(stats => stats?.size ?? 0));
}

async function measureKept(): Promise<number> {
  const entries = await readdir(join(dataDir, 'content', 'blobs'), { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile());
  const sizes = await Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
