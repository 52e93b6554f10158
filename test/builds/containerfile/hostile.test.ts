// Containerfiles that are made to take long: reading one takes time by its length alone, and what it asks for is bounded.
import { expect, test } from 'vitest';
import { findBases } from '../../../src/builds/containerfile/bases.ts';
import { InvalidContainerFile } from '../../../src/builds/containerfile/container-file.ts';
import { parseContainerFile } from '../../../src/builds/containerfile/parse.ts';
import { trimEnd, trimStart } from '../../../src/builds/containerfile/pattern.ts';
import { createWork } from '../../../src/builds/work.ts';
import type { Platform } from '../../../src/oci/platform.ts';
import { measureThreadMs } from '../../support/thread-time.ts';

const PLATFORMS: readonly Platform[] = Array.from({ length: 128 }, (_, i) => ({ os: 'linux', architecture: `a${i}` }));
const STARTS = [
  'FROM a\n',
  'FROM a\nCOPY ',
  'FROM a\nRUN --mount=',
  'FROM a\nENV ',
  'FROM a\nHEALTHCHECK ',
  'FROM a\nONBUILD ',
  'ARG A=x\nFROM ',
  'ARG ',
  '# ',
];
/** `%` is another number each time. */
const PIECES = [
  ' ',
  'a ',
  'a=b ',
  '"',
  '$A',
  '${A##*',
  '<< ',
  '<<a% ',
  '\\\n',
  '--x=',
  '["a",',
  'a"b,',
  'FROM a AS s%\nCOPY --from=s% a b\n',
  'COPY <<a% <<b% /\n',
  'ARG A%=$A$A\n',
];
const ENDS = ['', '<'];

const sizes = { small: 60_000, large: 360_000 };
/** What is below it is noise. */
const FLOOR_MS = 25;
/** Of what is linear; what is quadratic takes six times as much. */
const SLACK = 4;

const cases = STARTS.flatMap(start => PIECES.flatMap(piece => ENDS.map(end => ({ start, piece, end }))));

test('what is six times as long takes about six times as long', () => {
  const slow = cases.filter(one => {
    const [small, large] = [measure(one, sizes.small), measure(one, sizes.large)];
    return large > SLACK * (sizes.large / sizes.small) * Math.max(small, FLOOR_MS);
  });
  expect(slow).toEqual([]);
});

function measure(one: (typeof cases)[number], size: number): number {
  const text = fill(one, size);
  return measureThreadMs(() => plan(text));
}

const megabyte = (piece: string) => piece.repeat(Math.floor(1_000_000 / piece.length));

test.each<[what: string, text: string]>([
  ['a heredoc with a long name', `FROM a\nRUN << ${megabyte('a')}\n`],
  ['a value', `FROM a\nENV A=${megabyte('a')}\n`],
  ['mounts', `FROM a\nRUN ${megabyte('--mount=from=a ')} b\n`],
  ['lines', `FROM a\n${megabyte('\n')}`],
])('a megabyte of %s takes less than half a second of the processor', (_, text) => {
  expect(measureThreadMs(() => plan(text))).toBeLessThan(500);
});

test.each<[what: string, trim: typeof trimStart, pattern: string]>([
  ['at the start', trimStart, `${'*a'.repeat(1000)}b`],
  ['at the end', trimEnd, `b${'a*'.repeat(1000)}`],
])('a pattern with a thousand stars %s takes a few looks at each character', (_, trim, pattern) => {
  const long = 'a'.repeat(30_000);
  const work = createWork({ maxSteps: 4 * long.length, what: 'a pattern' });
  expect(trim(long, pattern, { reach: 'longest', work })).toBe(long);
});

function fill({ start, piece, end }: (typeof cases)[number], size: number): string {
  const pieces: string[] = [];
  for (let length = 0, i = 0; length < size; i += 1) {
    const next = piece.replaceAll('%', `${i}`);
    pieces.push(next);
    length += next.length;
  }
  return start + pieces.join('') + end;
}

function plan(text: string): unknown {
  try {
    return findBases(parseContainerFile(text), { args: {}, stage: undefined, platforms: PLATFORMS });
  } catch (error) {
    if (error instanceof InvalidContainerFile) return error;
    throw error;
  }
}

const value = 'a'.repeat(500_000);
const stages = Array.from({ length: 1999 }, (_, i) => `FROM s${Math.max(0, i - 1)} AS s${i}`);

test.each<[what: string, text: string]>([
  ['a pattern with many stars and a long value', `ARG A=${value}\nFROM x\${A##${'*a'.repeat(1000)}b}\n`],
  ['a pattern that is replaced', `ARG A=${value}\nFROM x\${A//${'*a'.repeat(1000)}b/c}\n`],
  ['patterns without end', `ARG A=${'a'.repeat(1000)}\n${`ARG B=\${A##${'*a'.repeat(100)}b}\n`.repeat(1900)}FROM a\n`],
  ['values that double', `ARG A=aaaa\n${'ARG A=$A$A\n'.repeat(40)}FROM a\n`],
  ['stages upon stages', `FROM a AS s0\n${stages.slice(1).join('\n')}\n`],
  [
    'triggers of many stages',
    `FROM a AS a\n${`ONBUILD ENV a=${'b'.repeat(400)}\n`.repeat(990)}${'FROM a\n'.repeat(990)}`,
  ],
])('%s is refused, with the reason', (_, text) => {
  expect(plan(text)).toMatchObject({ message: expect.stringMatching(/steps for its variables|longer than/) });
});

test('an image more than can be looked up is refused', () => {
  const text = Array.from({ length: 200 }, (_, i) => `COPY --from=i${i} a b`).join('\n');
  expect(plan(`FROM a\n${text}\n`)).toMatchObject({
    message: 'it uses 201 images, more than the limit of 100 for a build',
  });
});
