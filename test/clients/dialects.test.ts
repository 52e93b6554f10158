// What real clients take of registries that speak a dialect, they take through Veneer, and get the same.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { dialects, tagDialects, tokenDialects } from '../support/dialects.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { run } from './support/process.ts';

const missing = findMissing(['crane', 'regctl', 'skopeo']);

interface Client {
  /** The digest of what it pulled. */
  pull(host: string, repository: string, folder: string): Promise<string>;
  list(host: string, repository: string): Promise<string>;
}

const regctl = (host: string, ...args: readonly string[]) =>
  run(clientPath('regctl'), ['--host', `reg=${host},tls=disabled`, ...args]);

const clients: Readonly<Record<string, Client>> = {
  crane: {
    async pull(host, repository, folder) {
      await run(clientPath('crane'), ['pull', '--insecure', '--format', 'oci', `${host}/${repository}:1`, folder]);
      return run(clientPath('crane'), ['digest', '--insecure', `${host}/${repository}:1`]);
    },
    list: (host, repository) => run(clientPath('crane'), ['ls', '--insecure', `${host}/${repository}`]),
  },
  regctl: {
    async pull(host, repository, folder) {
      await regctl(host, 'image', 'copy', `${host}/${repository}:1`, `ocidir://${folder}:1`);
      return regctl(host, 'image', 'digest', `ocidir://${folder}:1`);
    },
    list: (host, repository) => regctl(host, 'tag', 'ls', `${host}/${repository}`),
  },
  skopeo: {
    async pull(host, repository, folder) {
      const source = `docker://${host}/${repository}:1`;
      await run('skopeo', ['copy', '--all', '--preserve-digests', '--src-tls-verify=false', source, `oci:${folder}:1`]);
      return digestOf(Buffer.from(await run('skopeo', ['inspect', '--raw', `oci:${folder}:1`])));
    },
    list: (host, repository) => run('skopeo', ['list-tags', '--tls-verify=false', `docker://${host}/${repository}`]),
  },
};

const DIALECTS = { ...dialects, ...tokenDialects };
const NAMES = Object.keys(DIALECTS);

describe.skipIf(missing)(`dialects${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let registry: TestRegistry;
  let veneer: TestServer;
  let folder = '';

  beforeAll(async () => {
    registry = await startRegistry();
    veneer = await startServer({ upstreams: { lab: { url: registry.url } }, cache: { tagFreshness: '0s' } });
    folder = await mkdtemp(join(tmpdir(), 'veneer-dialects-'));
  });

  afterAll(async () => {
    await veneer?.close();
    await registry?.close();
    await rm(folder, { recursive: true, force: true });
  });

  /** New content each time, so that nothing of it is kept. */
  function putImage(seed: number): Digest {
    const options = { seed, platforms: ['linux/amd64', 'linux/arm64'], layers: 2, family: 'oci' } as const;
    const { root, content } = generateImage(options);
    const contents = [...content.values()].map(each =>
      each.mediaType === mediaTypes.ociIndex ? { ...each, tags: ['1'] } : each,
    );
    registry.put('library/app', contents);
    return root.digest;
  }

  describe.each(Object.entries(clients))('%s', (client, { pull, list }) => {
    const refused: string[] = [];

    test.each(NAMES)('pulls: %s', async name => {
      const digest = putImage(NAMES.indexOf(name));
      const where = (to: string) => join(folder, `${client}-${to}-${NAMES.indexOf(name)}`);
      registry.intercept(DIALECTS[name]);
      const direct = await pull(registry.host, 'library/app', where('direct')).catch(() => undefined);
      // What a client cannot take itself, Veneer may, for what it serves is plain.
      expect([digest, undefined]).toContain(direct);
      if (direct === undefined) refused.push(name);
      expect(await pull(`127.0.0.1:${veneer.port}`, 'lab/library/app', where('through'))).toBe(digest);
    });

    test('takes most of them itself', () => {
      expect(refused.length, refused.join('; ')).toBeLessThan(NAMES.length / 3);
    });

    test.each(Object.entries(tagDialects))('lists tags: %s', async (_, intercept) => {
      putImage(1);
      registry.intercept(intercept);
      const names = (text: string) => text.match(/\b(?:1|v\d)\b/g)?.toSorted();
      const direct = names(await list(registry.host, 'library/app'));
      expect(names(await list(`127.0.0.1:${veneer.port}`, 'lab/library/app'))).toEqual(direct);
      expect(direct?.length).toBeGreaterThan(1);
    });
  });
});
