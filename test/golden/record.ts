// The recorded digests, and how what is made differs from them.
import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

/** Records again what the tests make, in place of comparing. */
const IS_RECORDED_ANEW = process.env.VENEER_RECORD_GOLDEN === '1';
const FILE = new URL('./digests.json', import.meta.url);
const schema = z.record(z.string(), z.record(z.string(), z.string()));

/** By a name that says from which image and how it was made. */
export type Made = Readonly<Record<string, string>>;

/** What differs from the record, a line for each; none once it has been recorded again. */
export function differencesFrom(part: string, made: Made): readonly string[] {
  if (IS_RECORDED_ANEW) record(part, made);
  const recorded = read()[part] ?? {};
  const names = [...new Set([...Object.keys(recorded), ...Object.keys(made)])].sort();
  return names
    .filter(name => recorded[name] !== made[name])
    .map(name => `${part}: ${name}: ${made[name] ?? 'not made'}, recorded ${recorded[name] ?? 'not'}`);
}

function record(part: string, made: Made): void {
  writeFileSync(FILE, `${JSON.stringify(sorted({ ...read(), [part]: sorted(made) }), null, 2)}\n`);
}

function read(): Readonly<Record<string, Made>> {
  return schema.parse(JSON.parse(readFileSync(FILE, 'utf8')));
}

function sorted<T>(values: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));
}
