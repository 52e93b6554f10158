// The specification of multi-platform builds, request by request: its bodies as they are, a real BuildKit, a real registry, a real engine.
// How its examples of commands compare with what is run is in test/builds/backends/buildkit/command.test.ts.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { readPushed } from '../support/pushed-image.ts';
import { ADDED, makeTar } from './support/augment.ts';
import { hubIn, makeBuildBases } from './support/build-bases.ts';
import { type BuildsClient, containerFile, createBuildsClient } from './support/builds.ts';
import { findMissing } from './support/clients.ts';
import { startDocker, startVeneer, upstreamsTo } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker']);

/** The bodies of the specification. */
const SINGLE = { containerFile: 'RlJPTSB1YnVudHU6bGF0ZXN0', containerPlatform: 'linux/amd64' };
const MULTI = { containerFile: 'RlJPTSB1YnVudHU6bGF0ZXN0', containerPlatform: 'linux/amd64,linux/arm64' };
const BASIC = { ...MULTI, buildRepository: 'your-registry.com/your-repo' };
const WITH_CONTEXT = {
  containerFile: 'RlJPTSBub2RlOjE4LWFscGluZQpSVU4gYXBrIGFkZCAtLW5vLWNhY2hlIGdpdA==',
  containerPlatform: 'linux/amd64,linux/arm64,linux/arm/v7',
  buildContext: { 'file1.txt': 'content' },
  buildRepository: 'your-registry.com/your-repo',
};

/** What `uname -m` says. */
const MACHINES = { 'linux/amd64': 'x86_64', 'linux/arm64': 'aarch64', 'linux/arm/v7': 'armv7l' } as const;

