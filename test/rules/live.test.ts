// Rules that change while the service runs: what is whole comes into force, and what is faulty does not.
import { chmod, rename, rm, symlink, utimes } from 'node:fs/promises';
import { afterEach, expect, test } from 'vitest';
import { createReloadFixture, type LiveLabOptions, type ReloadFixture } from './reload-fixture.ts';

const ANY = { image: '**' };
const HOUR = 3_600_000;

let lab: ReloadFixture | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

async function open(options: LiveLabOptions): Promise<ReloadFixture> {
  lab = await createReloadFixture(options);
  return lab;
}

const env = (name: string, value: string) => ({ name, match: ANY, env: { A: value } });
const directoryRule = (path: string) => ({ name: 'ca', match: ANY, layers: [{ directory: path }] });
const imageRule = (...images: readonly string[]) => ({
  name: 'tools',
  match: ANY,
  layers: images.map(image => ({ image })),
});
const openDirectory = () => open({ rules: place => [directoryRule(place('ca'))], files: { 'ca/ca.pem': 'first' } });

test('a changed rule is in force after the next look, and is told', async () => {
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
  const lab = await openDirectory();
  const before = lab.rules.current;
  for (let look = 0; look < 5; look += 1) await lab.rules.check();
  expect([lab.rules.current === before, lab.reads, lab.told]).toEqual([true, 1, []]);
});

test('a file that is written anew with the same rules changes nothing', async () => {
  const lab = await open({ rules: () => [env('one', '1')] });
  const before = lab.rules.current;
  await lab.rule([env('one', '1')]);
  await lab.rules.check();
  expect([lab.rules.current === before, lab.told]).toEqual([true, []]);
});

test.each<[string, (lab: ReloadFixture) => Promise<void>]>([
  ['a file of other content', lab => lab.write('ca/ca.pem', 'later')],
  [
    'a file of other content with the old time',
    async lab => {
      await lab.write('ca/ca.pem', 'other');
      await utimes(lab.place('ca/ca.pem'), 1, 1);
    },
  ],
  ['a new file', lab => lab.write('ca/etc/more.pem', 'more')],
  [
    'a file less',
    async lab => {
      await lab.write('ca/x', 'x');
      await rm(lab.place('ca/ca.pem'));
    },
  ],
  ['another mode', lab => chmod(lab.place('ca/ca.pem'), 0o600)],
])('%s in the directory of a layer changes its digest', async (_, change) => {
  const lab = await openDirectory();
  const [before] = await lab.layersOf();
  await change(lab);
  await lab.rules.check();
  const [after] = await lab.layersOf();
  expect(after?.digest).not.toBe(before?.digest);
  expect(await lab.layerStore.find(after?.digest ?? fail())).toEqual({ size: after?.size });
  expect(lab.told).toEqual(['rules ca']);
});

test('a touched file is read again, and nothing changes', async () => {
  const lab = await openDirectory();
  const before = await lab.layersOf();
  await utimes(lab.place('ca/ca.pem'), 1, 1);
  await lab.rules.check();
  expect([lab.reads, lab.told, await lab.layersOf()]).toEqual([2, [], before]);
});

test('the swapped link of a volume of Kubernetes is followed, and neither its name nor its time counts', async () => {
  const files = { 'ca/..one/ca.pem': 'first' };
  const lab = await open({
    rules: place => [directoryRule(place('ca'))],
    files: { ...files, 'ca/plain': 'gone in a moment' },
  });
  const swap = async (to: string) => {
    await symlink(to, lab.place('ca/..data_tmp'));
    await rename(lab.place('ca/..data_tmp'), lab.place('ca/..data'));
    await lab.rules.check();
    return (await lab.layersOf()).map(({ digest }) => digest);
  };
  const first = await swap('..one');
  await lab.write('ca/..two/ca.pem', 'second');
  const second = await swap('..two');
  await lab.write('ca/..three/ca.pem', 'first');
  const third = await swap('..three');
  expect(second).not.toEqual(first);
  expect(third).toEqual(first);
});

test('a link in the place of the whole directory is followed', async () => {
  const lab = await open({
    rules: place => [directoryRule(place('a'))],
    files: { 'a/x': 'one', 'b/x': 'two' },
  });
  const [before] = await lab.layersOf();
  await rename(lab.place('a'), lab.place('c'));
  await symlink('b', lab.place('a'));
  await lab.rules.check();
  expect((await lab.layersOf())[0]?.digest).not.toBe(before?.digest);
});

