// Large directories, followed without a walk at each look.
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import {
  createDirectoryWatcher,
  type DirectoryWatcher,
  type DirectoryWatcherDeps,
} from '../../src/rules/layers/directory-watcher.ts';
import { walkPath } from '../../src/rules/layers/fingerprint.ts';

/** Far from the times of all files: what was written a moment ago is looked at again and again. */
const LATER = new Date(Date.UTC(2040, 0, 1));
const isLinux = process.platform === 'linux';

let folder: string;
let watcher: DirectoryWatcher;
let walks: number;
let told: string[];

const at = (...names: readonly string[]) => join(folder, ...names);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-watching-'));
  for (const name of ['layer/a/b', 'layer/c', 'other']) mkdirSync(at(name), { recursive: true });
  for (const name of ['layer/1', 'layer/a/2', 'layer/a/b/3']) writeFileSync(at(name), name);
});

afterEach(async () => {
  watcher.close();
  await rm(folder, { recursive: true });
});

function open(deps: Partial<DirectoryWatcherDeps> = {}): void {
  walks = 0;
  told = [];
  watcher = createDirectoryWatcher({
    walk(path) {
      walks += 1;
      return walkPath(path, LATER);
    },
    onUnwatched: (path, reason) => told.push(`${path}: ${reason}`),
    minEntries: 1,
    ...deps,
  });
}

/** It goes on when it is told to, and a millisecond with each look. */
function stopClock(): void {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
}

async function look(name = 'layer'): Promise<string> {
  if (vi.isFakeTimers()) vi.advanceTimersByTime(1);
  return (await watcher.fingerprint(at(name))).value;
}

/** Looks until nothing is walked any more. */
async function rest(name = 'layer'): Promise<string> {
  await look(name);
  await look(name);
  const value = await look(name);
  const before = walks;
  for (let i = 0; i < 5; i += 1) expect(await look(name)).toBe(value);
  expect(walks).toBe(before);
  return value;
}

test.runIf(isLinux)('is walked again when it is watched, and then only when something tells of a change', async () => {
  open();
  await rest();
  expect(walks).toBe(2);
});

test('what is small is walked at each look', async () => {
  open({ minEntries: 100 });
  for (let i = 0; i < 5; i += 1) await look();
  expect(walks).toBe(5);
});

test.each<[string, () => void]>([
  ['a file that is written', () => appendFileSync(at('layer/a/b/3'), 'x')],
  ['a file that is there', () => writeFileSync(at('layer/c/4'), 'x')],
  ['a file that goes', () => rmSync(at('layer/a/2'))],
  ['a file that gets another mode', () => chmodSync(at('layer/a/2'), 0o755)],
  ['a file that takes the place of another', () => renameSync(at('layer/1'), at('layer/a/2'))],
  ['a folder that gets another mode', () => chmodSync(at('layer/a/b'), 0o700)],
  ['a folder of another name', () => renameSync(at('layer/a'), at('layer/d'))],
  ['a folder that goes', () => rmSync(at('layer/a/b'), { recursive: true })],
  [
    'a folder in the place of another',
    () => {
      mkdirSync(at('other/b'));
      rmSync(at('layer/a/b'), { recursive: true });
      renameSync(at('other/b'), at('layer/a/b'));
    },
  ],
  [
    'all of it in the place of what it was',
    () => {
      renameSync(at('layer'), at('before'));
      mkdirSync(at('layer'));
    },
  ],
  ['all of it gone', () => rmSync(at('layer'), { recursive: true })],
])('sees %s', async (_, change) => {
  open();
  const before = await rest();
  change();
  await expect.poll(() => look()).not.toBe(before);
});

test('sees what happens in a folder that came later', async () => {
  open();
  await rest();
  mkdirSync(at('layer/new/deep'), { recursive: true });
  await expect.poll(async () => (await walkPath(at('layer'), LATER)).fingerprint.value === (await look())).toBe(true);
  const before = await rest();
  writeFileSync(at('layer/new/deep/5'), 'x');
  await expect.poll(() => look()).not.toBe(before);
});

test('sees links that are swapped: that of the layer itself, and that of a volume of Kubernetes', async () => {
  for (const name of ['volume/..one', 'volume/..two']) {
    mkdirSync(at(name), { recursive: true });
    writeFileSync(at(name, 'x'), name);
  }
  symlinkSync('..one', at('volume/..data'));
  symlinkSync('layer', at('current'));
  open();
  const before = { volume: await rest('volume'), current: await rest('current') };
  symlinkSync('..two', at('volume/..next'));
  renameSync(at('volume/..next'), at('volume/..data'));
  symlinkSync('other', at('next'));
  renameSync(at('next'), at('current'));
  await expect.poll(() => look('volume')).not.toBe(before.volume);
  await expect.poll(() => look('current')).not.toBe(before.current);
});

test.runIf(isLinux)('finds by a walk now and then what nobody has told of', async () => {
  linkSync(at('layer/1'), at('other/1'));
  stopClock();
  open({ walkEveryMs: 300 });
  const before = await rest();
  // By another name: the folder of the layer hears nothing.
  appendFileSync(at('other/1'), 'x');
  vi.advanceTimersByTime(280);
  expect(await look()).toBe(before);
  vi.advanceTimersByTime(20);
  expect(await look()).not.toBe(before);
});

test.runIf(isLinux)(
  'where no more can be watched, says so once, and walks in proportion to what that takes',
  async () => {
    stopClock();
    const walk: DirectoryWatcherDeps['walk'] = path => {
      vi.advanceTimersByTime(10);
      return walkPath(path, LATER);
    };
    open({ maxFolders: 2, walk });
    const before = await look();
    expect(told).toEqual([`${at('layer')}: there are more than 2 folders to watch`]);
    appendFileSync(at('layer/a/b/3'), 'x');
    vi.advanceTimersByTime(480);
    expect(await look()).toBe(before);
    vi.advanceTimersByTime(20);
    expect(await look()).not.toBe(before);
    expect(told.length).toBe(1);
  },
);
