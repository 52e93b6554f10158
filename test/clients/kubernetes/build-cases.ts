// Veneer and a cluster: every platform built in a Job on its own node, with the rights of deploy/kubernetes.yaml and no more.
import { randomBytes } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BatchV1Api, CoreV1Api, EventsV1Api, type V1Job, type V1Pod } from '@kubernetes/client-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { readPushed } from '../../support/pushed-image.ts';
import { type BuildsClient, containerFile, createBuildsClient, manifestPath } from '../support/builds.ts';
import { startDocker, startVeneer } from '../support/daemons.ts';
import { findFreePort, run, waitUntil } from '../support/process.ts';
import type { Place } from './place.ts';

const BOTH = 'linux/amd64,linux/arm64';
const CANARY = 'canary-of-a-build-secret';

export function buildCases(getPlace: () => Place): void {
  describe('a build of Veneer', { timeout: 240_000 }, () => {
    let environment: Place['environment'];
    let cluster: Place['cluster'];
    let gate: Place['gate'];
    let veneer: Awaited<ReturnType<typeof serve>>;
    let own: BuildsClient;

    beforeAll(async () => {
      ({ environment, cluster, gate } = getPlace());
      veneer = await serve();
      own = createBuildsClient(veneer.address);
    }, 60_000);

    /** Where Wave has its map of selectors; at an address that stays when it is started again. */
    async function serve({
      dataDir,
      listen,
      ...more
    }: {
      dataDir?: string;
      listen?: string;
      scheduleTimeout?: string;
    } = {}) {
      const address = listen ?? `127.0.0.1:${await findFreePort()}`;
      const { kubeconfig, image } = cluster;
      const backend = {
        kind: 'kubernetes',
        kubeconfig,
        image,
        security: 'privileged',
        callbackUrl: `http://${address}`,
      };
      const selectors = { 'linux/amd64': 'service=wave-build', 'linux/arm64': 'service=wave-build-arm64' };
      const recipe = join(environment.folder, 'recipe.Containerfile');
      await writeFile(
        recipe,
        `FROM ${environment.source}\nRUN --mount=type=secret,id=canary wc -c < /run/secrets/canary > /length; ${gate.command('secret')}\n`,
      );
      return environment.keep(
        startVeneer(environment.folder, environment.registry, {
          listen: address,
          ...(dataDir !== undefined && { dataDir }),
          wave: { build: { k8s: { 'node-selector': { ...selectors, 'linux/s390x': 'service=nowhere' } } } },
          builds: {
            backends: [{ ...backend, namespace: cluster.namespace, ...more }],
            secrets: { canary: CANARY },
            recipes: [{ match: 'local/secret/{name}:{tag}', containerFile: recipe, secrets: ['canary'] }],
          },
        }),
      );
    }

    const from = (...steps: readonly string[]) => containerFile(`FROM ${environment.source}`, ...steps);
    const waitAt = (mark: string) => from('ARG TARGETARCH', `RUN uname -m > /machine; ${gate.command(mark)}`);

    async function listJobs(build?: string): Promise<readonly V1Job[]> {
      const { items } = await cluster.admin
        .makeApiClient(BatchV1Api)
        .listNamespacedJob({ namespace: cluster.namespace });
      return items.filter(({ metadata }) => build === undefined || metadata?.labels?.['veneer/build'] === build);
    }

    async function listPods(build: string): Promise<readonly V1Pod[]> {
      const labelSelector = `veneer/build=${build}`;
      const core = cluster.admin.makeApiClient(CoreV1Api);
      return (await core.listNamespacedPod({ namespace: cluster.namespace, labelSelector })).items;
    }

    const isGone = (build: string) => waitUntil(async () => expect(await listJobs(build)).toEqual([]));

    test('each platform is built at the same time, in a Job on its own node, and all are one index', async () => {
      const submitted = await own.submit({ containerFile: waitAt('both'), containerPlatform: BOTH });
      await gate.arrive('both', 2);
      const pods = await listPods(submitted.buildId);
      const places = pods.map(({ metadata, spec }) => [metadata?.annotations?.['veneer/platforms'], spec?.nodeName]);
      expect(places.toSorted()).toEqual([
        ['linux/amd64', '127.0.0.1'],
        ['linux/arm64', 'localhost'],
      ]);
      gate.open('both');
      const build = await own.awaitEnd(submitted);
      const log = await own.readLog(submitted.buildId);
      expect(build, log).toMatchObject({ status: 'succeeded', backends: ['kubernetes'] });
      const pushed = await readPushed(submitted.targetImage);
      expect(pushed.platforms).toEqual(BOTH.split(','));
      const machines = await Promise.all(pushed.images.map(image => image.readFile('/machine')));
      expect(machines.map(machine => machine?.trim())).toEqual(['x86_64', 'aarch64']);
      expect(log).toMatch(/linux\/arm64.*on the node localhost/);
      const folder = await mkdtemp(join(environment.folder, 'docker-'));
      const { host } = await environment.keep(startDocker(folder));
      for (const [at, platform] of BOTH.split(',').entries()) {
        await run('docker', ['-H', host, 'pull', '--quiet', '--platform', platform, submitted.targetImage]);
        const command = [
          'run',
          '--rm',
          '--network',
          'none',
          '--platform',
          platform,
          submitted.targetImage,
          'busybox',
          'cat',
          '/machine',
        ];
        expect(await run('docker', ['-H', host, ...command])).toBe(['x86_64', 'aarch64'][at]);
      }
      const tags = await (await own.ask('/v2/local/builds/tags/list')).text();
      expect(tags).toContain(submitted.targetImage.split(':').at(-1));
      expect(tags).not.toContain(`${submitted.buildId}.`);
      await isGone(submitted.buildId);
    });

    test('one platform is one Job and one manifest', async () => {
      const submitted = await own.submit({ containerFile: waitAt('one'), containerPlatform: 'linux/arm64' });
      await gate.arrive('one');
      expect(await listJobs(submitted.buildId)).toHaveLength(1);
      gate.open('one');
      expect(await own.awaitEnd(submitted)).toMatchObject({ status: 'succeeded' });
      expect(await readPushed(submitted.targetImage)).toMatchObject({
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        platforms: ['linux/arm64'],
      });
    });

    test('a platform without a selector is refused before anything begins, with those that have one', async () => {
      const response = await own.request({ containerFile: from(), containerPlatform: 'linux/amd64,linux/ppc64le' });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({
        message: expect.stringMatching(
          /linux\/ppc64le cannot be built here.*kubernetes builds linux\/amd64, linux\/arm64, linux\/s390x/,
        ),
      });
      expect(JSON.stringify(await own.list())).not.toContain('ppc64le');
    });

    test('a selector that no node has is reported while the pod waits, and a failure after the time', async () => {
      const patient = createBuildsClient((await serve({ scheduleTimeout: '4s' })).address);
      const submitted = await patient.submit({
        containerFile: containerFile('FROM scratch', 'COPY a /a'),
        buildContext: { a: 'a' },
        containerPlatform: 'linux/s390x',
      });
      const words = /no node for linux\/s390x matches service=nowhere: 0\/2 nodes are available/;
      expect((await patient.awaitEnd(submitted)).failure).toMatchObject({
        kind: 'timeout',
        reason: expect.stringMatching(words),
      });
      const lines = (await patient.readLog(submitted.buildId)).split('\n');
      expect(lines.findIndex(line => words.test(line))).toBeLessThan(lines.length - 2);
      await isGone(submitted.buildId);
    });

    test('a RUN that fails on one platform stops the other at once, and the failure names platform and step', async () => {
      const step = `RUN if [ $TARGETARCH = arm64 ]; then ${gate.command('fails')}; exit 7; fi; ${gate.command('stops')}`;
      const submitted = await own.submit({ containerFile: from('ARG TARGETARCH', step), containerPlatform: BOTH });
      await gate.arrive('fails');
      await gate.arrive('stops');
      gate.open('fails');
      const { failure } = await own.awaitEnd(submitted);
      expect(failure).toMatchObject({
        kind: 'build',
        platform: 'linux/arm64',
        reason: expect.stringMatching(/exit code 7/),
      });
      expect(failure?.step).toContain('exit 7');
      await gate.arrive('stops', 0);
      expect(await listJobs(submitted.buildId)).toEqual([]);
    });

    test('what is cancelled is gone when that is answered', async () => {
      const submitted = await own.submit({ containerFile: waitAt('cancelled'), containerPlatform: BOTH });
      await gate.arrive('cancelled', 2);
      const cancelled = await own.ask(`/v1alpha1/builds/${submitted.buildId}/cancel`, { method: 'POST' });
      expect(await cancelled.json()).toMatchObject({ failure: { kind: 'cancelled' } });
      expect(await listJobs(submitted.buildId)).toEqual([]);
      await gate.arrive('cancelled', 0);
    });

    test('twenty pulls of an image that is being built are one set of Jobs', async () => {
      const submitted = await own.submit({ containerFile: waitAt('twenty'), containerPlatform: BOTH });
      const pulls = Array.from({ length: 20 }, () => own.ask(manifestPath(submitted.targetImage)));
      await gate.arrive('twenty', 2);
      expect(await listJobs(submitted.buildId)).toHaveLength(2);
      gate.open('twenty');
      const answers = await Promise.all(pulls);
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
      expect((await own.find(submitted.buildId)).starts).toBe(1);
    });

    test('a context that no Secret holds is fetched by the pod from an address of its own', async () => {
      const name = `deep/${'d'.repeat(120)}/Grüße 世界`;
      const random = randomBytes(900_000).toString('base64');
      const { targetImage } = await own.build({
        containerFile: from('COPY . /context'),
        buildContext: { random, [name]: 'found' },
        containerPlatform: 'linux/amd64',
      });
      const [image] = (await readPushed(targetImage)).images;
      expect(await image?.readFile(`/context/${name}`)).toBe('found');
      expect((await image?.readFile('/context/random'))?.length).toBe(random.length);
      expect(veneer.readOutput()).not.toMatch(/signature=/);
    });

    test('a secret of a build is in its Secret, and in nothing else that the cluster keeps', async () => {
      const pulling = own.ask('/v2/local/secret/app/manifests/1');
      await gate.arrive('secret');
      const { namespace, admin } = cluster;
      const core = admin.makeApiClient(CoreV1Api);
      const secrets = (await core.listNamespacedSecret({ namespace })).items;
      const knowing = secrets.flatMap(({ metadata, data = {} }) =>
        Object.values(data)
          .filter(value => Buffer.from(value, 'base64').includes(CANARY))
          .map(() => metadata),
      );
      expect(knowing).toMatchObject([
        { ownerReferences: [{ kind: 'Job', name: expect.stringMatching(/^veneer-bd-/) }] },
      ]);
      const others = await Promise.all([
        admin.makeApiClient(BatchV1Api).listNamespacedJob({ namespace }),
        core.listNamespacedPod({ namespace }),
        core.listNamespacedConfigMap({ namespace }),
        admin.makeApiClient(EventsV1Api).listNamespacedEvent({ namespace }),
      ]);
      const encoded = Buffer.from(CANARY).toString('base64').slice(0, -4);
      expect(JSON.stringify(others)).not.toMatch(new RegExp(`${CANARY}|${encoded}|signature=`));
      gate.open('secret');
      expect((await pulling).status).toBe(200);
    });

    test.each([
      ['killed', 'kill'],
      ['told to stop', 'stop'],
    ] as const)(
      'a Veneer that is %s in the middle finds its Jobs when it is back, and goes on with them',
      async (_, end) => {
        const dataDir = await mkdtemp(join(environment.folder, 'data-'));
        const first = await serve({ dataDir });
        const client = createBuildsClient(first.address);
        const submitted = await client.submit({ containerFile: waitAt(end), containerPlatform: BOTH });
        await gate.arrive(end, 2);
        const before = (await listJobs(submitted.buildId)).map(({ metadata }) => metadata?.uid);
        await first[end]();
        await serve({ dataDir, listen: first.address });
        await waitUntil(async () => expect((await client.find(submitted.buildId)).status).toBe('running'));
        expect((await listJobs(submitted.buildId)).map(({ metadata }) => metadata?.uid)).toEqual(before);
        gate.open(end);
        const build = await client.awaitEnd(submitted);
        const log = await client.readLog(submitted.buildId);
        expect(build, log).toMatchObject({ status: 'succeeded', starts: 2 });
        expect(log).toContain('resuming Job');
        const told = log.split('\n').map(line => line.slice(line.indexOf(' ') + 1));
        // What BuildKit itself says only once of each platform: other steps it takes up again.
        const once = told.filter(line => / RUN .*: (?:started|done)$|works in the pod/.test(line));
        expect(once).toHaveLength(6);
        expect(new Set(once).size).toBe(6);
        expect((await readPushed(submitted.targetImage)).platforms).toEqual(BOTH.split(','));
        await isGone(submitted.buildId);
      },
    );

    test('a Job whose build nobody knows is swept when Veneer starts', async () => {
      const first = await serve();
      const client = createBuildsClient(first.address);
      const submitted = await client.submit({ containerFile: waitAt('swept'), containerPlatform: 'linux/amd64' });
      await gate.arrive('swept');
      await first.kill();
      await serve({ listen: first.address, dataDir: await mkdtemp(join(environment.folder, 'data-')) });
      await isGone(submitted.buildId);
      await gate.arrive('swept', 0);
    });
  });
}
