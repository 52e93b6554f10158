// Scans: what a request for one gets, with a scanner that reads the very layers that are pulled.
import { execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { dataUrl, makeLayer } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const scanner = fileURLToPath(new URL('../support/scanner.ts', import.meta.url));
const run = (...more: readonly string[]) => [execPath, scanner, '{layout}', ...more];
const SCANS = { command: run(), sbom: run('--spdx') };

let app: BuildApp;

afterEach(() => app.close());

async function withPackages(...names: readonly string[]) {
  const sbom = JSON.stringify(names.map(name => ({ name, version: '1.0' })));
  return { containerConfig: { layers: [{ location: dataUrl(await makeLayer('sbom.json', sbom)) }] } };
}

async function submit(body: object) {
  const response = await app.request('/v1alpha2/container', {
    method: 'POST',
    body: { containerImage: app.image, containerPlatform: 'linux/amd64', ...body },
  });
  return { status: response.status, ...Object(await response.json()) };
}

async function ended(requestId: string) {
  let answer = Object(undefined);
  await expect
    .poll(async () => {
      answer = Object(await (await app.request(`/v1alpha2/container/${requestId}/status`)).json());
      return answer.status;
    })
    .toBe('DONE');
  return answer;
}

const read = async (path: string) => Object(await (await app.request(path)).json());

test('a required scan holds the image back, and lets it go where it allows what is found', async () => {
  app = await startBuildApp({ config: { scans: SCANS } });
  const answer = await submit({
    ...(await withPackages('zlib', 'zlib', 'harmless')),
    ...{ scanMode: 'required', scanLevels: ['LOW'] },
  });
  expect(answer).toMatchObject({ status: 200, scanId: expect.stringMatching(/^sc-[0-9a-f]{16}_1$/) });
  expect(answer).not.toHaveProperty('succeeded');
  const scanning = await read(`/v1alpha2/container/${answer.requestId}/status`);
  expect(['SCANNING', 'DONE']).toContain(scanning.status);
  const status = await ended(answer.requestId);
  expect(status).toMatchObject({ succeeded: true, scanId: answer.scanId, vulnerabilities: { LOW: 1 } });
  expect((await app.pull(answer.targetImage)).size).toBe(1);
  expect(await read(`/v1alpha2/container/${answer.requestId}`)).toMatchObject({ scanId: answer.scanId });
  expect(await read(`/v1alpha1/scans/${answer.scanId}`)).toMatchObject({
    ...{ id: answer.scanId, status: 'SUCCEEDED', succeeded: true, platform: 'linux/amd64', counts: { LOW: 1 } },
    digest: answer.targetDigest,
    vulnerabilities: [
      { id: 'CVE-2018-25032', severity: 'LOW', pkgName: 'zlib', installedVersion: '1.0', fixedVersion: '99' },
    ],
  });
  const logs = await (await app.request(`/v1alpha1/scans/${answer.scanId}/logs`)).text();
  expect(logs).toContain('layers: 3 in <image>');
  expect(logs).not.toContain(app.directory);
  expect(await read(`/v1alpha1/scans/${answer.scanId}/spdx`)).toMatchObject({ spdxVersion: 'SPDX-2.3' });
});

test('a required scan that finds more than is allowed ends in a refusal, for status and pull', async () => {
  app = await startBuildApp({ config: { scans: SCANS } });
  const body = await withPackages('zlib', 'openssl', 'log4j');
  const answer = await submit({ ...body, scanMode: 'required', scanLevels: ['LOW', 'HIGH'] });
  const reason = `the scan ${answer.scanId} found vulnerabilities: 1 CRITICAL; allowed are LOW, HIGH (scanLevels)`;
  expect(await ended(answer.requestId)).toMatchObject({
    ...{ succeeded: false, reason, vulnerabilities: { LOW: 1, HIGH: 1, CRITICAL: 1 } },
    detailsUri: expect.stringMatching(`/view/scans/${answer.scanId}$`),
  });
  const [, path = ''] = /^[^/]+\/(.+):1$/.exec(answer.targetImage) ?? [];
  const pull = await app.request(`/v2/${path}/manifests/1`);
  expect([pull.status, await pull.json()]).toEqual([403, { errors: [{ code: 'DENIED', message: reason }] }]);
  // What is scanned is one scan; what is allowed is each request's own.
  const other = await submit({ ...body, scanMode: 'required', scanLevels: ['LOW', 'HIGH', 'CRITICAL'] });
  expect([other.scanId, other.succeeded]).toEqual([answer.scanId, true]);
});

test('an asynchronous scan keeps nobody waiting', async () => {
  app = await startBuildApp({ config: { scans: { command: run('--grype') } } });
  const answer = await submit({ ...(await withPackages('openssl')), scanMode: 'async' });
  expect(answer).toMatchObject({ succeeded: true, scanId: expect.any(String) });
  await expect.poll(async () => (await read(`/v1alpha1/scans/${answer.scanId}`)).status).toBe('SUCCEEDED');
  const status = await read(`/v1alpha2/container/${answer.requestId}/status`);
  expect(status).toMatchObject({ status: 'DONE', succeeded: true, vulnerabilities: { HIGH: 1 } });
  const spdx = await app.request(`/v1alpha1/scans/${answer.scanId}/spdx`);
  expect([spdx.status, await spdx.text()]).toEqual([404, expect.stringContaining('scans.sbom in veneer.yaml')]);
});

test('what is built is scanned once it is there, and its record names the scan', async () => {
  app = await startBuildApp({ config: { scans: SCANS } });
  const buildContext = { 'sbom.json': JSON.stringify([{ name: 'log4j', version: '2.14' }]) };
  const answer = await submit({
    ...{ containerImage: undefined, containerFile: base64('FROM scratch\nCOPY sbom.json /\n'), buildContext },
    ...{ scanMode: 'required', freeze: true },
  });
  expect(await ended(answer.requestId)).toMatchObject({ succeeded: false, vulnerabilities: { CRITICAL: 1 } });
  expect(await read(`/v1alpha1/builds/${answer.buildId}`)).toMatchObject({ scanId: answer.scanId, succeeded: true });
});

test.each([
  ['fails', { command: run() }, 'unscannable', /failed \(exit code 3\): the log has more$/],
  ['is not there', { command: ['/none/scanner', '{layout}'] }, 'a', /cannot be started/],
  ['prints no report', { command: [execPath, '-p', '"{layout}"'] }, 'a', /printed something other than JSON/],
  [
    'prints too much',
    { command: [execPath, '-p', '"{layout}".repeat(9999)'], maxOutput: '1KiB' },
    'a',
    /scans.maxOutput/,
  ],
  [
    'takes too long',
    { command: [execPath, '-e', 'setInterval(() => "{layout}", 1e6)'], timeout: '1s' },
    'a',
    /scans.timeout/,
  ],
  ['would get too much', { command: run(), maxImage: '10B' }, 'a', /over the limit of 10 B \(scans.maxImage\)/],
])('a scanner that %s leaves the image refused, with the reason', async (_, scans, name, reason) => {
  app = await startBuildApp({ config: { scans } });
  const answer = await submit({ ...(await withPackages(name)), scanMode: 'required', scanLevels: ['LOW'] });
  expect(await ended(answer.requestId)).toMatchObject({ succeeded: false, reason: expect.stringMatching(reason) });
  const { status, reason: told } = await read(`/v1alpha1/scans/${answer.scanId}`);
  expect([status, told]).toEqual(['FAILED', expect.stringMatching(reason)]);
});

test('without a scanner a required scan is refused, and an asynchronous one is left out with a warning', async () => {
  app = await startBuildApp();
  const message =
    'scanMode "required" is not possible: there is no scanner here: set scans.scanner or scans.command in veneer.yaml';
  expect(await submit({ scanMode: 'required' })).toEqual({ status: 501, message });
  const answer = await submit({ scanMode: 'async' });
  expect(answer).toMatchObject({ succeeded: true, warnings: [expect.stringContaining('the image is not scanned')] });
  expect(answer).not.toHaveProperty('scanId');
});

test('a scan continues after a restart', async () => {
  app = await startBuildApp({ config: { scans: { command: [execPath, '-e', 'setInterval(() => "{layout}", 1e6)'] } } });
  const answer = await submit({ ...(await withPackages('zlib')), scanMode: 'required', scanLevels: ['LOW'] });
  await expect.poll(() => app.log.join('')).not.toBe('');
  await app.configure({ scans: SCANS });
  expect(await ended(answer.requestId)).toMatchObject({ succeeded: true, vulnerabilities: { LOW: 1 } });
});

test.each(['sc-0123456789abcdef_1', 'x', '%2e%2e'])('no route knows the scan %s', async id => {
  app = await startBuildApp();
  for (const path of ['', '/logs', '/spdx']) {
    expect((await app.request(`/v1alpha1/scans/${id}${path}`)).status).toBe(404);
  }
});
