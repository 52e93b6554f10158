// `veneer repair`, over the data of an app whose records were lost, taken back, or are as they should be.
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createRepairCommand } from '../../src/cli/repair.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { copyRecords } from '../../src/state/sqlite.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { type Run, runCommand } from './run.ts';

const tagsSchema = z.object({ tags: z.array(z.string()) });
const manifestSchema = z.object({ layers: z.array(z.object({ digest: z.string() })) });

let app: TestApp;
let folder: string;
let data: string;

beforeEach(async () => {
  app = await startApp();
  folder = await mkdtemp(join(tmpdir(), 'veneer-repair-'));
  data = join(app.directory, 'data');
});

afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

const repair = (args: readonly string[] = [], dataDir = data): Promise<Run> =>
  runCommand(
    createRepairCommand({ findTarget: () => ({ dataDir, recovered: 'local/recovered' }), isTerminal: false }),
    args,
  );

/** Stops the app, and has another one over other data in its place. */
const stop = () => app.restart('other');

async function send(path: string, method: string, body: string, type = 'application/octet-stream') {
  const response = await app.request(`/v2/local/app/${path}`, { method, body, headers: { 'Content-Type': type } });
  expect(response.status).toBe(201);
}

/** An image of one layer. */
async function push(tag: string, text = tag): Promise<void> {
  const of = (content: string, mediaType: string) => ({
    mediaType,
    digest: digestOf(Buffer.from(content)),
    size: content.length,
  });
  const [config, layer] = [`{"of":"${text}"}`, `layer of ${text}`];
  for (const blob of [config, layer]) await send(`blobs/uploads/?digest=${digestOf(Buffer.from(blob))}`, 'POST', blob);
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: of(config, mediaTypes.ociConfig),
    layers: [of(layer, 'application/vnd.oci.image.layer.v1.tar')],
  });
  await send(`manifests/${tag}`, 'PUT', manifest, mediaTypes.ociManifest);
}

/** What the layer of each tag says. */
async function readTags(): Promise<Record<string, string>> {
  const response = await app.request('/v2/local/app/tags/list');
  const { tags } = tagsSchema.parse(await response.json());
  const texts = tags.map(async tag => {
    const { layers } = manifestSchema.parse(await (await app.request(`/v2/local/app/manifests/${tag}`)).json());
    return [tag, await (await app.request(`/v2/local/app/blobs/${layers[0]?.digest}`)).text()];
  });
  return Object.fromEntries(await Promise.all(texts));
}

const isReady = async () => (await app.request('/health/ready')).status === 200;
const readFiles = async () => (await readdir(join(data, 'hosted/blobs'), { recursive: true })).toSorted();

async function removeRecords(): Promise<void> {
  for (const end of ['', '-wal', '-shm']) await rm(join(data, `records.db${end}`), { force: true });
}

async function copyAside(): Promise<string> {
  const copy = join(folder, 'records.db');
  await copyRecords(join(data, 'records.db'), copy);
  return copy;
}

test.each([
  ['are gone', removeRecords],
  ['are an empty file', () => removeRecords().then(() => writeFile(join(data, 'records.db'), ''))],
])('records that %s are rebuilt, and the service is ready again', async (_, harm) => {
  for (const tag of ['1', '2', '3']) await push(tag);
  await push('1', 'moved');
  await stop();
  const files = await readFiles();
  await harm();
  const { out, err, exitCode } = await repair();
  expect({ out, exitCode }).toEqual({
    out: `${[
      'rebuilt: 3 tags, 4 manifests, 8 blobs',
      'total: 1 repository, 3 tags, 4 manifests, 8 blobs',
      'accepted: these are the records from now on, and garbage collection works as usual',
    ].join('\n')}\n`,
    exitCode: 0,
  });
  expect(err).toContain('the records are gone');
  expect(await readFiles()).toEqual(files);
  await app.restart();
  expect(await isReady()).toBe(true);
  expect(await readTags()).toEqual({ 1: 'layer of moved', 2: 'layer of 2', 3: 'layer of 3' });
});

test('a service that went on without its records loses neither what was before nor what came since', async () => {
  await push('before');
  await push('moved');
  await stop();
  await removeRecords();
  await app.restart();
  expect(await isReady()).toBe(false);
  await push('since');
  await push('moved', 'moved since');
  await stop();
  expect((await repair()).out).toContain('rebuilt: 1 tag, 2 manifests, 4 blobs\n');
  await app.restart();
  expect(await readTags()).toEqual({
    before: 'layer of before',
    moved: 'layer of moved since',
    since: 'layer of since',
  });
});

