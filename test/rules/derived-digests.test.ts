// The digests that rules made: found by every part of them in their repository alone, for as long as somebody resolves them, and after a restart.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createMemory } from '../../src/memory.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { createDerivedDigests, type DerivationRecord, type DerivedDigests } from '../../src/rules/derived-digests.ts';
import { createRuleLayerStore } from '../../src/rules/layers/layer-store.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { type RecordStore, RecordStoreFull } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const memory = createMemory();

const HOUR_MS = 60 * 60_000;
const DAY_MS = 24 * HOUR_MS;

interface Held {
  readonly layers: readonly Digest[];
  readonly until: Date;
}

let directory: string;
let records: RecordStore;
let time: number;
let held: Held[];

const now = () => new Date(time);
const digest = (text: string) => digestOf(new TextEncoder().encode(text));
const openRecords = () => createSqliteStore({ path: join(directory, 'records.db'), now });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-made-'));
  time = Date.UTC(2030, 0, 1);
  held = [];
  records = openRecords();
});

afterEach(async () => {
  await records.close();
  await rm(directory, { recursive: true });
});

function create(store = records, keepMs = 90 * DAY_MS): DerivedDigests {
  const leaseRuleLayers = async (layers: readonly Digest[], until: Date) => void held.push({ layers, until });
  return createDerivedDigests({ memory, records: store, now, keepMs, leaseRuleLayers });
}

function derivationOf(name: string, changes: Partial<DerivationRecord> = {}): DerivationRecord {
  return {
    registry: 'docker.io',
    repository: 'library/app',
    sourceName: `docker.io/library/app:${name}`,
    sourceDigest: digest(`source of ${name}`),
    steps: [{ rule: 'ca', augmentation: { layers: [], env: { B: '1', A: '2' }, attestations: 'drop' } }],
    layerSources: [],
    root: digest(`root of ${name}`),
    ...changes,
  };
}

/** Counts what is written. */
function counted(store: RecordStore): RecordStore & { readonly writes: () => number } {
  let writes = 0;
  return {
    ...store,
    async write(changes) {
      writes += 1;
      await store.write(changes);
    },
    writes: () => writes,
  };
}

describe('what is kept', () => {
  const made = derivationOf('1');
  const member = digest('a config');

  test('is found by its root and by each member, as it was', async () => {
    const digests = create();
    await digests.keep(made, [member]);
    for (const each of [made.root, member]) {
      expect(JSON.stringify(await digests.find('docker.io/library/app', each))).toBe(JSON.stringify(made));
    }
    expect(await digests.find('docker.io/library/app', made.sourceDigest)).toBeUndefined();
  });

  test('is in no other repository, also where that has the same bytes', async () => {
    const digests = create();
    const other = derivationOf('1', { repository: 'team/app', sourceName: 'docker.io/team/app:1' });
    await digests.keep(made, [member]);
    for (const repository of ['docker.io/team/app', 'quay.io/library/app', 'library/app', 'docker.io/library']) {
      expect(await digests.find(repository, made.root)).toBeUndefined();
    }
    await digests.keep(other, []);
    expect(await digests.find('docker.io/team/app', made.root)).toEqual(other);
    expect(await digests.find('docker.io/team/app', member)).toBeUndefined();
  });

  test('is there when it resolves, and after a restart', async () => {
    await create().keep(made, [member]);
    await records.close();
    records = openRecords();
    expect(await create().find('docker.io/library/app', member)).toEqual(made);
  });

  test('of a version that is not known is as if it were not there', async () => {
    await create().keep(made, [member]);
    for (const { key } of await records.entries('made', { limit: 10 })) {
      await records.put('made', key, new TextEncoder().encode('{"made":{"steps":"other"}}'));
    }
    expect(await create().find('docker.io/library/app', member)).toBeUndefined();
    await create().keep(made, [member]);
    expect(await create().find('docker.io/library/app', member)).toEqual(made);
  });
});

