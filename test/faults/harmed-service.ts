// Veneer as a process of its own for each test, in front of an upstream that has one blob: its data directory is there to be harmed.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { checkUrl, findFreePort, type Killable, startProcess } from '../clients/support/process.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

export const RAW = Buffer.from('what an upstream has');

let folder: string;
export let data: string;
export let address: string;
export let file: string;
let registry: TestRegistry;
let running: Killable | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-harmed-'));
  data = join(folder, 'data');
  address = `127.0.0.1:${await findFreePort()}`;
  file = join(folder, 'veneer.yaml');
  registry = await startRegistry();
  registry.put('library/app', [{ mediaType: 'application/octet-stream', raw: RAW }]);
  const settings = { listen: address, dataDir: data, upstreams: { lab: { url: registry.url } } };
  await writeFile(file, JSON.stringify({ ...settings, builds: { backends: ['embedded'] } }));
});

afterEach(async () => {
  await running?.kill();
  await registry.close();
  await rm(folder, { recursive: true });
});

export async function start(): Promise<Killable> {
  running = await startProcess(process.execPath, ['src/main.ts', '--config', file], {
    checkReady: () => checkUrl(`http://${address}/health/live`),
  });
  return running;
}
