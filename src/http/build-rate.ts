// How many builds a caller may have begun, whatever begins them: a submit, a copy, a pull that a recipe is for. Each platform of one counts,
// and what is built already is free.
import type { Context } from 'hono';
import { type CallerRate, type CallerRates, createCallerRate } from './caller-rate.ts';

/** Callers on this machine, where nothing is configured, are not limited. */
export function createBuildRate(rates: CallerRates): CallerRate {
  const rate = createCallerRate(rates, { what: 'builds', units: 'platforms', key: 'builds.rate' });
  return {
    count: async (c, platforms) => (isLocal(c) ? undefined : rate.count(c, platforms)),
    giveBack: async (c, platforms) => (isLocal(c) ? undefined : rate.giveBack(c, platforms)),
  };
}

function isLocal(c: Context): boolean {
  return c.get('rights')?.caller.kind === 'local';
}
