// Bits that the disk has turned in what is kept: of what was pushed, of upstreams, of rules and of requests, whether it was verified a
// moment ago or not. No read gives them, what is damaged is not there any more, and it is right again once it came again.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cacheLineSchema } from '../../src/cache/admin/lines.ts';
import { type Digest, digestHex, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { type Receiver, receive } from '../events/receiver.ts';
import { dataUrl, makeTar, startApp, type TestApp } from '../support/app.ts';

const NAME = 'lab/library/app';
const SIZE = 300_000;

let app: TestApp;
let receiver: Receiver;

beforeEach(async () => {
  receiver = await receive();
  app = await startApp({ lookEveryMs: 10 });
  app.putImage();
  const directory = join(app.directory, 'layer');
  await mkdir(join(directory, 'etc'), { recursive: true });
  await writeFile(join(directory, 'etc/random'), randomBytes(SIZE));
  const rules = [{ name: 'layer', match: { image: '**' }, layers: [{ directory }] }];
  const endpoints = [{ name: 'audit', url: receiver.url.href, on: ['damaged'] }];
  await app.configure({ rules, events: { endpoints } });
});

afterEach(() => app.close());

/** A blob that is kept, where it lies, and what makes it right again. */
interface Kept {
  readonly path: string;
  readonly folder: string;
  readonly digest: Digest;
  /** By a HEAD, once it is known to be damaged. */
  readonly status: number;
  readonly heal: () => Promise<unknown>;
}

const bytesOf = (raw: Uint8Array) => new Blob([Buffer.from(raw)]).stream();

async function push(repository: string, raw: Uint8Array): Promise<number> {
  const path = `/v2/${repository}/blobs/uploads/?digest=${digestOf(raw)}`;
  return (await app.request(path, { method: 'POST', body: bytesOf(raw) })).status;
}

async function keepHosted(): Promise<Kept> {
  const raw = randomBytes(SIZE);
  const digest = digestOf(raw);
  expect(await push('local/app', raw)).toBe(201);
  return {
    ...{ path: `/v2/local/app/blobs/${digest}`, folder: 'hosted', digest, status: 404 },
    async heal() {
      // Neither a mount nor a push to another repository takes what is damaged for what is there.
      const mount = `/v2/local/other/blobs/uploads/?mount=${digest}&from=local/app`;
      expect((await app.request(mount, { method: 'POST' })).status).toBe(202);
      expect(await push('local/app', raw)).toBe(201);
      expect((await app.request(mount, { method: 'POST' })).status).toBe(201);
    },
  };
}

async function keepCached(): Promise<Kept> {
  const raw = randomBytes(SIZE);
  const digest = digestOf(raw);
  app.registry.put('library/app', [{ mediaType: 'application/octet-stream', raw }]);
  const path = `/v2/${NAME}/blobs/${digest}`;
  /** Until it is kept, and linked. */
  async function pull(): Promise<void> {
    expect(digestOf(await (await app.request(path)).bytes())).toBe(digest);
    const list = async () => (await app.request(`/v1/cache/content?repository=${NAME}`)).text();
    await expect.poll(list, { timeout: 20_000 }).toContain(digest);
  }

  await pull();
  // The upstream has it.
  return { path, folder: 'content', digest, status: 200, heal: pull };
}

async function keepRuled(): Promise<Kept> {
  const index = JSON.parse(Buffer.from(await app.read(NAME, await app.head(NAME, '1'))).toString());
  const manifest = JSON.parse(Buffer.from(await app.read(NAME, index.manifests[0])).toString());
  const digest = parseDigest(manifest.layers.at(-1).digest);
  return { path: `/v2/${NAME}/blobs/${digest}`, folder: 'rules', digest, status: 200, heal: async () => {} };
}

async function keepGiven(): Promise<Kept> {
  const layer = await makeTar('opt/random', randomBytes(SIZE).toString('latin1'));
  const digest = digestOf(layer);
  const submit = () => app.submit({ containerConfig: { layers: [{ location: dataUrl(layer) }] } });
  const { name } = await submit();
  return { path: `/v2/${name}/blobs/${digest}`, folder: 'tokens', digest, status: 404, heal: submit };
}

function fileOf({ folder, digest }: Pick<Kept, 'folder' | 'digest'>): string {
  return join(app.directory, 'data', folder, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));
}

async function turnBit(kept: Pick<Kept, 'folder' | 'digest'>, at: number): Promise<void> {
  const raw = await readFile(fileOf(kept));
  raw[at] = (raw[at] ?? 0) ^ 1;
  await writeFile(fileOf(kept), raw);
}

/** The bytes of a body that came to its end; undefined where it broke, or where there was none. */
async function readAll({ path }: Kept, range?: string): Promise<Uint8Array | undefined> {
  const response = await app.request(path, { headers: range ? { Range: `bytes=${range}` } : {} });
  if (!response.ok) await response.body?.cancel();
  return response.ok ? response.bytes().catch(() => undefined) : undefined;
}

const KINDS = [
  ['a hosted blob', keepHosted, 'hosted'],
  ['a cached blob', keepCached, 'cache'],
  ['a layer of a rule', keepRuled, 'rules'],
  ['a layer of a request', keepGiven, 'tokens'],
] as const;

