// How many builds a caller may have begun, whatever begins them: a submit, a copy, a pull that a recipe is for. Each platform of one counts,
// and what is built already is free.
import { type CallerRate, type CallerRates, createCallerRate } from './caller-rate.ts';

export function createBuildRate(rates: CallerRates): CallerRate {
  return createCallerRate(rates, { what: 'builds', units: 'platforms', key: 'builds.rate' });
}
