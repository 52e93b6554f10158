// What recipes built, told from what others pushed: while a build continues, after it, and where nobody saw its end.
import { expect, test } from 'vitest';
import type { BuildRecord } from '../../../src/builds/record.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { createRecipeImages } from '../../../src/pull/recipes/recipe-images.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { recordOf } from './recipe-fixture.ts';

const IMAGE = 'docker.io/library/app:1';
const BUILDS = ['bd-0123456789abcdef_1', 'bd-0123456789abcdef_2', 'bd-0123456789abcdef_3'] as const;

const digestFor = (text: string) => digestOf(new TextEncoder().encode(text));
const DIGESTS = [digestFor('first'), digestFor('second'), digestFor('third')] as const;

function open() {
  const ended = new Map<string, BuildRecord>();
  const images = createRecipeImages(createMemoryStore(), { find: async id => ended.get(id) });
  return {
    ...images,
    begin: (at: 0 | 1 | 2) => images.begin(IMAGE, BUILDS[at], at),
    succeed: (at: 0 | 1 | 2) =>
      ended.set(BUILDS[at], { ...recordOf(BUILDS[at]), status: 'succeeded', digest: DIGESTS[at] }),
    /** The end is seen. */
    end: (at: 0 | 1 | 2) => images.end(IMAGE, { buildId: BUILDS[at], digest: DIGESTS[at], plannedAt: at }),
    /** Which of the three are said to be built by a recipe, by their places. */
    async listBuilt() {
      const answers = await Promise.all(DIGESTS.map(digest => images.wasBuilt(IMAGE, digest)));
      return answers.flatMap((wasBuilt, at) => (wasBuilt ? [at] : []));
    },
  };
}

test('nothing was built before a build has succeeded', async () => {
  const { begin, succeed, listBuilt } = open();
  expect(await listBuilt()).toEqual([]);
  await begin(0);
  expect(await listBuilt()).toEqual([]);
  succeed(0);
  expect(await listBuilt()).toEqual([0]);
});

test('an image is what it was while it is built again, and its last two after it', async () => {
  const { begin, succeed, end, listBuilt, findPlanned } = open();
  await begin(0);
  await end(0);
  await begin(1);
  expect(await listBuilt()).toEqual([0]);
  succeed(1);
  expect(await listBuilt()).toEqual([0, 1]);
  await end(1);
  expect(await listBuilt()).toEqual([0, 1]);
  expect([await findPlanned(IMAGE, DIGESTS[0]), await findPlanned(IMAGE, DIGESTS[1])]).toEqual([undefined, 1]);
  await begin(2);
  await end(2);
  expect(await listBuilt()).toEqual([1, 2]);
});

test('an image whose end nobody saw is what it was while it is built again', async () => {
  const { begin, succeed, listBuilt } = open();
  await begin(0);
  succeed(0);
  await begin(1);
  expect(await listBuilt()).toEqual([0]);
});

test.each<[image: string, digest: Digest]>([
  ['docker.io/library/app:2', DIGESTS[0]],
  ['quay.io/library/app:1', DIGESTS[0]],
  [IMAGE, digestFor('by hand')],
])('%s is not what was built for another name, or pushed by hand', async (image, digest) => {
  const { end, wasBuilt } = open();
  await end(0);
  expect(await wasBuilt(image, digest)).toBe(false);
});

test('several processes that see the same end know the image that it replaced', async () => {
  const { begin, end, listBuilt } = open();
  await begin(0);
  await end(0);
  await Promise.all([begin(1), begin(1)]);
  await end(1);
  await begin(1);
  await end(1);
  expect(await listBuilt()).toEqual([0, 1]);
});