describe.skipIf(missing)(`multi-platform builds${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let builds: BuildsClient;

  beforeAll(async () => {
    environment = await createEnvironment();
    await makeBuildBases(environment);
    host = (await environment.keep(startDocker(environment.folder))).host;
    builds = await serve([{ kind: 'buildkit', address: environment.buildkit }]);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('Single Platform: one image, and no index', async () => {
    const pushed = await readPushed((await builds.build(SINGLE)).targetImage);
    expect(pushed).toMatchObject({ mediaType: mediaTypes.ociManifest, platforms: ['linux/amd64'] });
  });

  test('Single Platform: the name of one image, without a build, works as before', async () => {
    const answer = await builds.request({ containerImage: 'ubuntu:latest', containerPlatform: 'linux/amd64' });
    const { targetImage, succeeded, buildId } = Object(await answer.json());
    expect([answer.status, succeeded, buildId]).toEqual([200, true, undefined]);
    expect((await readPushed(targetImage)).platforms).toContain('linux/amd64');
  });

  test('Multi-Platform: an index with exactly the platforms', async () => {
    const pushed = await readPushed((await builds.build(MULTI)).targetImage);
    expect(pushed).toMatchObject({
      mediaType: mediaTypes.ociIndex,
      platforms: ['linux/amd64', 'linux/arm64'],
      attestations: [],
    });
  });

  describe('Basic Multi-Platform Build', () => {
    let name = '';

    beforeAll(async () => {
      const { containerImage, digest } = await builds.build(BASIC);
      name = pushedName(containerImage);
      expect((await readPushed(name)).digest).toBe(digest);
    }, 60_000);

    test('pushes a manifest list of exactly the platforms to the repository', async () => {
      const pushed = await readPushed(name);
      expect(pushed).toMatchObject({
        mediaType: mediaTypes.ociIndex,
        platforms: ['linux/amd64', 'linux/arm64'],
        attestations: [],
      });
      expect(pushed.images.map(({ platform }) => platform)).toEqual(pushed.platforms);
    });

    test.each(['linux/amd64', 'linux/arm64'] as const)(
      'is pulled with `docker pull repo:tag` on %s',
      async platform => {
        await docker('pull', '--platform', platform, name);
        expect(await runIn(platform, name, 'uname -m')).toBe(MACHINES[platform]);
      },
    );
  });

  describe('Multi-Platform with Build Context', () => {
    let name = '';

    beforeAll(async () => {
      name = pushedName((await builds.build(WITH_CONTEXT)).containerImage);
    }, 60_000);

    test('RUN ran on each of the three platforms', async () => {
      const { platforms, images } = await readPushed(name);
      expect(platforms).toEqual(Object.keys(MACHINES));
      const left = images.map(async image => [await image.readFile('/machine'), await image.readFile('/asked')]);
      const asked = 'add --no-cache git\n';
      expect(await Promise.all(left)).toEqual(Object.values(MACHINES).map(machine => [`${machine}\n`, asked]));
    });

    test('the context is there to be copied, and another context is another build', async () => {
      const copying = { ...WITH_CONTEXT, containerFile: containerFile('FROM ubuntu', 'COPY file1.txt /') };
      const first = await builds.build(copying);
      const { images } = await readPushed(pushedName(first.containerImage));
      const contents = await Promise.all(images.map(image => image.readFile('/file1.txt')));
      expect(contents).toEqual(['content', 'content', 'content']);
      const other = await builds.submit({ ...copying, buildContext: { 'file1.txt': 'other' }, dryRun: true });
      expect(other.buildId).not.toBe(first.buildId);
    });

    test('the same request again is the same build', async () => {
      const before = await builds.list();
      expect(await builds.submit(WITH_CONTEXT)).toMatchObject({ cached: true, succeeded: true });
      expect(await builds.list()).toEqual(before);
    });
  });

  describe('Supported Platforms', () => {
    test.each([
      ['linux/x86_64', 'linux/amd64'],
      ['linux/x86-64', 'linux/amd64'],
      ['x86_64', 'linux/amd64'],
      ['amd64', 'linux/amd64'],
      ['linux/aarch64', 'linux/arm64'],
      ['arm64', 'linux/arm64'],
      ['linux/arm64/v8', 'linux/arm64'],
      ['linux/arm', 'linux/arm/v7'],
      ['linux/armhf', 'linux/arm/v7'],
      ['linux/x86_64, linux/aarch64', 'linux/amd64,linux/arm64'],
    ])('%s is %s', async (alias, containerPlatform) => {
      const [aliased, named] = await Promise.all(
        [alias, containerPlatform].map(platform =>
          builds.submit({ ...MULTI, containerPlatform: platform, dryRun: true }),
        ),
      );
      expect(aliased?.buildId).toBe(named?.buildId);
    });

    test('linux/arm is built in the variants v5, v6 and v7', async () => {
      const containerPlatform = 'linux/arm/v5,linux/arm/v6,linux/arm/v7';
      const { targetImage } = await builds.build({ containerFile: RAN, containerPlatform });
      const { platforms, images } = await readPushed(targetImage);
      expect(platforms).toEqual(['linux/arm/v5', 'linux/arm/v6', 'linux/arm/v7']);
      const machines = await Promise.all(images.map(image => image.readFile('/machine')));
      expect(machines).toEqual(['armv7l\n', 'armv7l\n', 'armv7l\n']);
    });
  });

  describe('Container Augmentation', () => {
    let targetImage = '';

    beforeAll(async () => {
      const { env, workingDir, cmd } = ADDED;
      const location = `data:${(await makeTar()).toString('base64')}`;
      const containerConfig = { env: [env], workingDir, cmd, layers: [{ location }] };
      ({ targetImage } = await builds.build({ ...WITH_CONTEXT, containerConfig }));
    }, 60_000);

    test.each(PLATFORMS)('layers, variables and the working directory are there on %s', async platform => {
      await docker('pull', '--platform', platform, targetImage);
      const script = 'echo $ADDED $BASE; pwd; busybox cat hello; uname -m';
      const printed = `yes 1\n/opt/veneer\nhello\n${MACHINES[platform]}`;
      expect(await runIn(platform, targetImage, script)).toBe(printed);
    });

    test('the image in the registry has none of it, and was built once', async () => {
      const { containerImage, cached } = await builds.submit(WITH_CONTEXT);
      expect(cached).toBe(true);
      const { images } = await readPushed(pushedName(containerImage));
      expect(images.flatMap(({ env }) => env)).not.toContain(ADDED.env);
    });
  });

  describe('Error Handling', () => {
    test.each([
      ['linux/amd65', /linux\/amd65.*did you mean linux\/amd64\?.*builds .*linux\/arm64/],
      ['linux/amd64,windows/amd64', /windows\/amd64 cannot be built here/],
      ['linux/amd64,,', /containerPlatform/],
      ['../../etc', /containerPlatform/],
    ])('Invalid Platform: %s is refused before anything starts', async (containerPlatform, reason) => {
      const before = await builds.list();
      const answer = await builds.request({ ...MULTI, containerPlatform });
      expect([answer.status, Object(await answer.json()).message]).toEqual([400, expect.stringMatching(reason)]);
      expect(await builds.list()).toEqual(before);
    });

    test('Missing Architecture: a base that lacks a platform is refused before anything starts, with what there is', async () => {
      const before = await builds.list();
      const containerPlatform = 'linux/amd64,linux/s390x';
      const answer = await builds.request({ containerFile: RAN, containerPlatform });
      const { message } = Object(await answer.json());
      expect([answer.status, message]).toEqual([
        400,
        expect.stringMatching(/ubuntu:latest.*linux\/s390x.*linux\/amd64/),
      ]);
      expect(await builds.list()).toEqual(before);
    });

    test('Missing Architecture: what cannot be built for one platform fails the build, and the log says where', async () => {
      const onlyHere = containerFile('FROM ubuntu:latest', 'RUN test "$(uname -m)" = x86_64');
      const { buildId } = await builds.submit({ ...MULTI, containerFile: onlyHere });
      const log = await builds.readLog(buildId);
      expect(log).toContain('linux/arm64');
      const { status, reason } = await builds.find(buildId);
      expect([status, reason]).toEqual(['failed', expect.stringMatching(/linux\/arm64/)]);
    });
  });

  test('Node Selection: each platform goes to the builder that is for it, and one index comes of it', async () => {
    const nodes = await serve([
      { kind: 'buildkit', name: 'node-amd64', address: environment.buildkit, platforms: ['linux/amd64'] },
      { kind: 'buildkit', name: 'node-arm64', address: environment.buildkit, platforms: ['linux/arm64'] },
    ]);
    const { backends, targetImage } = await nodes.build({ ...MULTI, containerFile: RAN });
    expect(backends.toSorted()).toEqual(['node-amd64', 'node-arm64']);
    const { platforms, images } = await readPushed(targetImage);
    expect(platforms).toEqual(['linux/amd64', 'linux/arm64']);
    const machines = await Promise.all(images.map(image => image.readFile('/machine')));
    expect(machines).toEqual(['x86_64\n', 'aarch64\n']);
  });

  const RAN = containerFile('FROM ubuntu:latest', 'RUN uname -m > /machine');

  /** A Veneer with these builders; the registries of the specification are the environment's. */
  async function serve(backends: readonly object[]): Promise<BuildsClient> {
    const { registry } = environment;
    const upstreams = {
      ...upstreamsTo(registry),
      ...hubIn(registry),
      'your-registry.com': { url: `http://${registry}` },
    };
    const settings = { upstreams, builds: { backends } };
    return createBuildsClient((await environment.keep(startVeneer(environment.folder, registry, settings))).address);
  }

  /** How the registry is called here. */
  function pushedName(image: string): string {
    return image.replace('your-registry.com', environment.registry);
  }

  function docker(...args: readonly string[]): Promise<string> {
    return run('docker', ['-H', host, ...args]);
  }

  function runIn(platform: string, image: string, script: string): Promise<string> {
    return docker('run', '--rm', '--network', 'none', '--platform', platform, image, '/bin/sh', '-c', script);
  }
});
