// What existing clients send, as it was seen on the wire, and what they can read of the answers: the `wave` command line 1.8 and
// Nextflow's plugin. They skip fields that they do not know, and fail on known ones of another shape.
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { digestOf } from '../../../src/oci/digest.ts';
import { makeTar, startApi, type TestApi } from '../api.ts';
import { openWire, type Wire } from './wire.ts';

const gzip = gzipSync(await makeTar('opt/hello', 'hi'));
const location = `data:${gzip.toString('base64')}`;
const digest = digestOf(gzip);
const ENDPOINT = '"towerEndpoint":"https://api.cloud.seqera.io"';
const TRACE = ['Traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'];
/** Statuses that a client tries again, and then hides the message of. */
const RETRIED = [249, 429, 500, 502, 503, 504];

/** What Java's ISO_INSTANT and Instant.parse read. */
const instant = z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
const submitted = z.object({
  requestId: z.string().min(1),
  containerToken: z.string().min(1),
  targetImage: z.string().min(1),
  expiration: instant,
  containerImage: z.string(),
  buildId: z.string().optional(),
  cached: z.boolean().optional(),
  freeze: z.boolean().optional(),
  mirror: z.boolean().optional(),
  scanId: z.string().optional(),
  succeeded: z.literal(true),
});

/** An answer to a submit whose image is still to be made. */
const begun = submitted
  .partial({ containerToken: true, expiration: true, succeeded: true })
  .extend({ buildId: z.string() });
const polled = z.object({
  id: z.string(),
  status: z.enum(['PENDING', 'BUILDING', 'SCANNING', 'DONE']),
  creationTime: instant,
});

let api: TestApi;
let wire: Wire;

beforeEach(async () => {
  api = await startApi();
  wire = await openWire(api);
  api.putImage();
});

afterEach(async () => {
  await wire.close();
  await api.close();
});

describe('the wave command line', () => {
  test('asks for a layer and more, and pulls what it prints', async () => {
    const layer = `{"gzipDigest":"${digest}","gzipSize":${gzip.length},"location":"${location}"}`;
    const config = `{"env":["GREETING=hello"],"layers":[${layer}],"workingDir":"/opt"}`;
    const { targetImage } = await submit(wave(`"containerConfig":${config},"containerImage":"${api.image}"`));
    const images = await wire.pull(targetImage);
    expect(images).toHaveLength(2);
    for (const { config, layers } of images) {
      expect(config).toMatchObject({ Env: expect.arrayContaining(['GREETING=hello']), WorkingDir: '/opt' });
      expect(layers.at(-1)).toBe(digest);
    }
  });

  test('pulls a digest with a config, whose layers are an empty list', async () => {
    const { root } = api.putImage();
    const image = `${api.registry.host}/library/app@${root.digest}`;
    const { targetImage } = await submit(
      wave(`"containerConfig":{"env":["A=b"],"layers":[]},"containerImage":"${image}"`),
    );
    expect((await wire.pull(targetImage)).map(({ config }) => config?.Env?.at(-1))).toEqual(['A=b', 'A=b']);
  });

  test('finds the server to be of a level that it can work with', async () => {
    const { status, body } = await wire.send('GET', '/service-info');
    const { version, commitId } = Object(JSON.parse(body)).serviceInfo;
    expect([status, version, commitId]).toEqual([200, expect.stringMatching(/^1\.(3[1-9]|[4-9]\d)\.\d+$/), 'unknown']);
  });

  test('shows an image that it inspects, and where its layers are', async () => {
    const { root } = api.putImage({ index: false });
    const { body } = await wire.send('POST', '/v1alpha1/inspect', `{"containerImage":"${api.image}",${ENDPOINT}}`);
    const { hostName, imageName, digest, manifest, config } = Object(JSON.parse(body)).container;
    expect([digest, instant.safeParse(config.created).error]).toEqual([root.digest, undefined]);
    expect(URL.parse(`${hostName}/v2/${imageName}/blobs/${manifest.layers[0].digest}`)?.host).toBe(api.registry.host);
  });

  test('shows an index that it inspects, with sizes and platforms', async () => {
    const { body } = await wire.send('POST', '/v1alpha1/inspect', `{"containerImage":"${api.image}",${ENDPOINT}}`);
    const platform = z.object({ architecture: z.string(), os: z.string(), variant: z.string().optional() });
    const entry = z.object({ mediaType: z.string(), digest: z.string(), size: z.int(), platform });
    const schema = z.object({ index: z.object({ schemaVersion: z.literal(2), manifests: z.array(entry).length(2) }) });
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
  });

  test('builds a Containerfile with a folder as its context, for two platforms, and waits for it', async () => {
    const file = Buffer.from('FROM scratch\nCOPY opt/hello /hello\n').toString('base64');
    const context = `{"gzipDigest":"${digest}","gzipSize":${gzip.length},"location":"${location}"}`;
    const platforms = '"containerPlatform":"linux/amd64,linux/arm64"';
    const { requestId, targetImage } = await begin(
      wave(`"buildContext":${context},"containerFile":"${file}",${platforms}`),
    );
    expect(await wire.pull(targetImage)).toHaveLength(2);
    await expectDone(requestId);
  });

  test('freezes what it builds, and prints a name without a token', async () => {
    const file = Buffer.from('FROM scratch\nLABEL a=b\n').toString('base64');
    const body = wave(`"buildRepository":"local/team","containerFile":"${file}","freeze":true`, '');
    const { requestId, targetImage, freeze, buildId } = await begin(body);
    expect([freeze, targetImage]).toEqual([
      true,
      expect.stringMatching(/^127\.0\.0\.1:\d+\/local\/team:[0-9a-f]{16}$/),
    ]);
    expect(buildId).toMatch(/^bd-[0-9a-f]{16}_1$/);
    await wire.send('GET', `/v1alpha1/builds/${buildId}/logs`);
    expect(await wire.pull(targetImage)).toHaveLength(1);
    await expectDone(requestId);
  });

  test('reads the record of a build', async () => {
    const file = Buffer.from('FROM scratch\nLABEL a=b\n').toString('base64');
    const { buildId } = await begin(wave(`"containerFile":"${file}"`));
    await wire.send('GET', `/v1alpha1/builds/${buildId}/logs`);
    const { body } = await wire.send('GET', `/v1alpha1/builds/${buildId}`);
    const schema = z.object({
      buildId: z.literal(buildId),
      dockerFile: z.string(),
      targetImage: z.string(),
      startTime: instant,
      duration: z.number(),
      exitStatus: z.literal(0),
      platform: z.literal('linux/amd64'),
      format: z.string(),
      digest: z.string(),
    });
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
  });

  test('shows its user what packages need, where there is no builder', async () => {
    const options = '{"baseImage":"ubuntu:24.04","mambaImage":"mambaorg/micromamba:1.5.10-noble"}';
    const packages = `{"channels":["conda-forge"],"condaOpts":${options},"entries":["samtools"],"type":"CONDA"}`;
    await expectShown(wave(`"packages":${packages}`), 'RUN needs');
  });
});

