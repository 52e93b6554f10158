// No byte goes for want of a record where the records are lost: pushed images, layers of requests and of rules, contexts and logs of builds, and
// what is kept of upstreams. All files are old, all sweeps are due, and everybody collects.
import { cp, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyRecords } from '../../src/state/sqlite.ts';
import { type BuildApp, startBuildApp } from '../app/build-app.ts';
import { dataUrl, makeLayer } from '../support/app.ts';

const ROOMS = ['hosted/blobs', 'tokens/blobs', 'rules/blobs', 'builds/contexts/blobs', 'builds/logs', 'content/blobs'];
const MONTHS_AGO = new Date(Date.now() - 90 * 24 * 3_600_000);

let app: BuildApp;
let data: string;
let layer: string;

beforeEach(async () => {
  app = await startBuildApp({ everySweepMs: 20, lookEveryMs: 3_600_000 });
  data = join(app.directory, 'data');
  layer = join(app.directory, 'layer');
  await mkdir(layer);
});

afterEach(() => app.close());

/** A layer of a rule that was changed since: a digest that somebody has pulled needs it. */
async function pullRuled(text: string): Promise<void> {
  await writeFile(join(layer, 'motd'), text);
  const rules = [{ name: 'motd', match: { image: '**' }, layers: [{ directory: layer }] }];
  await app.configure({ rules, cache: { maxAge: '1d' }, hosted: { collect: { every: '10m', grace: '1h' } } });
  const { digest, mediaType, size } = await app.head('lab/library/app', '1');
  await app.read('lab/library/app', { digest, mediaType, size });
}

async function fillAll(): Promise<void> {
  await pullRuled('before');
  await pullRuled('now');
  await app.submit({ containerConfig: { layers: [{ location: dataUrl(await makeLayer('a', 'of a request')) }] } });
  const build = await app.build({ buildContext: { location: dataUrl(await makeLayer('f', 'of a context')) } });
  await app.ended(build.buildId);
}

async function listFiles(directory: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const listed = ROOMS.map(async room => {
    const entries = await readdir(join(directory, room), { recursive: true, withFileTypes: true });
    const files = entries.filter(entry => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
    return [room, files.map(file => file.slice(directory.length)).sort()] as const;
  });
  return new Map(await Promise.all(listed));
}

const removeAll = async (at: string) => {
  for (const end of ['', '-wal', '-shm']) await rm(join(at, `records.db${end}`), { force: true });
};

test.each<[string, (left: string) => Promise<unknown>]>([
  ['are gone', removeAll],
  ['are an empty file', left => removeAll(left).then(() => writeFile(join(left, 'records.db'), ''))],
  ['have lost their write-ahead log', left => rm(join(left, 'records.db-wal'))],
  ['are an older copy', left => removeAll(left).then(() => cp(join(app.directory, 'copy'), join(left, 'records.db')))],
  ['are an older copy, of another file', left => cp(join(app.directory, 'copy'), join(left, 'records.db'))],
])('where the records %s, no file goes', { timeout: 60_000 }, async (_, harm) => {
  await copyRecords(join(data, 'records.db'), join(app.directory, 'copy'));
  await fillAll();
  // As a machine that stops leaves it: nothing was closed.
  const left = join(app.directory, 'left');
  await cp(data, left, { recursive: true });
  const before = await listFiles(left);
  for (const [room, files] of before) {
    expect([room, files.length > 0]).toEqual([room, true]);
    for (const file of files) await utimes(join(left, file), MONTHS_AGO, MONTHS_AGO);
  }
  await harm(left);
  await app.restart('left');
  await setTimeout(1500);
  const collected = await app.request('/v1/hosted/collect?force=true', { method: 'POST' });
  expect(await collected.text()).toContain('nothing was collected: the records are');
  expect(await listFiles(left)).toEqual(before);
  expect((await app.request('/health/ready')).status).toBe(503);
});