test.each<[string, (lab: ReloadFixture) => Promise<void>, string, (lab: ReloadFixture) => Promise<void>]>([
  [
    'a file of rules that cannot be read',
    lab => lab.rule('- nonsense'),
    'veneer.json: not JSON',
    lab => lab.rule([env('two', '2')]),
  ],
  [
    'a faulty rule',
    lab => lab.rule([{ name: 'two', match: ANY }]),
    'changes nothing',
    lab => lab.rule([env('two', '2')]),
  ],
  [
    'a directory that is not there',
    lab => lab.rule([directoryRule(lab.place('later')), env('two', '2')]),
    'rules.0.layers.0: there is no ',
    lab => lab.write('later/x', 'x'),
  ],
  [
    'a file that is no tar',
    async lab => {
      await lab.write('tar', 'no tar');
      await lab.rule([env('two', '2'), { name: 'x', match: ANY, layers: [{ file: lab.place('tar') }] }]);
    },
    'rules.1.layers.0: ',
    async lab => lab.rule([env('two', '2')]),
  ],
])('with %s the old rules stay, which is told once; put right, the new ones come', async (_, spoil, fault, repair) => {
  const lab = await open({ rules: () => [env('one', '1')] });
  await spoil(lab);
  for (let look = 0; look < 3; look += 1) await lab.rules.check();
  expect(await lab.envOf()).toEqual([{ A: '1' }]);
  expect(lab.told).toEqual([expect.stringContaining(fault)]);
  expect(lab.rules.status.faults).toEqual(lab.told);
  await repair(lab);
  await lab.rules.check();
  expect(await lab.envOf()).toContainEqual({ A: '2' });
  expect(lab.told).toHaveLength(2);
  expect(lab.rules.status.faults).toEqual([]);
});

test('what was spoilt and put back as it was is told, too', async () => {
  const lab = await openDirectory();
  const before = await lab.layersOf();
  await rename(lab.place('ca'), lab.place('away'));
  await lab.rules.check();
  expect(lab.told).toEqual([expect.stringContaining('there is no ')]);
  await rename(lab.place('away'), lab.place('ca'));
  await lab.rules.check();
  expect([lab.told[1], await lab.layersOf()]).toEqual(['rules ca', before]);
});

test('a file of rules that is put back as it was is told, too', async () => {
  const lab = await open({ rules: () => [env('one', '1')] });
  await lab.rule('nonsense');
  await lab.rules.check();
  await lab.rule([env('one', '1')]);
  await lab.rules.check();
  expect([lab.told, lab.rules.status.faults]).toEqual([['veneer.json: not JSON', 'rules one'], []]);
});

test('another fault after one is told, and a look that was asked for tells it again', async () => {
  const lab = await open({ rules: () => [env('one', '1')] });
  await lab.rule([directoryRule('/nowhere/a')]);
  await lab.rules.check();
  await lab.rule([directoryRule('/nowhere/b')]);
  await lab.rules.check();
  await lab.rules.reload();
  expect(lab.told).toEqual(['a', 'b', 'b'].map(name => `rules.0.layers.0: there is no /nowhere/${name}`));
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
  const lab = await open({ rules: () => [imageRule('tools:1'), env('one', '1')], doesAnswer: false });
  expect(lab.asked).toEqual([]);
  expect(await lab.rules.warm()).toEqual(['tools:1 does not answer']);
  await expect(lab.layersOf()).rejects.toMatchObject({ status: 503, message: expect.stringContaining('"tools"') });
  lab.answer(true);
  expect(await lab.layersOf()).toHaveLength(1);
  await lab.layersOf();
  expect(lab.asked).toHaveLength(3);
});

test('a new layer of a registry that is down refuses the change, until it answers', async () => {
  const lab = await open({ rules: () => [imageRule('tools:1')] });
  const before = await lab.layersOf();
  lab.answer(false);
  await lab.rule([imageRule('tools:1', 'more:1')]);
  await lab.rules.check();
  await lab.rules.check();
  expect([await lab.layersOf(), lab.told, lab.asked]).toEqual([
    before,
    ['rules.0.layers.1: more:1 does not answer'],
    ['tools:1', 'more:1'],
  ]);
  lab.answer(true);
  lab.pass(30_000);
  await lab.rules.check();
  expect(await lab.layersOf()).toEqual([before[0], expect.anything()]);
});

test('a change elsewhere asks no registry for what is pinned, nor for what could not be had', async () => {
  const lab = await open({
    rules: place => [imageRule('tools:1'), directoryRule(place('ca'))],
    files: { 'ca/x': '1' },
  });
  const [pinned] = await lab.layersOf();
  lab.answer(false);
  await lab.write('ca/x', '2 and more');
  await lab.rules.check();
  expect([(await lab.layersOf())[0], lab.asked.length]).toEqual([pinned, 1]);
});

