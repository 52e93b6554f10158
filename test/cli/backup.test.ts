// `veneer backup` and `veneer restore`, as docs/storage.md has them: while pushes go on, nothing is lost that was acknowledged before.
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { createBackupCommand, createRestoreCommand } from '../../src/cli/backup.ts';
import { createRepairCommand } from '../../src/cli/repair.ts';
import { type Digest, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { runCommand } from './run.ts';

const blobSchema = z.object({ digest: z.string() });
const manifestSchema = z.object({ config: blobSchema, layers: z.array(blobSchema) });
const tagsSchema = z.object({ tags: z.array(z.string()) });

let app: TestApp;
let folder: string;
let data: string;
let copy: string;

beforeEach(async () => {
  app = await startApp();
  folder = await mkdtemp(join(tmpdir(), 'veneer-backup-'));
  data = join(app.directory, 'data');
  copy = join(folder, 'copy');
});

afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

const backUp = (directory = copy) => runCommand(createBackupCommand({ findDataDir: () => data }), [directory]);
const restore = (to: string) => runCommand(createRestoreCommand({ findDataDir: () => to }), [copy]);

/** An image of one layer, acknowledged when it resolves: the digest of its manifest. */
async function push(tag: string): Promise<Digest> {
  const push = async (path: string, method: string, body: string, type = 'application/octet-stream') => {
    const response = await app.request(`/v2/local/app/${path}`, { method, body, headers: { 'Content-Type': type } });
    expect(response.status).toBe(201);
  };
  const descriptor = (text: string, mediaType: string) => ({
    mediaType,
    digest: digestOf(Buffer.from(text)),
    size: text.length,
  });
  const layer = `layer of ${tag}`;
  const config = JSON.stringify({ tag });
  for (const blob of [layer, config]) await push(`blobs/uploads/?digest=${digestOf(Buffer.from(blob))}`, 'POST', blob);
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: descriptor(config, mediaTypes.ociConfig),
    layers: [descriptor(layer, 'application/vnd.oci.image.layer.v1.tar')],
  });
  await push(`manifests/${tag}`, 'PUT', manifest, mediaTypes.ociManifest);
  return digestOf(Buffer.from(manifest));
}

/** Every byte of each, as the app serves it. */
async function expectAll(pushed: ReadonlyMap<string, Digest>): Promise<void> {
  for (const [tag, digest] of pushed) {
    const response = await app.request(`/v2/local/app/manifests/${tag}`);
    const raw = await response.bytes();
    expect([tag, response.status, digestOf(raw)]).toEqual([tag, 200, digest]);
    const { config, layers } = JSON.parse(Buffer.from(raw).toString());
    for (const { digest: blob } of [config, ...layers]) {
      const bytes = await (await app.request(`/v2/local/app/blobs/${blob}`)).bytes();
      expect(digestOf(bytes)).toBe(blob);
    }
  }
}

test('copies of a service that is being pushed to have all that was acknowledged before they began', async () => {
  const acknowledged = new Map<string, Digest>();
  let isOver = false;
  const pushing = [0, 1].map(async worker => {
    for (let at = 0; !isOver; at += 1) {
      acknowledged.set(`t${worker}-${at}`, await push(`t${worker}-${at}`));
      // A disk may copy slower than memory is pushed to.
      await setTimeout(20);
    }
  });
  const copies: { readonly directory: string; readonly before: ReadonlyMap<string, Digest> }[] = [];
  for (let round = 0; round < 4; round += 1) {
    await expect.poll(() => acknowledged.size).toBeGreaterThan(4 * (round + 1));
    const directory = join(folder, `copy-${round}`);
    const before = new Map(acknowledged);
    expect(await backUp(directory)).toMatchObject({ err: '', exitCode: 0 });
    copies.push({ directory, before });
  }
  isOver = true;
  await Promise.all(pushing);
  for (const [round, { directory, before }] of copies.entries()) {
    copy = directory;
    const target = `restored-${round}`;
    expect((await restore(join(app.directory, target))).exitCode).toBe(0);
    await app.restart(target);
    await expectAll(before);
  }
});

test('copies of a service that deletes and collects meanwhile have the bytes of all that they name', async () => {
  for (let at = 0; at < 30; at += 1) await push(`stays-${at}`);
  for (let at = 0; at < 30; at += 1) await push(`old-${at}`);
  const deleting = (async () => {
    for (let at = 0; at < 30; at += 1) {
      const path = `/v2/local/app/manifests/old-${at}`;
      const digest = (await app.request(path, { method: 'HEAD' })).headers.get('docker-content-digest');
      const { config, layers } = manifestSchema.parse(await (await app.request(path)).json());
      await app.request(`/v2/local/app/manifests/${digest}`, { method: 'DELETE' });
      for (const blob of [config, ...layers]) {
        await app.request(`/v2/local/app/blobs/${blob.digest}`, { method: 'DELETE' });
      }
    }
  })();
  expect((await backUp()).exitCode).toBe(0);
  await deleting;
  expect((await restore(join(app.directory, 'restored'))).exitCode).toBe(0);
  await app.restart('restored');
  const { tags } = tagsSchema.parse(await (await app.request('/v2/local/app/tags/list')).json());
  const digests = tags.map(async tag => {
    const { headers } = await app.request(`/v2/local/app/manifests/${tag}`, { method: 'HEAD' });
    return [tag, parseDigest(headers.get('docker-content-digest') ?? '')] as const;
  });
  expect(digests.length).toBeGreaterThanOrEqual(30);
  await expectAll(new Map(await Promise.all(digests)));
});

