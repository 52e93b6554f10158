// What is reported about builds: lists, records, logs as they run, and how they are ended or tried again.
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HOST } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const failing = { containerFile: base64('FROM scratch\nCOPY missing /\n') };

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

/** Builds of their own labels, each ended before the next. */
async function buildMany(count: number): Promise<readonly string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at += 1) {
    const { buildId } = await app.build({ containerFile: base64(`FROM scratch\nLABEL at=${at}`) });
    await app.ended(buildId);
    ids.unshift(buildId);
  }
  return ids;
}

async function list(query = ''): Promise<readonly string[]> {
  const { builds } = Object(await (await app.request(`/v1alpha1/builds${query}`)).json());
  return [...builds].map(({ buildId }) => buildId);
}

test('the list has the newest first, by pages and by status', async () => {
  const ids = await buildMany(4);
  const { buildId } = await app.build(failing);
  await app.ended(buildId);
  expect(await list()).toEqual([buildId, ...ids]);
  expect(await list('?limit=2')).toEqual([buildId, ids[0]]);
  expect(await list(`?limit=2&after=${ids[0]}`)).toEqual(ids.slice(1, 3));
  expect(await list('?limit=&after=&status=')).toEqual(await list());
  expect(await list('?status=failed')).toEqual([buildId]);
  expect(await list(`?status=succeeded&after=${ids[2]}`)).toEqual(ids.slice(3));
  expect(await list('?after=bd-0123456789abcdef_1')).toEqual([]);
});

test.each([
  ['limit=0', 'limit is "0": expected a whole number from 1'],
  ['limit=ten', 'limit is "ten"'],
  ['status=done', 'status is "done": expected queued, running, succeeded, failed'],
])('a list by %s is refused', async (query, message) => {
  const response = await app.request(`/v1alpha1/builds?${query}`);
  expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(message) }]);
});

test('a record says what is built from what, where it goes, and what came of it', async () => {
  const containerFile = 'FROM scratch\nLABEL a=b';
  const { buildId } = await app.build({ containerFile: base64(containerFile), containerPlatform: 'amd64,arm64' });
  await app.ended(buildId);
  expect(await app.record(buildId)).toEqual({
    buildId,
    status: 'succeeded',
    dockerFile: containerFile,
    targetImage: `${HOST}/local/builds:${buildId.slice(3, 19)}`,
    creationTime: expect.stringMatching(/Z$/),
    startTime: expect.stringMatching(/Z$/),
    duration: expect.any(Number),
    exitStatus: 0,
    succeeded: true,
    platform: 'linux/amd64,linux/arm64',
    platforms: ['linux/amd64', 'linux/arm64'],
    format: 'docker',
    digest: expect.stringMatching(/^sha256:/),
    backends: ['embedded'],
    starts: 1,
  });
  expect(await (await app.request(`/v1alpha1/builds/${buildId}/status`)).json()).toEqual({
    id: buildId,
    status: 'COMPLETED',
    startTime: expect.stringMatching(/Z$/),
    duration: expect.any(Number),
    succeeded: true,
  });
});

test('a record is reported under any host of ours, which names no image', async () => {
  const { buildId } = await app.build();
  await app.configure({ hosts: ['evil.example'] });
  const response = await app.request(`/v1alpha1/builds/${buildId}`, { headers: { Host: 'evil.example' } });
  expect([response.status, Object(await response.json()).targetImage]).toEqual([
    200,
    expect.stringMatching(/^local\/builds:/),
  ]);
});

test.each(['', '/status', '/logs'])('an unknown build has no %s', async part => {
  for (const id of ['bd-0123456789abcdef_1', '..%2f..%2fetc', 'mr-0123456789abcdef_1']) {
    const response = await app.request(`/v1alpha1/builds/${id}${part}`);
    expect([id, response.status]).toEqual([id, 404]);
  }
});

