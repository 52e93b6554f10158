// Every regular expression of the code: none may take more than linear time, as nearly all text is somebody else's.
import { readdirSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { tokenizer } from 'acorn';
import { checkSync } from 'recheck';
import { expect, test } from 'vitest';
import { z } from 'zod';

interface Found {
  readonly place: string;
  readonly pattern: string;
  readonly flags: string;
}

const tokenSchema = z.object({ value: z.object({ pattern: z.string(), flags: z.string() }) });

function findExpressions(place: string, code: string): readonly Found[] {
  const found: Found[] = [];
  for (const token of tokenizer(code, {
    ecmaVersion: 'latest',
    sourceType: 'module',
    locations: true,
  })) {
    if (token.type.label !== 'regexp') continue;
    found.push({ place: `${place}:${token.loc?.start.line}`, ...tokenSchema.parse(token).value });
  }
  return found;
}

/** What is wrong with one; undefined for one that is linear. */
function faultOf({ place, pattern, flags }: Found): string | undefined {
  const result = checkSync(pattern, flags, { timeout: 300_000 });
  if (result.status === 'safe') return undefined;
  const what =
    result.status === 'vulnerable' ? `${result.complexity.summary}, as for ${result.attack.pattern}` : 'unknown';
  return `${place} /${pattern}/${flags}: ${what}`;
}

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'));
const expressions = sources.flatMap(file =>
  findExpressions(join('src', file), stripTypeScriptTypes(readFileSync(join('src', file), 'utf8'))),
);

test('every regular expression takes linear time', { timeout: 1_800_000 }, () => {
  expect(expressions.length).toBeGreaterThan(200);
  const once = new Map(expressions.map(found => [`${found.pattern}/${found.flags}`, found]));
  expect([...once.values()].flatMap(found => faultOf(found) ?? [])).toEqual([]);
});

test.each([
  'const a = /^(a+)+$/;',
  'const a = text.replace(/\\s+$/, "");',
  'const a = [text.replace(/x*x*$/, ""), `template`];',
])('finds what is wrong with %s', code => {
  const [found, ...others] = findExpressions('here.ts', code);
  expect(others).toEqual([]);
  expect(found && faultOf(found)).toMatch(/^here\.ts:1 .* degree polynomial|exponential/);
});
