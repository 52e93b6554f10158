// Builds that go wrong: what failed is said in one line, what was started is stopped, and a pull is notified.
import { createParser } from 'eventsource-parser';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPushed } from '../support/pushed-image.ts';
import { type BuildEnvironment, createBuildEnvironment } from './support/build-environment.ts';
import { type BuildsClient, createBuildsClient, manifestPath, type Submitted } from './support/builds.ts';
import { findMissing } from './support/clients.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { waitUntil } from './support/process.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const PLATFORMS = 'linux/amd64,linux/arm64';

describe.skipIf(missing)(`builds that go wrong${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: BuildEnvironment;
  let builds: BuildsClient;

  beforeAll(async () => {
    environment = await createBuildEnvironment();
    builds = createBuildsClient((await environment.serve(environment.buildkit)).address);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  describe('a step that fails on one platform', () => {
    let submitted: Submitted;

    beforeAll(async () => {
      const steps = [
        'ARG TARGETARCH',
        `RUN ${environment.gate.command('$TARGETARCH')}; echo broken on $TARGETARCH; exit 3`,
      ];
      submitted = await builds.submit({ containerFile: environment.from(...steps), containerPlatform: PLATFORMS });
      await environment.gate.arrive('amd64');
      await environment.gate.arrive('arm64');
      environment.gate.open('arm64');
      await builds.awaitEnd(submitted);
    }, 60_000);

    test('ends the build at once: the step of the other platform is stopped', async () => {
      await environment.gate.arrive('amd64', 0);
      await waitUntil(async () => expect(environment.gate.listSteps('amd64')).toEqual([]));
    });

    test('is named with its platform, in one line, by the status', async () => {
      const status = Object(await (await builds.ask(`/v1alpha2/container/${submitted.requestId}/status`)).json());
      expect(status).toMatchObject({ status: 'DONE', succeeded: false, buildId: submitted.buildId });
      expect(status.reason).toMatch(/^[^\n]*ended with exit code 3 \(linux\/arm64, RUN wget[^\n]*\)$/);
      const log = await (await fetch(status.detailsUri)).text();
      expect(log).toContain('| broken on arm64');
      expect(log).not.toContain('| broken on amd64');
    });

    test('is a 404 with the reason for who pulls', async () => {
      const answer = await builds.ask(manifestPath(submitted.targetImage));
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({
        errors: [
          {
            code: 'MANIFEST_UNKNOWN',
            message: expect.stringMatching(/\[linux\/arm64 RUN wget.*ended with exit code 3; its log is http:/),
            detail: { build: submitted.buildId, platform: 'linux/arm64', kind: 'build' },
          },
        ],
      });
    });

    test('is not tried again by itself, and can be asked for again', async () => {
      expect(await builds.find(submitted.buildId)).toMatchObject({ starts: 1, failure: { kind: 'build' } });
      const retried = await builds.ask(`/v1alpha1/builds/${submitted.buildId}/retry`, { method: 'POST' });
      expect(Object(await retried.json()).buildId).toBe(submitted.buildId.replace(/_1$/, '_2'));
      await builds.ask(`/v1alpha1/builds/${submitted.buildId.replace(/_1$/, '_2')}/cancel`, { method: 'POST' });
    });
  });

  test('a time-out kills the step', async () => {
    const submitted = await builds.submit({ containerFile: environment.waitAt('late'), buildTimeout: '10s' });
    await environment.gate.arrive('late');
    expect(environment.gate.listSteps('late')).not.toEqual([]);
    const { failure } = await builds.awaitEnd(submitted);
    expect(failure).toMatchObject({ kind: 'timeout', reason: 'not finished after 10 s' });
    await waitUntil(async () => expect(environment.gate.listSteps('late')).toEqual([]));
    expect(environment.gate.countWaiting('late')).toBe(0);
  });

  test('a cancelled build stops, on all platforms, and a pull that waits is notified', async () => {
    const submitted = await builds.submit({
      containerFile: environment.waitAt('cancelled'),
      containerPlatform: PLATFORMS,
    });
    await environment.gate.arrive('cancelled', 2);
    const pulling = readPushed(submitted.targetImage);
    const answer = await builds.ask(`/v1alpha1/builds/${submitted.buildId}/cancel`, { method: 'POST' });
    expect(await answer.json()).toMatchObject({ status: 'failed', failure: { kind: 'cancelled' } });
    await expect(pulling).rejects.toThrow('answers 404');
    await environment.gate.arrive('cancelled', 0);
  });

  test('a pull that waits too long is told to come again, one that leaves frees its place, and the build continues', async () => {
    const { address } = await environment.serve(environment.buildkit, { builds: { hold: { token: '1s' } } });
    const own = createBuildsClient(address);
    const submitted = await own.submit({ containerFile: environment.waitAt('held') });
    await environment.gate.arrive('held');
    const manifest = manifestPath(submitted.targetImage);
    const leaving = expect(own.ask(manifest, { signal: AbortSignal.timeout(200) })).rejects.toThrow('timeout');
    const held = await own.ask(manifest, { method: 'HEAD' });
    expect([held.status, Number(held.headers.get('retry-after')) > 0]).toEqual([503, true]);
    await leaving;
    expect((await own.find(submitted.buildId)).status).toBe('running');
    environment.gate.open('held');
    expect(await own.awaitEnd(submitted)).toMatchObject({ status: 'succeeded', starts: 1 });
    expect((await own.ask(manifest)).status).toBe(200);
  });

  test('the log is there while the step runs, as text and as events that end with the record', async () => {
    const file = environment.from(`RUN echo before; ${environment.gate.command('log')}; echo after`);
    const { buildId } = await builds.submit({ containerFile: file });
    const [text, events] = await Promise.all([
      builds.ask(`/v1alpha1/builds/${buildId}/logs`),
      builds.ask(`/v1alpha1/builds/${buildId}/logs`, { headers: { accept: 'text/event-stream' } }),
    ]);
    const reading = [text, events].map(({ body }) => body?.pipeThrough(new TextDecoderStream()).getReader());
    const early = await Promise.all(reading.map(reader => readUntil(reader, 'before')));
    expect(early.join()).not.toContain('after\n');
    environment.gate.open('log');
    const [log = '', sent = ''] = (await Promise.all(reading.map(reader => readUntil(reader)))).map(
      (rest, i) => `${early[i]}${rest}`,
    );
    expect(log).toMatch(/before\n.*after\n.*succeeded: /s);
    const parsed = parseEvents(sent);
    expect(parsed.filter(({ event }) => event === 'log').map(({ data }) => data.text)).toEqual(
      expect.arrayContaining(['before', 'after']),
    );
    expect(parsed.at(-1)).toMatchObject({ event: 'end', data: { buildId, status: 'succeeded' } });
  });
});

/** What comes until the mark is in it, or to the end. */
async function readUntil(reader: ReadableStreamDefaultReader<string> | undefined, mark = '\0'): Promise<string> {
  let read = '';
  while (!read.includes(mark)) {
    const { done, value = '' } = (await reader?.read()) ?? { done: true };
    if (done) break;
    read += value;
  }
  return read;
}

function parseEvents(text: string) {
  const events: { readonly event: string | undefined; readonly data: Readonly<Record<string, unknown>> }[] = [];
  createParser({ onEvent: ({ event, data }) => events.push({ event, data: JSON.parse(data) }) }).feed(text);
  return events;
}