describe('a log', () => {
  test('is text that continues until the build ends', async () => {
    const hold = app.holdBase();
    const { buildId } = await app.build();
    await hold.asked;
    const response = await app.request(`/v1alpha1/builds/${buildId}/logs`);
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    const text = response.text();
    hold.release();
    expect(await text).toMatch(/succeeded: local\/builds:[0-9a-f]{16}@sha256:[0-9a-f]{64}\n$/);
  });

  test('is what there is by now, where nobody wants to wait', async () => {
    const hold = app.holdBase();
    const { buildId } = await app.build();
    await hold.asked;
    expect(await (await app.request(`/v1alpha1/builds/${buildId}/logs?follow=false`)).text()).not.toContain(
      'succeeded',
    );
    hold.release();
    await app.ended(buildId);
    expect(await (await app.request(`/v1alpha1/builds/${buildId}/logs?follow=false`)).text()).toContain('succeeded');
  });

  test('is refused to who says neither true nor false', async () => {
    const { buildId } = await app.build();
    await app.ended(buildId);
    const response = await app.request(`/v1alpha1/builds/${buildId}/logs?follow=no`);
    expect([response.status, await response.json()]).toEqual([
      400,
      { message: 'follow is "no": expected true or false' },
    ]);
  });

  test('is events for who accepts those, and the last has the record', async () => {
    const hold = app.holdBase();
    const { buildId } = await app.build();
    await hold.asked;
    const headers = { Accept: 'text/event-stream' };
    const { body, headers: answered } = await app.request(`/v1alpha1/builds/${buildId}/logs`, { headers });
    expect(answered.get('content-type')).toContain('text/event-stream');
    hold.release();
    const events = await Array.fromAsync(
      body?.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()) ?? [],
    );
    expect(events.at(-1)?.event).toBe('end');
    expect(JSON.parse(events.at(-1)?.data ?? '')).toEqual(await app.record(buildId));
    const entries = events.slice(0, -1).map(({ event, data }) => ({ event, ...JSON.parse(data) }));
    expect(entries.length).toBeGreaterThan(0);
    for (const entry of entries)
      expect(entry).toMatchObject({ event: 'log', at: expect.any(String), kind: expect.any(String) });
  });

  test('is left alone by HEAD, which waits for nothing', async () => {
    const hold = app.holdBase();
    const { buildId } = await app.build();
    await hold.asked;
    const response = await app.request(`/v1alpha1/builds/${buildId}/logs`, { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([200, '']);
    hold.release();
    await app.ended(buildId);
  });

  test('stops for a reader who leaves, and the build continues', async () => {
    const hold = app.holdBase();
    const { buildId } = await app.build();
    await hold.asked;
    for (const headers of [{}, { Accept: 'text/event-stream' }]) {
      const { body } = await app.request(`/v1alpha1/builds/${buildId}/logs`, { headers });
      await body?.cancel();
    }
    hold.release();
    expect(await app.ended(buildId)).toMatchObject({ status: 'succeeded' });
  });
});

test('a build that is cancelled ends, its pull fails, and what is asked for again is built', async () => {
  const hold = app.holdBase();
  const answer = await app.build();
  await hold.asked;
  const [, name, tag] = /^[^/]+\/(.+):(.+)$/.exec(answer.targetImage) ?? [];
  const pulled = app.request(`/v2/${name}/manifests/${tag}`);
  const response = await app.request(`/v1alpha1/builds/${answer.buildId}/cancel`, { method: 'POST' });
  expect(await response.json()).toMatchObject({ status: 'failed', failure: { kind: 'cancelled' } });
  expect((await pulled).status).toBe(404);
  expect(await app.status(answer)).toMatchObject({ status: 'DONE', succeeded: false });
  hold.release();
  const again = await app.build();
  expect(again.buildId).toBe(answer.buildId.replace(/_1$/, '_2'));
  expect((await app.pull(again.targetImage)).size).toBe(1);
});

test('a build that has ended stays as it is when it is cancelled', async () => {
  const { buildId } = await app.build();
  const ended = await app.ended(buildId);
  const response = await app.request(`/v1alpha1/builds/${buildId}/cancel`, { method: 'POST' });
  expect(await response.json()).toEqual(ended);
});

test('a failed build is tried again under the next number, one that succeeded is not', async () => {
  const failed = await app.build(failing);
  await app.ended(failed.buildId);
  const retried = Object(
    await (await app.request(`/v1alpha1/builds/${failed.buildId}/retry`, { method: 'POST' })).json(),
  );
  expect(retried.buildId).toBe(failed.buildId.replace(/_1$/, '_2'));
  const built = await app.build();
  await app.ended(built.buildId);
  const kept = Object(await (await app.request(`/v1alpha1/builds/${built.buildId}/retry`, { method: 'POST' })).json());
  expect(kept).toMatchObject({ buildId: built.buildId, status: 'succeeded' });
});