describe.each(KINDS)('%s', (_, keep, kind) => {
  const READS: [string, string | undefined, number][] = [
    ['whole', undefined, 150_000],
    ['by a Range that has the bit', '140000-160000', 150_000],
    ['by a Range of that byte', '150000-150000', 150_000],
    ['in its last bytes', '-10', -3],
  ];

  test.each(READS)(
    'with one bit turned is not served, read %s, and is right again once it came again',
    async (_, range, at) => {
      const kept = await keep();
      const whole = await readAll(kept);
      expect(whole && digestOf(whole)).toBe(kept.digest);
      for (const restart of [false, true]) {
        if (restart) await app.restart();
        app.log.length > 0 && (app.log as string[]).splice(0);
        await turnBit(kept, at < 0 ? (whole?.byteLength ?? 0) + at : at);
        expect(await readAll(kept, range)).toBeUndefined();
        // A rule may have read its layer again by now.
        if (kind !== 'rules') {
          expect((await app.request(kept.path, { method: 'HEAD' })).status).toBe(kept.status);
        }
        await kept.heal();
        await expect
          .poll(async () => Buffer.from((await readAll(kept)) ?? []).equals(Buffer.from(whole ?? [])), {
            timeout: 20_000,
          })
          .toBe(true);
        expect((await app.request(kept.path, { method: 'HEAD' })).status).toBe(200);
        const told = app.log.filter(line => line.includes('stored content was damaged by the disk'));
        expect(told.map(line => JSON.parse(line))).toMatchObject([{ level: 50, of: kind, digest: kept.digest }]);
      }
      await receiver.arrived(2);
      const [first] = receiver.posts.flatMap(({ events }) => events);
      const repository = { hosted: 'local/app', cache: NAME, rules: undefined, tokens: undefined }[kind];
      expect(first).toMatchObject({ action: 'damaged', target: { digest: kept.digest }, actor: { name: 'veneer' } });
      expect(first && 'repository' in first.target ? first.target.repository : undefined).toBe(repository);
    },
  );
});

test('a hosted manifest that is damaged is written again from memory, and is unknown after a restart until it is pushed again', async () => {
  const raw = JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [] });
  const digest = digestOf(Buffer.from(raw));
  const path = '/v2/local/app/manifests/1';
  const put = () =>
    app.request(path, {
      method: 'PUT',
      body: raw,
      headers: { 'Content-Type': 'application/vnd.oci.image.index.v1+json' },
    });
  const kept = { path, folder: 'hosted', digest, status: 404, heal: put };
  expect((await put()).status).toBe(201);
  expect(await (await app.request(path)).text()).toBe(raw);
  await turnBit(kept, 5);
  expect(await verify()).toMatchObject([{ of: 'hosted', digest }]);
  await expect.poll(() => readFile(fileOf(kept), 'utf8').catch(() => '')).toBe(raw);
  await app.restart();
  await turnBit(kept, 5);
  for (const method of ['GET', 'HEAD']) expect((await app.request(path, { method })).status).toBe(404);
  expect((await put()).status).toBe(201);
  expect(await (await app.request(path)).text()).toBe(raw);
});

/** What is damaged, by the operator's command. */
async function verify() {
  const text = await (await app.request('/v1/cache/verify', { method: 'POST' })).text();
  const lines = text
    .trim()
    .split('\n')
    .map(line => cacheLineSchema.parse(JSON.parse(line)));
  return lines.filter(line => line.kind === 'damaged');
}

test('what nobody has read is found by `veneer cache verify`, wherever it is, and the hosted is set aside', async () => {
  const all = [await keepHosted(), await keepCached(), await keepRuled(), await keepGiven()];
  for (const kept of all) await turnBit(kept, 70_000);
  const found = await verify();
  const damaged = KINDS.map(([, , kind], at) => `${kind} ${all[at]?.digest}`);
  expect(found.map(({ of, digest }) => `${of} ${digest}`).sort()).toEqual(damaged.sort());
  expect(await verify()).toEqual([]);
  const [hosted] = all;
  if (!hosted) throw new Error('nothing is hosted');
  const aside = join(app.directory, 'data/hosted/damaged', `sha256-${digestHex(hosted.digest)}`);
  expect((await readFile(aside)).byteLength).toBe(SIZE);
  expect((await app.request(hosted.path, { method: 'HEAD' })).status).toBe(404);
});

test('what nobody reads and nobody asks for is found by the scrubber, and the service ends at once beside it', async () => {
  // Of the first part, which comes first.
  let raw = randomBytes(70_000);
  while (!digestHex(digestOf(raw)).startsWith('00')) raw = randomBytes(70_000);
  const kept = { folder: 'hosted', digest: digestOf(raw) };
  expect(await push('local/app', raw)).toBe(201);
  await turnBit(kept, 69_999);
  const endpoints = [{ name: 'audit', url: receiver.url.href, on: ['damaged'] }];
  await app.configure({ scrub: { every: '1m' }, events: { endpoints } });
  await receiver.arrived(1);
  expect(receiver.posts.flatMap(({ events }) => events)).toMatchObject([
    { action: 'damaged', target: { digest: kept.digest, repository: 'local/app', size: 70_000 } },
  ]);
  expect(app.log.join('')).toContain('it is missing (404) until it is pushed again');
  expect((await app.request(`/v2/local/app/blobs/${kept.digest}`, { method: 'HEAD' })).status).toBe(404);
  await app.configure({ scrub: { every: 'never' } });
});
