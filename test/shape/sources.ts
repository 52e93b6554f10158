// The files of src/ as text: what each imports from where, what it exports, and which of them reach one another.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

export interface Source {
  /** From the root of the repository: `src/oci/digest.ts`. */
  readonly path: string;
  readonly text: string;
  readonly lines: number;
  /** Types included. */
  readonly imports: readonly Import[];
}

interface Import {
  /** A path as `path` is, or the name of a package. */
  readonly target: string;
  readonly isPackage: boolean;
  /** As the target exports them. */
  readonly names: readonly string[];
}

/** `pattern` is a glob from the root of the repository. */
export function readSources(pattern: string): readonly Source[] {
  return globSync(pattern).map(path => {
    const text = readFileSync(path, 'utf8');
    return { path, text, lines: text.split('\n').length - 1, imports: importsOf(path, text) };
  });
}

/** As the formatter writes them: a statement at the start of a line, or `await import('…')`, with the names before it. */
const IMPORT =
  /^(?:import|export) (?:([^;'"]*?) from )?'([^']+)';|\{([^{}]*)\} = await import\('([^']+)'\)|\bimport\('([^']+)'\)/gm;

function importsOf(path: string, text: string): readonly Import[] {
  return [...text.matchAll(IMPORT)].map(match => {
    const [, clause = '', from, awaited, awaitedFrom, bare = ''] = match;
    const target = from ?? awaitedFrom ?? bare;
    const isPackage = !target.startsWith('.');
    const [, braced = ''] = /\{([^}]*)\}/.exec(clause) ?? [];
    const names = (awaited ?? braced).split(',').flatMap(name => /^(?:type )?(\w+)/.exec(name.trim())?.[1] ?? []);
    return { target: isPackage ? target : normalize(join(dirname(path), target)), isPackage, names };
  });
}

/** `src/oci/digest.ts` is in the room oci, `src/main.ts` one of its own. */
export function roomOf(path: string): string {
  return (path.split('/')[1] ?? '').replace(/\.ts$/, '');
}

/** Each group of files that all reach one another. Tarjan's algorithm, since a group has cycles without number. */
export function findCycles(sources: readonly Source[]): readonly (readonly string[])[] {
  const importsByPath = new Map(sources.map(({ path, imports }) => [path, imports.filter(each => !each.isPackage)]));
  const order = new Map<string, { index: number; low: number; isOpen: boolean }>();
  const open: string[] = [];
  const cycles: string[][] = [];

  function visit(path: string) {
    const place = { index: order.size, low: order.size, isOpen: true };
    order.set(path, place);
    open.push(path);
    for (const { target } of importsByPath.get(path) ?? []) {
      if (target === path) cycles.push([path]);
      const known = order.get(target);
      if (!known) place.low = Math.min(place.low, visit(target).low);
      else if (known.isOpen) place.low = Math.min(place.low, known.index);
    }
    if (place.low < place.index) return place;
    const group = open.splice(open.indexOf(path));
    for (const each of group) Object.assign(order.get(each) ?? {}, { isOpen: false });
    if (group.length > 1) cycles.push(group.toSorted());
    return place;
  }

  for (const path of importsByPath.keys()) if (!order.has(path)) visit(path);
  return cycles;
}
