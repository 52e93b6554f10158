// Pulls through rules, as clients make them: every way in gives the same image, changed and complete, and the way back to it stays open.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { parseImageConfig } from '../../src/oci/image-config.ts';
import { type ImageManifest, parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { HOST, makeTar, PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';

const NAME = 'lab/library/app';
const RULE = { name: 'audit', match: { image: '**' }, env: { RULED: 'yes' } };

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

/** From now on these are the rules; docker.io is an upstream too, and the default one. */
async function rule(...rules: readonly object[]): Promise<void> {
  const { url } = app.registry;
  await app.configure({ rules, upstreams: { lab: { url }, 'docker.io': { url } } });
}

async function makeDirectory(content = 'a certificate'): Promise<string> {
  const directory = join(app.directory, 'layer');
  await mkdir(join(directory, 'etc'), { recursive: true });
  await writeFile(join(directory, 'etc/ca.pem'), content);
  return directory;
}

interface Pulled {
  readonly platform: string;
  readonly env: readonly string[];
  readonly image: ImageManifest;
}

/** All images below a reference, each digest, size and diffID checked. */
async function pull(reference = '1', name = NAME): Promise<readonly Pulled[]> {
  const images = await checkImage(await app.head(name, reference), descriptor => app.read(name, descriptor));
  return Promise.all(
    images.map(async image => {
      const config = parseImageConfig(await app.read(name, image.config));
      const platform = [config.os, config.architecture, config.variant].filter(part => part !== undefined).join('/');
      return { platform, env: config.config?.Env ?? [], image };
    }),
  );
}

async function isRuled(reference = '1', name = NAME): Promise<readonly boolean[]> {
  return (await pull(reference, name)).map(({ env }) => env.includes('RULED=yes'));
}

/** As `?ns=` and the like address it. */
async function digestAt(path: string): Promise<string | null> {
  return (await app.request(path, { method: 'HEAD' })).headers.get('docker-content-digest');
}

/** Reads the body, too: one that nobody reads holds what it is read from. */
async function statusOf(path: string, method = 'GET'): Promise<number> {
  const response = await app.request(path, { method });
  await response.bytes();
  return response.status;
}

async function answerOf(path: string): Promise<readonly [status: number, code: string, message: string]> {
  const response = await app.request(path);
  const { code, message } = Object(await response.json()).errors[0];
  return [response.status, code, message];
}

const ALL = PLATFORMS.map(() => true);
const NONE = PLATFORMS.map(() => false);

describe('a pull', () => {
  test('gets config and layers of the rules on every platform', async () => {
    app.putImage();
    const content = await makeTar('opt/tool', 'a tool');
    const file = join(app.directory, 'tool.tar');
    await writeFile(file, content);
    const directory = await makeDirectory();
    await rule({ ...RULE, layers: [{ directory }, { file, platforms: ['linux/arm64'] }] });
    const images = await pull();
    expect(images.map(({ platform, env }) => [platform, env.at(-1)])).toEqual(
      PLATFORMS.map(each => [each, 'RULED=yes']),
    );
    const [amd64, arm64, arm] = images.map(({ image }) => image.layers.map(({ digest }) => digest));
    expect([amd64?.length, arm64?.length, arm?.length]).toEqual([3, 4, 3]);
    expect(amd64?.[2]).toBe(arm?.[2]);
    expect(arm64?.slice(2)).toEqual([amd64?.[2], digestOf(content)]);
  });

  test('gets the rules that are for it, in their order, each on its platforms', async () => {
    app.putImage();
    await rule(
      { ...RULE, env: { A: '1', B: '1' } },
      { ...RULE, name: 'arm', match: { image: 'lab/**', platform: 'linux/arm*' }, env: { B: 'arm' } },
      { ...RULE, name: 'other', match: { image: 'lab/other/*' }, env: { A: 'other' } },
      { ...RULE, name: 'not', match: { image: '**', not: 'lab/library/*' }, env: { A: 'not' } },
    );
    const images = await pull();
    expect(images.map(({ env }) => env.slice(-2))).toEqual([
      ['A=1', 'B=1'],
      ['A=1', 'B=arm'],
      ['A=1', 'B=arm'],
    ]);
  });

  test('gets the plain digests of the upstream where no rule is for it', async () => {
    const { root, content } = app.putImage();
    await rule({ ...RULE, match: { image: '**', not: ['lab/library/*'] } });
    expect((await app.head(NAME, '1')).digest).toBe(root.digest);
    for (const { image } of await pull()) expect(content.has(image.digest)).toBe(true);
  });

  test('by a client that accepts no index gets the changed image for linux/amd64', async () => {
    app.putImage({ nested: true, platforms: PLATFORMS.toReversed() });
    await rule(RULE);
    const response = await app.request(`/v2/${NAME}/manifests/1`, { headers: { Accept: mediaTypes.ociManifest } });
    const manifest = parseManifest(await response.bytes(), response.headers.get('content-type') ?? '');
    if (manifest.kind !== 'image') throw new Error(manifest.kind);
    const config = parseImageConfig(await app.read(NAME, manifest.config));
    expect([config.architecture, config.config?.Env?.at(-1)]).toEqual(['amd64', 'RULED=yes']);
    const digest = parseDigest(response.headers.get('docker-content-digest') ?? '');
    expect((await app.head(NAME, digest)).digest).toBe(digest);
  });

  test.each([
    ['Docker Hub at the root', 'library/app', ''],
    ['a path', 'docker.io/library/app', ''],
    ['an alias of Docker Hub in a path', 'index.docker.io/library/app', ''],
    ['an official image', 'docker.io/app', ''],
    ['ns', 'library/app', '?ns=docker.io'],
    ['an alias in ns', 'library/app', '?ns=registry-1.docker.io'],
    ['ns beside a path', 'docker.io/library/app', '?ns=docker.io'],
  ])('gets the same by each way in: %s', async (_, name, query) => {
    const { root } = app.putImage();
    await rule({
      ...RULE,
      match: { image: 'docker.io/library/app:1' },
      layers: [{ directory: await makeDirectory() }],
    });
    const digest = await digestAt('/v2/docker.io/library/app/manifests/1');
    expect([digest === root.digest, await digestAt(`/v2/${name}/manifests/1${query}`)]).toEqual([false, digest]);
    expect(await digestAt(`/v2/${name}/manifests/${digest}${query}`)).toBe(digest);
    const blob = (await pull('1', 'docker.io/library/app'))[0]?.image.layers.at(-1)?.digest;
    expect(await statusOf(`/v2/${name}/blobs/${blob}${query}`)).toBe(200);
    expect((await app.head('lab/library/app', '1')).digest).toBe(root.digest);
  });

  test('of a hosted image gets it changed, and what was pushed stays', async () => {
    const { root, content } = app.putImage();
    await rule({ ...RULE, match: { image: 'local/**' }, layers: [{ directory: await makeDirectory() }] });
    await push('local/app', content, root);
    expect(await isRuled('1', 'local/app')).toEqual(ALL);
    expect(await isRuled(root.digest, 'local/app')).toEqual(NONE);
    // Who pushes the layer of a rule in an image of their own is asked for its bytes.
    const layer = (await pull('1', 'local/app'))[0]?.image.layers.at(-1)?.digest;
    expect(await statusOf(`/v2/local/app/blobs/${layer}`, 'HEAD')).toBe(404);
    expect(await statusOf(`/v2/local/app/blobs/${layer}`)).toBe(200);
  });

  async function push(
    name: string,
    content: ReadonlyMap<string, { mediaType: string; raw: Uint8Array }>,
    root: ContentDescriptor,
  ) {
    const isManifest = (type: string) => type === mediaTypes.ociManifest || type === mediaTypes.ociIndex;
    for (const [digest, { mediaType, raw }] of content) {
      const body = ReadableStream.from([raw]);
      if (isManifest(mediaType)) {
        const reference = digest === root.digest ? '1' : digest;
        const headers = { 'Content-Type': mediaType };
        await app.request(`/v2/${name}/manifests/${reference}`, { method: 'PUT', headers, body });
      } else {
        const path = `/v2/${name}/blobs/uploads/?digest=${digest}`;
        await app.request(path, { method: 'POST', headers: { 'Content-Length': `${raw.byteLength}` }, body });
      }
    }
  }

  test('of a layer of a rule by Range, and its size by HEAD', async () => {
    app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const layer = (await pull())[0]?.image.layers.at(-1);
    const path = `/v2/${NAME}/blobs/${layer?.digest}`;
    const whole = await (await app.request(path)).bytes();
    expect([digestOf(whole), whole.byteLength]).toEqual([layer?.digest, layer?.size]);
    const part = await app.request(path, { headers: { Range: 'bytes=10-19' } });
    expect([part.status, part.headers.get('content-range'), await part.bytes()]).toEqual([
      206,
      `bytes 10-19/${layer?.size}`,
      whole.slice(10, 20),
    ]);
    const head = await app.request(path, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, String(layer?.size)]);
  });

  test('of what rules made in one repository is not one from another', async () => {
    const { content } = app.putImage();
    app.registry.put('library/other', [...content.values()]);
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const root = await app.head(NAME, '1');
    const image = (await pull())[0]?.image;
    for (const other of ['lab/library/other', 'docker.io/library/app']) {
      for (const manifest of [root.digest, image?.digest]) {
        expect(await statusOf(`/v2/${other}/manifests/${manifest}`)).toBe(404);
      }
      for (const blob of [image?.config.digest, image?.layers.at(-1)?.digest]) {
        for (const method of ['GET', 'HEAD']) {
          expect(await statusOf(`/v2/${other}/blobs/${blob}`, method)).toBe(404);
        }
      }
    }
  });

  test('of an image that cannot be changed fails, and says why', async () => {
    const broken = {
      mediaType: mediaTypes.ociIndex,
      raw: Buffer.from('{"schemaVersion":2,"manifests":[],"layers":[]}'),
    };
    app.registry.put('library/app', [{ ...broken, tags: ['1'] }]);
    await rule(RULE);
    expect(await answerOf(`/v2/${NAME}/manifests/1`)).toEqual([
      400,
      'MANIFEST_INVALID',
      expect.stringContaining('"manifests" as well as "layers"'),
    ]);
  });

  test('of signatures, charts and tags is as upstream', async () => {
    const { root } = app.putImage();
    const empty = { mediaType: 'application/vnd.oci.empty.v1+json', raw: Buffer.from('{}') };
    const described = (mediaType: string) => ({ mediaType, digest: digestOf(empty.raw), size: 2 });
    const signature = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.ociManifest,
        config: described(mediaTypes.ociConfig),
        layers: [described('application/vnd.dev.cosign.simplesigning.v1+json')],
      }),
    );
    const tag = `${root.digest.replace(':', '-')}.sig`;
    app.registry.put('library/app', [empty, { mediaType: mediaTypes.ociManifest, raw: signature, tags: [tag] }]);
    await rule({ ...RULE, pinned: 'refused' });
    const head = await app.head(NAME, tag);
    expect(head.digest).toBe(digestOf(signature));
    expect(Buffer.from(await app.read(NAME, head))).toEqual(signature);
    expect(await (await app.request(`/v2/${NAME}/tags/list`)).json()).toEqual({ name: NAME, tags: ['1', tag] });
  });
});

