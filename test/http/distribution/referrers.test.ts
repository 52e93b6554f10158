// Referrers over HTTP: filtered for the client, who is told so, whatever the upstream does.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { type App, createApp } from '../../../src/app/app.ts';
import { loadConfig } from '../../../src/config/config.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';
import { sendError } from '../../support/registry-answers.ts';

const indexSchema = z.object({ manifests: z.array(z.object({ artifactType: z.string() })) });
const SUBJECT = digestOf(Buffer.from('subject'));
const referrer = (artifactType: string) => ({
  mediaType: mediaTypes.ociManifest,
  raw: Buffer.from(JSON.stringify({ artifactType, subject: { digest: SUBJECT } })),
});

let directory: string;
let registry: TestRegistry;
let app: App;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-referrers-'));
  registry = await startRegistry();
  registry.put('team/app', [referrer('test/sbom'), referrer('test/signature')]);
  const file = join(directory, 'veneer.yaml');
  const settings = { dataDir: join(directory, 'data'), upstreams: { lab: { url: registry.url } } };
  await writeFile(file, JSON.stringify(settings));
  const log = pino({ level: 'silent' });
  app = await createApp({ config: loadConfig({ file, env: {}, flags: {} }), log, version: '0.0.0' });
});

afterEach(async () => {
  await app.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

test.each([
  ['', null, ['test/sbom', 'test/signature']],
  ['?artifactType=test/sbom', 'artifactType', ['test/sbom']],
  ['?artifactType=test/none', 'artifactType', []],
])('for "%s" the filters applied are %s', async (query, filters, types) => {
  expect(await find(query)).toEqual({ status: 200, filters, types });
});

test('an upstream without an API has none, and the filter was applied to them', async () => {
  registry.intercept((_request, response) => {
    sendError(response, 404, 'NOT_FOUND');
    return true;
  });
  expect(await find('?artifactType=test/sbom')).toEqual({ status: 200, filters: 'artifactType', types: [] });
});

async function find(query: string) {
  const response = await app.fetch(new Request(`http://127.0.0.1/v2/lab/team/app/referrers/${SUBJECT}${query}`));
  expect(response.headers.get('content-type')).toBe(mediaTypes.ociIndex);
  const index = indexSchema.parse(await response.json());
  const filters = response.headers.get('oci-filters-applied');
  return { status: response.status, filters, types: index.manifests.map(({ artifactType }) => artifactType) };
}
