// The log of one build: nothing twice, nothing missing, and never more than its limit.
import { appendFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { LogEntry } from '../../../src/builds/progress.ts';
import { createLiveLog, type LiveLog } from '../../../src/builds/queue/live-log.ts';
import { createDiskLogs, logPath } from '../../../src/builds/queue/log-file.ts';
import { readLiveLog, readStoredLog } from '../../../src/builds/queue/log-store.ts';
import { createDirectory, until } from './fixture.ts';

const ID = 'bd-0123456789abcdef_1';
const signal = new AbortController().signal;

async function open({ maxBytes = 1_000_000, directory = '' } = {}) {
  const lines: string[] = [];
  const place = directory || (await createDirectory());
  const log = createLiveLog(ID, {
    files: await createDiskLogs({ directory: place, now: () => new Date('2030-01-01T00:00:00Z') }),
    maxBytes,
    redact: text => text.replaceAll('hunter2', '***'),
    now: () => new Date('2030-01-01T00:00:00Z'),
    log: pino({}, { write: line => lines.push(line) }),
  });
  return { log, lines, directory: place };
}

function report(log: LiveLog, from: number, to: number): void {
  for (let n = from; n < to; n += 1) log.add({ kind: 'output', text: `line ${n}` });
}

const texts = (entries: readonly LogEntry[]) => entries.map(({ text }) => text);
const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => `line ${from + n}`);
const stored = async (log: LiveLog) => texts(await Array.fromAsync(readStoredLog(log.openReader, signal)));
const followed = async (log: LiveLog) => texts(await Array.fromAsync(readLiveLog(log, { follow: true, signal })));

async function finish(log: LiveLog): Promise<void> {
  await log.complete();
  await log.end();
}

test('keeps what is reported, in order, for this user alone', async () => {
  const { log, directory } = await open();
  report(log, 0, 5000);
  await finish(log);
  expect(await stored(log)).toEqual(numbered(0, 5000));
  expect((await stat(logPath(directory, ID))).mode & 0o777).toBe(0o600);
});

test('followers who come at any time get every entry once', async () => {
  const { log } = await open();
  const readers = [followed(log)];
  for (let n = 0; n < 2000; n += 100) {
    report(log, n, n + 100);
    if (n % 500 === 0) readers.push(followed(log));
    if (n % 300 === 0) await log.flush();
  }
  await log.complete();
  readers.push(followed(log));
  await log.end();
  readers.push(followed(log));
  for (const reader of readers) expect(await reader).toEqual(numbered(0, 2000));
});

test('a reader who does not follow gets all that was reported, and no more', async () => {
  const { log } = await open();
  report(log, 0, 10);
  expect(texts(await Array.fromAsync(readLiveLog(log, { follow: false, signal })))).toEqual(numbered(0, 10));
  await finish(log);
});

test('has its limit: the beginning and the end stay, and a note between', async () => {
  const { log, directory } = await open({ maxBytes: 20_000 });
  for (let n = 0; n < 3000; n += 100) {
    report(log, n, n + 100);
    await log.flush();
  }
  await finish(log);
  const kept = await stored(log);
  const gap = kept.findIndex(text => text?.includes('omitted'));
  const lost = Number(kept[gap]?.split(' ')[0]);
  expect((await stat(logPath(directory, ID))).size).toBeLessThanOrEqual(20_000);
  expect(gap).toBeGreaterThan(100);
  expect(kept.slice(0, gap)).toEqual(numbered(0, gap));
  expect(kept.slice(gap + 1)).toEqual(numbered(gap + lost, 3000));
  expect(kept.length).toBeGreaterThan(gap + 40);
});

test('one who keeps up with a log over its limit misses nothing', async () => {
  const { log } = await open({ maxBytes: 20_000 });
  const reader = readLiveLog(log, { follow: true, signal });
  for (let n = 0; n < 3000; n += 1) {
    report(log, n, n + 1);
    expect((await reader.next()).value).toMatchObject({ text: `line ${n}` });
  }
  await finish(log);
  expect(await reader.next()).toMatchObject({ done: true });
});

test('one who falls behind gets a note for what he missed, and the end', async () => {
  const { log } = await open({ maxBytes: 20_000 });
  const reader = readLiveLog(log, { follow: true, signal });
  report(log, 0, 1);
  const first = await reader.next();
  for (let n = 1; n < 3000; n += 100) {
    report(log, n, n + 100);
    await log.flush();
  }
  const rest = Array.fromAsync(reader);
  await finish(log);
  const seen = [first.value?.text, ...texts(await rest)];
  expect(seen).toEqual(await stored(log));
});

