// The progress of recorded builds (fixtures/buildkit), and of lines that no BuildKit should write.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createProgressReader } from '../../../../src/builds/backends/buildkit/progress.ts';
import { logEntrySchema, type ProgressEvent } from '../../../../src/builds/progress.ts';
import { parsePlatforms } from '../../../../src/oci/platform.ts';

const THREE = 'linux/amd64,linux/arm64,linux/arm/v7';

describe('a build for three platforms', () => {
  const { events } = replay('three-platforms', THREE);

  test.each(THREE.split(','))('tells of %s when its steps begin and end', platform => {
    const copy = events.filter(entry => entry.platform === platform && entry.step?.includes('COPY file.txt'));
    expect(copy).toEqual(
      ['started', 'done'].map(state => ({
        kind: 'step',
        platform,
        step: `[${platform} 2/4] COPY file.txt /file.txt`,
        state,
      })),
    );
  });

  test.each([
    ['linux/amd64', 'x86_64'],
    ['linux/arm64', 'aarch64'],
    ['linux/arm/v7', 'armv7l'],
  ])('tells what the steps of %s print, also without a line break', (platform, machine) => {
    const output = events.filter(entry => entry.kind === 'output' && entry.platform === platform);
    expect(output.map(({ text }) => text).toSorted()).toEqual(
      [`hello me on ${machine}`, machine, 'no break'].toSorted(),
    );
    expect(output[0]?.step).toBe(`[${platform} 3/4] RUN echo hello me on $(uname -m); uname -m > /arch`);
  });

  test('tells how many bytes of a layer were pulled', () => {
    const [counted] = events.filter(({ progress }) => progress !== undefined);
    expect(counted).toMatchObject({
      kind: 'step',
      progress: { total: 1_029_767 },
      text: expect.stringMatching(/^sha256:/),
    });
  });

  test('leaves the platform out where it is about all of them', () => {
    const shared = events.filter(
      ({ step }) => step === '[internal] load build context' || step === 'exporting to image',
    );
    expect(shared.length).toBeGreaterThan(3);
    expect(shared.map(({ platform }) => platform)).toEqual(shared.map(() => undefined));
  });

  test('tells nothing twice in a row', () => {
    expect(events.filter((entry, i) => JSON.stringify(entry) === JSON.stringify(events[i - 1]))).toEqual([]);
  });
});

test('the steps of a build for one platform are of that platform, and cached ones say so', () => {
  const { events } = replay('one-platform-cached', 'linux/arm64');
  expect(events.filter(({ step }) => step?.includes('RUN'))).toEqual([
    { kind: 'step', platform: 'linux/arm64', step: '[base 2/2] RUN echo one; date > /date', state: 'cached' },
    { kind: 'step', platform: 'linux/arm64', step: '[stage-1 1/1] RUN echo two', state: 'cached' },
  ]);
});

describe('a cross compilation', () => {
  const { events, reader } = replay('cross-compiled', 'linux/arm64,linux/arm/v7');

  test('is of the platform that it is for; what is for none of those asked for has none', () => {
    const output = events.filter(({ kind }) => kind === 'output');
    expect(output.map(({ platform, text }) => `${platform} ${text}`).toSorted()).toEqual([
      'linux/arm/v7 100%',
      'linux/arm/v7 for linux/arm/v7',
      'linux/arm64 100%',
      'linux/arm64 for linux/arm64',
    ]);
    const base = events.filter(({ step }) => step?.startsWith('[linux/amd64 build 1/2]'));
    expect(new Set(base.map(({ platform }) => platform))).toEqual(new Set([undefined]));
  });

  test('tells warnings, and of a missing layer cache no failure', () => {
    expect(events.filter(({ kind }) => kind === 'note').map(({ text }) => text)).toEqual([
      "warning: FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
    ]);
    expect(events.filter(({ state }) => state === 'failed')).toEqual([]);
    expect(reader.findFailed()).toBeUndefined();
  });
});

test('the failed step is the one that failed by itself, and the others say that they were cancelled', () => {
  const { events, reader } = replay('failing-run', 'linux/amd64,linux/arm64');
  expect(reader.findFailed()).toMatchObject({
    platform: 'linux/arm64',
    instruction: expect.stringMatching(/^RUN \[ /),
  });
  const failed = events.filter(({ state }) => state === 'failed');
  expect(failed.map(({ platform }) => platform)).toEqual(['linux/arm64', 'linux/amd64']);
  expect(failed[1]?.text).toContain('context canceled');
  expect(reader.findErrorText()).toMatch(/^error: failed to solve: process /);
});

test('a line that is no status becomes a note, without control characters', () => {
  const { events } = read(['\u001b[31mred\u001b[0m', '', '{"cut": ', '[1]', 'null']);
  expect(events).toEqual(['red', '{"cut": ', '[1]', 'null'].map(text => ({ kind: 'note', text })));
});

test('fields that are not known are ignored, and missing ones do no harm', () => {
  const { events } = read([
    '{"new": 1, "vertexes": [{"digest": "a", "name": "[1/1] RUN x", "started": "now", "new": {}}], "logs": null}',
    '{"logs": [{"vertex": "unknown", "data": "aGk="}, {"vertex": "a"}], "statuses": [{"id": "i", "vertex": "unknown"}]}',
    '{}',
  ]);
  expect(events).toEqual([
    { kind: 'step', platform: 'linux/amd64', step: '[1/1] RUN x', state: 'started' },
    { kind: 'output', text: 'hi' },
  ]);
});

test('what it remembers has a bound, whatever it reads', () => {
  const many = Array.from({ length: 12_000 }, (_, i) => ({
    digest: String(i),
    name: 'x'.repeat(5_000),
    started: 'now',
  }));
  const { events } = read(many.map(vertex => JSON.stringify({ vertexes: [vertex] })));
  expect(events).toHaveLength(10_000);
  expect(events[0]?.step).toHaveLength(1_000);
});

test('progress is reported for each tenth at most', () => {
  const vertexes = [{ digest: 'a', name: 'pull', started: 'now' }];
  const statuses = Array.from({ length: 1_000 }, (_, i) => ({ id: 'layer', vertex: 'a', current: i, total: 1_000 }));
  const { events } = read([
    JSON.stringify({ vertexes }),
    ...statuses.map(status => JSON.stringify({ statuses: [status] })),
  ]);
  expect(events.filter(({ progress }) => progress)).toHaveLength(10);
});

test('never throws, and tells only entries of the log, for any lines', () => {
  const at = new Date(0).toISOString();
  const line = fc.oneof(fc.string(), fc.json(), fc.constantFrom(...linesOf('failing-run')));
  fc.assert(
    fc.property(fc.array(line, { maxLength: 30 }), lines => {
      for (const entry of read(lines).events) logEntrySchema.parse({ at, ...entry });
    }),
    { numRuns: 200 },
  );
});

function replay(name: string, platforms: string) {
  return read(linesOf(name), platforms);
}

function read(lines: readonly string[], platforms = 'linux/amd64') {
  const events: ProgressEvent[] = [];
  const reader = createProgressReader(parsePlatforms(platforms), entry => events.push(entry));
  for (const line of lines) reader.read(line);
  reader.end();
  return { events, reader };
}

function linesOf(name: string): readonly string[] {
  return readFileSync(`fixtures/buildkit/${name}.txt`, 'utf8').trimEnd().split('\n');
}
