// What a start costs over a cache of a thousand files, and over one of a hundred thousand: the same, as nothing looks at them before it listens.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { digestHex, digestOf } from '../../src/oci/digest.ts';
import { createCollection } from '../../src/state/collection.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import type { Change } from '../../src/state/store.ts';
import { checkUrl, findFreePort, waitUntil } from '../clients/support/process.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

const FEW = 1_000;
const MANY = 100_000;
/** The disk may be busy with what others do. */
const COUNTED_MS = 300_000;
const RAW = Buffer.from('what is pulled meanwhile');
const Stat = z.object({ isCounted: z.boolean(), count: z.number() });

let folder: string;
let registry: TestRegistry;
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-start-'));
  registry = await startRegistry();
  registry.put('library/app', [{ mediaType: 'application/octet-stream', raw: RAW }]);
});

afterEach(async () => {
  await stop();
  await registry.close();
  await rm(folder, { recursive: true });
}, 120_000);

test('a start over a hundred thousand files asks as little of the disk as over a thousand, and pulls wait for no count of them', async () => {
  const few = await start(FEW);
  const many = await start(MANY);
  expect(many.asked).toEqual(few.asked);
  expect(many.asked.length).toBeLessThan(20);
  expect(many.asked.filter(each => each.startsWith('readdir blobs'))).toEqual(['readdir blobs/sha256']);
  expect(Math.abs(many.bytesRead - few.bytesRead)).toBeLessThan(2 ** 20);
}, 900_000);

/** Gives what it asked of the disk before it answered, while the look at the files was held; then lets it go on to its end. */
async function start(count: number): Promise<{ readonly asked: readonly string[]; readonly bytesRead: number }> {
  const dataDir = join(folder, `${count}`);
  await fill(dataDir, count);
  const address = `127.0.0.1:${await findFreePort()}`;
  const file = join(folder, 'veneer.yaml');
  await writeFile(file, JSON.stringify({ listen: address, dataDir, upstreams: { lab: { url: registry.url } } }));
  const watched = ['--import', join(import.meta.dirname, 'watched-disk.ts'), 'src/main.ts', '--config', file];
  child = spawn(process.execPath, watched, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  await waitUntil(() => checkUrl(`http://${address}/health/ready`));
  const asked = await tell('tell');
  const bytesRead = await countRead();

  const pulled = await fetch(`http://${address}/v2/lab/library/app/blobs/${digestOf(RAW)}`);
  expect(Buffer.from(await pulled.arrayBuffer())).toEqual(RAW);
  expect(await stat(address)).toMatchObject({ isCounted: false });
  await tell('go on');
  await expect
    .poll(() => stat(address), { timeout: COUNTED_MS, interval: 200 })
    .toEqual({ isCounted: true, count: count + 1 });
  await stop();
  return { asked, bytesRead };
}

/** Content in so many files, with a link to each. */
async function fill(dataDir: string, count: number): Promise<void> {
  const records = createSqliteStore({ path: join(dataDir, 'records.db') });
  const links = createCollection({ store: records, name: 'link', schema: z.object({ size: z.number() }) });
  const changes: Change[] = [];
  for (let at = 0; at < count; at += 1) {
    const raw = Buffer.from(`content ${at}`);
    const digest = digestOf(raw);
    const hex = digestHex(digest);
    const place = join(dataDir, 'content', 'blobs', 'sha256', hex.slice(0, 2));
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, hex), raw);
    changes.push(links.putting(`lab/library/app@${digest}`, { size: raw.length }));
  }
  await records.write(changes);
  await records.close();
}

async function tell(message: string): Promise<readonly string[]> {
  if (!child) throw new Error('nobody is there');
  const told = once(child, 'message');
  child.send(message);
  const [asked] = await told;
  return z.array(z.string()).parse(asked);
}

/** How many bytes the process has read, of files and sockets. */
async function countRead(): Promise<number> {
  const [, bytes] = /^rchar: (\d+)$/m.exec(await readFile(`/proc/${child?.pid}/io`, 'utf8')) ?? [];
  return Number(bytes);
}

async function stat(address: string): Promise<z.infer<typeof Stat>> {
  return Stat.parse(await (await fetch(`http://${address}/v1/cache/stat`)).json());
}

async function stop(): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const left = once(child, 'exit');
  child.kill('SIGKILL');
  await left;
}
