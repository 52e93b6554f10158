import fc from 'fast-check';
import { expect, test } from 'vitest';
import { indexLayer, normalizePath } from '../../src/augment/layer-index.ts';
import { createLinkTree } from '../../src/augment/link-tree.ts';
import { listMoved, moveLayer } from '../../src/augment/moved-layer.ts';
import { packTar, type TarFile } from '../support/build-images.ts';
import { copyOver, type FileTree, layOver, readTarFiles } from '../support/file-tree.ts';

const LIMITS = { maxUnpackedBytes: 1024 ** 3, maxRatio: 200, maxEntries: 100_000 };

const dir = (name: string, mode = 0o755): TarFile => ({ name: `${name}/`, type: 'directory', mode });
const link = (name: string, linkname: string): TarFile => ({ name, type: 'symlink', linkname });
const file = (name: string, body = `of ${name}`): TarFile => ({ name, body, mode: 0o755 });

const USR_MERGED = [
  dir('usr'),
  dir('usr/bin', 0o711),
  file('usr/bin/sh'),
  dir('usr/lib'),
  dir('run', 0o1777),
  dir('var'),
  link('bin', 'usr/bin'),
  link('lib', './usr/lib/'),
  link('var/run', '/run'),
];

test.each<readonly [string, readonly (readonly TarFile[])[], readonly TarFile[], readonly string[]]>([
  ['a link', [USR_MERGED], [dir('bin'), file('bin/tool')], ['bin/tool → usr/bin/tool']],
  ['an absolute link', [USR_MERGED], [file('var/run/x')], ['var/run/x → run/x']],
  ['several', [USR_MERGED], [file('lib/x.so'), file('bin/t')], ['lib/x.so → usr/lib/x.so', 'bin/t → usr/bin/t']],
  ['a chain', [[link('a', 'b'), link('b', '/c/../d'), dir('d')]], [file('a/x/y')], ['a/x/y → d/x/y']],
  [
    'links below links',
    [[...USR_MERGED, link('usr/bin/deep', '../../opt')]],
    [file('bin/deep/x')],
    ['bin/deep/x → opt/x'],
  ],
  ['a link above the root', [[link('a', '../../b')]], [file('a/x')], ['a/x → b/x']],
  ['a link to the root', [[link('a', '/')]], [dir('a'), file('a/x')], ['a/x → x']],
  ['a link to nothing', [[link('a', 'b/c')]], [dir('a', 0o700), file('a/x')], ['a → b/c', 'a/x → b/c/x']],
  ['odd names', [USR_MERGED], [file('./bin//x'), file('/lib/../lib/y')], ['bin/x → usr/bin/x', 'lib/y → usr/lib/y']],
  ['a link that a later layer has made', [[dir('a')], [link('a', 'b')]], [file('a/x')], ['a/x → b/x']],
  ['a link that a later layer has replaced', [[link('a', 'b')], [dir('a')]], [file('a/x')], []],
  ['a link that a later layer has hidden', [[link('a', 'b')], [file('.wh.a')]], [file('a/x')], []],
  ['a link in what a later layer has emptied', [[link('d/a', 'b')], [file('d/.wh..wh..opq')]], [file('d/a/x')], []],
  ['a link that something of a later layer lies over', [[link('a', 'b')], [file('a/y')]], [file('a/x')], []],
  ['a link that it replaces itself', [[link('a', 'b')]], [file('.wh.a'), file('a/x')], []],
  ['a link below what it empties itself', [[link('d/a', 'b')]], [file('d/.wh..wh..opq'), file('d/a/x')], []],
  ['a link to a file, which it replaces', [[link('a', 'b'), file('b')]], [file('a')], []],
  ['a whiteout', [USR_MERGED], [file('bin/.wh.sh', '')], ['bin/sh → usr/bin/sh']],
  ['no links', [[dir('usr'), dir('bin')]], [file('bin/x'), file('usr/x')], []],
])('a layer over %s', async (_, base, layer, expected) => {
  const tree = await treeOf(base);
  const index = await indexOf(layer);
  const placement = tree.place(index);
  const { entries } = placement ? listMoved(index, placement, 100) : { entries: [] };
  expect(entries.map(({ from, to }) => `${from} → ${to}`)).toEqual(expected);
});

test('keeps what the image has where a link leads: modes, and owners', async () => {
  const tree = await treeOf([USR_MERGED]);
  const layer = [dir('var', 0o700), dir('var/run', 0o700), file('var/run/x')];
  const moved = await move(tree, layer);
  expect(moved?.map(({ name, mode }) => [name, mode])).toEqual([
    ['run/', 0o1777],
    ['var/', 0o700],
    ['run/x', 0o755],
  ]);
});

test('puts one added layer on what another has brought', async () => {
  const tree = await treeOf([USR_MERGED]);
  const first = await indexOf([link('bin/tools', '../../opt/tools-1')]);
  const placement = tree.place(first);
  await tree.add(first, placement);
  const moved = await move(tree, [file('bin/tools/x')]);
  expect(moved?.map(({ name }) => name)).toContain('opt/tools-1/x');
});

