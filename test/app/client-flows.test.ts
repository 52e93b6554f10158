// Whole flows of the clients of the augment API, over a socket and in the form in which nf-wave and wave-cli send their requests: unset
// fields as null, the token in the body and in the header, a GET with a length. With `access`, so that each request has to show who asks.
import { request } from 'node:http';
import { join } from 'node:path';
import { execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { dataUrl, makeLayer } from '../support/app.ts';
import { expectDescribed } from '../support/openapi.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const HOUR = 3_600_000;
const scanner = fileURLToPath(new URL('../support/scanner.ts', import.meta.url));
const LAB = { repositories: ['lab/**'], allow: ['pull' as const] };
const LOCAL = { repositories: ['local/**'], allow: ['pull' as const, 'build' as const] };

let app: BuildApp;
let listening: Awaited<ReturnType<BuildApp['listen']>>;
let secrets: { readonly pipeline: string; readonly other: string };

beforeEach(async () => {
  const command = [execPath, scanner, '{layout}'];
  app = await startBuildApp({
    config: { access: { grants: [] }, scans: { command, sbom: [...command, '--spdx'] }, limits: { statusWait: '2s' } },
  });
  secrets = { pipeline: await issue('pipeline'), other: await issue('other') };
  listening = await app.listen();
});

afterEach(async () => {
  await listening[Symbol.asyncDispose]();
  await app.close();
});

async function issue(name: string): Promise<string> {
  const records = createSqliteStore({ path: join(app.directory, 'data/records.db'), now: () => new Date() });
  const tokens = createAccessTokens({ records, now: () => new Date() });
  const { secret } = await tokens.issue({ name, permissions: [LAB, LOCAL], ttlMs: HOUR });
  await records.close();
  return secret;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** As the HTTP clients of both send it. Whatever is answered is in the OpenAPI document. */
async function send(method: string, path: string, { secret = '', body }: { secret?: string; body?: object } = {}) {
  const sent = body === undefined ? '' : JSON.stringify(body);
  const headers = {
    ...(body ? { 'Content-Type': 'application/json' } : {}),
    ...{ 'Content-Length': Buffer.byteLength(sent), Traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` },
    ...(secret && { Authorization: `Bearer ${secret}` }),
  };
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const sending = request(`http://${listening.host}${path}`, { method, headers, agent: false }, response => {
    const chunks: Buffer[] = [];
    response.on('data', chunk => chunks.push(chunk)).on('error', reject);
    response.on('end', () => {
      const { statusCode: status = 0, headers: answered } = response;
      const text = Buffer.concat(chunks).toString();
      const type = String(answered['content-type'] ?? '');
      const told = new Response(text, { status, headers: { 'Content-Type': type } });
      expectDescribed(method, path, told).then(() => resolve({ status, text }), reject);
    });
  });
  sending.on('error', reject).end(sent);
  return promise;
}

const UNSET = [
  ...['towerAccessToken', 'towerRefreshToken', 'towerWorkspaceId', 'towerEndpoint', 'containerImage', 'containerFile'],
  ...['containerConfig', 'condaFile', 'containerPlatform', 'buildRepository', 'cacheRepository', 'workflowId'],
  ...['timestamp', 'fingerprint', 'buildContext', 'format', 'containerIncludes', 'packages', 'nameStrategy'],
  ...['scanMode', 'scanLevels', 'buildCompression', 'buildTemplate'],
];

/** The answer to a submit; nothing but a 200 will do. */
async function submit(body: object, secret = secrets.pipeline) {
  const unset = Object.fromEntries(UNSET.map(name => [name, null]));
  const times = { timestamp: '2026-11-23T08:18:53.123456789+01:00', towerEndpoint: 'https://api.example.com' };
  const flags = { freeze: false, dryRun: false, mirror: false };
  const whole = { ...unset, ...times, ...flags, towerAccessToken: secret, ...body };
  const { status, text } = await send('POST', '/v1alpha2/container', { secret, body: whole });
  expect(status, text).toBe(200);
  return Object(JSON.parse(text));
}

const read = async (path: string, secret = secrets.pipeline) => {
  const { status, text } = await send('GET', path, { secret });
  expect(status, text).toBe(200);
  return { text, body: Object(JSON.parse(text)) };
};

/** Asks again until it is done, as both do. Each answer has what clients stop without. */
async function poll(requestId: string) {
  for (;;) {
    const { body, text } = await read(`/v1alpha2/container/${requestId}/status`);
    expect(['PENDING', 'BUILDING', 'SCANNING', 'DONE']).toContain(body.status);
    expect(body.creationTime).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    if (body.status !== 'DONE') continue;
    expect(typeof body.succeeded).toBe('boolean');
    // A whole number reads as nanoseconds.
    expect(text).toMatch(/"duration":\d+\.\d+/);
    return body;
  }
}

test("a pipeline's worth of requests, each with a token, is answered without one refusal", async () => {
  const layer = dataUrl(await makeLayer('usr/bin/fusion', 'x'));
  const tasks = Array.from({ length: 24 }, (_, at) => ({
    containerImage: app.base,
    containerPlatform: at % 2 ? 'linux/arm64' : 'linux/amd64',
    containerConfig: {
      entrypoint: null,
      cmd: null,
      env: [`TASK=${at % 8}`],
      workingDir: null,
      layers: [{ location: layer }],
    },
    ...{ fingerprint: `f${at % 8}`, workflowId: 'run-1', towerWorkspaceId: 7 },
  }));
  expect((await read('/service-info')).body.serviceInfo.version).toMatch(/^1\.(?:3[1-9]|[4-9]\d)\./);
  for (const task of tasks) {
    const { requestId, targetImage, succeeded } = await submit({ ...task, containerImage: 'lab/library/app:1' });
    expect(succeeded).toBe(true);
    expect((await poll(requestId)).succeeded).toBe(true);
    // Nodes pull by the token alone.
    const [, path = ''] = /^[^/]+\/(.+):1$/.exec(targetImage) ?? [];
    expect((await send('HEAD', `/v2/${path}/manifests/1`)).status).toBe(200);
    // Another caller with a name has come by the id by chance.
    expect((await send('GET', `/container-token/${requestId}`, { secret: secrets.other })).status).toBe(404);
  }
  expect(app.log.join('')).not.toContain(secrets.pipeline);
});

test('without the token the same is a 401, and of a token that has ended as well', async () => {
  const body = { containerImage: 'lab/library/app:1', containerConfig: { env: ['A=b'] } };
  expect((await send('POST', '/v1alpha2/container', { body })).status).toBe(401);
  const ended = `${secrets.pipeline.slice(0, -4)}0000`;
  expect((await send('POST', '/v1alpha2/container', { body, secret: ended })).status).toBe(401);
});

test('a workflow keeps its tokens for longer than its client keeps the answer', async () => {
  const { requestId, expiration } = await submit({
    containerImage: 'lab/library/app:1',
    workflowId: 'run-1',
    containerConfig: { env: ['A=b'] },
  });
  expect(Date.parse(expiration) - Date.now()).toBeGreaterThan(24 * HOUR);
  const { body } = await read(`/container-token/${requestId}`);
  expect(body.expiration).toBe(expiration);
});

describe('what is made', () => {
  const FILE = base64('FROM scratch\nLABEL a=b\n');

  test('a build is waited for, and its record, log and lock file are reported', async () => {
    const { requestId, buildId } = await submit({ containerFile: FILE, buildRepository: 'local/builds' });
    expect(await poll(requestId)).toMatchObject({ succeeded: true, buildId });
    const { body, text } = await read(`/v1alpha1/builds/${buildId}`);
    expect(body).toMatchObject({ buildId, exitStatus: 0, succeeded: true, format: 'docker' });
    expect(text).toMatch(/"duration":\d+\.\d+/);
    expect((await read(`/v1alpha1/builds/${buildId}/status`)).body).toMatchObject({ status: 'COMPLETED' });
    const log = await send('GET', `/v1alpha1/builds/${buildId}/logs`, { secret: secrets.pipeline });
    expect([log.status, log.text]).toEqual([200, expect.stringContaining('succeeded')]);
    const lock = await send('GET', `/v1alpha1/builds/${buildId}/condalock`, { secret: secrets.pipeline });
    expect([lock.status, lock.text]).toEqual([404, expect.stringContaining('does not install conda packages')]);
  });

  test('a build that fails is done, with its reason and where to look', async () => {
    const { requestId, succeeded } = await submit({ containerFile: base64('FROM scratch\nCOPY missing /\n') });
    expect(succeeded).not.toBe(true);
    const status = await poll(requestId);
    expect(status).toMatchObject({ succeeded: false, reason: expect.stringContaining('/missing does not exist') });
    expect(status.detailsUri).toMatch(/^http/);
  });

  test('a mirror has the record that Nextflow reads', async () => {
    const wanted = {
      containerImage: 'lab/library/app:1',
      containerPlatform: 'linux/amd64',
      mirror: true,
      buildRepository: 'local/mirrored',
    };
    const { requestId, buildId, targetImage } = await submit(wanted);
    expect(await poll(requestId)).toMatchObject({ succeeded: true, mirrorId: buildId });
    const { body } = await read(`/v1alpha1/mirrors/${buildId}`);
    expect(body).toMatchObject({ mirrorId: buildId, status: 'COMPLETED', exitCode: 0, logs: expect.any(String) });
    expect(body.digest).toMatch(/^sha256:/);
    // All platforms, whatever was asked for.
    expect(body.platform).toContain('linux/arm64');
    expect(targetImage).toContain('local/mirrored/');
  });

  test('a required scan is waited for, and its result, log and SBOM are reported', async () => {
    const sbom = JSON.stringify([{ name: 'zlib', version: '1.0' }]);
    const layers = [{ location: dataUrl(await makeLayer('sbom.json', sbom)) }];
    const { requestId, scanId } = await submit({
      ...{ containerImage: 'lab/library/app:1', containerPlatform: 'linux/amd64', containerConfig: { layers } },
      ...{ scanMode: 'required', scanLevels: ['LOW'] },
    });
    expect(await poll(requestId)).toMatchObject({ succeeded: true, scanId, vulnerabilities: { LOW: 1 } });
    expect((await read(`/v1alpha1/scans/${scanId}`)).body).toMatchObject({ status: 'SUCCEEDED', counts: { LOW: 1 } });
    for (const part of ['logs', 'spdx'])
      expect((await send('GET', `/v1alpha1/scans/${scanId}/${part}`, { secret: secrets.pipeline })).status).toBe(200);
  });
});

test('credentials are tried, and the answer is bare JSON', async () => {
  const body = { userName: 'robot', password: 'right', registry: app.registry.host };
  const { status, text } = await send('POST', '/v1alpha2/validate-creds', { secret: secrets.pipeline, body });
  expect([status, text]).toEqual([200, expect.stringMatching(/^(?:true|false)$/)]);
});
