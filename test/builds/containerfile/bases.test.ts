import { expect, test } from 'vitest';
import { type BasesOptions, findBases } from '../../../src/builds/containerfile/bases.ts';
import { InvalidContainerFile } from '../../../src/builds/containerfile/container-file.ts';
import { parseContainerFile } from '../../../src/builds/containerfile/parse.ts';
import { formatPlatform, parsePlatforms } from '../../../src/oci/platform.ts';

function bases(
  text: string,
  {
    args = {},
    stage,
    platforms = 'linux/amd64',
  }: Partial<Omit<BasesOptions, 'platforms'>> & { platforms?: string } = {},
) {
  return findBases(parseContainerFile(text), { args, stage, platforms: parsePlatforms(platforms) });
}

function names(...given: Parameters<typeof bases>): readonly string[] {
  return bases(...given).map(({ reference }) => reference);
}

test('names each image once, with the line where it is used first', () => {
  const text =
    'FROM a AS one\nFROM b\nCOPY --from=a x y\nCOPY --from=one x y\nCOPY --from=c:1 x y\nRUN --mount=from=d,target=/x z\n';
  expect(bases(text)).toMatchObject([
    { reference: 'a', line: 1 },
    { reference: 'b', line: 2 },
    { reference: 'c:1', line: 5 },
    { reference: 'd', line: 6 },
  ]);
});

test('says for which platforms each is used, without that of the builder', () => {
  const text = [
    'ARG ARM=linux/arm/v6',
    'FROM --platform=$BUILDPLATFORM build AS build',
    'FROM --platform=$TARGETPLATFORM target AS target',
    'FROM --platform=$ARM given AS given',
    'FROM --platform=linux/$BUILDARCH made AS made',
    'FROM --platform=none/at/all/here odd AS odd',
    'FROM both',
    ...['build', 'target', 'given', 'made', 'odd', 'build:1'].map(from => `COPY --from=${from} x y`),
    'RUN --mount=from=both,target=/x z',
  ].join('\n');
  const found = bases(text, { platforms: 'linux/arm64,linux/amd64' }).map(({ reference, platforms }) => [
    reference,
    platforms.map(formatPlatform).join(),
  ]);
  expect(Object.fromEntries(found)).toEqual({
    build: '',
    target: 'linux/arm64,linux/amd64',
    given: 'linux/arm/v6',
    made: '',
    odd: '',
    both: 'linux/arm64,linux/amd64',
    'build:1': 'linux/arm64,linux/amd64',
  });
});

test('leaves out stages that the target does not need, and scratch', () => {
  const text = 'FROM a AS one\nFROM b AS two\nFROM scratch AS three\nCOPY --from=one x y\nFROM four\n';
  expect(names(text, { stage: 'three' })).toEqual(['a']);
  expect(names(text, { stage: 'TWO' })).toEqual(['b']);
  expect(names(text)).toEqual(['four']);
});

test('follows stages that begin with stages, by name and by number', () => {
  expect(names('FROM a AS one\nFROM one AS two\nFROM b\nCOPY --from=1 x y')).toEqual(['a', 'b']);
});

test('takes a stage of the same name for itself only from below', () => {
  expect(names('FROM busybox AS busybox\nFROM busybox')).toEqual(['busybox']);
  expect(names('FROM later\nFROM a AS later')).toEqual(['a']);
});

test('takes a number of a mount for an image', () => {
  expect(names('FROM a\nFROM b\nRUN --mount=from=0,target=/x y')).toEqual(['b', '0']);
});

test('expands variables: defaults, given values, values made of values', () => {
  const text = `ARG REGISTRY=r.example\nARG IMAGE=$REGISTRY/a\nARG TAG\nFROM \${IMAGE}:\${TAG:-1}`;
  expect(names(text)).toEqual(['r.example/a:1']);
  expect(names(text, { args: { REGISTRY: 's.example', TAG: '2' } })).toEqual(['s.example/a:2']);
});

test('finds the bases of each platform', () => {
  const text =
    'FROM --platform=$BUILDPLATFORM tools AS tools\nFROM base-$TARGETARCH$TARGETVARIANT\nCOPY --from=tools a b';
  expect(names(text, { platforms: 'linux/amd64,linux/arm64,linux/arm/v7' })).toEqual([
    'tools',
    'base-amd64',
    'base-arm64',
    'base-armv7',
  ]);
});