test.each([
  ['a circle', [link('a', 'b'), link('b', 'a')], /below a, a link of the image that is part of a loop/],
  ['a file', [link('a', 'etc/passwd'), file('etc/passwd')], /leads to etc\/passwd, which is not a directory/],
  ['below a file', [link('a', 'etc/passwd/x'), file('etc/passwd')], /which is not a directory/],
])('refuses a layer below a link to %s', async (_, base, reason) => {
  const tree = await treeOf([base]);
  const index = await indexOf([file('a/x')]);
  expect(() => tree.place(index)).toThrow(reason);
});

test('keeps the bytes of names, attributes and content, however long they are', async () => {
  const tree = await treeOf([[link('bin', `/${'very/long/'.repeat(20)}`)]]);
  const content = 'z'.repeat(70_000);
  const pax = { 'SCHILY.xattr.user.x': 'val=ue' };
  const layer: TarFile[] = [
    { name: 'bin/a', body: content, mode: 0o4755, uid: 9, pax },
    { name: 'bin/b', type: 'link', linkname: 'bin/a' },
    { name: 'bin/c', type: 'symlink', linkname: `../${'x/'.repeat(80)}` },
    { name: 'same', body: 'as it was' },
  ];
  const [a, b, c, same] = (await move(tree, layer)) ?? [];
  const place = `${'very/long/'.repeat(20)}`;
  expect(a).toMatchObject({ name: `${place}a`, body: content, mode: 0o4755, uid: 9, pax });
  expect(b).toMatchObject({ name: `${place}b`, type: 'link', linkname: `${place}a` });
  expect(c).toMatchObject({ name: `${place}c`, linkname: `../${'x/'.repeat(80)}` });
  expect(same).toMatchObject({ name: 'same', body: 'as it was' });
});

/** Few names, so that paths meet. */
const NAMES = ['a', 'b', 'c'];
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map(parts => parts.join('/'));
const target = fc.tuple(fc.constantFrom('', '/', '../', './'), path).map(([start, rest]) => `${start}${rest}`);
const baseEntry = fc.oneof(
  path.map(name => dir(name, 0o711)),
  fc.tuple(path, target).map(([name, to]) => link(name, to)),
  path.map(name => file(name)),
);
const layerEntry = fc.oneof(
  path.map(name => dir(name)),
  path.map(name => file(name)),
  path.map(name => file(`${name}/f`)),
);

test('gives what COPY gives, whatever links there are', async () => {
  let moves = 0;
  const layers = fc.array(fc.array(baseEntry, { maxLength: 6 }), { minLength: 1, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(layers, fc.array(layerEntry, { minLength: 1, maxLength: 5 }), async (base, added) => {
      const before = base.map(tidy).reduce<FileTree>(layOver, new Map());
      const layer = tidy(added);
      const tree = await treeOf(base.map(tidy));
      const wanted = copyOver(before, layer);
      if (!wanted) return;
      const moved = await move(tree, layer);
      if (moved) moves += 1;
      expect(layOver(before, moved ?? layer)).toEqual(wanted);
    }),
    { numRuns: 500, seed: 11 },
  );
  expect(moves).toBeGreaterThan(30);
});

/** As real tars are: each name once, nothing below what is no directory, and what is above has a member. */
function tidy(files: readonly TarFile[]): readonly TarFile[] {
  const kept = new Map<string, TarFile>();
  for (const each of files) {
    const name = normalizePath(each.name);
    const above = name.split('/').map((_, at, parts) => parts.slice(0, at).join('/'));
    const isBelowOther = above.some(place => kept.has(place) && kept.get(place)?.type !== 'directory');
    const hasBelow = each.type !== 'directory' && [...kept.keys()].some(place => place.startsWith(`${name}/`));
    if (!kept.has(name) && !isBelowOther && !hasBelow) kept.set(name, each);
  }
  return [...kept.values()].sort((one, two) => (normalizePath(one.name) < normalizePath(two.name) ? -1 : 1));
}

async function indexOf(files: readonly TarFile[]) {
  return indexLayer(ReadableStream.from([await packTar(files)]), LIMITS);
}

async function treeOf(layers: readonly (readonly TarFile[])[]) {
  const tree = createLinkTree();
  for (const layer of layers) await tree.add(await indexOf(layer));
  return tree;
}

/** The members of the layer as it is placed; undefined where it stays as it is. */
async function move(tree: ReturnType<typeof createLinkTree>, files: readonly TarFile[]) {
  const placement = tree.place(await indexOf(files));
  if (!placement) return undefined;
  const chunks = await Array.fromAsync(moveLayer(ReadableStream.from([await packTar(files)]), placement));
  return readTarFiles(Buffer.concat(chunks));
}
