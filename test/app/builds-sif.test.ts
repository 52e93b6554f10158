// Images for Singularity, with a converter that is a script: it writes the head of a SIF, and then the index of the layout that it was given.
import { kill } from 'node:process';
import { afterEach, expect, test } from 'vitest';
import { HOST } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const SCRIPT = `printf '#!/usr/bin/env run-singularity\\n\\0SIF_MAGIC' > "$2"; cat "$1/index.json" >> "$2"; echo "from $1"; echo warned >&2`;
const sh = (script: string) => ['sh', '-c', script, 'sh', '{layout}', '{output}'];

let app: BuildApp;

afterEach(() => app.close());

async function start(script = SCRIPT, more: object = {}): Promise<void> {
  app = await startBuildApp({ config: { builds: { backends: ['embedded'], sif: { command: sh(script), ...more } } } });
}

const frozen = (more: object = {}) => ({ freeze: true, format: 'sif', ...more });
const readLog = async (id: string) => (await app.request(`/v1alpha1/builds/${id}/logs`)).text();

/** The artifact of `oras://host/repository:tag`, and its one layer. */
async function pullSif(target: string) {
  const [, host, repository = '', tag = ''] = /^oras:\/\/([^/]+)\/([^:]+):(.+)$/.exec(target) ?? [];
  const answer = await app.request(`/v2/${repository}/manifests/${tag}`);
  const manifest = Object(await answer.json());
  const blob = await app.request(`/v2/${repository}/blobs/${manifest.layers[0].digest}`);
  return { host, repository, manifest, digest: answer.headers.get('docker-content-digest'), sif: await blob.text() };
}

test('a build is converted, and pushed as the artifact that singularity and oras pull', async () => {
  await start();
  const answer = await app.build(frozen({ containerConfig: { env: ['A=b'] } }));
  expect(answer).toMatchObject({
    freeze: true,
    targetImage: expect.stringMatching(`^oras://${HOST}/local/builds:[0-9a-f]{16}$`),
  });
  const record = await app.ended(answer.buildId);
  expect(record).toMatchObject({ status: 'succeeded', format: 'sif', targetImage: answer.targetImage });
  const { repository, manifest, digest, sif } = await pullSif(answer.targetImage);
  expect(digest).toBe(record.digest);
  expect(manifest).toMatchObject({
    config: { mediaType: 'application/vnd.sylabs.sif.config.v1+json' },
    layers: [{ mediaType: 'application/vnd.sylabs.sif.layer.v1.sif', size: Buffer.byteLength(sif) }],
  });
  expect(manifest.layers[0].annotations['org.opencontainers.image.title']).toMatch(/^builds_[0-9a-f]{16}\.sif$/);
  const [, index = ''] = sif.split('SIF_MAGIC');
  const image = JSON.parse(index).manifests[0].digest;
  // The image that it was made of has the changes of the request, and no tag.
  const made = [...(await app.pull(`${HOST}/${repository}@${image}`)).values()];
  expect(made[0]?.config?.Env).toEqual(expect.arrayContaining(['BUILT=yes', 'A=b']));
  expect(Object(await (await app.request(`/v2/${repository}/tags/list`)).json()).tags).toHaveLength(1);
  const log = await readLog(answer.buildId);
  expect(log).toMatch(/from <build>\/image\n(.*\n)*.*warned/);
  expect(log).not.toContain(app.directory);
  expect(await app.build(frozen({ containerConfig: { env: ['A=b'] } }))).toMatchObject({
    cached: true,
    succeeded: true,
  });
});

test('so is an image that is there, of one platform; as an image it is another build', async () => {
  await start();
  const body = { containerImage: app.base, containerPlatform: 'linux/arm64' };
  const [sif, image] = [await app.build(frozen(body)), await app.build({ ...body, freeze: true })];
  expect(sif.buildId).not.toBe(image.buildId);
  expect(await app.ended(sif.buildId)).toMatchObject({ status: 'succeeded', format: 'sif' });
  expect((await pullSif(sif.targetImage)).sif).toContain('SIF_MAGIC');
});

test.each<[string, object, number, string]>([
  ['is not frozen', { freeze: false }, 400, 'format: "sif" needs freeze'],
  ['is mirrored', { freeze: false, mirror: true, containerImage: 'a', containerFile: null }, 400, 'not with mirror'],
  ['has attestations', { buildAttestations: { sbom: true } }, 400, 'without buildAttestations'],
  ['is of two platforms', { containerPlatform: 'amd64,arm64' }, 400, 'containerPlatform: a SIF is for one platform'],
  ['must be scanned', { scanMode: 'required' }, 501, 'a SIF cannot be scanned'],
])('one that %s is refused', async (_, body, status, message) => {
  await start();
  const containerFile = base64(`FROM ${app.base}\n`);
  expect(await app.refused(frozen({ containerFile, ...body }))).toEqual([status, expect.stringContaining(message)]);
});

test('without a converter the answer is a 501 that says what helps', async () => {
  app = await startBuildApp();
  const [status, message] = await app.refused(frozen({ containerFile: base64(`FROM ${app.base}\n`) }));
  expect([status, message]).toEqual([
    501,
    expect.stringMatching(/set builds\.sif in veneer\.yaml, or .*apptainer build/),
  ]);
});

test.each<[string, string, object, string]>([
  ['fails', 'echo why >&2; exit 3', {}, 'sh failed (exit code 3): the log has more'],
  ['writes nothing', 'true', {}, 'the converter has written no file'],
  ['writes too much', 'head -c 2097152 /dev/zero > "$2"', { maxSize: '1MiB' }, 'more than 1 MiB (builds.sif.maxSize)'],
  ['does not end', 'sleep 1000', { timeout: '1s' }, 'sh took longer than 1 s (builds.sif.timeout)'],
  ['would get too large an image', SCRIPT, { maxImage: '1KiB' }, 'over the limit of 1 KiB (builds.sif.maxImage)'],
])('a converter that %s fails the build', async (_, script, more, reason) => {
  await start(script, more);
  const { buildId } = await app.build(frozen());
  expect(await app.ended(buildId)).toMatchObject({ status: 'failed', reason: expect.stringContaining(reason) });
  expect(Object(await (await app.request('/v2/local/builds/tags/list')).json()).tags).toEqual([]);
});

test('the converter ends with its build', async () => {
  await start('echo "pid=$$"; sleep 1000');
  const { buildId } = await app.build(frozen());
  let pid = 0;
  await expect
    .poll(async () => {
      const log = await (await app.request(`/v1alpha1/builds/${buildId}/logs?follow=false`)).text();
      pid = Number(/pid=(\d+)/.exec(log)?.[1] ?? 0);
      return pid;
    })
    .toBeGreaterThan(0);
  expect((await app.request(`/v1alpha1/builds/${buildId}/cancel`, { method: 'POST' })).status).toBe(200);
  expect(await app.ended(buildId)).toMatchObject({ status: 'failed', failure: { kind: 'cancelled' } });
  expect(() => kill(pid, 0)).toThrow('ESRCH');
});
