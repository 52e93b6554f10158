// Pulls while rules, layers and the cache change under them: each is of one state, whole, and what was found stays.
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const IMAGES = ['lab/app/0', 'lab/app/1', 'lab/app/2', 'lab/app/3'];
const PULLS = 25;
const PULLERS = 6;

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
  for (const [seed, name] of IMAGES.entries()) {
    const family = seed % 2 === 0 ? 'docker' : 'oci';
    const { content, root } = generateImage({ seed, platforms: PLATFORMS, layers: 2, family, nested: seed === 3 });
    const contents = [...content].map(([digest, each]) => (digest === root.digest ? { ...each, tags: ['1'] } : each));
    app.registry.put(name.slice('lab/'.length), contents);
  }
  // Far less than the images have.
  await app.configure({ cache: { maxSize: '20KiB' } });
});

afterEach(() => app.close());

const place = (name: string) => join(app.directory, name);

async function pull(name: string, reference: string): Promise<Digest> {
  const root = await app.head(name, reference);
  await checkImage(root, descriptor => app.read(name, descriptor));
  return root.digest;
}

/** No rule, or one of another name, other platforms, another variable, and a layer that changes and moves. */
async function change(round: number): Promise<void> {
  await writeFile(place('ca/ca.pem'), String(round % 4));
  if (round % 5 === 0) {
    await rename(place('ca'), place('away'));
    await rename(place('away'), place('ca'));
  }
  const match = { image: '**', ...(round % 4 === 1 && { platform: 'linux/arm*' }) };
  const rule = {
    name: `rule-${round % 3}`,
    match,
    layers: [{ directory: place('ca') }],
    env: { ROUND: `${round % 5}` },
  };
  await app.writeConfig({ rules: round % 7 === 6 ? [] : [rule], cache: { maxSize: '20KiB' } });
  await app.reloadRules();
}

test('a pull is of one state of the rules, and its digest is good for ever', async () => {
  await mkdir(place('ca'));
  const found = new Map<Digest, string>();
  let pulling = PULLERS;
  const pullAll = async (puller: number) => {
    try {
      for (let at = 0; at < PULLS; at += 1) {
        const name = IMAGES[(at + puller) % IMAGES.length] ?? '';
        found.set(await pull(name, '1'), name);
        const [digest = '', of = ''] = [...found].at((at * 7) % found.size) ?? [];
        await pull(of, digest);
      }
    } finally {
      pulling -= 1;
    }
  };
  const churn = async () => {
    for (let round = 0; pulling > 0; round += 1) await change(round);
  };
  await Promise.all([churn(), ...Array.from({ length: PULLERS }, (_, puller) => pullAll(puller))]);
  expect(found.size).toBeGreaterThan(IMAGES.length);
  await rm(place('data/content'), { recursive: true });
  await app.configure({});
  for (const [digest, name] of found) expect(await pull(name, digest)).toBe(digest);
});