describe('Nextflow', () => {
  test('asks with all that is unset as null, polls, and pulls', async () => {
    const layer = `{"location":"${location}","gzipDigest":null,"gzipSize":null,"tarDigest":null,"skipHashing":null}`;
    const config = `{"entrypoint":null,"cmd":null,"env":["A=b"],"workingDir":null,"layers":[${layer}]}`;
    const { requestId, targetImage } = await submit(nextflow({ containerConfig: config }), TRACE);
    const { status, body } = await wire.send('GET', `/v1alpha2/container/${requestId}/status`);
    const schema = z.object({
      id: z.literal(requestId),
      status: z.literal('DONE'),
      succeeded: z.literal(true),
      creationTime: instant,
    });
    expect([status, schema.safeParse(JSON.parse(body)).error]).toEqual([200, undefined]);
    // Without a point it would be nanoseconds.
    expect(body).toMatch(/"duration":\d+\.\d+[,}]/);
    expect((await wire.pull(targetImage)).map(({ layers }) => layers.at(-1))).toEqual([digest]);
  });

  test('takes an all-null config for none: the image is the source', async () => {
    const config = '{"entrypoint":null,"cmd":null,"env":null,"workingDir":null,"layers":null}';
    const body = nextflow({ containerConfig: config, containerPlatform: 'null' });
    const { targetImage } = await submit(body, TRACE);
    expect((await wire.head(targetImage)).digest).toBe(api.putImage().root.digest);
  });

  test('says how an image would be built also where none is', async () => {
    const body = nextflow({
      scanMode: '"none"',
      scanLevels: '["LOW"]',
      nameStrategy: '"tagPrefix"',
      buildCompression: '{"mode":"zstd","level":null,"force":null}',
      buildTemplate: '"conda/pixi:v1"',
    });
    expect(await submit(body, TRACE)).toMatchObject({ containerImage: api.image });
  });

  test('reads what a token stands for', async () => {
    const { containerToken } = await submit(nextflow({ towerWorkspaceId: '12' }), TRACE);
    const { body } = await wire.send('GET', `/container-token/${containerToken}`);
    const image = z.object({ image: z.string(), digest: z.string() });
    const schema = z.object({
      token: z.literal(containerToken),
      expiration: instant,
      request: z.object({ workspaceId: z.literal(12), containerImage: z.literal(api.image), timestamp: instant }),
      source: image,
      wave: image,
    });
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
  });

  test('sends its own token too, which is not looked at', async () => {
    const body = nextflow({ towerAccessToken: '"canary"' });
    expect(await submit(body, [...TRACE, 'Authorization', 'Bearer canary'])).toMatchObject({ succeeded: true });
    expect(api.log.join('')).not.toContain('canary');
  });

  test('builds with a context and with layers on top, and polls until it is done', async () => {
    const file = Buffer.from('FROM scratch\nCOPY opt/hello /hello\n').toString('base64');
    const layer = `{"location":"${location}","gzipDigest":"${digest}","gzipSize":${gzip.length},"tarDigest":null,"skipHashing":null}`;
    const config = `{"entrypoint":null,"cmd":null,"env":null,"workingDir":null,"layers":[${layer}]}`;
    const fields = { containerImage: 'null', containerFile: `"${file}"`, containerConfig: config, buildContext: layer };
    const { requestId, targetImage, cached } = await begin(nextflow(fields), TRACE);
    expect(cached).toBe(false);
    expect((await wire.pull(targetImage)).map(({ layers }) => [layers.length, layers.at(-1)])).toEqual([[2, digest]]);
    await expectDone(requestId);
    expect(await begin(nextflow(fields), TRACE)).toMatchObject({ cached: true, succeeded: true });
  });

  test('stops polling a build that failed, and shows its user why and where the log is', async () => {
    const file = Buffer.from('FROM scratch\nCOPY missing /\n').toString('base64');
    const fields = { containerImage: 'null', containerFile: `"${file}"`, containerConfig: 'null' };
    const { requestId, buildId } = await begin(nextflow(fields), TRACE);
    await wire.send('GET', `/v1alpha1/builds/${buildId}/logs`);
    const { body } = await wire.send('GET', `/v1alpha2/container/${requestId}/status`);
    const schema = polled.extend({
      status: z.literal('DONE'),
      succeeded: z.literal(false),
      reason: z.string(),
      detailsUri: z.url(),
    });
    expect(schema.safeParse(JSON.parse(body)).error).toBeUndefined();
  });

  test('shows its user what conda packages need, where there is no builder', async () => {
    const options =
      '{"mambaImage":"mambaorg/micromamba:1.5.10-noble","commands":null,"basePackages":"conda-forge::procps-ng","baseImage":null}';
    const entries = '["samtools=1.17"],"channels":["conda-forge","bioconda"]';
    const packages = `{"type":"CONDA","environment":null,"entries":${entries},"condaOpts":${options},"pixiOpts":null,"cranOpts":null}`;
    const fields = {
      containerImage: 'null',
      containerConfig: 'null',
      packages,
      freeze: 'true',
      buildRepository: '"local/team"',
    };
    await expectShown(nextflow(fields), 'RUN needs');
  });
});

