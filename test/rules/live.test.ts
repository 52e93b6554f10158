// Rules that change while the service runs: what is whole comes into force, and what is faulty does not.
import { chmod, rename, rm, symlink, utimes } from 'node:fs/promises';
import { afterEach, expect, test } from 'vitest';
import { createReloadFixture, type ReloadFixture, type ReloadFixtureOptions } from './reload-fixture.ts';

const ANY = { image: '**' };
const HOUR = 3_600_000;

let fixture: ReloadFixture | undefined;

afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

async function open(options: ReloadFixtureOptions): Promise<ReloadFixture> {
  fixture = await createReloadFixture(options);
  return fixture;
}

const env = (name: string, value: string) => ({ name, match: ANY, env: { A: value } });
const directoryRule = (path: string) => ({ name: 'ca', match: ANY, layers: [{ directory: path }] });
const imageRule = (...images: readonly string[]) => ({
  name: 'tools',
  match: ANY,
  layers: images.map(image => ({ image })),
});
const openDirectory = () => open({ rules: place => [directoryRule(place('ca'))], files: { 'ca/ca.pem': 'first' } });

test('a changed rule is active after the next look, and is reported', async () => {
  const { rules, rule, envOf, told } = await open({ rules: () => [env('one', '1')] });
  const before = rules.current;
  await rule([env('one', '2'), env('two', '3')]);
  expect(await envOf()).toEqual([{ A: '1' }]);
  await rules.check();
  expect(await envOf()).toEqual([{ A: '2' }, { A: '3' }]);
  expect(told).toEqual(['rules one two']);
  expect((await before.find({ repository: 'lab/app', tag: '1', caller: undefined }))?.steps).toHaveLength(1);
});

test('where nothing has changed, nothing is done', async () => {
  const fixture = await openDirectory();
  const before = fixture.rules.current;
  for (let look = 0; look < 5; look += 1) await fixture.rules.check();
  expect([fixture.rules.current === before, fixture.reads, fixture.told]).toEqual([true, 1, []]);
});

test('a file that is written again with the same rules changes nothing', async () => {
  const fixture = await open({ rules: () => [env('one', '1')] });
  const before = fixture.rules.current;
  await fixture.rule([env('one', '1')]);
  await fixture.rules.check();
  expect([fixture.rules.current === before, fixture.told]).toEqual([true, []]);
});

test.each<[string, (fixture: ReloadFixture) => Promise<void>]>([
  ['a file of other content', fixture => fixture.write('ca/ca.pem', 'later')],
  [
    'a file of other content with the old time',
    async fixture => {
      await fixture.write('ca/ca.pem', 'other');
      await utimes(fixture.place('ca/ca.pem'), 1, 1);
    },
  ],
  ['a new file', fixture => fixture.write('ca/etc/more.pem', 'more')],
  [
    'a file less',
    async fixture => {
      await fixture.write('ca/x', 'x');
      await rm(fixture.place('ca/ca.pem'));
    },
  ],
  ['another mode', fixture => chmod(fixture.place('ca/ca.pem'), 0o600)],
])('%s in the directory of a layer changes its digest', async (_, change) => {
  const fixture = await openDirectory();
  const [before] = await fixture.layersOf();
  await change(fixture);
  await fixture.rules.check();
  const [after] = await fixture.layersOf();
  expect(after?.digest).not.toBe(before?.digest);
  expect(await fixture.layerStore.find(after?.digest ?? fail())).toEqual({ size: after?.size });
  expect(fixture.told).toEqual(['rules ca']);
});

test('a touched file is read again, and nothing changes', async () => {
  const fixture = await openDirectory();
  const before = await fixture.layersOf();
  await utimes(fixture.place('ca/ca.pem'), 1, 1);
  await fixture.rules.check();
  expect([fixture.reads, fixture.told, await fixture.layersOf()]).toEqual([2, [], before]);
});

