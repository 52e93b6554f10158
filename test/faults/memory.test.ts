// Memory that does not follow what a process has done: many different pulls, submits and pushes, many slow clients, a small container.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { platform, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { createMixedLoad, readSlowly } from '../support/mixed-load.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import {
  buildProgram,
  findNoLimit,
  type MeasuredOptions,
  type MeasuredProcess,
  startMeasured,
} from './limited-memory.ts';

const MIB = 1024 * 1024;
const noLimit = await findNoLimit();
const isLinux = platform() === 'linux';

let built: string;
let program: string;
let folder: string;
let registry: TestRegistry;
let veneer: MeasuredProcess | undefined;

beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), 'veneer-built-'));
  if (noLimit === undefined) program = await buildProgram(built);
});

afterAll(() => rm(built, { recursive: true }));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-memory-'));
  registry = await startRegistry();
});

afterEach(async () => {
  await veneer?.kill();
  await registry.close();
  await rm(folder, { recursive: true });
});

async function start(config: object = {}, options: Omit<MeasuredOptions, 'config'> = {}): Promise<MeasuredProcess> {
  const settings = { upstreams: { lab: { url: registry.url } }, builds: { backends: ['embedded'] }, ...config };
  veneer = await startMeasured(folder, { ...options, config: settings });
  return veneer;
}

/** Rounds of the load, some at once. */
async function load({ address }: MeasuredProcess, rounds: number): Promise<void> {
  const run = createMixedLoad({ address, registry });
  const numbers = Array.from({ length: rounds }, (_, at) => at).values();
  const worker = async () => {
    for (const round of numbers) await run(round);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

/** Of nearly 4 MiB and 100 000 entries, each another one. */
function makeBomb(at: number): Buffer {
  const entries = Array.from({ length: 100_000 }, (_, entry) => `"${at}-${entry}-${'x'.repeat(24)}"`);
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    size: 2,
    digest: digestOf(Buffer.from('{}')),
  };
  return Buffer.from(`{"schemaVersion":2,"config":${JSON.stringify(config)},"layers":[],"entries":[${entries}]}`);
}

function putBlob(bytes: number): string {
  const raw = randomBytes(bytes);
  registry.put('team/app', [{ mediaType: 'application/octet-stream', raw }]);
  return `/v2/lab/team/app/blobs/${digestOf(raw)}`;
}

test.runIf(isLinux)(
  'hundreds of different pulls, submits and pushes leave no more than the budget of the caches',
  async () => {
    const service = await start({ memory: '8MiB' });
    await load(service, 150);
    expect((await service.readMemory()).peak).toBeLessThan(235);
  },
  180_000,
);

test.runIf(isLinux)(
  '500 slow clients of one blob have the smallest buffers',
  async () => {
    const service = await start();
    const left = new AbortController();
    const url = `http://${service.address}${putBlob(64 * MIB)}`;
    const readers = readSlowly(url, 500, { bytesPerSecond: 32 * 1024, signal: left.signal });
    await setTimeout(10_000);
    const { peak } = await service.readMemory();
    const health = await fetch(`http://${service.address}/health/live`, { signal: AbortSignal.timeout(10_000) });
    left.abort();
    expect(health.status).toBe(200);
    expect(await readers).toBe(0);
    expect(peak).toBeLessThan(250);
  },
  60_000,
);

test.skipIf(noLimit !== undefined)(
  'a container of 256 MiB survives the load together with slow clients',
  async () => {
    const service = await start({}, { container: { program, limitBytes: 256 * MIB } });
    const left = new AbortController();
    const url = `http://${service.address}${putBlob(64 * MIB)}`;
    const readers = readSlowly(url, 400, { bytesPerSecond: 32 * 1024, signal: left.signal });
    await load(service, 100);
    left.abort();
    expect(await readers).toBe(0);
    expect((await fetch(`http://${service.address}/health/ready`)).status).toBe(200);
  },
  600_000,
);

test.skipIf(noLimit !== undefined)(
  'a container of 256 MiB survives 50 manifests of 4 MiB at once, pulled or pushed, and tells who finds no room',
  async () => {
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const bombs = Array.from({ length: 50 }, (_, at) => makeBomb(at));
    for (const [at, raw] of bombs.entries()) registry.put('team/app', [{ mediaType, raw, tags: [`${at}`] }]);
    const service = await start({}, { container: { program, limitBytes: 256 * MIB } });
    const send = async (path: string, init: RequestInit) => {
      const response = await fetch(`http://${service.address}${path}`, init);
      await response.arrayBuffer();
      return response.status;
    };
    const headers = { 'content-type': mediaType };
    for (let times = 0; times < 2; times += 1) {
      const pulled = await Promise.all(bombs.map((_, at) => send(`/v2/lab/team/app/manifests/${at}`, {})));
      expect(new Set(pulled)).toEqual(new Set([200]));
      const pushed = await Promise.all(
        bombs.map((body, at) =>
          send(`/v2/local/app/manifests/${at}`, { method: 'PUT', headers, body: new Uint8Array(body) }),
        ),
      );
      // A blob of it is not there.
      expect([...new Set(pushed)].sort()).toEqual([404, 503]);
    }
    expect((await fetch(`http://${service.address}/health/ready`)).status).toBe(200);
  },
  600_000,
);
