// Replicas behind a balancer, which gives every request of a client to another one. First what the specification asks of one registry; then
// clients that pull and push while a replica is killed, and PostgreSQL and S3 are away.
import { randomInt } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { Agent } from 'node:http';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { testBlobs } from '../conformance/blobs.ts';
import { testContent } from '../conformance/content.ts';
import { testReferrers } from '../conformance/referrers.ts';
import type { StartRegistry } from '../conformance/repository.ts';
import { CONFORMANCE, EVERYTHING, runConformance } from '../conformance/run-suite.ts';
import { listBlocks } from '../support/document-commands.ts';
import { createSend } from '../support/server.ts';
import { findMissingTools } from './support/clients.ts';
import { FLEET_COMMANDS, type Fleet, startFleet } from './support/fleet.ts';
import { type Clients, PUSHERS, startClients } from './support/fleet-clients.ts';
import type { ObjectServer } from './support/object-store.ts';
import { PG_DUMP } from './support/postgres.ts';
import { run } from './support/process.ts';

const missing = findMissingTools(FLEET_COMMANDS);

describe.skipIf(missing)(`a fleet${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startFleet({ hosted: { sparse: 'allow' } });
  }, 120_000);

  afterAll(() => fleet?.close(), 60_000);

  describe('with every request on another replica', () => {
    const start: StartRegistry = async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      return {
        send: createSend(fleet.port, agent, { authorization: fleet.authorization }),
        close: async () => agent.destroy(),
      };
    };

    describe('takes and gives content', () => testContent(start));
    describe('takes and gives blobs', () => testBlobs(start));
    describe('lists referrers', () => testReferrers(start));

    // Needs an executable that no package has: test/conformance/README.md says how to build it.
    if (CONFORMANCE !== '') {
      test('passes all of the suite', async () => {
        const login = { OCI_USERNAME: fleet.username, OCI_PASSWORD: fleet.password };
        const summary = await runConformance(fleet.port, fleet.folder, { ...EVERYTHING, ...login });
        // The suite logs in for one repository alone, so that it mounts nothing from another; testBlobs does.
        expect(summary).toMatchObject({ FAIL: 0, Error: 0, Skip: 4, Disabled: 0 });
        expect(summary.Pass).toBeGreaterThan(1000);
      });
    }

    test('no two requests in a row were of one replica', async () => {
      const turns = (await fleet.readAccess()).map(({ addresses }) => addresses.join());
      expect(turns.length).toBeGreaterThan(1000);
      expect(new Set(turns)).toEqual(new Set(fleet.replicas.map(({ address }) => address)));
      expect(turns.filter((address, at) => address === turns[at - 1])).toEqual([]);
    });
  });

  describe('while parts of it fail', () => {
    test('a replica that is killed costs a request one more try, and nothing that was acknowledged', async () => {
      const clients = startClients(fleet, 'first');
      await clients.waitForBytes();
      const victim = fleet.replicas[randomInt(fleet.replicas.length)];
      await victim?.kill();
      await Promise.all([clients.finish(), victim?.start()]);
      await expectKept(fleet, clients);
    });

    test('so do a restart of PostgreSQL and ten seconds without S3, at the same time', async () => {
      const clients = startClients(fleet, 'second');
      await clients.waitForBytes();
      clients.holdTries(Promise.all([fleet.postgres.stop().then(fleet.postgres.start), refuse(fleet.objects, 10_000)]));
      await clients.finish();
      await expectKept(fleet, clients);
    });
  });

  test('comes back from a backup of the database and the content, after all else was lost', async () => {
    const before = startClients(fleet, 'before', 0);
    await before.finish();
    await type(fleet, 'Backup');
    const after = startClients(fleet, 'after', 0);
    await after.finish();

    await Promise.all(fleet.replicas.map(replica => replica.kill()));
    await fleet.postgres.query('DROP SCHEMA veneer CASCADE');
    for (const name of await readdir(fleet.objects.folder))
      await rm(join(fleet.objects.folder, name), { recursive: true });
    for (const replica of fleet.replicas) await replica.clear();

    await type(fleet, 'Restore');
    await Promise.all(fleet.replicas.map(replica => replica.start()));
    await expectKept(fleet, before);
    const [path = ''] = after.acknowledged.keys();
    const lost = await fetch(`http://127.0.0.1:${fleet.port}${path}`, {
      headers: { authorization: fleet.authorization },
    });
    expect(lost.status).toBe(404);
    const again = startClients(fleet, 'again', 0);
    await again.finish();
    await expectKept(fleet, again);
  });
});

/** It is away, and comes back with all that it has acknowledged. */
async function refuse(objects: ObjectServer, forMs: number): Promise<void> {
  await objects.kill();
  await wait(forMs);
  await objects.start();
}

/** Runs a block of docs/operations.md, with the places of the fleet. */
async function type(fleet: Fleet, heading: string): Promise<void> {
  const block = listBlocks().find(({ name }) => name === `docs/operations.md: ${heading}`);
  const code = (block?.code ?? '')
    .replaceAll('/srv/veneer', fleet.objects.folder)
    .replaceAll('/backup', join(fleet.folder, 'backup'));
  const env = { DATABASE: fleet.postgres.url, PATH: `${dirname(PG_DUMP)}:${process.env.PATH}` };
  await run('bash', ['-euo', 'pipefail', '-c', code], { env });
}

/** Whatever a client was told to be there is there at each replica, and each took each blob from the upstream once; once more where it was killed. */
async function expectKept(fleet: Fleet, { acknowledged, image }: Clients): Promise<void> {
  const headers = { authorization: fleet.authorization };
  expect(acknowledged.size).toBe(PUSHERS);
  for (const { address } of fleet.replicas) {
    for (const [path, digest] of acknowledged) {
      const response = await fetch(`http://${address}${path}`, { headers });
      expect([path, response.status, digestOf(await response.bytes())]).toEqual([path, 200, digest]);
    }
  }
  for (const digest of image.content.keys()) {
    const sent = fleet.registry.requests.filter(
      ({ method, url }) => method === 'GET' && url.endsWith(`/blobs/${digest}`),
    );
    expect(sent.length).toBeLessThanOrEqual(fleet.replicas.length + 1);
  }
}
