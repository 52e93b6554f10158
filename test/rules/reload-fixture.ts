// Live rules over real files, of which a test writes and breaks what it likes.
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Layer } from '../../src/augment/augmentation.ts';
import { configSchema } from '../../src/config/schema.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { takeFingerprint } from '../../src/rules/layers/fingerprint.ts';
import { createRuleLayerStore, type RuleLayerStore } from '../../src/rules/layers/layer-store.ts';
import { createLocalLayers, createReadCache } from '../../src/rules/layers/local-layers.ts';
import { RuleFaults } from '../../src/rules/reload/config-watcher.ts';
import { createOpenRules } from '../../src/rules/reload/open-rules.ts';
import { createRuleReloader, type RuleReloader } from '../../src/rules/reload/reloader.ts';
import type { DescribedLayer } from '../../src/rules/rules.ts';
import { createMemoryStore } from '../support/memory-records.ts';

export interface ReloadFixture {
  readonly rules: RuleReloader;
  readonly layerStore: RuleLayerStore;
  /** What was reported, in its order: names of rules that came into force, or faults. */
  readonly told: readonly string[];
  /** The names of images that were asked for as layers. */
  readonly asked: readonly string[];
  /** How many layers of this machine were read. */
  readonly reads: number;
  /** Where something in the fixture lies. */
  place(name: string): string;
  /** Writes a file, with its directories. */
  write(name: string, text: string): Promise<void>;
  /** Writes the file of the rules: what `veneer.yaml` has under `rules`; text is written as it is. */
  rule(rules: readonly object[] | string): Promise<void>;
  /** From now on the registry of layers answers, or does not. */
  answer(doesAnswer: boolean): void;
  /** What a rule makes of an image. */
  layersOf(image?: string): Promise<readonly Layer[]>;
  envOf(image?: string): Promise<unknown>;
  pass(ms: number): void;
  close(): Promise<void>;
}

export interface ReloadFixtureOptions {
  readonly rules: (place: (name: string) => string) => readonly object[];
  readonly files?: Readonly<Record<string, string>>;
  readonly doesAnswer?: boolean;
  /** Hears of each look into the file of the rules. */
  readonly onLoad?: () => void;
  /** Default: far from the times of all files. */
  readonly now?: () => Date;
}

export async function createReloadFixture({
  rules: written,
  files = {},
  doesAnswer = true,
  ...options
}: ReloadFixtureOptions) {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-live-'));
  const place = (name: string) => join(folder, name);
  let nowMs = Date.UTC(2040, 0, 1);
  const { now = () => new Date(nowMs), onLoad = () => {} } = options;
  const told: string[] = [];
  const asked: string[] = [];
  let reads = 0;
  let answers = doesAnswer;

  async function write(name: string, text: string): Promise<void> {
    await mkdir(dirname(place(name)), { recursive: true });
    await writeFile(place(name), text);
  }

  const file = 'veneer.json';
  const rule: ReloadFixture['rule'] = rules =>
    write(file, typeof rules === 'string' ? rules : JSON.stringify({ rules }));

  function load() {
    onLoad();
    const text = readFileSync(place(file), 'utf8');
    if (!text.startsWith('{')) throw new RuleFaults([`${file}: not JSON`]);
    const { data, error } = configSchema({}).safeParse(JSON.parse(text));
    if (!data) throw new RuleFaults(error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`));
    return data.rules;
  }

  for (const [name, text] of Object.entries(files)) await write(name, text);
  await rule(written(place));
  const records = createMemoryStore();
  const layerStore = await createRuleLayerStore({ directory: place('shelf'), records, now });
  const readCache = createReadCache({ records, layerStore, now });
  const put: RuleLayerStore['put'] = body => {
    reads += 1;
    return layerStore.put(body);
  };
  const limits = { maxUnpackedBytes: 1_000_000, maxRatio: 200 };
  const localLayers = createLocalLayers({ layerStore: { ...layerStore, put }, limits, now });
  const describeRemote = async (layer: object): Promise<readonly DescribedLayer[]> => {
    const name = 'image' in layer ? String(layer.image) : 'url';
    asked.push(name);
    if (!answers) throw new RegistryError('UNAVAILABLE', `${name} does not answer`);
    const bytes = { digest: digestOf(Buffer.from(`${name} ${asked.length}`)), size: 1 };
    return [
      {
        layer: { ...bytes, diffId: bytes.digest, compression: 'none' },
        source: { kind: 'blob', registry: 'lab', repository: 'tools', ...bytes },
      },
    ];
  };
  const openRules = createOpenRules({ localLayers, readCache, layerStore, describeRemote, attestations: 'drop' });
  const find = (image: string) => {
    const [repository = '', tag] = image.split(':');
    return rules.current.find({ repository, tag, caller: undefined });
  };
  const rules = await createRuleReloader({
    rules: load(),
    source: { fingerprint: () => takeFingerprint(place(file), now()), load },
    ...{ openRules, localLayers, layerStore, now },
    onChanged: current => told.push(`rules ${current.map(({ name }) => name).join(' ')}`),
    onFaulty: faults => told.push(...faults),
  }).catch(async (error: unknown) => {
    await layerStore.close();
    await rm(folder, { recursive: true });
    throw error;
  });

  const fixture: ReloadFixture = {
    ...{ rules, layerStore, told, asked, place, write, rule },
    get reads() {
      return reads;
    },
    answer(does) {
      answers = does;
    },
    async layersOf(image = 'lab/app:1') {
      return (await find(image))?.steps.flatMap(step => step.augmentation.layers) ?? [];
    },
    async envOf(image = 'lab/app:1') {
      return (await find(image))?.steps.map(step => step.augmentation.env);
    },
    pass(ms) {
      nowMs += ms;
    },
    async close() {
      await rules.close();
      await layerStore.close();
      await rm(folder, { recursive: true });
    },
  };
  return fixture;
}
