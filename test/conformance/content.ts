// Content of every kind: pushed, listed, looked at, pulled and deleted. distribution-spec "Pull", "Push", "Content Management".
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { groups } from './groups.ts';
import {
  ACCEPT,
  expectGone,
  openRepository,
  type Registry,
  type Repository,
  type StartRegistry,
} from './repository.ts';

/** The registry has to take an index that lacks some of its images. */
export function testContent(start: StartRegistry): void {
  let server: Registry;

  beforeAll(async () => {
    server = await start();
  });

  afterAll(() => server.close());

  describe.each(groups)('$name', group => {
    const { name, blobs, manifests, tags } = group;
    let repository: Repository;

    beforeAll(async () => {
      repository = openRepository(server, `local/${name}`);
      await repository.pushGroup(group);
    });

    test('is acknowledged by digest', async () => {
      for (const manifest of manifests) {
        const { status, headers } = await repository.pushManifest(manifest);
        const { subject } = JSON.parse(Buffer.from(manifest.raw).toString());
        expect([status, headers['docker-content-digest']]).toEqual([201, manifest.digest]);
        expect(headers.location).toBe(`/v2/${repository.name}/manifests/${manifest.digest}`);
        expect(headers['oci-subject']).toBe(subject?.digest);
      }
    });

    test('is in the list of tags', async () => {
      const { status, body } = await repository.send('GET', '/tags/list');
      expect([status, JSON.parse(body.toString())]).toEqual([
        200,
        { name: repository.name, tags: Object.keys(tags).sort() },
      ]);
    });

    test('is pulled to the byte', async () => {
      for (const { reference, mediaType, digest, raw } of references()) {
        for (const method of ['HEAD', 'GET']) {
          const { status, headers, body } = await repository.send(method, reference, { headers: ACCEPT });
          expect([status, headers['content-length']]).toEqual([200, `${raw.byteLength}`]);
          expect([headers['content-type'], headers['docker-content-digest']]).toEqual([mediaType, digest]);
          expect(body.equals(method === 'GET' ? raw : Buffer.alloc(0))).toBe(true);
        }
      }
    });

    // The last one: it leaves nothing.
    test('is deleted at once', async () => {
      const paths = [
        ...Object.keys(tags).map(tag => `/manifests/${tag}`),
        ...manifests.map(({ digest }) => `/manifests/${digest}`).reverse(),
        ...new Set(blobs.map(({ digest }) => `/blobs/${digest}`)),
      ];
      for (const path of paths) {
        expect([path, (await repository.send('DELETE', path)).status]).toEqual([path, 202]);
        await expectGone(repository, path);
      }
    });

    /** What can be pulled, with its type as it is served. */
    function references() {
      return [
        ...Object.entries(tags).flatMap(([tag, digest]) =>
          manifests
            .filter(manifest => manifest.digest === digest)
            .map(manifest => ({ ...manifest, reference: `/manifests/${tag}` })),
        ),
        ...manifests.map(manifest => ({ ...manifest, reference: `/manifests/${manifest.digest}` })),
        ...blobs.map(blob => ({
          ...blob,
          mediaType: 'application/octet-stream',
          reference: `/blobs/${blob.digest}`,
        })),
      ];
    }
  });
}
