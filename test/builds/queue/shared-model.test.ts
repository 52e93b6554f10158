// Any sequence of submits, cancels, ends, deaths, stops and lost leases, at several processes that share their builds: no two of them end a
// build, equal requests get the same one, every waiter is answered, and every build ends.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BuildRecord } from '../../../src/builds/record.ts';
import { BROKEN, specOf, until } from './fixture.ts';
import { createFleet, type Replica, working } from './fleet.ts';

const NAMES = ['a', 'b', 'c', 'd'];
const NEVER = new AbortController().signal;

type Action =
  | { readonly kind: 'submit'; readonly at: number; readonly name: string; readonly caller: string }
  | { readonly kind: 'cancel' | 'wait' | 'end' | 'fail'; readonly at: number; readonly build: number }
  | { readonly kind: 'kill' | 'stop' | 'overtake'; readonly at: number };

const nat = fc.nat(20);
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      at: nat,
      name: fc.constantFrom(...NAMES),
      caller: fc.constantFrom('one', 'two'),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constantFrom('cancel', 'wait', 'end', 'end', 'fail'), at: nat, build: nat }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('kill', 'stop', 'overtake'), at: nat }) },
);
const bursts = fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 10 });

const POLICY = { concurrency: 2, maxQueued: 50, maxQueuedPerCaller: 50, maxStarts: 1000 };
const pick = <T>(items: readonly T[], index: number): T | undefined => items[index % items.length];

test.each(['replicas', 'workers'] as const)(
  'keeps its promises over several %s, whatever comes',
  async kind => {
    const property = fc.asyncProperty(bursts, async actions => {
      const fleet = createFleet({ kind, policy: POLICY });
      let replicas: readonly Replica[] = await fleet.startAll(3);
      const all: Replica[] = [...replicas];
      const answers: Promise<BuildRecord | undefined>[] = [];
      const listAll = async () => (await replicas[0]?.builds.list({ limit: 200 })) ?? [];

      async function act(each: Action): Promise<void> {
        const replica = pick(replicas, each.at);
        if (!replica) return;
        switch (each.kind) {
          case 'submit': {
            const { build } = await replica.builds.submit(specOf(each.name), { caller: each.caller });
            answers.push((replicas[0] ?? replica).builds.wait(build.id, NEVER));
            return;
          }
          case 'cancel':
          case 'wait': {
            const id = pick(await listAll(), each.build)?.id ?? 'none';
            answers.push(each.kind === 'cancel' ? replica.builds.cancel(id) : replica.builds.wait(id, NEVER));
            return;
          }
          case 'end':
            pick(working(replicas), each.build)?.succeed();
            return;
          case 'fail':
            pick(working(replicas), each.build)?.fail(BROKEN);
            return;
          case 'overtake':
            await replica.overtake();
            return;
          default: {
            const next = await fleet.start();
            all.push(next);
            replicas = [...replicas.filter(other => other !== replica), next];
            if (each.kind === 'kill') await replica.kill();
            // What it was asked is answered.
            await replica.builds.close();
          }
        }
      }

      for (const burst of actions) {
        await Promise.all(burst.map(each => act(each).catch(ignoreRefusal)));
        await new Promise(resolve => setImmediate(resolve));
        for (const { works } of all) expect(works.filter(({ isOver }) => !isOver).length).toBeLessThanOrEqual(2);
      }
      for (let isOver = false; !isOver; ) {
        for (const work of working(replicas)) work.succeed();
        await new Promise(resolve => setTimeout(resolve, 2));
        isOver = (await listAll()).every(({ endedAt }) => endedAt !== undefined);
      }
      await Promise.all(answers.map(answer => answer.catch(ignoreRefusal)));
      const told = all.flatMap(({ ended }) => ended.map(({ id }) => id)).toSorted();
      expect(told).toEqual((await listAll()).map(({ id }) => id).toSorted());
      await Promise.all(all.map(({ builds }) => builds.close()));
      await until(() => all.every(({ builds }) => builds.counts().running === 0));
    });
    await fc.assert(property, { numRuns: 50 });
  },
  120_000,
);

/** A process that is killed or stopped answers nothing more. */
function ignoreRefusal(error: unknown): undefined {
  const isRefusal = error instanceof Error && ['RecordStoreAway', 'QueueFull', 'RecordStoreBusy'].includes(error.name);
  if (!isRefusal) throw error;
  return undefined;
}
