// The OCI conformance suite itself, run where VENEER_CONFORMANCE names its executable. It is built from the sources of distribution-spec,
// outside of this project: it cannot be installed as a module, and so it is no part of the tests that everybody runs.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { EVERYTHING, runConformance } from './run-suite.ts';

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  server = await startServer({ hosted: { sparse: 'allow' }, upstreams: { lab: { url: registry.url } } });
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

test('all of the suite passes, with every option on', { timeout: 300_000 }, async () => {
  const summary = await runSuite(EVERYTHING);
  expect(summary).toMatchObject({ FAIL: 0, Error: 0, Skip: 0, Disabled: 0 });
  expect(summary.Pass).toBeGreaterThan(1000);
});

test('an image of an upstream passes what the suite reads', { timeout: 60_000 }, async () => {
  expect(await readOnly('lab/library/app', putImage())).toMatchObject({ FAIL: 0, Error: 0 });
});

test('an augmented image passes what the suite reads', { timeout: 60_000 }, async () => {
  putImage();
  const { body } = await server.send('POST', '/v1alpha2/container', {
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } }),
  });
  const { requestId, targetDigest } = JSON.parse(body.toString());
  const name = `wt/${requestId}/library/app`;
  expect(await readOnly(name, await digestsOf(name, targetDigest))).toMatchObject({ FAIL: 0, Error: 0 });
});

interface Digests {
  readonly manifests: readonly string[];
  readonly blobs: readonly string[];
}

/** The suite's "dev" asks for a digest in a header that it never looks at when it only reads: 1.1 does not. */
async function readOnly(name: string, { manifests, blobs }: Digests) {
  return runSuite({
    OCI_VERSION: '1.1',
    OCI_REPO1: name,
    OCI_REPO2: name,
    OCI_API_PUSH: 'false',
    OCI_API_TAGS_DELETE: 'false',
    OCI_API_MANIFESTS_DELETE: 'false',
    OCI_API_BLOBS_DELETE: 'false',
    OCI_RO_DATA_TAGS: '1',
    OCI_RO_DATA_MANIFESTS: manifests.join(' '),
    OCI_RO_DATA_BLOBS: blobs.join(' '),
    OCI_RO_DATA_REFERRERS: manifests.join(' '),
  });
}

const runSuite = (env: Readonly<Record<string, string>>) => runConformance(server.port, server.directory, env);

function putImage(): Digests {
  const platforms = ['linux/amd64', 'linux/arm64'];
  const { root, content } = generateImage({ seed: 1, platforms, layers: 2, family: 'oci' });
  const contents = [...content].map(([digest, each]) => ({ ...each, ...(digest === root.digest && { tags: ['1'] }) }));
  registry.put('library/app', contents);
  const isManifest = (mediaType: string) => /manifest|index/.test(mediaType);
  const digests = (wanted: boolean) =>
    [...content].filter(([, { mediaType }]) => isManifest(mediaType) === wanted).map(([digest]) => digest);
  return { manifests: digests(true), blobs: digests(false) };
}

async function digestsOf(name: string, root: string): Promise<Digests> {
  const read = async (digest: string) =>
    JSON.parse((await server.send('GET', `/v2/${name}/manifests/${digest}`)).body.toString());
  const digests = (descriptors: readonly object[]) => descriptors.map(each => String(Object(each).digest));
  const images = digests((await read(root)).manifests);
  const documents = await Promise.all(images.map(read));
  const blobs = documents.flatMap(({ config, layers }) => digests([config, ...layers]));
  return { manifests: [root, ...images], blobs: [...new Set(blobs)] };
}