test('finds stages that only one platform needs', () => {
  const text = 'FROM a AS base-amd64\nFROM b AS base-arm64\nFROM c AS base-s390x\nFROM base-$TARGETARCH';
  expect(names(text, { platforms: 'linux/amd64,linux/arm64' })).toEqual(['a', 'b']);
});

test('finds the frontend, which an argument replaces', () => {
  const text = '# syntax=docker/dockerfile:1\nFROM a';
  expect(names(text)).toEqual(['docker/dockerfile:1', 'a']);
  expect(names(text, { args: { BUILDKIT_SYNTAX: 'other:2 --flag' } })).toEqual(['other:2', 'a']);
  expect(names('#!/usr/bin/env builder\n# syntax=x\nFROM a')).toEqual(['x', 'a']);
});

test('finds what triggers of a stage read from', () => {
  expect(names('FROM a AS one\nONBUILD COPY --from=b x y\nFROM one')).toEqual(['b', 'a'].sort());
  expect(names('FROM a\nONBUILD COPY --from=b x y')).toEqual(['a']);
});

test.each<[text: string, message: RegExp, stage?: string]>([
  ['FROM $NOTHING', /line 1: .*is empty/],
  [`FROM \${NOTHING:?set-it}`, /line 1: NOTHING: set-it/],
  ['FROM a\nCOPY --from=0 b c', /line 2: .*not an earlier stage/],
  ['FROM a AS x\nCOPY --from=y b c\nFROM b AS y\nFROM x', /line 2: .*not built yet/],
  ['FROM a AS one\nFROM b AS two', /no stage "tw"; did you mean two\?/, 'tw'],
])('refuses %j', (text, message, stage) => {
  const find = () => bases(text, { stage });
  expect(find).toThrow(InvalidContainerFile);
  expect(find).toThrow(message);
});

const SECRET = 'r.example/secret:1';

test.each<[what: string, text: string, args?: Readonly<Record<string, string>>]>([
  ['space before the frontend', `FROM a`, { BUILDKIT_SYNTAX: ` ${SECRET}` }],
  ['a line break around the frontend', `FROM a`, { BUILDKIT_SYNTAX: `\n${SECRET}\n` }],
  ['U+2028 in a directive', `# syntax=${SECRET} \u2028x\nFROM a`],
  ['a carriage return in a directive', `# syntax=${SECRET} \rx\nFROM a`],
  ['U+0085 before a directive', `#\x85check=skip=all\n# syntax=${SECRET}\nFROM a`],
  ['U+FEFF on a continued line', `FROM a\nRUN b \\\n\uFEFF\nCOPY --from=${SECRET} c d`],
  ['U+FEFF before a comment', `FROM a\nRUN b \\\n\uFEFF# c\nCOPY --from=${SECRET} c d`],
  ['U+0085 between flags', `FROM a\nCOPY --chown=0\x85--from=${SECRET} c d`],
  ['U+0085 between arguments', `ARG B=a\nARG A=a\x85B=${SECRET}\nFROM $B`],
  ['U+FEFF in the name of a heredoc', `FROM a\nRUN b <<#A\uFEFFB\n#A\uFEFFB\nCOPY --from=${SECRET} c d\n#A`],
  ['U+0085 in the name of a heredoc', `FROM a\nRUN b <<#A\x85B\n#A\nCOPY --from=${SECRET} c d\n#A\x85B`],
  ['U+FEFF before a heredoc', `FROM a\nRUN b\uFEFF<<#A\nCOPY --from=${SECRET} c d\n#A`],
  ['a no-break space before the = of a directive', `# escape\xa0=\`\nFROM a\nRUN b \`\nCOPY --from=${SECRET} c d`],
])('reads %s as BuildKit does', (_, text, args = {}) => {
  expect(names(text, { args })).toContain(SECRET);
});

test.each([
  ['spaces', (run: string) => `FROM a\nRUN b${run}c`, ' '],
  ['carriage returns', (run: string) => `FROM a\nRUN b${run}c`, '\r'],
  ['spaces in a directive', (run: string) => `# syntax=a${run}b\nFROM a`, ' '],
])(
  'reads a long run of %s without delay',
  (_, textOf, char) => {
    expect(names(textOf(char.repeat(900_000)))).toEqual(['a']);
  },
  2000,
);
