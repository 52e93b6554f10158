// Durations as Go writes them, such as 1m30s.
import { InvalidSyntax, quote } from './invalid.ts';

const NANOSECONDS: ReadonlyMap<string, number> = new Map([
  ['ns', 1],
  ['us', 1e3],
  ['µs', 1e3],
  ['μs', 1e3],
  ['ms', 1e6],
  ['s', 1e9],
  ['m', 60e9],
  ['h', 3600e9],
]);
const DURATION = /^[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy;

/** In nanoseconds. Throws InvalidSyntax. */
export function parseDuration(text: string): number {
  if (text.length > 40 || !DURATION.test(text)) {
    throw new InvalidSyntax(`${quote(text)} is no duration; expected a number with its unit, such as 30s or 1m30s`);
  }
  const parts = [...text.replace(/^[-+]/, '').matchAll(PART)].map(
    ([, number, unit = '']) => Number(number) * (NANOSECONDS.get(unit) ?? 0),
  );
  const total = Math.trunc(parts.reduce((sum, part) => sum + part, 0));
  return text.startsWith('-') ? -total : total;
}