describe('the digest that a tag was resolved to', () => {
  test('is served after a restart with other rules, and with an empty cache', async () => {
    app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const { digest } = await app.head(NAME, '1');
    await rule({ ...RULE, env: { RULED: 'no' } });
    expect((await app.head(NAME, '1')).digest).not.toBe(digest);
    await rm(join(app.directory, 'data/content'), { recursive: true });
    await rule();
    expect(await isRuled(digest)).toEqual(ALL);
  });

  test('is the same of an instance with data of its own', async () => {
    app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const { digest } = await app.head(NAME, '1');
    await app.restart('other');
    expect((await app.head(NAME, '1')).digest).toBe(digest);
    expect(await isRuled(digest)).toEqual(ALL);
  });

  test('is not known without a pull of the tag, and then the upstream is asked', async () => {
    app.putImage();
    await rule(RULE);
    const { digest } = await app.head(NAME, '1');
    await app.restart('other');
    expect(await statusOf(`/v2/${NAME}/manifests/${digest}`)).toBe(404);
  });

  test('continues from the store when the upstream is gone', async () => {
    app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const { digest } = await app.head(NAME, '1');
    const blobs = (await pull()).flatMap(({ image }) => image.layers.map(layer => layer.digest));
    app.registry.intercept((_, response) => {
      response.destroy();
      return true;
    });
    expect((await app.head(NAME, '1')).digest).toBe(digest);
    expect(await isRuled(digest)).toEqual(ALL);
    for (const blob of blobs) expect(await statusOf(`/v2/${NAME}/blobs/${blob}`)).toBe(200);
  });

  test('is served though the upstream dies before anybody asks for it', async () => {
    app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    const root = await app.head(NAME, '1');
    app.registry.intercept((_, response) => {
      response.destroy();
      return true;
    });
    const index = parseManifest(await app.read(NAME, root), root.mediaType);
    if (index.kind !== 'index') throw new Error(index.kind);
    for (const entry of index.manifests) {
      const image = parseManifest(await app.read(NAME, entry), entry.mediaType);
      if (image.kind !== 'image' || !image.layers[2]) throw new Error(image.kind);
      expect((await app.read(NAME, image.config)).byteLength).toBe(image.config.size);
      expect((await app.read(NAME, image.layers[2])).byteLength).toBe(image.layers[2].size);
    }
  });

  test('has its provenance as its referrer', async () => {
    const { root } = app.putImage();
    await rule(RULE);
    const { digest } = await app.head(NAME, '1');
    const { manifests } = Object(await (await app.request(`/v2/${NAME}/referrers/${digest}`)).json());
    const artifact = JSON.parse(Buffer.from(await app.read(NAME, manifests[0])).toString());
    expect(artifact).toMatchObject({ artifactType: manifests[0].artifactType, subject: { digest } });
    const told = JSON.parse(Buffer.from(await app.read(NAME, artifact.layers[0])).toString());
    expect(told).toMatchObject({ source: { name: `${NAME}:1`, digest: root.digest }, rules: ['audit'] });
  });
});