test('the swapped link of a volume of Kubernetes is followed, and neither its name nor its time counts', async () => {
  const files = { 'ca/..one/ca.pem': 'first' };
  const fixture = await open({
    rules: place => [directoryRule(place('ca'))],
    files: { ...files, 'ca/plain': 'gone in a moment' },
  });
  const swap = async (to: string) => {
    await symlink(to, fixture.place('ca/..data_tmp'));
    await rename(fixture.place('ca/..data_tmp'), fixture.place('ca/..data'));
    await fixture.rules.check();
    return (await fixture.layersOf()).map(({ digest }) => digest);
  };
  const first = await swap('..one');
  await fixture.write('ca/..two/ca.pem', 'second');
  const second = await swap('..two');
  await fixture.write('ca/..three/ca.pem', 'first');
  const third = await swap('..three');
  expect(second).not.toEqual(first);
  expect(third).toEqual(first);
});

test('a link in the place of the whole directory is followed', async () => {
  const fixture = await open({
    rules: place => [directoryRule(place('a'))],
    files: { 'a/x': 'one', 'b/x': 'two' },
  });
  const [before] = await fixture.layersOf();
  await rename(fixture.place('a'), fixture.place('c'));
  await symlink('b', fixture.place('a'));
  await fixture.rules.check();
  expect((await fixture.layersOf())[0]?.digest).not.toBe(before?.digest);
});

test.each<[string, (fixture: ReloadFixture) => Promise<void>, string, (fixture: ReloadFixture) => Promise<void>]>([
  [
    'a file of rules that cannot be read',
    fixture => fixture.rule('- nonsense'),
    'veneer.json: not JSON',
    fixture => fixture.rule([env('two', '2')]),
  ],
  [
    'a faulty rule',
    fixture => fixture.rule([{ name: 'two', match: ANY }]),
    'changes nothing',
    fixture => fixture.rule([env('two', '2')]),
  ],
  [
    'a directory that is not there',
    fixture => fixture.rule([directoryRule(fixture.place('later')), env('two', '2')]),
    'rules.0.layers.0: there is no ',
    fixture => fixture.write('later/x', 'x'),
  ],
  [
    'a file that is no tar',
    async fixture => {
      await fixture.write('tar', 'no tar');
      await fixture.rule([env('two', '2'), { name: 'x', match: ANY, layers: [{ file: fixture.place('tar') }] }]);
    },
    'rules.1.layers.0: ',
    async fixture => fixture.rule([env('two', '2')]),
  ],
])(
  'with %s the old rules stay, which is reported once; put right, the new ones come',
  async (_, spoil, fault, repair) => {
    const fixture = await open({ rules: () => [env('one', '1')] });
    await spoil(fixture);
    for (let look = 0; look < 3; look += 1) await fixture.rules.check();
    expect(await fixture.envOf()).toEqual([{ A: '1' }]);
    expect(fixture.told).toEqual([expect.stringContaining(fault)]);
    expect(fixture.rules.status.faults).toEqual(fixture.told);
    await repair(fixture);
    await fixture.rules.check();
    expect(await fixture.envOf()).toContainEqual({ A: '2' });
    expect(fixture.told).toHaveLength(2);
    expect(fixture.rules.status.faults).toEqual([]);
  },
);

test('what was spoilt and put back as it was is reported, too', async () => {
  const fixture = await openDirectory();
  const before = await fixture.layersOf();
  await rename(fixture.place('ca'), fixture.place('away'));
  await fixture.rules.check();
  expect(fixture.told).toEqual([expect.stringContaining('there is no ')]);
  await rename(fixture.place('away'), fixture.place('ca'));
  await fixture.rules.check();
  expect([fixture.told[1], await fixture.layersOf()]).toEqual(['rules ca', before]);
});

