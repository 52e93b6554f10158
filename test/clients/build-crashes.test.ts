// Builders and Veneers that end in the middle of a build: it continues when they are back, or says what became of it.
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPushed } from '../support/pushed-image.ts';
import { type BuildEnvironment, createBuildEnvironment } from './support/build-environment.ts';
import { createBuildsClient, manifestPath } from './support/builds.ts';
import { findMissing } from './support/clients.ts';
import { startBuildkit, unmountBelow } from './support/daemons.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { waitUntil } from './support/process.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const PLATFORMS = 'linux/amd64,linux/arm64';

describe.skipIf(missing)(`builds and crashes${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: BuildEnvironment;

  beforeAll(async () => {
    environment = await createBuildEnvironment();
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('a BuildKit that is killed and comes back builds after all', async () => {
    const folder = await mkdtemp(join(environment.folder, 'killed-'));
    const buildkit = await environment.keep(startBuildkit(folder, environment.registry));
    const own = createBuildsClient((await environment.serve(buildkit.socket)).address);
    const submitted = await own.submit({ containerFile: environment.waitAt('buildkitd') });
    await environment.gate.arrive('buildkitd');
    await buildkit.kill();
    environment.gate.open('buildkitd');
    await unmountBelow(folder);
    await environment.keep(startBuildkit(folder, environment.registry));
    const build = await own.awaitEnd(submitted);
    expect(await own.readLog(submitted.buildId)).toMatch(/retry \d+ of \d+ in \d+ s/);
    expect(build).toMatchObject({ status: 'succeeded' });
    expect(build.starts).toBeGreaterThan(1);
    expect((await readPushed(submitted.targetImage)).digest).toBe(build.digest);
    await unmountBelow(folder);
  });

  test('a BuildKit that is killed and stays away is a failure that says so', async () => {
    const folder = await mkdtemp(join(environment.folder, 'gone-'));
    const buildkit = await environment.keep(startBuildkit(folder, environment.registry));
    const own = createBuildsClient((await environment.serve(buildkit.socket, { builds: { retries: 0 } })).address);
    const submitted = await own.submit({ containerFile: environment.waitAt('gone') });
    await environment.gate.arrive('gone');
    await buildkit.kill();
    environment.gate.open('gone');
    const { failure } = await own.awaitEnd(submitted);
    expect(failure).toMatchObject({ kind: 'infrastructure', reason: expect.stringMatching(/^[^\n]+$/) });
    await unmountBelow(folder);
  });

  test('a Veneer that is killed continues with its builds when it is back, under the same ids, and can still stop them', async () => {
    const dataDir = await mkdtemp(join(environment.folder, 'data-'));
    const crashing = await environment.serve(environment.buildkit, { dataDir });
    const own = createBuildsClient(crashing.address);
    const [goes, stops] = [
      await own.submit({ containerFile: environment.waitAt('goes-on'), containerPlatform: PLATFORMS }),
      await own.submit({ containerFile: environment.waitAt('stops') }),
    ];
    await environment.gate.arrive('goes-on', 2);
    await environment.gate.arrive('stops');
    await crashing.kill();
    await environment.serve(environment.buildkit, { dataDir, listen: crashing.address });

    const cancelled = await own.ask(`/v1alpha1/builds/${stops.buildId}/cancel`, { method: 'POST' });
    expect(await cancelled.json()).toMatchObject({ buildId: stops.buildId, failure: { kind: 'cancelled' } });
    await environment.gate.arrive('stops', 0);
    await waitUntil(async () => expect(environment.gate.listSteps('stops')).toEqual([]));

    const pulling = readPushed(goes.targetImage);
    environment.gate.open('goes-on');
    expect((await pulling).platforms).toEqual(PLATFORMS.split(','));
    expect(await own.awaitEnd(goes)).toMatchObject({ status: 'succeeded', starts: 2 });
    expect((await own.list()).map(({ buildId }) => buildId)).toEqual([stops.buildId, goes.buildId]);
    expect(await own.readLog(goes.buildId)).toContain('started again after a restart of the service');
  });

  test('a Veneer that is told to stop waits for no build: who pulls comes again, and gets it from the next', async () => {
    const dataDir = await mkdtemp(join(environment.folder, 'data-'));
    const stopping = await environment.serve(environment.buildkit, { dataDir });
    const own = createBuildsClient(stopping.address);
    const submitted = await own.submit({ containerFile: environment.waitAt('stopped') });
    await environment.gate.arrive('stopped');
    const pulling = own.ask(manifestPath(submitted.targetImage));
    const following = own.readLog(submitted.buildId);
    await own.find(submitted.buildId);
    await stopping.stop();
    expect(await (await pulling).json()).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
    expect(await following).toContain('interrupted: the service stops, and resumes this build when it starts again');
    await environment.gate.arrive('stopped', 0);
    environment.gate.open('stopped');
    await environment.serve(environment.buildkit, { dataDir, listen: stopping.address });
    expect((await readPushed(submitted.targetImage)).platforms).toEqual(['linux/amd64']);
    expect(await own.find(submitted.buildId)).toMatchObject({ status: 'succeeded', starts: 2 });
  });
});
