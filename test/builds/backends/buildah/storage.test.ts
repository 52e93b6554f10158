// When buildah's storage is put in order.
import { beforeEach, expect, test } from 'vitest';
import { createStorageCleaner } from '../../../../src/builds/backends/buildah/storage.ts';
import { BackendUnavailable } from '../../../../src/builds/execution.ts';

const DAY_MS = 24 * 60 * 60 * 1_000;
const SWEEP = ['rm --all', 'images --quiet --filter reference=localhost/veneer-*'];
const LIST = 'images --all --no-trunc --json --filter dangling=true --filter label=io.buildah.version';

let commands: string[];
let answers: Map<string, string>;
let now: number;

beforeEach(() => {
  commands = [];
  answers = new Map();
  now = 100 * DAY_MS;
});

test('removes what a crash left after the first build, and then what failures leave', async () => {
  const keeper = createKeeper();
  await keeper.use(succeed);
  expect(takeCommands()).toEqual([...SWEEP, LIST]);
  await keeper.use(succeed);
  expect(takeCommands()).toEqual([]);
  await expect(keeper.use(fail)).rejects.toThrow('it failed');
  expect(takeCommands()).toEqual(SWEEP);
});

test('removes the lists of builds that did not come to it', async () => {
  answers.set(SWEEP[1] ?? '', 'one\ntwo\n');
  await createKeeper().use(succeed);
  expect(takeCommands()).toEqual([...SWEEP, 'rmi --force one two', LIST]);
});

test('waits until no build runs, and lets none begin meanwhile', async () => {
  const events: string[] = [];
  const swept = Promise.withResolvers<string>();
  const keeper = createKeeper(args => {
    events.push(args[0] ?? '');
    return args[0] === 'rm' ? swept.promise : Promise.resolve('');
  });
  const [one, two] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const [first, second] = [keeper.use(() => one.promise), keeper.use(() => two.promise)];
  one.resolve();
  await first;
  expect(events).toEqual([]);
  two.resolve();
  await expect.poll(() => events).toEqual(['rm']);
  const third = keeper.use(async () => void events.push('third'));
  swept.resolve('');
  await Promise.all([second, third]);
  expect(events.slice(0, 2)).toEqual(['rm', 'images']);
  expect(events.at(-1)).toBe('third');
});

test('removes nothing of a storage that others work in, too', async () => {
  await expect(createKeeper(undefined, false).use(fail)).rejects.toThrow('it failed');
  expect(takeCommands()).toEqual([]);
});

test('keeps layers for a week, and looks for older ones once an hour', async () => {
  const created = (age: number) => Math.floor((now - age) / 1_000);
  const images = [
    { id: 'old', created: created(8 * DAY_MS) },
    { id: 'new', created: created(6 * DAY_MS) },
  ];
  answers.set(LIST, JSON.stringify(images));
  const keeper = createKeeper();
  await keeper.use(succeed);
  expect(takeCommands()).toEqual([...SWEEP, LIST, 'rmi old']);
  now += 59 * 60 * 1_000;
  await keeper.use(succeed);
  expect(takeCommands()).toEqual([]);
  now += 60 * 1_000;
  await keeper.use(succeed);
  expect(takeCommands()).toEqual([LIST, 'rmi old']);
});

test('a storage that does not answer fails no build', async () => {
  const keeper = createKeeper(() => Promise.reject(new BackendUnavailable('gone')));
  expect(await keeper.use(async () => 'made')).toBe('made');
});

test('tries again to remove what is left', async () => {
  let isThere = false;
  const keeper = createKeeper(async args => {
    if (!isThere) throw new BackendUnavailable('not yet');
    commands.push(args.join(' '));
    return '';
  });
  await keeper.use(succeed);
  isThere = true;
  await keeper.use(succeed);
  expect(takeCommands()).toEqual(SWEEP);
});

test('a list of images that is none fails no build', async () => {
  answers.set(LIST, 'no JSON');
  expect(await createKeeper().use(async () => 'made')).toBe('made');
});

function createKeeper(read?: (args: readonly string[]) => Promise<string>, isOwn = true) {
  const answer = async (args: readonly string[]) => {
    commands.push(args.join(' '));
    return answers.get(args.join(' ')) ?? '';
  };
  return createStorageCleaner({ read: read ?? answer, isOwn, now: () => now });
}

function takeCommands(): readonly string[] {
  return commands.splice(0);
}

async function succeed(): Promise<void> {}

async function fail(): Promise<void> {
  throw new Error('it failed');
}