test('a file of rules that is put back as it was is reported, too', async () => {
  const fixture = await open({ rules: () => [env('one', '1')] });
  await fixture.rule('nonsense');
  await fixture.rules.check();
  await fixture.rule([env('one', '1')]);
  await fixture.rules.check();
  expect([fixture.told, fixture.rules.status.faults]).toEqual([['veneer.json: not JSON', 'rules one'], []]);
});

test('another fault after one is reported, and a look that was asked for tells it again', async () => {
  const fixture = await open({ rules: () => [env('one', '1')] });
  await fixture.rule([directoryRule('/nowhere/a')]);
  await fixture.rules.check();
  await fixture.rule([directoryRule('/nowhere/b')]);
  await fixture.rules.check();
  await fixture.rules.reload();
  expect(fixture.told).toEqual(['a', 'b', 'b'].map(name => `rules.0.layers.0: there is no /nowhere/${name}`));
});

test('rules that are faulty at the start are refused with every fault', async () => {
  const faulty = createReloadFixture({
    rules: place => [directoryRule('/nowhere'), { name: 'two', match: ANY, layers: [{ file: place('empty') }] }],
    files: { empty: '' },
  });
  await expect(faulty).rejects.toMatchObject({
    name: 'RuleFaults',
    faults: ['rules.0.layers.0: there is no /nowhere', expect.stringMatching(/^rules\.1\.layers\.0: .*it is empty/)],
  });
});

test('a start waits for no registry, and a pull that needs one asks again', async () => {
  const fixture = await open({ rules: () => [imageRule('tools:1'), env('one', '1')], doesAnswer: false });
  expect(fixture.asked).toEqual([]);
  expect(await fixture.rules.warm()).toEqual(['tools:1 does not answer']);
  await expect(fixture.layersOf()).rejects.toMatchObject({ status: 503, message: expect.stringContaining('"tools"') });
  fixture.answer(true);
  expect(await fixture.layersOf()).toHaveLength(1);
  await fixture.layersOf();
  expect(fixture.asked).toHaveLength(3);
});

test('a new layer of a registry that is down refuses the change, until it answers', async () => {
  const fixture = await open({ rules: () => [imageRule('tools:1')] });
  const before = await fixture.layersOf();
  fixture.answer(false);
  await fixture.rule([imageRule('tools:1', 'more:1')]);
  await fixture.rules.check();
  await fixture.rules.check();
  expect([await fixture.layersOf(), fixture.told, fixture.asked]).toEqual([
    before,
    ['rules.0.layers.1: more:1 does not answer'],
    ['tools:1', 'more:1'],
  ]);
  fixture.answer(true);
  fixture.pass(30_000);
  await fixture.rules.check();
  expect(await fixture.layersOf()).toEqual([before[0], expect.anything()]);
});

test('a change elsewhere asks no registry for what is pinned, nor for what could not be had', async () => {
  const fixture = await open({
    rules: place => [imageRule('tools:1'), directoryRule(place('ca'))],
    files: { 'ca/x': '1' },
  });
  const [pinned] = await fixture.layersOf();
  fixture.answer(false);
  await fixture.write('ca/x', '2 and more');
  await fixture.rules.check();
  expect([(await fixture.layersOf())[0], fixture.asked.length]).toEqual([pinned, 1]);
});

test('a reload that is asked for pins the layers of registries again, and keeps the old where one is down', async () => {
  const fixture = await open({ rules: () => [imageRule('tools:1')] });
  const [first] = await fixture.layersOf();
  fixture.answer(false);
  await fixture.rules.reload();
  expect([await fixture.layersOf(), fixture.told]).toEqual([[first], ['rules.0.layers.0: tools:1 does not answer']]);
  fixture.answer(true);
  await fixture.rules.reload();
  expect((await fixture.layersOf())[0]?.digest).not.toBe(first?.digest);
});

test('looks take turns, and who comes while one waits shares it', async () => {
  const fixture = await openDirectory();
  await fixture.write('ca/ca.pem', 'second and longer');
  await Promise.all(Array.from({ length: 20 }, () => fixture.rules.check()));
  expect([fixture.reads, fixture.told]).toEqual([2, ['rules ca']]);
});

