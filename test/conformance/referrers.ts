// Referrers of pushed manifests. distribution-spec "Listing Referrers".
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { descriptorOf, makeContent, makeIndex } from './documents.ts';
import { groups } from './groups.ts';
import { openRepository, type Registry, type StartRegistry } from './repository.ts';

const rows = groups.flatMap(group => (group.referrers ?? []).map(referrers => ({ group, ...referrers })));

const subject = makeContent('nothing', mediaTypes.ociManifest);

export function testReferrers(start: StartRegistry): void {
  let server: Registry;

  beforeAll(async () => {
    server = await start();
  });

  afterAll(() => server.close());

  describe.each(rows)('of $group.name', ({ group, subject, entries }) => {
    test('are listed whole', async () => {
      const repository = openRepository(server, 'local/whole');
      await repository.pushGroup(group);
      const { status, headers, body } = await repository.send('GET', `/referrers/${subject}`);
      expect([status, headers['content-type']]).toEqual([200, mediaTypes.ociIndex]);
      expect(headers['oci-filters-applied']).toBeUndefined();
      expect(JSON.parse(body.toString())).toEqual({
        schemaVersion: 2,
        mediaType: mediaTypes.ociIndex,
        manifests: [...entries].sort(byDigest),
      });
    });

    test('are listed by type', async () => {
      const repository = openRepository(server, 'local/by-type');
      await repository.pushGroup(group);
      const types = new Set(entries.map(entry => String(Object(entry).artifactType)));
      for (const artifactType of [...types, 'application/vnd.example.none']) {
        const query = new URLSearchParams({ artifactType });
        const { headers, body } = await repository.send('GET', `/referrers/${subject}?${query}`);
        expect(headers['oci-filters-applied']).toBe('artifactType');
        const wanted = entries.filter(entry => Object(entry).artifactType === artifactType);
        expect(JSON.parse(body.toString()).manifests).toEqual(wanted);
      }
    });

    test('are there no more once they are deleted', async () => {
      const repository = openRepository(server, 'local/deleted');
      await repository.pushGroup(group);
      for (const entry of entries) {
        await repository.send('DELETE', `/manifests/${Object(entry).digest}`);
      }
      const { status, body } = await repository.send('GET', `/referrers/${subject}`);
      expect([status, JSON.parse(body.toString()).manifests]).toEqual([200, []]);
    });
  });

  test('of what is not there are an empty index', async () => {
    const { status, headers, body } = await openRepository(server, 'local/empty').send(
      'GET',
      `/referrers/${subject.digest}`,
    );
    expect([status, headers['content-type']]).toEqual([200, mediaTypes.ociIndex]);
    expect(JSON.parse(body.toString())).toEqual({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] });
  });

  test('that do not fit into one index come page by page', async () => {
    const repository = openRepository(server, 'local/pages');
    const artifactType = 'test/large+type';
    const referrers = Array.from({ length: 5 }, (_, i) =>
      makeIndex([], {
        artifactType,
        annotations: { large: `${i}`.repeat(1_000_000) },
        subject: descriptorOf(subject),
      }),
    );
    for (const referrer of referrers) expect((await repository.pushManifest(referrer)).status).toBe(201);

    const found: string[] = [];
    const query = new URLSearchParams({ artifactType });
    let next: string | undefined = `/v2/local/pages/referrers/${subject.digest}?${query}`;
    let pages = 0;
    while (next !== undefined) {
      const { status, headers, body } = await server.send('GET', next);
      expect([status, headers['oci-filters-applied']]).toEqual([200, 'artifactType']);
      expect(body.byteLength).toBeLessThan(4 * 1024 * 1024);
      found.push(...JSON.parse(body.toString()).manifests.map(({ digest }: { digest: string }) => digest));
      next = /^<([^>]+)>; rel="next"$/.exec(String(headers.link ?? ''))?.[1];
      pages++;
    }
    expect(pages).toBe(2);
    expect(found).toEqual(referrers.map(({ digest }) => digest).sort());
  });
}

function byDigest(a: object, b: object): number {
  return String(Object(a).digest).localeCompare(String(Object(b).digest));
}