test('one who comes while a log is over its limit gets its beginning, a note and its end, as they are kept later', async () => {
  const { log } = await open({ maxBytes: 20_000 });
  const read = async () => texts(await Array.fromAsync(readLiveLog(log, { follow: false, signal })));
  for (let n = 0; n < 3000; n += 100) {
    report(log, n, n + 100);
    await log.flush();
  }
  const before = await read();
  await log.complete();
  const after = await read();
  await log.end();
  expect(await stored(log)).toEqual(before);
  expect(after).toEqual(before);
  expect(before.filter(text => text?.includes('omitted'))).toHaveLength(1);
});

test('what is reported at the very end of a write is written, too', async () => {
  const { log } = await open();
  for (let ticks = 0; ticks < 20; ticks += 1) {
    report(log, 2 * ticks, 2 * ticks + 1);
    await log.changes.wait(signal);
    for (let tick = 0; tick < ticks; tick += 1) await undefined;
    report(log, 2 * ticks + 1, 2 * ticks + 2);
    await log.flush();
    expect(log.written).toBe(2 * ticks + 2);
  }
  await finish(log);
  expect(await stored(log)).toEqual(numbered(0, 40));
});

test('redacts before it keeps, in text and step, and cuts a line without end', async () => {
  const { log, directory } = await open();
  log.add({ kind: 'output', step: 'RUN login hunter2', text: `${'x'.repeat(8190)}hunter2` });
  await finish(log);
  const raw = await readFile(logPath(directory, ID), 'utf8');
  expect(raw).toContain('RUN login ***');
  expect(raw).not.toContain('hu');
  expect(raw.length).toBeLessThan(8400);
});

test('continues after a crash in the middle of a line', async () => {
  const before = await open();
  report(before.log, 0, 3);
  await finish(before.log);
  await appendFile(logPath(before.directory, ID), '{"at":"2030-01-0');
  const { log } = await open({ directory: before.directory });
  report(log, 3, 6);
  await finish(log);
  expect(await stored(log)).toEqual(numbered(0, 6));
  expect(await followed(log)).toEqual(numbered(0, 6));
});

test('a log that crashed at its limit still gets the end of the next try', async () => {
  const directory = await createDirectory();
  const full = `${JSON.stringify({ at: '2030-01-01T00:00:00Z', kind: 'note', text: 'old' })}\n`.repeat(400);
  await writeFile(logPath(directory, ID), full);
  const { log } = await open({ maxBytes: 20_000, directory });
  report(log, 0, 10);
  const reader = followed(log);
  await finish(log);
  expect((await stored(log)).slice(-10)).toEqual(numbered(0, 10));
  expect((await reader).slice(-10)).toEqual(numbered(0, 10));
});

test('a log that cannot be written is told to the service, and its latest lines to followers', async () => {
  const { log, lines, directory } = await open();
  await mkdir(logPath(directory, ID));
  report(log, 0, 5);
  await until(() => lines.length > 0);
  const reader = followed(log);
  report(log, 5, 10);
  await finish(log);
  expect(lines.join()).toContain('the log of a build cannot be written');
  expect((await reader).at(-1)).toBe('line 9');
});

test('a follower who leaves while nothing comes is let go with his own reason', async () => {
  const { log } = await open();
  const leaving = new AbortController();
  const reader = Array.fromAsync(readLiveLog(log, { follow: true, signal: leaving.signal }));
  await until(() => true);
  leaving.abort(new Error('gone'));
  await expect(reader).rejects.toThrow('gone');
  await finish(log);
});

test('what a builder tells again behind a note is left out, once each, and what is new is not', async () => {
  const first = await open();
  first.log.add({ kind: 'output', text: 'before' });
  first.log.add({ kind: 'note', text: 'works in the pod a' });
  for (const text of ['same', 'same', 'hunter2']) first.log.add({ kind: 'output', text });
  await first.log.end();
  const { log, lines } = await open({ directory: first.directory });
  const tellAgain = await log.resume('works in the pod a');
  tellAgain({ kind: 'note', text: 'works in the pod a' });
  for (const text of ['same', 'same', 'hunter2', 'before', 'same']) tellAgain({ kind: 'output', text });
  const tellAnew = await log.resume('works in the pod b');
  tellAnew({ kind: 'output', text: 'same' });
  await finish(log);
  expect(await stored(log)).toEqual(['before', 'works in the pod a', 'same', 'same', '***', 'before', 'same', 'same']);
  expect(lines).toEqual([]);
});
