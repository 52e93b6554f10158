// How many builds a caller may have begun: each platform of one counts, and what is built already is free.
import { type CallerRates, type CountFor, createCallerRate } from './caller-rate.ts';

/** Callers on this machine, where nothing is configured, are not limited. */
export function createBuildRate(rates: CallerRates): CountFor {
  const count = createCallerRate(rates, { what: 'builds', units: 'platforms' });
  return async (c, platforms) => {
    if (c.get('rights')?.caller.kind !== 'local') await count(c, platforms);
  };
}