test('after the end nothing is looked at any more, and the rules stay', async () => {
  const fixture = await open({ rules: () => [env('one', '1')] });
  await fixture.rules.close();
  await fixture.rule([env('one', '2')]);
  await fixture.rules.check();
  expect(await fixture.envOf()).toEqual([{ A: '1' }]);
});

test('a layer that is out of force stays for pulls under way, and goes after that', async () => {
  const fixture = await openDirectory();
  const [old] = await fixture.layersOf();
  const digest = old?.digest ?? fail();
  fixture.pass(2 * HOUR);
  await fixture.write('ca/ca.pem', 'second and longer');
  await fixture.rules.check();
  await fixture.layerStore.sweep(fixture.rules.layers);
  expect(await fixture.layerStore.find(digest)).toBeDefined();
  fixture.pass(2 * HOUR);
  await fixture.layerStore.sweep(fixture.rules.layers);
  expect(await fixture.layerStore.find(digest)).toBeUndefined();
  const [now] = await fixture.layersOf();
  expect(await fixture.layerStore.find(now?.digest ?? fail())).toBeDefined();
});

test('a layer that is lost is read again', async () => {
  const fixture = await openDirectory();
  const [layer] = await fixture.layersOf();
  const digest = layer?.digest ?? fail();
  await fixture.layerStore.delete(digest);
  await fixture.rules.check();
  expect([await fixture.layerStore.find(digest), fixture.told]).toEqual([{ size: layer?.size }, []]);
});

test('a change that shows in no time of a file is seen, as what has just changed is read again', async () => {
  let now = new Date();
  const fixture = await open({ rules: place => [directoryRule(place('ca'))], files: { 'ca/x': '1' }, now: () => now });
  expect(fixture.reads).toBe(1);
  now = new Date(now.getTime() + 5000);
  await fixture.rules.check();
  expect(fixture.reads).toBe(2);
  await fixture.rules.check();
  expect([fixture.reads, fixture.told]).toEqual([2, []]);
});

function fail(): never {
  throw new Error('there is no layer');
}

test('a change that is being written is left for a later look, in the file of rules and in a layer, unless it is asked for', async () => {
  let now = new Date();
  const fixture = await open({
    rules: place => [directoryRule(place('ca')), env('one', '1')],
    files: { 'ca/x': '1' },
    now: () => now,
  });
  const rest = () => {
    now = new Date(Date.now() + 5000);
  };
  const before = await fixture.layersOf();
  // Half of a file of rules may be a whole one of fewer rules.
  await fixture.rule([directoryRule(fixture.place('ca'))]);
  now = new Date();
  await fixture.rules.check();
  expect([fixture.told, await fixture.envOf()]).toEqual([[], [undefined, { A: '1' }]]);
  await fixture.rule([directoryRule(fixture.place('ca')), env('one', '2')]);
  rest();
  await fixture.rules.check();
  expect(await fixture.envOf()).toEqual([undefined, { A: '2' }]);
  await fixture.write('ca/y', 'the first of many');
  now = new Date();
  await fixture.rules.check();
  expect(await fixture.layersOf()).toEqual(before);
  await fixture.rules.reload();
  expect(await fixture.layersOf()).not.toEqual(before);
});

test('a faulty file of rules is not read at each look, but once in a while, as what it names may be put right', async () => {
  let loads = 0;
  const fixture = await open({ rules: () => [env('one', '1')], onLoad: () => (loads += 1) });
  await fixture.rule('nonsense');
  for (let look = 0; look < 5; look += 1) await fixture.rules.check();
  fixture.pass(30_000);
  for (let look = 0; look < 5; look += 1) await fixture.rules.check();
  expect([loads, fixture.told]).toEqual([3, ['veneer.json: not JSON']]);
});
