// Copies to distribution, behind a password: what is pushed there is all there, and a wrong password is reported as one.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { createCopy } from '../../src/copy/copy.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { ACCEPT_MANIFESTS, isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { type Copying, createCopying, createTelling } from '../copy/copying.ts';
import type { GeneratedImage, ImageOptions } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { findFreePort, type Running, startProcess } from './support/process.ts';

const missing = findMissing(['registry']);
const credentials = { username: 'pusher', password: 'canary-password' };

describe.skipIf(missing)(`pushes to distribution${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let folder = '';
  let url = '';
  let registry: Running | undefined;
  const fixtures: Copying[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-push-'));
    const address = `127.0.0.1:${await findFreePort()}`;
    url = `http://${address}`;
    const [file, htpasswd] = [join(folder, 'registry.yml'), join(folder, 'htpasswd')];
    await writeFile(htpasswd, htpasswdOf({ [credentials.username]: credentials.password }));
    const storage = { filesystem: { rootdirectory: join(folder, 'registry') } };
    const auth = { htpasswd: { realm: 'lab', path: htpasswd } };
    await writeFile(file, stringify({ version: 0.1, storage, auth, http: { addr: address } }));
    registry = await startProcess(clientPath('registry'), ['serve', file], {
      env: { OTEL_TRACES_EXPORTER: 'none' },
      checkReady: () => ask('/v2/'),
    });
  }, 60_000);

  afterEach(async () => {
    for (const fixture of fixtures.splice(0)) await fixture.close();
  });

  afterAll(async () => {
    await registry?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function ask(path: string): Promise<Response> {
    const authorization = basic(credentials.username, credentials.password);
    const response = await fetch(`${url}${path}`, { headers: { authorization, accept: ACCEPT_MANIFESTS } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  const readFrom = (repository: string) => async (descriptor: ContentDescriptor) => {
    const { mediaType, digest } = descriptor;
    const kind = isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs';
    return (await ask(`/v2/${repository}/${kind}/${digest}`)).bytes();
  };

  async function open(password = credentials.password): Promise<Copying> {
    const fixture = await createCopying({}, { dist: { url, credentials: { ...credentials, password } } });
    fixtures.push(fixture);
    return fixture;
  }

  async function copy(fixture: Copying, { root }: GeneratedImage, target: string, from = 'lab/library/app') {
    const { events, options } = createTelling(target);
    const [registry = '', ...path] = from.split('/');
    const source = { registry, repository: path.join('/'), tag: '1', digest: root.digest };
    const [repository = ''] = target.split(':');
    await createCopy(fixture.deps)({ kind: 'copy', source, target: { repository } }, options);
    return events;
  }

  test.each<[string, Partial<ImageOptions>]>([
    ['an index with attestations', { attestations: true }],
    ['nested indexes', { nested: true }],
    ['a Docker list', { family: 'docker' }],
    ['one image', { index: false }],
  ])('%s is there to the byte', async (name, options) => {
    const fixture = await open();
    const image = fixture.putImage(options);
    const repository = name.toLowerCase().replaceAll(' ', '-');
    await copy(fixture, image, `dist/${repository}:1`);
    const images = await checkImage(image.root, readFrom(repository));
    expect(images).toHaveLength(options.index === false ? 1 : 3);
    const { headers } = await ask(`/v2/${repository}/manifests/1`);
    expect(headers.get('docker-content-digest')).toBe(image.root.digest);
  });

  test('what another of its repositories has is mounted', async () => {
    const fixture = await open();
    const image = fixture.putImage({ seed: 7 });
    await copy(fixture, image, 'dist/mounted/from:1');
    const events = await copy(fixture, image, 'dist/mounted/to:1', 'dist/mounted/from');
    expect(await checkImage(image.root, readFrom('mounted/to'))).toHaveLength(3);
    const blobs = events.filter(({ step, state }) => !step?.startsWith('manifest') && state !== 'started');
    expect(new Set(blobs.map(({ state }) => state))).toEqual(new Set(['cached']));
  });

  test('a wrong password is reported as one, and not quoted', async () => {
    const fixture = await open('another canary-password');
    const error = await copy(fixture, fixture.putImage(), 'dist/refused:1').catch(error => error);
    expect(error).toMatchObject({ name: 'BuildFailure', failure: { kind: 'build' } });
    expect(error.failure.reason).toMatch(/UNAUTHORIZED/);
    expect(JSON.stringify(error.failure)).not.toContain('canary');
  });

  test('a registry that has gone is a failure of the infrastructure', async () => {
    const fixture = await createCopying({}, { dist: { url: `http://127.0.0.1:${await findFreePort()}` } });
    fixtures.push(fixture);
    const error = await copy(fixture, fixture.putImage(), 'dist/gone:1').catch(error => error);
    expect(error).toMatchObject({
      failure: { kind: 'infrastructure', reason: expect.stringContaining('ECONNREFUSED') },
    });
  });
});