describe('an older copy', () => {
  test('that was put back gets what came since', async () => {
    await push('1');
    const copy = await copyAside();
    await push('2');
    await app.request('/v2/local/app/manifests/1', { method: 'DELETE' });
    await stop();
    await removeRecords();
    await cp(copy, join(data, 'records.db'));
    const { out, err } = await repair();
    expect(err).toContain('the records are older than what was acknowledged');
    expect(out).toContain(
      'rebuilt: 1 tag, 1 manifest, 2 blobs\nremoved, since deleted according to the journal: 1 tag,',
    );
    await app.restart();
    expect([await isReady(), await readTags()]).toEqual([true, { 2: 'layer of 2' }]);
  });

  test('that is named takes the place of what is there, which stays beside: tokens are in no journal', async () => {
    app.putImage();
    const { name } = await app.submit();
    await push('1');
    const copy = await copyAside();
    await push('2');
    await stop();
    await writeFile(join(data, 'records.db'), 'not even a database, but long enough to be taken for one'.repeat(100));
    const damaged = await repair();
    expect([damaged.exitCode, damaged.err]).toEqual([1, expect.stringMatching(/cannot use .*records\.db.*--records/)]);
    const { err, exitCode } = await repair(['--records', copy]);
    expect([exitCode, err]).toEqual([0, expect.stringContaining(`using the records of ${copy}`)]);
    expect((await readdir(data)).some(file => /^records\.db\.before-[\dTZ-]+$/.test(file))).toBe(true);
    await app.restart();
    expect(await readTags()).toEqual({ 1: 'layer of 1', 2: 'layer of 2' });
    expect((await app.request(`/v2/${name}/manifests/1`)).status).toBe(200);
  });
});

test('a dry run says the same and changes nothing', async () => {
  await push('1');
  await stop();
  await removeRecords();
  const before = (await readdir(data, { recursive: true })).toSorted();
  const journal = await readFile(join(data, 'hosted/links.jsonl'), 'utf8');
  const { out, exitCode } = await repair(['--dry-run']);
  expect([exitCode, out]).toEqual([
    0,
    `rebuilt: 1 tag, 1 manifest, 2 blobs
total: 1 repository, 1 tag, 1 manifest, 2 blobs
dry run: nothing was changed
`,
  ]);
  expect((await readdir(data, { recursive: true })).toSorted()).toEqual(before);
  expect(await readFile(join(data, 'hosted/links.jsonl'), 'utf8')).toBe(journal);
});

test('what has no name any more is kept by its digest, and reported', async () => {
  await push('1');
  await stop();
  await removeRecords();
  await rm(join(data, 'hosted/links.jsonl'));
  const { out, err } = await repair();
  expect(err).toContain('there is no link journal');
  expect(out).toContain('without a repository, now in local/recovered: 0 tags, 1 manifest, 2 blobs');
});

test('--as-is takes the records as they are, and keeps what would have told more', async () => {
  await push('1');
  await stop();
  const files = await readFiles();
  await removeRecords();
  expect((await repair(['--as-is'])).exitCode).toBe(0);
  expect(await readFiles()).toEqual(files);
  const [kept] = (await readdir(join(data, 'hosted'))).filter(file => file.startsWith('links.jsonl.before-'));
  await app.restart();
  expect([await isReady(), (await app.request('/v2/local/app/tags/list')).status]).toEqual([true, 404]);
  await stop();
  await cp(join(data, 'hosted', kept ?? ''), join(data, 'hosted/links.jsonl'));
  expect((await repair()).out).toContain('rebuilt: 1 tag');
});

test('bytes that are not there are told by their names, and the journal that has them stays', async () => {
  await push('1');
  await stop();
  await removeRecords();
  await rm(join(data, 'hosted/blobs'), { recursive: true });
  const { out } = await repair();
  expect(out).toMatch(
    /not rebuilt, because the content is missing: 4\n {2}local\/app@sha256:.*\n.*\n.*\n {2}local\/app:1\n/,
  );
  expect((await readdir(join(data, 'hosted'))).some(file => file.startsWith('links.jsonl.before-'))).toBe(true);
});

test.each([
  ['a directory that a service uses', () => repair(), 'another Veneer process is using'],
  ['a directory without a registry', () => repair([], folder), 'there is no registry in'],
  ['a copy that is not there', () => stop().then(() => repair(['--records', join(folder, 'none')])), 'there is no /'],
])('%s is refused', async (_, run, message) => {
  const { err, exitCode } = await run();
  expect([exitCode, err]).toEqual([1, expect.stringContaining(message)]);
});