describe('a member of two', () => {
  test('is of the one that was kept last, and each stays with what is its own', async () => {
    const [one, two] = [derivationOf('1'), derivationOf('2')];
    const shared = digest('a layer');
    const digests = create();
    await digests.keep(one, [shared, digest('one')]);
    await digests.keep(two, [shared, digest('two')]);
    expect(await digests.find('docker.io/library/app', shared)).toEqual(two);
    expect(await digests.find('docker.io/library/app', digest('one'))).toEqual(one);
    time += 2 * DAY_MS;
    await digests.keep(one, [shared, digest('one')]);
    expect(await digests.find('docker.io/library/app', shared)).toEqual(one);
  });

  test('with one root for two rules gives either, and loses nothing of both', async () => {
    const one = derivationOf('1');
    const two = derivationOf('1', {
      steps: [{ ...one.steps[0], rule: 'other', augmentation: { layers: [], attestations: 'drop' } }],
    });
    const digests = create();
    await digests.keep(one, [digest('provenance of one')]);
    await digests.keep(two, [digest('provenance of two')]);
    expect(await digests.find('docker.io/library/app', one.root)).toEqual(two);
    expect(await digests.find('docker.io/library/app', digest('provenance of one'))).toEqual(one);
  });
});

describe('time', () => {
  const made = derivationOf('1');

  test('ends what nobody resolves any more', async () => {
    const digests = create();
    await digests.keep(made, []);
    time += 90 * DAY_MS - 1;
    expect(await digests.find('docker.io/library/app', made.root)).toEqual(made);
    time += 1;
    expect(await digests.find('docker.io/library/app', made.root)).toBeUndefined();
    await records.sweep();
    expect(await records.list('made', { limit: 10 })).toEqual([]);
    expect(await records.list('made-digest', { limit: 10 })).toEqual([]);
  });

  test('is renewed with a use, once a day, also by a process that has just begun', async () => {
    const store = counted(records);
    const digests = create(store);
    await digests.keep(made, []);
    time += DAY_MS;
    await digests.keep(made, []);
    await create(store).keep(made, []);
    expect(store.writes()).toBe(1);
    time += 1;
    await create(store).keep(made, []);
    await digests.keep(made, []);
    expect(store.writes()).toBe(2);
    time += 90 * DAY_MS - 1;
    expect(await digests.find('docker.io/library/app', made.root)).toEqual(made);
  });

  test('is renewed in good time where digests are kept for hours', async () => {
    const digests = create(records, 2 * HOUR_MS);
    await digests.keep(made, []);
    time += HOUR_MS + 1;
    await digests.keep(made, []);
    time += HOUR_MS;
    expect(await digests.find('docker.io/library/app', made.root)).toEqual(made);
  });

  test('that is configured shorter does not end a member before its root', async () => {
    const shared = digest('a layer');
    await create().keep(made, [shared]);
    const shorter = create(records, 10 * DAY_MS);
    await shorter.keep(derivationOf('2'), [shared]);
    time += 9 * DAY_MS;
    await shorter.keep(made, [shared]);
    time += 5 * DAY_MS;
    expect(await shorter.find('docker.io/library/app', shared)).toEqual(made);
  });

  test('that jumps back ends nothing', async () => {
    const digests = create();
    await digests.keep(made, []);
    time -= 365 * DAY_MS;
    await digests.keep(made, []);
    expect(await digests.find('docker.io/library/app', made.root)).toEqual(made);
  });
});

test('twenty who resolve a tag at once write it once', async () => {
  const store = counted(records);
  const digests = create(store);
  await Promise.all(Array.from({ length: 20 }, () => digests.keep(derivationOf('1'), [digest('a config')])));
  expect([store.writes(), held.length]).toEqual([1, 1]);
});