/** The command line's request: what is unset is left out, fields are in alphabetical order. */
function wave(fields: string, unset = '"freeze":false,'): string {
  return `{${fields},"dryRun":false,${unset}"mirror":false,"timestamp":"2026-11-23T07:17:30.622677246Z",${ENDPOINT}}`;
}

/** Nextflow's request: every field is there. Values are JSON text. */
function nextflow(fields: Readonly<Record<string, string>>): string {
  const all = {
    towerAccessToken: 'null',
    towerRefreshToken: 'null',
    towerWorkspaceId: 'null',
    towerEndpoint: '"https://api.cloud.seqera.io"',
    containerImage: `"${api.image}"`,
    containerFile: 'null',
    containerConfig: 'null',
    containerPlatform: '"linux/amd64"',
    buildRepository: 'null',
    cacheRepository: 'null',
    timestamp: '"2026-11-23T08:18:53.572119634+01:00"',
    fingerprint: '"8d5dbf2d8fe2b1f6b0a5bb42d5f1b2ac"',
    freeze: 'false',
    format: 'null',
    dryRun: 'false',
    workflowId: 'null',
    containerIncludes: 'null',
    packages: 'null',
    nameStrategy: 'null',
    mirror: 'false',
    scanMode: 'null',
    scanLevels: 'null',
    buildCompression: 'null',
    buildTemplate: 'null',
    ...fields,
  };
  return `{${Object.entries(all).map(([name, value]) => `"${name}":${value}`)}}`;
}

async function submit(body: string, headers: readonly string[] = []): Promise<z.infer<typeof submitted>> {
  const response = await wire.send('POST', '/v1alpha2/container', body, headers);
  expect(response.status, response.body).toBe(200);
  return submitted.parse(JSON.parse(response.body));
}

async function begin(body: string, headers: readonly string[] = []): Promise<z.infer<typeof begun>> {
  const response = await wire.send('POST', '/v1alpha2/container', body, headers);
  expect(response.status, response.body).toBe(200);
  return begun.parse(JSON.parse(response.body));
}

/** A status that ends the polling, and whose duration is read as seconds. */
async function expectDone(requestId: string): Promise<void> {
  const { status, body } = await wire.send('GET', `/v1alpha2/container/${requestId}/status`);
  const schema = polled.extend({ status: z.literal('DONE'), succeeded: z.literal(true) });
  expect([status, schema.safeParse(JSON.parse(body)).error]).toEqual([200, undefined]);
  expect(body).toMatch(/"duration":\d+\.\d+[,}]/);
}

async function expectShown(body: string, message: string): Promise<void> {
  const response = await wire.send('POST', '/v1alpha2/container', body);
  expect(RETRIED).not.toContain(response.status);
  expect(JSON.parse(response.body)).toEqual({ message: expect.stringContaining(message) });
}
