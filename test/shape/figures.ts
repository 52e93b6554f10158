// How src/ is cut into files, in figures: what a reader has to open, and what is open to others without need.
import { dirname } from 'node:path';
import { findCycles, roomOf, type Source } from './sources.ts';

/** In lines. */
const SMALL = 40;
const MIDDLE = 100;

export interface Figures {
  readonly files: number;
  readonly lines: number;
  readonly median: number;
  readonly p95: number;
  readonly largest: Source | undefined;
  /** Of files below 40 lines, in percent. */
  readonly smallShare: number;
  /** Below 100 lines, and imported by one file alone, which is in the same folder. */
  readonly singleUse: readonly Source[];
  /** `path: name`. */
  readonly exports: { readonly all: number; readonly forTests: readonly string[]; readonly unused: readonly string[] };
  /** Interfaces and types that end with `Deps` or `Options`. */
  readonly bundles: { readonly deps: number; readonly options: number };
  readonly cycles: readonly (readonly string[])[];
  readonly rooms: readonly Room[];
}

interface Room {
  readonly name: string;
  readonly files: number;
  readonly lines: number;
}

/** `tests` are files that may use what `sources` export, and count as nobody's need of it. */
export function measure(sources: readonly Source[], tests: readonly Source[]): Figures {
  const sizes = sources.map(({ lines }) => lines).sort((a, b) => a - b);
  const atShare = (share: number) => sizes[Math.min(sizes.length - 1, Math.floor(share * sizes.length))] ?? 0;
  return {
    files: sources.length,
    lines: sumLines(sources),
    median: atShare(0.5),
    p95: atShare(0.95),
    largest: sources.toSorted((a, b) => b.lines - a.lines)[0],
    smallShare: (100 * sizes.filter(size => size < SMALL).length) / Math.max(1, sizes.length),
    singleUse: findSingleUse(sources),
    exports: sortExports(sources, tests),
    bundles: { deps: countNamed(sources, 'Deps'), options: countNamed(sources, 'Options') },
    cycles: findCycles(sources),
    rooms: measureRooms(sources),
  };
}

function findSingleUse(sources: readonly Source[]): readonly Source[] {
  const importers = Map.groupBy(
    sources.flatMap(({ path, imports }) => [...new Set(imports.map(each => each.target))].map(to => ({ path, to }))),
    ({ to }) => to,
  );
  return sources.filter(({ path, lines }) => {
    const [first, ...others] = importers.get(path) ?? [];
    return lines < MIDDLE && first && others.length === 0 && dirname(first.path) === dirname(path);
  });
}

function sortExports(sources: readonly Source[], tests: readonly Source[]): Figures['exports'] {
  const all = sources.flatMap(({ path, text }) => exportsOf(text).map(name => `${path}: ${name}`));
  const [needed, tested] = [namesUsedBy(sources), namesUsedBy(tests)];
  const others = all.filter(name => !needed.has(name));
  return {
    all: all.length,
    forTests: others.filter(name => tested.has(name)),
    unused: others.filter(name => !tested.has(name)),
  };
}

function exportsOf(text: string): readonly string[] {
  const declared = text.matchAll(/^export (?:async )?(?:function\*?|const|interface|type|class) (\w+)/gm);
  const listed = text.matchAll(/^export (?:type )?\{([^}]*)\}/gm);
  const names = [...listed].flatMap(([, list = '']) => list.split(',').map(name => name.trim().replace(/^.* /, '')));
  return [...[...declared].map(([, name = '']) => name), ...names].filter(name => name !== '');
}

function namesUsedBy(files: readonly Source[]): ReadonlySet<string> {
  const imports = files.flatMap(file => file.imports);
  return new Set(imports.flatMap(({ target, names }) => names.map(name => `${target}: ${name}`)));
}

function countNamed(sources: readonly Source[], ending: string): number {
  const pattern = new RegExp(`^(?:export )?(?:interface|type) \\w*${ending}\\b`, 'gm');
  return sources.reduce((sum, { text }) => sum + [...text.matchAll(pattern)].length, 0);
}

function measureRooms(sources: readonly Source[]): readonly Room[] {
  const rooms = Map.groupBy(sources, ({ path }) => roomOf(path));
  return [...rooms]
    .map(([name, files]) => ({ name, files: files.length, lines: sumLines(files) }))
    .sort((a, b) => b.lines - a.lines);
}

function sumLines(sources: readonly Source[]): number {
  return sources.reduce((sum, { lines }) => sum + lines, 0);
}
