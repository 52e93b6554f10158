// What a start does with the layers that an earlier one has read.
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createRuleLayerStore, type RuleLayerStore } from '../../src/rules/layers/layer-store.ts';
import { createLocalLayers, createReadCache } from '../../src/rules/layers/local-layers.ts';
import { createOpenRules, digestsOf, type OpenRulesOptions } from '../../src/rules/reload/open-rules.ts';
import type { RuleOptions } from '../../src/rules/rules.ts';
import type { RecordStore } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const LATER = () => new Date(Date.UTC(2040, 0, 1));

let folder: string;
let records: RecordStore;
let layerStore: RuleLayerStore;
let rules: readonly RuleOptions[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-kept-reads-'));
  await mkdir(join(folder, 'layer'));
  await writeFile(join(folder, 'layer/file'), 'one');
  records = createMemoryStore();
  layerStore = await createRuleLayerStore({ directory: join(folder, 'shelf'), records, now: LATER });
  const layers = [{ kind: 'directory', path: join(folder, 'layer') }] as const;
  rules = [{ name: 'a', match: { image: ['**'], not: [] }, layers, changes: {}, pinned: 'untouched' }];
});

afterEach(async () => {
  await layerStore.close();
  await rm(folder, { recursive: true });
});

/** As a start does, or as who asks for it does. */
async function start({ now = LATER, ...options }: OpenRulesOptions & { readonly now?: () => Date } = {}) {
  let reads = 0;
  const put: RuleLayerStore['put'] = body => {
    reads += 1;
    return layerStore.put(body);
  };
  const localLayers = createLocalLayers({
    ...{ layerStore: { ...layerStore, put }, now },
    limits: { maxUnpackedBytes: 1_000_000, maxRatio: 200 },
  });
  const readCache = createReadCache({ records, layerStore, now });
  const describeRemote = async () => [];
  const open = createOpenRules({ localLayers, readCache, layerStore, describeRemote, attestations: 'drop' });
  const { outcome } = await open(rules, options);
  const digests = outcome.kind === 'opened' ? digestsOf(outcome.opened) : [];
  return { reads, digest: digests[0] };
}

test('a start reads no layer that shows no change since', async () => {
  const first = await start();
  expect(first).toMatchObject({ reads: 1, digest: expect.stringMatching(/^sha256:/) });
  expect(await start()).toEqual({ reads: 0, digest: first.digest });
});

test('a start reads a layer that shows a change', async () => {
  const first = await start();
  await appendFile(join(folder, 'layer/file'), ' more');
  const second = await start();
  expect(second.reads).toBe(1);
  expect(second.digest).not.toBe(first.digest);
  expect(await start()).toEqual({ reads: 0, digest: second.digest });
});

test('a start reads a layer whose bytes are not in the layer store any more', async () => {
  const { digest } = await start();
  if (digest) await layerStore.delete(digest);
  expect(await start()).toEqual({ reads: 1, digest });
});

test('who asks for it has all layers read', async () => {
  const { digest } = await start();
  expect(await start({ isForced: true })).toEqual({ reads: 1, digest });
});

test('nothing is kept of what was written a moment ago: it may change without a sign', async () => {
  const now = () => new Date();
  await start({ now });
  expect((await start({ now })).reads).toBe(1);
});
