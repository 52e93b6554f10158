// Veneer that ends again and again while it builds: killed from outside no build is to blame, and one that ends it is found and given up.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkUrl, findFreePort, type Killable, startProcess, waitUntil } from '../clients/support/process.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

let folder: string;
let registry: TestRegistry;
let address: string;
let veneer: Killable | undefined;
/** Repositories whose blobs do not come. */
let held: Set<string>;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-crashes-'));
  registry = await startRegistry();
  address = `127.0.0.1:${await findFreePort()}`;
  held = new Set();
  for (const [seed, name] of ['one', 'two', 'guilty'].entries()) {
    const { root, content } = generateImage({ seed, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
    const tags = (digest: string) => (digest === root.digest ? { tags: ['1'] } : {});
    registry.put(
      `library/${name}`,
      [...content].map(([digest, each]) => ({ ...each, ...tags(digest) })),
    );
  }
  registry.intercept(({ url = '' }) => url.includes('/blobs/') && [...held].some(name => url.includes(`/${name}/`)));
  const upstreams = { lab: { url: registry.url } };
  const builds = { backends: ['embedded'], concurrency: 3 };
  const config = { listen: address, dataDir: join(folder, 'data'), upstreams, builds };
  await writeFile(join(folder, 'veneer.yaml'), JSON.stringify(config));
  // What a fault of ours would do, when it is told to.
  await writeFile(
    join(folder, 'fault.mjs'),
    `process.on('SIGUSR2', () => setImmediate(() => { throw new Error('a fault'); }));
     process.on('SIGWINCH', () => { const full = []; for (;;) full.push(new Array(100_000).fill({})); });`,
  );
});

afterEach(async () => {
  await veneer?.kill();
  await registry.close();
  await rm(folder, { recursive: true });
});

async function start(): Promise<void> {
  const args = [
    '--max-old-space-size=256',
    '--import',
    join(folder, 'fault.mjs'),
    'src/main.ts',
    '--config',
    join(folder, 'veneer.yaml'),
  ];
  veneer = await startProcess(process.execPath, args, { checkReady: () => checkUrl(`http://${address}/health/ready`) });
}

async function submit(name: string): Promise<string> {
  const containerFile = Buffer.from(`FROM lab/library/${name}:1\nLABEL of=${name}`).toString('base64');
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch(`http://${address}/v1alpha2/container`, {
    ...{ method: 'POST', headers },
    body: JSON.stringify({ containerFile }),
  });
  expect(response.status).toBe(200);
  return Object(await response.json()).buildId;
}

const find = async (id: string) => Object(await (await fetch(`http://${address}/v1alpha1/builds/${id}`)).json());
const areRunning = (ids: readonly string[]) =>
  waitUntil(async () => {
    for (const id of ids) expect(await find(id)).toMatchObject({ status: 'running' });
  });
const succeed = (ids: readonly string[]) =>
  waitUntil(async () => {
    for (const id of ids) expect(await find(id)).toMatchObject({ status: 'succeeded' });
  });

describe('a crash loop', { timeout: 180_000 }, () => {
  test.each([
    ['one build', ['one']],
    ['several', ['one', 'two', 'guilty']],
  ])('of kills from outside gives up no build: %s', async (_, names) => {
    for (const name of names) held.add(name);
    await start();
    const ids: string[] = [];
    for (const name of names) ids.push(await submit(name));
    for (let kills = 0; kills < 4; kills += 1) {
      await areRunning(ids);
      await veneer?.kill();
      await start();
    }
    held.clear();
    await veneer?.kill();
    await start();
    await succeed(ids);
  });

  test.each([
    ['an error that nobody catches', 'SIGUSR2'],
    ['a heap that is full', 'SIGWINCH'],
  ] as const)(
    'of a process that ends by itself, by %s, gives up the build that ends it, and no other',
    async (_, signal) => {
      for (const name of ['one', 'two', 'guilty']) held.add(name);
      await start();
      const innocent = [await submit('one'), await submit('two')];
      const guilty = await submit('guilty');
      await areRunning([...innocent, guilty]);
      held.delete('one');
      held.delete('two');
      for (let ends = 0; ends < 4; ends += 1) {
        await waitUntil(async () => expect(await find(guilty)).toMatchObject({ status: 'running', starts: ends + 1 }));
        if (ends > 0) await succeed(innocent);
        process.kill(veneer?.pid ?? 0, signal);
        await expect
          .poll(() => fetch(`http://${address}/health/live`).catch(() => 'gone'), { timeout: 60_000 })
          .toBe('gone');
        await veneer?.kill();
        await start();
      }
      expect(await find(guilty)).toMatchObject({ status: 'failed', failure: { kind: 'lost' }, starts: 4 });
      await succeed(innocent);
      expect(await readdir(join(folder, 'data'))).not.toContain('ended-by-itself');
    },
  );
});