test('tells what was copied, as JSON and on a terminal as it goes', async () => {
  await push('1');
  const command = createBackupCommand({ findDataDir: () => data, isTerminal: true });
  const { out, err } = await runCommand(command, [copy, '--json']);
  expect(JSON.parse(out)).toEqual({
    ...{ directory: copy, files: expect.any(Number), fresh: expect.any(Number) },
    ...{ bytes: expect.any(Number), gone: expect.any(Number) },
  });
  expect(err).toMatch(/\d+ files, \d+ of them copied now/);
  const target = join(folder, 'restored');
  const restored = await runCommand(createRestoreCommand({ findDataDir: () => target }), [copy, '--json']);
  expect(JSON.parse(restored.out)).toMatchObject({ directory: target, fault: null });
  expect(restored.err).toBe('');
});

test('the same directory again takes what is new, and is whole at any time', async () => {
  const pushed = new Map([['1', await push('1')]]);
  expect((await backUp()).out).toMatch(/^\S+ has the records and 3 files, 3 of them copied now \(.+\)\n$/);
  pushed.set('2', await push('2'));
  expect((await backUp()).out).toMatch(/6 files, 3 of them copied now/);
  // One that was cut off leaves the records of the one before it.
  await writeFile(join(copy, 'records.db.new'), 'half of a copy');
  expect((await restore(join(app.directory, 'restored'))).exitCode).toBe(0);
  await app.restart('restored');
  await expectAll(pushed);
});

test('nothing is in it that can be had again or is of the process alone', async () => {
  app.putImage();
  await push('1');
  await (await app.request('/v2/lab/library/app/manifests/1')).bytes();
  await backUp();
  expect((await readdir(copy)).toSorted()).toEqual(['hosted', 'records.db']);
  expect((await stat(copy)).mode & 0o077).toBe(0);
});

test('a data directory that has records is not written over', async () => {
  const pushed = new Map([['1', await push('1')]]);
  await backUp();
  const taken = await restore(data);
  expect([taken.exitCode, taken.err]).toEqual([1, expect.stringContaining('another Veneer process is using')]);
  await app.restart('other');
  const there = await readFile(join(data, 'records.db'));
  const refused = await restore(data);
  expect([refused.exitCode, refused.err]).toEqual([
    1,
    expect.stringContaining(`${data} already has records: move it away`),
  ]);
  expect((await readFile(join(data, 'records.db'))).equals(there)).toBe(true);
  await app.restart('data');
  await expectAll(pushed);
});

test('what is restored is whole, and beside bytes that stayed it tells what the backup lacks, which a repair adds', async () => {
  const findCondition = async (directory: string) => {
    const records = createSqliteStore({ path: join(directory, 'records.db') });
    await records.close();
    return records.condition.kind;
  };
  const pushed = new Map([['1', await push('1')]]);
  await backUp();
  pushed.set('2', await push('2'));
  await app.restart('other');
  const fresh = join(folder, 'fresh');
  expect(await restore(fresh)).toMatchObject({ err: '', exitCode: 0 });
  expect(await findCondition(fresh)).toBe('whole');
  for (const end of ['', '-wal', '-shm']) await rm(join(data, `records.db${end}`), { force: true });
  const beside = await restore(data);
  expect([beside.exitCode, beside.err]).toEqual([0, expect.stringMatching(/are older than .*veneer repair/)]);
  expect(await findCondition(data)).toBe('older');
  const place = { dataDir: data, recovered: 'local/recovered' };
  await runCommand(createRepairCommand({ findTarget: () => place, isTerminal: false }), []);
  expect(await findCondition(data)).toBe('whole');
  await app.restart('data');
  await expectAll(pushed);
});

test.each([
  ['of no data directory', () => backUpOf(join(folder, 'none')), 'there is no records.db in'],
  ['into the data directory', () => backUp(join(data, 'copy')), 'must not contain each other'],
  ['that is none', () => restore(join(folder, 'to')), 'it is not a backup, or an incomplete one'],
])('a backup %s is refused', async (_, run, message) => {
  const { err, exitCode } = await run();
  expect([exitCode, err]).toEqual([1, expect.stringContaining(message)]);
});

const backUpOf = (from: string) => runCommand(createBackupCommand({ findDataDir: () => from }), [copy]);

test('damaged records are found, and the backup before them stays', async () => {
  await push('1');
  await backUp();
  const good = await readFile(join(copy, 'records.db'));
  await app.restart('other');
  const bytes = await readFile(join(data, 'records.db'));
  for (let at = 4096 + 8; at < 4096 + 2048; at += 1) bytes[at] = 0x5a;
  await writeFile(join(data, 'records.db'), bytes);
  await rm(join(data, 'records.db-wal'), { force: true });
  await expect(backUp()).rejects.toThrow(/cannot use .*records\.db/);
  expect((await readFile(join(copy, 'records.db'))).equals(good)).toBe(true);
});