test('layers of the layerStore are held as long, before anybody knows a digest that needs them', async () => {
  const [stored, elsewhere] = [digest('shelved'), digest('elsewhere')];
  const made = derivationOf('1', {
    layerSources: [
      { kind: 'shelf', digest: stored, size: 1 },
      { kind: 'url', digest: elsewhere, size: 1, url: 'https://example.com/layer' },
    ],
  });
  const store = { ...records, write: () => Promise.reject(new Error('the machine went down')) };
  await expect(create(store).keep(made, [])).rejects.toThrow('the machine went down');
  expect(held).toEqual([{ layers: [stored], until: new Date(time + 90 * DAY_MS) }]);
});

test('a layer outlives its rule in the layer store, for as long as a digest needs it', async () => {
  const layerStore = await createRuleLayerStore({ directory: join(directory, 'shelf'), records, now });
  const { digest: stored, size } = await layerStore.put(ReadableStream.from([new TextEncoder().encode('a layer')]));
  const layerSources = [{ kind: 'shelf', digest: stored, size }] as const;
  const digests = createDerivedDigests({
    memory,
    records,
    now,
    keepMs: 90 * DAY_MS,
    leaseRuleLayers: layerStore.lease,
  });
  await digests.keep(derivationOf('1', { layerSources }), []);
  time += 89 * DAY_MS;
  await layerStore.sweep(new Set());
  expect(await layerStore.find(stored)).toBeDefined();
  time += 2 * DAY_MS;
  await layerStore.sweep(new Set());
  expect(await layerStore.find(stored)).toBeUndefined();
  await layerStore.close();
});

test('a full disk stops nobody: what cannot be written is known for as long as the process lives, and written when there is room', async () => {
  const made = derivationOf('1');
  let isFull = true;
  const store: RecordStore = {
    ...records,
    write: changes => (isFull ? Promise.reject(new RecordStoreFull('full')) : records.write(changes)),
  };
  const digests = create(store);
  await digests.keep(made, [digest('a config')]);
  expect(await digests.find('docker.io/library/app', digest('a config'))).toEqual(made);
  expect(await digests.find('docker.io/team/app', digest('a config'))).toBeUndefined();
  expect(await create().find('docker.io/library/app', made.root)).toBeUndefined();
  isFull = false;
  await digests.keep(made, [digest('a config')]);
  expect(await create().find('docker.io/library/app', made.root)).toEqual(made);
});

test('whatever is kept, when and how often: all of an image is there for its time, and its layers are held as long', async () => {
  const images = ['a', 'b', 'c'].map(name =>
    derivationOf(name, { layerSources: [{ kind: 'shelf', digest: digest(`layer of ${name}`), size: 1 }] }),
  );
  const membersOf = (at: number) => [digest(`own ${at}`), digest('shared'), digest(`layer of ${'abc'.charAt(at)}`)];
  const step = fc.record({ image: fc.nat(2), hours: fc.nat(60 * 24), restart: fc.boolean() });
  const check = async (steps: readonly { image: number; hours: number; restart: boolean }[]) => {
    time = Date.UTC(2030, 0, 1);
    held = [];
    const store = createMemoryStore({ now });
    const lastUse = new Map<number, number>();
    let digests = create(store);
    for (const { image, hours, restart } of steps) {
      time += hours * HOUR_MS;
      if (restart) digests = create(store);
      const made = images[image];
      if (made) await digests.keep(made, membersOf(image));
      lastUse.set(image, time);
      for (const [at, usedAt] of lastUse) {
        const isAlive = time - usedAt < 89 * DAY_MS;
        const isOver = time - usedAt >= 90 * DAY_MS;
        const found = await Promise.all(membersOf(at).map(member => digests.find('docker.io/library/app', member)));
        if (isAlive) expect(found.every(each => each !== undefined)).toBe(true);
        if (isAlive) expect(found[0]).toEqual(images[at]);
        if (isOver) expect(found[0]).toBeUndefined();
        const layer = digest(`layer of ${'abc'.charAt(at)}`);
        const until = Math.max(
          ...held.filter(({ layers }) => layers.includes(layer)).map(each => each.until.getTime()),
        );
        expect(until).toBeGreaterThanOrEqual(usedAt + 89 * DAY_MS);
      }
    }
  };
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 12 }), check), { numRuns: 200 });
});
