// Referrers: one index, from pages or from the referrers tag, filtered by the upstream or by Veneer.
import type { ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { failure, json, listen, openUpstream } from './server.ts';

const SUBJECT = digestOf(Buffer.from('subject'));
const SUBJECT_512 = digestOf(Buffer.from('subject'), 'sha512');
const API = `/v2/a/referrers/${SUBJECT}`;

const entry = (name: string, artifactType?: string) => ({
  mediaType: mediaTypes.ociManifest,
  digest: digestOf(Buffer.from(name)),
  size: 7,
  ...(artifactType && { artifactType }),
  annotations: { name },
});
const sbom = entry('sbom', 'test/sbom');
const signature = entry('signature', 'test/signature');
const bare = entry('bare');

function index(res: ServerResponse, manifests: unknown, headers: Record<string, string> = {}): void {
  json(
    res,
    200,
    { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests, annotations: { kept: 'yes' } },
    {
      'content-type': mediaTypes.ociIndex,
      ...headers,
    },
  );
}

async function find(url: string, artifactType?: string, digest = SUBJECT): Promise<unknown> {
  const raw = await openUpstream({ url }).findReferrers('a', digest, { artifactType });
  return raw && JSON.parse(Buffer.from(raw).toString());
}

describe('the artifact type', () => {
  test.each([
    ['is left to an upstream that filters', { 'oci-filters-applied': 'artifactType' }, [bare], [bare]],
    ['is left to one that names several filters', { 'oci-filters-applied': 'x, ArtifactType' }, [bare], [bare]],
    ['is looked at where the upstream does not', {}, [signature, sbom, bare], [sbom]],
    ['is looked at where it filters by something else', { 'oci-filters-applied': 'size' }, [signature, sbom], [sbom]],
    ['may be one that nothing has', {}, [signature], []],
  ])('%s', async (_, headers, sent, expected) => {
    const server = await listen((_, res) => index(res, sent, headers));
    expect(await find(server.url, 'test/sbom')).toMatchObject({ schemaVersion: 2, manifests: expected });
    expect(server.requests.map(({ url }) => url)).toEqual([`${API}?artifactType=test%2Fsbom`]);
  });

  test('is looked at in the index of the referrers tag', async () => {
    const server = await listen((req, res) =>
      req.url?.includes('/manifests/') ? index(res, [signature, sbom]) : json(res, 404, {}),
    );
    expect(await find(server.url, 'test/sbom')).toMatchObject({ manifests: [sbom] });
  });
});

test('an index that needs no change is passed on byte for byte', async () => {
  const raw = `{ "manifests": [ ${JSON.stringify(sbom)} ], "schemaVersion": 2 }`;
  const server = await listen((_, res) => res.writeHead(200, { 'content-type': mediaTypes.ociIndex }).end(raw));
  for (const artifactType of [undefined, 'test/sbom']) {
    const found = await openUpstream({ url: server.url }).findReferrers('a', SUBJECT, { artifactType });
    expect(Buffer.from(found ?? []).toString()).toBe(raw);
  }
});

describe('pages', () => {
  const next = (query: string) => ({ link: `<${query}>; rel="next"` });

  test('become one index, with all that the first one says', async () => {
    const server = await listen((req, res) => {
      if (req.url === API) index(res, [sbom], next('?after=1'));
      else if (req.url?.endsWith('=1')) index(res, [signature], next(`${API}?after=2`));
      else index(res, [bare]);
    });
    const found = await find(server.url);
    expect(found).toMatchObject({ annotations: { kept: 'yes' }, manifests: [sbom, signature, bare] });
    expect(server.requests.map(({ url }) => url)).toEqual([API, `${API}?after=1`, `${API}?after=2`]);
  });

  test('are each filtered where the upstream has not', async () => {
    const server = await listen((req, res) =>
      req.url?.includes('after')
        ? index(res, [bare], { 'oci-filters-applied': 'artifactType' })
        : index(res, [sbom, signature], next('?after=1')),
    );
    expect(await find(server.url, 'test/sbom')).toMatchObject({ manifests: [sbom, bare] });
  });

  test('have an end', async () => {
    const server = await listen((_, res) => index(res, [sbom], next('?again')));
    expect(await failure(find(server.url))).toMatchObject({
      status: 502,
      message: expect.stringContaining('16 pages'),
    });
    expect(server.requests).toHaveLength(16);
  });

  test('are at the same host', async () => {
    const other = await listen((_, res) => index(res, [sbom]));
    const server = await listen((_, res) => index(res, [sbom], next(`${other.url}${API}`)));
    expect(await failure(find(server.url))).toMatchObject({ status: 502, message: expect.stringContaining('host') });
    expect(other.requests).toHaveLength(0);
  });

  test('have no more bytes than we look through', async () => {
    const large = { ...signature, annotations: { large: 'x'.repeat(4_100_000) } };
    const server = await listen((_, res) => index(res, [large], next('?again')));
    const error = await failure(find(server.url, 'test/sbom'));
    expect(error).toMatchObject({ status: 502, message: expect.stringContaining('bytes') });
    expect(server.requests).toHaveLength(5);
  });

  test('make no index larger than a manifest may be', async () => {
    const large = { ...sbom, annotations: { large: 'x'.repeat(2_500_000) } };
    const server = await listen((req, res) =>
      req.url === API ? index(res, [large], next('?after=1')) : index(res, [large]),
    );
    expect(await failure(find(server.url))).toMatchObject({ status: 502, message: expect.stringContaining('bytes') });
  });
});

describe('the referrers tag', () => {
  test.each([
    ['sha256', SUBJECT, `sha256-${SUBJECT.slice('sha256:'.length)}`],
    ['sha512', SUBJECT_512, `sha512-${SUBJECT_512.slice('sha512:'.length, 'sha512:'.length + 64)}`],
  ])('of a %s digest is asked for where there is no API', async (_, digest, tag) => {
    const server = await listen((req, res) =>
      req.url === `/v2/a/manifests/${tag}` ? index(res, [sbom]) : json(res, 404, {}),
    );
    expect(await find(server.url, undefined, digest)).toMatchObject({ manifests: [sbom] });
    expect(server.requests).toHaveLength(2);
  });

  test.each<[string, (res: ServerResponse) => void]>([
    ['404', res => json(res, 404, {})],
    ['405', res => json(res, 405, {})],
    ['no index', res => json(res, 200, {})],
  ])('is asked for where the API answers with %s', async (_, answer) => {
    const server = await listen((req, res) => (req.url === API ? answer(res) : index(res, [sbom])));
    expect(await find(server.url)).toMatchObject({ manifests: [sbom] });
  });

  test.each<[string, (res: ServerResponse) => void]>([
    ['it is not there', res => json(res, 404, {})],
    ['it is no index', res => json(res, 200, {}, { 'content-type': mediaTypes.ociManifest })],
    ['it is an index of something else', res => index(res, [{ digest: 'x' }])],
  ])('gives none where %s', async (_, answer) => {
    const server = await listen((req, res) => (req.url === API ? json(res, 404, {}) : answer(res)));
    expect(await find(server.url)).toBeUndefined();
  });

  test('is not asked for where the API fails', async () => {
    const server = await listen((_, res) => json(res, 500, {}));
    expect(await failure(find(server.url))).toMatchObject({ status: 502 });
    expect(server.requests).toHaveLength(1);
  });
});

const many = Array.from({ length: 4097 }, () => sbom);

test.each<[string, unknown]>([
  ['is no list', {}],
  ['has an entry without a digest', [{ ...sbom, digest: undefined }]],
  ['has an entry with another digest', [{ ...sbom, digest: 'md5:0' }]],
  ['has an entry of a negative size', [{ ...sbom, size: -1 }]],
  ['has too many entries', many],
])('an answer whose list %s is refused', async (_, manifests) => {
  const server = await listen((_, res) => index(res, manifests));
  expect(await failure(find(server.url))).toMatchObject({ status: 502, message: expect.stringContaining('index') });
});

test('an answer without a list has no referrers', async () => {
  const server = await listen((_, res) => index(res, null));
  expect(await find(server.url)).toMatchObject({ manifests: [] });
});
