// Any sequence of requests, cancels, ends, crashes and restarts, several at a time: no two builds of one spec run, never more than may,
// every waiter is answered, and every build ends.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { splitId } from '../../../src/builds/queue/id.ts';
import type { BuildRecord } from '../../../src/builds/record.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createDirectory, createFixture, type Fixture, specOf, until, type Work } from './fixture.ts';

const POLICY = { concurrency: 2, maxQueued: 50, maxQueuedPerCaller: 50, maxStarts: 2, infrastructureRetries: 1 };
const NAMES = ['a', 'b', 'c', 'd'];

type Action =
  | { readonly kind: 'submit'; readonly name: string; readonly caller: string; readonly priority: number }
  | { readonly kind: 'cancel' | 'retry' | 'wait' | 'follow'; readonly build: number }
  | { readonly kind: 'end'; readonly work: number; readonly how: 'succeed' | 'build' | 'infrastructure' | 'bug' }
  | { readonly kind: 'time'; readonly timer: number }
  | { readonly kind: 'lose'; readonly name: string };

const nat = fc.nat(20);
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      name: fc.constantFrom(...NAMES),
      caller: fc.constantFrom('one', 'two'),
      priority: fc.nat(2),
    }),
  },
  fc.record({ kind: fc.constantFrom('cancel', 'retry', 'wait', 'follow'), build: nat }),
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      work: nat,
      how: fc.constantFrom('succeed', 'build', 'infrastructure', 'bug'),
    }),
  },
  fc.record({ kind: fc.constant('time' as const), timer: nat }),
  fc.record({ kind: fc.constant('lose' as const), name: fc.constantFrom(...NAMES) }),
);

const burst = fc.array(action, { minLength: 1, maxLength: 5 });
const life = fc.record({ bursts: fc.array(burst, { maxLength: 8 }), end: fc.constantFrom('crash', 'stop') });

/** Settings of which each process has its own; the store and the images are there for all. */
function createPlace(directory: string) {
  const store = createMemoryStore();
  const images = new Map<string, Digest>();
  return async () => {
    const dead = new AbortController();
    const write = async (...changes: Parameters<typeof store.write>) => {
      dead.signal.throwIfAborted();
      await store.write(...changes);
    };
    const fixture = await createFixture({ records: { ...store, write }, directory, images, policy: POLICY });
    return { fixture, die: () => dead.abort() };
  };
}

const working = ({ works }: Fixture): readonly Work[] => works.filter(({ isOver }) => !isOver);
const listAll = ({ builds }: Fixture): Promise<readonly BuildRecord[]> => builds.list({ limit: 1000 });
const pick = <T>(items: readonly T[], index: number): T | undefined => items[index % items.length];

function endWork(work: Work | undefined, how: Extract<Action, { kind: 'end' }>['how']): void {
  if (how === 'succeed') work?.succeed();
  else if (how === 'bug') work?.fail(new TypeError('a bug'));
  else work?.fail(new BuildFailure({ kind: how, reason: 'it went wrong' }));
}

async function act(fixture: Fixture, action: Action, answers: Promise<unknown>[]): Promise<void> {
  const signal = new AbortController().signal;
  const idOf = async (index: number) => pick(await listAll(fixture), index)?.id ?? 'none';
  switch (action.kind) {
    case 'submit': {
      const { name, ...options } = action;
      const { build } = await fixture.builds.submit(specOf(name), options);
      answers.push(fixture.builds.wait(build.id, signal));
      return;
    }
    case 'cancel':
      await fixture.builds.cancel(await idOf(action.build));
      return;
    case 'retry':
      await fixture.builds.retry(await idOf(action.build), { caller: 'one' });
      return;
    case 'wait':
      answers.push(fixture.builds.wait(await idOf(action.build), signal));
      return;
    case 'follow': {
      const log = await fixture.builds.openLog(await idOf(action.build), { follow: true, signal });
      if (log) answers.push(Array.fromAsync(log));
      return;
    }
    case 'end':
      endWork(pick(working(fixture), action.work), action.how);
      return;
    case 'time':
      pick([...fixture.timers], action.timer)?.goOff();
      return;
    case 'lose':
      fixture.images.delete((await fixture.builds.preview(specOf(action.name), { caller: '' })).build.image);
  }
}

async function expectInvariants(fixture: Fixture): Promise<void> {
  const running = working(fixture).map(({ options }) => splitId(options.id).key);
  expect(running.length).toBeLessThanOrEqual(POLICY.concurrency);
  expect(new Set(running).size).toBe(running.length);
  const underWay = (await listAll(fixture)).filter(({ status }) => status === 'queued' || status === 'running');
  const keys = underWay.map(({ id }) => splitId(id).key);
  expect(new Set(keys).size).toBe(keys.length);
}

async function turn(): Promise<void> {
  let turns = 0;
  await until(() => ++turns > 5);
}

/** Makers get their way until nothing is under way. */
async function drain(fixture: Fixture): Promise<void> {
  for (let round = 0; (await listAll(fixture)).some(({ endedAt }) => endedAt === undefined); round += 1) {
    expect(round).toBeLessThan(1000);
    for (const work of working(fixture)) work.succeed();
    await turn();
  }
}

test('keeps its promises whatever comes', async () => {
  const directory = await createDirectory();
  let run = 0;
  const property = fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 4 }), async lives => {
    run += 1;
    const start = createPlace(`${directory}/${run}`);
    const told = new Map<string, number>();
    for (const { bursts, end } of [...lives, { bursts: [], end: 'drain' }]) {
      const { fixture, die } = await start();
      const answers: Promise<unknown>[] = [];
      for (const actions of bursts) {
        await Promise.all(actions.map(each => act(fixture, each, answers)));
        await turn();
        await expectInvariants(fixture);
      }
      if (end === 'drain') await drain(fixture);
      if (end === 'crash') die();
      await fixture.builds.close();
      await Promise.all(answers);
      for (const { id } of fixture.ended) told.set(id, (told.get(id) ?? 0) + 1);
      if (end !== 'drain') continue;
      const records = await listAll(fixture);
      expect(Object.fromEntries(told)).toEqual(Object.fromEntries(records.map(({ id }) => [id, 1])));
    }
  });
  await fc.assert(property, { numRuns: 150 });
});
