// Following a log: every entry once, in order, over connections that break.
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LogEntry } from '../../../src/builds/progress.ts';
import { createBuildsClient, followBuild } from '../../../src/cli/service/builds.ts';
import { BUILD_ID, type BuildService, startBuildService } from '../build-service.ts';

let service: BuildService;
let told: string[];

beforeEach(async () => {
  service = await startBuildService();
  told = [];
});

afterEach(() => service.close());

function follow({ signal = new AbortController().signal, retries = 1 } = {}) {
  const onEntry = ({ text = '' }: LogEntry) => void told.push(text);
  const patience = { retries, minTimeout: 0, maxTimeout: 0 };
  return followBuild(createBuildsClient(service), BUILD_ID, { onEntry, signal, patience });
}

const entries = (...texts: readonly string[]): readonly LogEntry[] =>
  texts.map(text => ({ at: '2030-01-01T00:00:00Z', kind: 'note', text }));

test.each(['cut', 'close'] as const)(
  'a connection that breaks by a %s is opened again, and no line is repeated',
  async ends => {
    service.log = [
      { entries: entries('a'), ends },
      { entries: entries('a', 'b', 'c'), ends },
      { entries: entries('a', 'b', 'c', 'd'), ends: 'end' },
    ];
    expect(await follow()).toMatchObject({ buildId: BUILD_ID, status: 'succeeded' });
    expect(told).toEqual(['a', 'b', 'c', 'd']);
  },
);

test('equal lines are all told', async () => {
  service.log = [
    { entries: entries('x', 'x'), ends: 'cut' },
    { entries: entries('x', 'x', 'x'), ends: 'end' },
  ];
  await follow();
  expect(told).toEqual(['x', 'x', 'x']);
});

test('what was read begins the count of attempts again', async () => {
  service.log = [
    { entries: [], ends: 'cut' },
    { entries: entries('a'), ends: 'cut' },
    { entries: entries('a'), ends: 'cut' },
    { entries: entries('a', 'b'), ends: 'end' },
  ];
  await follow({ retries: 1 });
  expect(told).toEqual(['a', 'b']);
});

test('a service that starts again is waited for', async () => {
  let left = 2;
  service.refusal = () => {
    left -= 1;
    if (left === 0) service.refusal = undefined;
    return Response.json({ message: 'starting' }, { status: 503 });
  };
  await follow({ retries: 2 });
  expect(service.requests).toHaveLength(3);
});

test('a service that stops tells of a build that continues, and is asked again', async () => {
  service.build = { status: 'running' };
  service.log = [
    { entries: entries('a'), ends: 'end' },
    { entries: entries('a', 'b'), ends: 'end' },
  ];
  await expect(follow({ retries: 2 })).rejects.toThrow('closed the connection');
  expect(told).toEqual(['a', 'b']);
  service.build = { status: 'failed' };
  expect(await follow()).toMatchObject({ status: 'failed' });
});

test('connections that bring nothing come to an end', async () => {
  service.log = [{ entries: [], ends: 'cut' }];
  await expect(follow({ retries: 2 })).rejects.toThrow(`${service.url.host} closed the connection`);
  expect(service.requests).toHaveLength(3);
});

test('a refusal that will stay is not tried again', async () => {
  service.refusal = () => Response.json({ message: 'no log is kept' }, { status: 404 });
  await expect(follow()).rejects.toThrow('answered 404, no log is kept');
  expect(service.requests).toHaveLength(1);
});

test('an entry that is none is no Veneer, and is not tried again', async () => {
  service.log = [{ entries: [{ at: 'today', kind: 'note' }], ends: 'end' }];
  await expect(follow()).rejects.toThrow('is not a Veneer service of this version');
  expect(service.requests).toHaveLength(1);
});

test('the signal ends it with its reason, and the connection with it', async () => {
  service.log = [{ entries: entries('a'), ends: 'hang' }];
  const controller = new AbortController();
  const following = follow({ signal: controller.signal });
  following.catch(() => {});
  await expect.poll(() => told).toEqual(['a']);
  controller.abort(new Error('enough'));
  await expect(following).rejects.toThrow('enough');
  expect(service.requests).toHaveLength(1);
});
