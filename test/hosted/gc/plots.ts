// What scenarios are made of, and what may come of them: clients at work, faults, crashes and policies.
import fc from 'fast-check';
import { expect } from 'vitest';
import type { GcPolicy } from '../../../src/hosted/gc/collector.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { RecordConflict, RecordStoreBusy } from '../../../src/state/store.ts';
import { type GateOptions, InjectedFault } from '../gate.ts';
import { type Action, any, collecting, leftovers } from './clients.ts';
import { createMemoryEnvironment, DAY, type Environment } from './environment.ts';
import type { Event } from './history.ts';
import { play, type Scenario } from './scenario.ts';

const faults: fc.Arbitrary<GateOptions> = fc.record({
  crashAfter: fc.oneof({ weight: 3, arbitrary: fc.constant(Number.POSITIVE_INFINITY) }, fc.nat(120)),
  faultyWrites: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.array(fc.nat(20), { maxLength: 3 })),
});

export function phasesOf(action: fc.Arbitrary<Action>) {
  const actions = fc.array(action, { minLength: 2, maxLength: 7 }).map(some => [...some, collecting]);
  return fc.array(fc.record({ actions, faults }), { minLength: 1, maxLength: 3 });
}

/** Everything may wait for long, right before any of its steps. */
export function pausingPhasesOf(action: fc.Arbitrary<Action>) {
  const pauses = fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 5, max: 60 })), { minLength: 1, maxLength: 5 });
  const actions = fc.array(action, { minLength: 2, maxLength: 6, size: 'max' });
  return fc.array(fc.record({ actions, faults: fc.record({ pauses }) }), { minLength: 1, maxLength: 2 });
}

const every = { repositories: ['**'], tags: ['*'] };

const policies: fc.Arbitrary<Partial<GcPolicy>> = fc.record({
  graceMs: fc.constant(0),
  untaggedMs: fc.constantFrom(0, undefined),
  retention: fc.constantFrom([], [{ ...every, keepNewest: 1 }], [{ ...every, maxAgeMs: 0 }]),
});

function isInjected(error: unknown): boolean {
  return error instanceof InjectedFault || (error instanceof Error && isInjected(error.cause));
}

/** It is to try again: another process has taken over. */
function isLostLock(error: unknown): boolean {
  return error instanceof RecordConflict || error instanceof RecordStoreBusy;
}

const MAY_BE = ['MANIFEST_BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN', 'UNSUPPORTED', 'DENIED'];

/** Whatever comes between, a client is told so. */
export function expectTold(events: readonly Event[]): void {
  for (const { error } of events) {
    if (error === undefined || isInjected(error) || isLostLock(error)) continue;
    expect(error).toBeInstanceOf(RegistryError);
    if (error instanceof RegistryError) expect(MAY_BE).toContain(error.code);
  }
}

/** Where no client deletes by name, one is refused only what is immutable, or not there. */
export function expectServed(events: readonly Event[]): void {
  for (const { action, error } of events) {
    if (error === undefined || isInjected(error)) continue;
    const code = error instanceof RegistryError ? error.code : String(error);
    const mayBe = action.kind === 'deleteTag' ? ['MANIFEST_UNKNOWN', 'NAME_UNKNOWN', 'DENIED'] : ['DENIED'];
    expect([action.kind, mayBe]).toEqual([action.kind, expect.arrayContaining([code])]);
  }
}

interface RunOptions {
  readonly createEnvironment?: () => Promise<Environment>;
  readonly check: Scenario['check'];
  readonly numRuns: number;
}

export async function runScenarios(
  plots: fc.Arbitrary<Plot>,
  { createEnvironment = createMemoryEnvironment, check, numRuns }: RunOptions,
) {
  const property = fc.asyncProperty(plots, fc.scheduler(), async (plot, scheduler) => {
    const environment = await createEnvironment();
    try {
      await play(environment, { ...plot, scheduler, check });
    } finally {
      await environment.remove();
    }
  });
  // One that hangs is told with its seed.
  await fc.assert(property, { numRuns, timeout: 60_000 });
}

type Plot = Pick<Scenario, 'before' | 'phases' | 'policy'>;

export const before = fc.array(leftovers, { maxLength: 5 });
export const withoutGrace = fc.record({ before, phases: phasesOf(any), policy: policies });
export const grace = fc.record({ graceMs: fc.constant(DAY), untaggedMs: fc.constantFrom(0, DAY, undefined) });
