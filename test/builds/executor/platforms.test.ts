// Which backend builds which platform, and what is said of one that none can build.
import { expect, test } from 'vitest';
import type { Backend } from '../../../src/builds/backend.ts';
import { BackendUnavailable } from '../../../src/builds/execution.ts';
import { createPlatforms, UnsupportedPlatform } from '../../../src/builds/executor/platforms.ts';
import { formatPlatform, parsePlatform } from '../../../src/oci/platform.ts';
import {
  type BackendOptions,
  createMemoryBackend,
  createMemoryRegistry,
  parseSpec,
} from '../../support/build-backends.ts';

const registry = createMemoryRegistry();
const create = (options: Partial<BackendOptions>) => createMemoryBackend({ registry, ...options });

async function assigned(backends: readonly Backend[], platforms: readonly string[]) {
  const found = await createPlatforms(backends).assign(parseSpec({ platforms }));
  return Object.fromEntries([...found].map(([{ name }, list]) => [name, list.map(formatPlatform)]));
}

async function refused(backends: readonly Backend[], platforms: readonly string[]): Promise<UnsupportedPlatform> {
  const error = await createPlatforms(backends)
    .assign(parseSpec({ platforms }))
    .catch(caught => caught);
  if (error instanceof UnsupportedPlatform) return error;
  throw new Error('it is not refused', { cause: error });
}

const amd64 = create({ name: 'first', platforms: ['linux/amd64'] });
const both = create({ name: 'second', platforms: ['linux/amd64', 'linux/arm64'] });
const all = create({ name: 'third', platforms: ['linux/amd64', 'linux/arm64/v8', 'linux/arm'] });
const unable = create({
  name: 'embedded',
  platforms: ['linux/amd64', 'linux/arm64'],
  unsupportedReason: 'RUN needs a builder',
});
const down = create({
  name: 'away',
  listPlatforms: async () => {
    throw new BackendUnavailable('nothing listens at tcp://builder:1234');
  },
});

test.each([
  [
    'the first that can takes all it has',
    [both, all],
    ['linux/amd64', 'linux/arm64'],
    { second: ['linux/amd64', 'linux/arm64'] },
  ],
  [
    'what it lacks goes to the next',
    [amd64, all],
    ['linux/arm64', 'linux/amd64'],
    { third: ['linux/arm64'], first: ['linux/amd64'] },
  ],
  [
    'three share',
    [amd64, both, all],
    ['linux/amd64', 'linux/arm64', 'linux/arm/v7'],
    { first: ['linux/amd64'], second: ['linux/arm64'], third: ['linux/arm/v7'] },
  ],
  ['one that cannot do the spec is passed over', [unable, both], ['linux/amd64'], { second: ['linux/amd64'] }],
  ['one that does not answer is passed over', [down, both], ['linux/amd64'], { second: ['linux/amd64'] }],
])('%s', async (_name, backends, platforms, expected) => {
  expect(await assigned(backends, platforms)).toEqual(expected);
});

test.each([
  [
    'a misspelt one',
    'linux/arn64',
    'linux/arn64 cannot be built here (did you mean linux/arm64?); first builds linux/amd64',
  ],
  [
    'a misspelt alias',
    'linux/aarch63',
    'linux/aarch63 cannot be built here (did you mean linux/arm64?); first builds linux/amd64',
  ],
  ['a real one', 'linux/s390x', 'linux/s390x cannot be built here; first builds linux/amd64'],
  ['one of another system', 'plan9/amd64', 'plan9/amd64 cannot be built here; first builds linux/amd64'],
])('says of %s what it may have meant and what there is', async (_name, platform, message) => {
  expect((await refused([amd64], [platform])).message).toBe(message);
});

test('names every platform that is missing, and no other', async () => {
  const error = await refused([amd64], ['linux/amd64', 'linux/s390x', 'linux/arm64']);
  expect(error.platforms.map(formatPlatform)).toEqual(['linux/s390x', 'linux/arm64']);
  expect(error.message).not.toContain('linux/amd64 cannot');
});

test('says why a backend that has the platform cannot build this', async () => {
  const error = await refused([unable, amd64], ['linux/arm64']);
  expect(error.message).toContain('embedded builds linux/amd64, linux/arm64, but not this: RUN needs a builder');
  expect(error.isTransient).toBe(false);
});

test('says that a backend does not answer, and that this may pass', async () => {
  const error = await refused([down], ['linux/amd64']);
  expect(error.message).toContain('away does not answer: nothing listens at tcp://builder:1234');
  expect(error.isTransient).toBe(true);
});

test('says that there is no builder', async () => {
  expect((await refused([], ['linux/amd64'])).message).toBe(
    'linux/amd64 cannot be built here; no builder is configured',
  );
});

test('believes an answer for a while, and asks a backend that did not answer sooner', async () => {
  let time = 0;
  const asked: string[] = [];
  const unavailable: string[] = [];
  const counted = (name: string, answers: boolean) =>
    create({
      name,
      async listPlatforms() {
        asked.push(name);
        if (!answers) throw new BackendUnavailable('no answer');
        return [parsePlatform('linux/amd64')];
      },
    });
  const platforms = createPlatforms([counted('up', true), counted('down', false)], {
    freshMs: 100,
    retryMs: 10,
    now: () => new Date(time),
    onUnavailable: (name, reason) => unavailable.push(`${name}: ${reason}`),
  });
  await Promise.all([platforms.list(), platforms.list()]);
  expect(asked).toEqual(['up', 'down']);
  time = 10;
  await platforms.list();
  expect(asked).toEqual(['up', 'down', 'down']);
  time = 100;
  await platforms.list();
  expect(asked).toEqual(['up', 'down', 'down', 'up', 'down']);
  expect(unavailable).toEqual(Array(3).fill('down: no answer'));
});

test('gives the last answers at once, and renews them in the background', async () => {
  let time = 0;
  let works = true;
  const backend = create({
    name: 'flapping',
    async listPlatforms() {
      if (!works) throw new BackendUnavailable('no answer');
      return [parsePlatform('linux/amd64')];
    },
  });
  const platforms = createPlatforms([backend], { freshMs: 10, retryMs: 10, now: () => new Date(time) });
  expect(platforms.listKnown()).toEqual([]);
  await expect.poll(() => platforms.listKnown()).toMatchObject([{ platforms: [{ os: 'linux' }] }]);
  works = false;
  time = 10;
  expect(platforms.listKnown()).toMatchObject([{ platforms: [{ os: 'linux' }] }]);
  await expect.poll(() => platforms.listKnown()).toMatchObject([{ fault: 'no answer', platforms: [] }]);
});

test('gives up on a backend that hangs', async () => {
  const hanging = create({
    name: 'hanging',
    listPlatforms: () => new Promise(() => {}),
  });
  const [offer] = await createPlatforms([hanging], { timeoutMs: 1 }).list();
  expect(offer?.fault).toBe('no answer within 1 ms');
});

test('is not silent about a fault of ours, and does not lose the others by it', async () => {
  const broken = create({
    name: 'broken',
    listPlatforms: async () => {
      throw new TypeError('a fault');
    },
  });
  const faults: unknown[] = [];
  const platforms = createPlatforms([broken, amd64], { onError: (name, error) => faults.push(`${name}: ${error}`) });
  expect((await platforms.list()).map(({ fault }) => fault)).toEqual([
    'internal error: the log of Veneer has the cause',
    undefined,
  ]);
  expect(faults).toEqual(['broken: TypeError: a fault']);
  const assigned = await platforms.assign(parseSpec());
  expect([...assigned.keys()].map(({ name }) => name)).toEqual(['first']);
});