describe("a digest of the upstream's that a client pins", () => {
  test('is untouched', async () => {
    const { root } = app.putImage();
    await rule({ ...RULE, layers: [{ directory: await makeDirectory() }] });
    expect(await isRuled(root.digest)).toEqual(NONE);
  });

  test('is refused where the rule says so, by name', async () => {
    const { root } = app.putImage();
    await rule({ ...RULE, pinned: 'refused' });
    const [status, code, message] = await answerOf(`/v2/${NAME}/manifests/${root.digest}`);
    expect([status, code]).toEqual([403, 'DENIED']);
    expect(message).toContain('the rule audit changes lab/library/app');
    expect(await isRuled()).toEqual(ALL);
  });
});

describe('a token', () => {
  test('has the last word over the rules, and those of its submit for good', async () => {
    app.putImage();
    const directory = await makeDirectory();
    await rule({ ...RULE, env: { A: 'rule', B: 'rule' }, layers: [{ directory }] });
    const containerImage = 'lab/library/app:1';
    const containerConfig = { env: ['B=token', 'C=token'] };
    const { name, targetDigest } = await app.submit({ containerImage, containerConfig });
    const before = await pull('1', name);
    for (const { env } of before) expect(env.slice(-3)).toEqual(['A=rule', 'B=token', 'C=token']);
    expect((await app.head(name, '1')).digest).toBe(targetDigest);
    await writeFile(join(directory, 'etc/ca.pem'), 'another certificate');
    await rule({ ...RULE, env: { A: 'later' } });
    expect((await app.head(name, '1')).digest).toBe(targetDigest);
    expect(await pull('1', name)).toEqual(before);
    const later = await app.submit({ containerImage, containerConfig });
    expect((await pull('1', later.name))[0]?.env.slice(-3)).toEqual(['A=later', 'B=token', 'C=token']);
  });

  test('of an image that no rule is for is as without rules', async () => {
    app.putImage();
    await rule();
    const without = await app.submit({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } });
    await rule({ ...RULE, match: { image: 'quay.io/**' } });
    const beside = await app.submit({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } });
    expect(beside.targetDigest).toBe(without.targetDigest);
  });

  test('of an image by its digest has the rules too, and is refused where they cannot be known', async () => {
    const { root } = app.putImage();
    const containerImage = `lab/library/app@${root.digest}`;
    await rule({ ...RULE, pinned: 'refused' });
    const { name, targetDigest } = await app.submit({ containerImage });
    expect(await isRuled(targetDigest, name)).toEqual(ALL);
    await rule({ ...RULE, match: { image: 'lab/**:2*' }, pinned: 'refused' });
    const response = await app.request('/v1alpha2/container', { method: 'POST', body: { containerImage } });
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringContaining('the rule audit matches some tags of lab/library/app'),
    ]);
  });

  test('of a build has the rules of what the image is called; a frozen image has none', async () => {
    app.putImage({ layers: 0 });
    const { url } = app.registry;
    await app.configure({
      rules: [{ ...RULE, match: { image: 'local/builds' } }],
      upstreams: { lab: { url } },
      builds: { backends: ['embedded'] },
    });
    const containerFile = Buffer.from('FROM lab/library/app:1\nENV BUILT=yes\n').toString('base64');
    const submit = async (body: object) => {
      const response = await app.request('/v1alpha2/container', { method: 'POST', body: { containerFile, ...body } });
      return Object(await response.json());
    };
    const built = await submit({});
    const [, name = '', tag = ''] = /^[^/]+\/(.+):(.+)$/.exec(built.targetImage) ?? [];
    const images = await pull(tag, name);
    expect(images.map(({ env }) => env.slice(-2))).toEqual(images.map(() => ['BUILT=yes', 'RULED=yes']));
    const frozen = await submit({ freeze: true });
    const [, frozenName = '', frozenTag = ''] = /^[^/]+\/(.+):(.+)$/.exec(frozen.targetImage) ?? [];
    await expect.poll(() => statusOf(`/v2/${frozenName}/manifests/${frozenTag}`)).toBe(200);
    const record = Object(await (await app.request(`/v1alpha2/container/${frozen.requestId}`)).json());
    await app.configure({ rules: [], upstreams: { lab: { url } }, builds: { backends: ['embedded'] } });
    expect((await app.head(frozenName, frozenTag)).digest).toBe(record.waveDigest);
    expect((await pull(frozenTag, frozenName))[0]?.env.slice(-1)).toEqual(['BUILT=yes']);
  });
});

test('a host of ours before a name changes nothing', async () => {
  app.putImage();
  await rule({ ...RULE, match: { image: 'lab/library/app' } });
  const digest: Digest = (await app.head(NAME, '1')).digest;
  expect(await digestAt(`/v2/${NAME}/manifests/1?ns=${HOST}`)).toBe(digest);
});
