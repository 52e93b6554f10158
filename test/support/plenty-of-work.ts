// For tests that are not about how much work something is.
import { createWork, type Work } from '../../src/builds/work.ts';

export function plentyOfWork(): Work {
  return createWork({ maxSteps: Number.POSITIVE_INFINITY, what: 'a test' });
}
