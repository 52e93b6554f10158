// What is reported about a build, from what buildah 1.28 printed of real ones.
import { expect, test } from 'vitest';
import { createStepReader, type StepReader } from '../../../../src/builds/backends/buildah/build.ts';
import type { OutputName } from '../../../../src/builds/process.ts';
import type { ProgressEvent } from '../../../../src/builds/progress.ts';

const ID = '3bba22e85fb1e0972b70acc0864b9ab8d91ed1e9d3865aa3599c1c64b9999872';

test('tells the steps of a build, and what they print', () => {
  const { events, reader } = read([
    ['stdout', 'STEP 1/3: FROM 127.0.0.1:5000/library/bb:1'],
    ['stderr', 'Trying to pull 127.0.0.1:5000/library/bb:1...'],
    ['stdout', 'STEP 2/3: COPY hello.txt /hello.txt'],
    ['stdout', '--> Using cache 8bacd9ee48dc30cf92e9432e811bf206f30d19bff842ce6e381781840d917eee'],
    ['stdout', 'STEP 3/3: RUN echo built; echo err >&2'],
    ['stdout', 'built'],
    ['stderr', '\u001b[31merr\u001b[0m'],
    ['stdout', 'COMMIT'],
    ['stdout', '--> 3bba22e85fb'],
    ['stdout', '[Warning] one or more build args were not consumed: [TARGETARCH TARGETOS TARGETPLATFORM]'],
    ['stdout', ID],
  ]);
  reader.end();
  const [from, copy, run] = [
    '[linux/arm64 1/3] FROM 127.0.0.1:5000/library/bb:1',
    '[linux/arm64 2/3] COPY hello.txt /hello.txt',
    '[linux/arm64 3/3] RUN echo built; echo err >&2',
  ];
  expect(events).toEqual([
    step(from, 'started'),
    { kind: 'output', platform: 'linux/arm64', step: from, text: 'Trying to pull 127.0.0.1:5000/library/bb:1...' },
    step(from, 'done'),
    step(copy, 'started'),
    step(copy, 'cached'),
    step(run, 'started'),
    { kind: 'output', platform: 'linux/arm64', step: run, text: 'built' },
    { kind: 'output', platform: 'linux/arm64', step: run, text: 'err' },
    step(run, 'done'),
  ]);
  expect(reader.findInstruction()).toBe('RUN echo built; echo err >&2');
  expect(reader.findErrorText()).toBe('');
});

test('names the stage of a step where there are several', () => {
  const { events } = read([
    ['stdout', '[1/3] STEP 2/4: ARG NAME=x'],
    ['stdout', '--> 0384ab1ca52'],
    ['stdout', '[3/3] STEP 1/2: FROM 48bf4cf9ca26'],
    ['stdout', '[3/3] COMMIT'],
  ]);
  expect(events).toEqual([
    step('[linux/arm64 stage-0 2/4] ARG NAME=x', 'started'),
    step('[linux/arm64 stage-0 2/4] ARG NAME=x', 'done'),
    step('[linux/arm64 stage-2 1/2] FROM 48bf4cf9ca26', 'started'),
    step('[linux/arm64 stage-2 1/2] FROM 48bf4cf9ca26', 'done'),
  ]);
});

test('tells what buildah logs as notes', () => {
  const logged = 'time="2026-11-23T11:02:42Z" level=warning msg="Failed, retrying in 2s"';
  const { events } = read([
    ['stdout', 'STEP 1/1: FROM a'],
    ['stderr', logged],
  ]);
  expect(events.at(-1)).toEqual({ kind: 'note', platform: 'linux/arm64', text: logged });
});

test('what fails is the last step, and the complaint is the last that buildah made', () => {
  const { events, reader } = read([
    ['stdout', 'STEP 2/4: COPY nope /x'],
    ['stderr', 'Error: what a step printed'],
    ['stdout', 'STEP 3/4: RUN exit 3'],
    ['stderr', 'Error: what a step printed'],
    ['stderr', 'boo'],
    ['stderr', 'Error: 2 errors occurred:'],
    ['stderr', '\t* building at STEP "RUN exit 3": exit status 3'],
    ['stderr', ''],
  ]);
  reader.fail('it ended');
  expect(reader.findErrorText()).toBe('2 errors occurred: * building at STEP "RUN exit 3": exit status 3');
  expect(events.at(-1)).toEqual({ ...step('[linux/arm64 3/4] RUN exit 3', 'failed'), text: 'it ended' });
});

test('keeps little of a complaint without an end', () => {
  const { reader } = read([
    ['stderr', `Error: ${'x'.repeat(10_000)}`],
    ['stderr', 'y'.repeat(10_000)],
  ]);
  expect(reader.findErrorText().length).toBeLessThanOrEqual(4_000);
});

function read(lines: readonly (readonly [OutputName, string])[]): {
  events: readonly ProgressEvent[];
  reader: StepReader;
} {
  const events: ProgressEvent[] = [];
  const reader = createStepReader('linux/arm64', entry => events.push(entry));
  for (const [from, line] of lines) reader.read(line, from);
  return { events, reader };
}

function step(name: string, state: ProgressEvent['state']) {
  return { kind: 'step', platform: 'linux/arm64', step: name, state };
}