test('a reload that is asked for pins the layers of registries anew, and keeps the old where one is down', async () => {
  const lab = await open({ rules: () => [imageRule('tools:1')] });
  const [first] = await lab.layersOf();
  lab.answer(false);
  await lab.rules.reload();
  expect([await lab.layersOf(), lab.told]).toEqual([[first], ['rules.0.layers.0: tools:1 does not answer']]);
  lab.answer(true);
  await lab.rules.reload();
  expect((await lab.layersOf())[0]?.digest).not.toBe(first?.digest);
});

test('looks take turns, and who comes while one waits shares it', async () => {
  const lab = await openDirectory();
  await lab.write('ca/ca.pem', 'second and longer');
  await Promise.all(Array.from({ length: 20 }, () => lab.rules.check()));
  expect([lab.reads, lab.told]).toEqual([2, ['rules ca']]);
});

test('after the end nothing is looked at any more, and the rules stay', async () => {
  const lab = await open({ rules: () => [env('one', '1')] });
  await lab.rules.close();
  await lab.rule([env('one', '2')]);
  await lab.rules.check();
  expect(await lab.envOf()).toEqual([{ A: '1' }]);
});

test('a layer that is out of force stays for pulls under way, and goes after that', async () => {
  const lab = await openDirectory();
  const [old] = await lab.layersOf();
  const digest = old?.digest ?? fail();
  lab.pass(2 * HOUR);
  await lab.write('ca/ca.pem', 'second and longer');
  await lab.rules.check();
  await lab.layerStore.sweep(lab.rules.layers);
  expect(await lab.layerStore.find(digest)).toBeDefined();
  lab.pass(2 * HOUR);
  await lab.layerStore.sweep(lab.rules.layers);
  expect(await lab.layerStore.find(digest)).toBeUndefined();
  const [now] = await lab.layersOf();
  expect(await lab.layerStore.find(now?.digest ?? fail())).toBeDefined();
});

test('a layer that is lost is read again', async () => {
  const lab = await openDirectory();
  const [layer] = await lab.layersOf();
  const digest = layer?.digest ?? fail();
  await lab.layerStore.delete(digest);
  await lab.rules.check();
  expect([await lab.layerStore.find(digest), lab.told]).toEqual([{ size: layer?.size }, []]);
});

test('a change that shows in no time of a file is seen, as what has just changed is read again', async () => {
  let now = new Date();
  const lab = await open({ rules: place => [directoryRule(place('ca'))], files: { 'ca/x': '1' }, now: () => now });
  expect(lab.reads).toBe(1);
  now = new Date(now.getTime() + 5000);
  await lab.rules.check();
  expect(lab.reads).toBe(2);
  await lab.rules.check();
  expect([lab.reads, lab.told]).toEqual([2, []]);
});

function fail(): never {
  throw new Error('there is no layer');
}

test('a change that is being written is left for a later look, in the file of rules and in a layer, unless it is asked for', async () => {
  let now = new Date();
  const lab = await open({
    rules: place => [directoryRule(place('ca')), env('one', '1')],
    files: { 'ca/x': '1' },
    now: () => now,
  });
  const rest = () => {
    now = new Date(Date.now() + 5000);
  };
  const before = await lab.layersOf();
  // Half of a file of rules may be a whole one of fewer rules.
  await lab.rule([directoryRule(lab.place('ca'))]);
  now = new Date();
  await lab.rules.check();
  expect([lab.told, await lab.envOf()]).toEqual([[], [undefined, { A: '1' }]]);
  await lab.rule([directoryRule(lab.place('ca')), env('one', '2')]);
  rest();
  await lab.rules.check();
  expect(await lab.envOf()).toEqual([undefined, { A: '2' }]);
  await lab.write('ca/y', 'the first of many');
  now = new Date();
  await lab.rules.check();
  expect(await lab.layersOf()).toEqual(before);
  await lab.rules.reload();
  expect(await lab.layersOf()).not.toEqual(before);
});

test('a faulty file of rules is not read at each look, but once in a while, as what it names may be put right', async () => {
  let loads = 0;
  const lab = await open({ rules: () => [env('one', '1')], onLoad: () => (loads += 1) });
  await lab.rule('nonsense');
  for (let look = 0; look < 5; look += 1) await lab.rules.check();
  lab.pass(30_000);
  for (let look = 0; look < 5; look += 1) await lab.rules.check();
  expect([loads, lab.told]).toEqual([3, ['veneer.json: not JSON']]);
});
