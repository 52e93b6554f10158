// COPY and ADD: selects files and destinations. Wildcards are those of Go's filepath.Match, where `*` and `?` stay within one component.
import type { AddInstruction, CopyInstruction } from '../../containerfile/container-file.ts';
import type { PathPatterns } from '../../context/path-patterns.ts';
import type { Work } from '../../work.ts';
import { findArchive, type ReadOptions, unpackArchive } from './archive.ts';
import {
  type ChangeMode,
  isNumericChown,
  type Ownership,
  parseMode,
  parseOctalMode,
  resolveChown,
} from './chown-chmod.ts';
import { type CopyFilter, copyPath, createCopyFilter, makeDirectories, parsePatterns } from './copy-files.ts';
import {
  createFile,
  createRootfs,
  type DirectoryNode,
  emptyDirectory,
  findNode,
  followPath,
  type Node,
  type Path,
  type Rootfs,
  splitPath,
} from './file-system.ts';
import type { StageScope } from './stage-scope.ts';
import { InvalidStep } from './step.ts';

interface StepOptions {
  readonly scope: StageScope;
  readonly workingDir: string;
  /** The source of the copy: the build context, a stage or an image. */
  readonly source: DirectoryNode;
  readonly reading: ReadOptions;
}

const HEREDOC_MODE = 0o644;

const DIRECTORY_MODE = 0o755;

const PERMISSIONS = 0o777;

const REMOTE = /^(?:https?:\/\/|git:\/\/|ssh:\/\/|git@|(?:github\.com|gitlab\.com)\/)/;

/** Whether it is a URL or a repository rather than a path. */
export function isRemote(source: string): boolean {
  return REMOTE.test(source);
}

/** Whether it becomes an independent layer, without regard to what is below it. */
export function isLinked({ isLinked, chmod }: CopyInstruction | AddInstruction): boolean {
  return isLinked && chmod === undefined;
}

/** A rootfs on `root` with the files copied. Throws InvalidStep or InvalidSyntax. */
export async function copyFiles(
  root: DirectoryNode,
  instruction: CopyInstruction | AddInstruction,
  options: StepOptions,
): Promise<Rootfs> {
  const { scope, workingDir } = options;
  const rootfs = createRootfs(root);
  const chmod = instruction.chmod === undefined ? undefined : scope.expand(instruction.chmod);
  const chown = instruction.chown === undefined ? undefined : scope.expand(instruction.chown);
  if (chown && isLinked(instruction) && !isNumericChown(chown)) {
    throw new InvalidStep(`--chown=${chown} is a name, which --link cannot look up; use numbers`);
  }
  const placement: Placement = {
    destination: toAbsolute(scope.expand(instruction.destination), workingDir),
    chown: chown ? await resolveChown(root, chown) : undefined,
    changeMode: chmod ? parseMode(chmod) : undefined,
    directoryMode: directoryMode(chmod),
  };
  const excluded = parsePatterns(instruction.excludes, options.reading.work);
  for (const written of instruction.sources) {
    options.reading.signal.throwIfAborted();
    await copySource(rootfs, scope.expand(written), { instruction, excluded, placement, options });
  }
  for (const { name, content, isExpanded } of instruction.heredocs) {
    const text = isExpanded ? scope.expandContent(content) : content;
    const file = createFile(new TextEncoder().encode(text), HEREDOC_MODE);
    const { work } = options.reading;
    await copyPath(rootfs, { ...emptyDirectory, children: new Map([[name, file]]) }, [name], { ...placement, work });
  }
  return rootfs;
}

/** Created parents get an octal mode too, limited to the permission bits. */
function directoryMode(chmod: string | undefined): number {
  const octal = chmod ? parseOctalMode(chmod) : undefined;
  return octal === undefined ? DIRECTORY_MODE : octal & PERMISSIONS;
}

/** An absolute path; a trailing slash or dot, which makes it a directory, is preserved. */
export function toAbsolute(path: string, workingDir: string): string {
  return path.startsWith('/') ? path : `${workingDir || '/'}/${path || './'}`;
}

interface Placement {
  readonly destination: string;
  readonly chown: Ownership | undefined;
  readonly changeMode: ChangeMode | undefined;
  readonly directoryMode: number;
}

interface Copy {
  readonly instruction: CopyInstruction | AddInstruction;
  readonly excluded: PathPatterns;
  readonly placement: Placement;
  readonly options: StepOptions;
}

async function copySource(rootfs: Rootfs, text: string, copy: Copy): Promise<void> {
  const { instruction, placement, options } = copy;
  const { source, reading } = options;
  if (isRemote(text))
    throw new InvalidStep(`${JSON.stringify(text)} is remote, which the embedded builder cannot fetch`);
  const { work } = reading;
  const { matches, filter } = await findSources(text, copy);
  for (const path of matches) {
    const unpacks = instruction.kind === 'add' && (instruction.unpacks ?? true);
    const archive = unpacks ? await findArchive(source, path) : undefined;
    if (archive === undefined) {
      await copyPath(rootfs, source, path, { ...placement, filter, work });
      continue;
    }
    const target = followPath(rootfs.root, splitPath(placement.destination));
    makeDirectories(rootfs, target, { chown: placement.chown, directoryMode: DIRECTORY_MODE });
    await unpackArchive(rootfs, target, { archive, chown: placement.chown, reading });
  }
}

interface Sources {
  readonly matches: readonly Path[];
  readonly filter: CopyFilter;
}

async function findSources(text: string, { instruction, excluded, options }: Copy): Promise<Sources> {
  const {
    source,
    reading: { work },
  } = options;
  if (instruction.kind === 'add' || !instruction.keepsParents) {
    return { matches: await findMatches(source, text, work), filter: createCopyFilter(undefined, excluded) };
  }
  // The part before "/./" is not included in the preserved parents.
  const pivot = text.indexOf('/./');
  const [above, below] = pivot < 0 ? ['/', text] : [text.slice(0, pivot), text.slice(pivot + 3)];
  const pattern = splitPath(below).join('/');
  const isPlain = !hasWildcard(above) && !hasWildcard(pattern);
  const path = [...splitPath(above), ...splitPath(below)];
  if (isPlain && !findNode(source, followPath(source, path)))
    throw new InvalidStep(`/${path.join('/')} does not exist`);
  const filter = createCopyFilter(parsePatterns([pattern], work), excluded);
  return { matches: await findMatches(source, above, work), filter };
}

/** `*`, or what one character has to be. */
type Token = 'any' | ((char: string) => boolean);

type Pattern = readonly Token[];

/** The paths matched by a source: itself without a wildcard, otherwise all matches; nothing below a match. */
export async function findMatches(root: DirectoryNode, source: string, work: Work): Promise<readonly Path[]> {
  const path = splitPath(source);
  const first = path.findIndex(hasWildcard);
  if (first < 0) return [path];
  const base = followPath(root, path.slice(0, first));
  const patterns = path.slice(first).map(parsePattern);
  const start = findNode(root, base);
  const found = start ? await matchBelow(start, patterns, work) : [];
  return found.map(path => [...base, ...path]);
}

function hasWildcard(text: string): boolean {
  return /[*?[]/.test(text.replaceAll(/\\./gs, ''));
}

async function matchBelow(node: Node, [pattern, ...rest]: readonly Pattern[], work: Work): Promise<readonly Path[]> {
  if (!pattern) return [[]];
  if (node.kind !== 'directory') return [];
  const found: Path[] = [];
  for (const [name, child] of [...node.children].sort(([a], [b]) => (a < b ? -1 : 1))) {
    await work.rest();
    if (!(await isMatch([...name], pattern, work))) continue;
    for (const path of await matchBelow(child, rest, work)) found.push([name, ...path]);
  }
  return found;
}

/** Only the last `*` is retried: a longer match of an earlier one would not help. */
async function isMatch(name: readonly string[], pattern: Pattern, work: Work): Promise<boolean> {
  let [at, token, star, retry] = [0, 0, -1, 0];
  while (at < name.length) {
    const current = pattern[token];
    work.spend(1);
    if (current === 'any') {
      [star, retry] = [token, at];
      token += 1;
    } else if (current?.(name[at] ?? '')) {
      at += 1;
      token += 1;
    } else if (star >= 0) {
      await work.rest();
      retry += 1;
      [at, token] = [retry, star + 1];
    } else return false;
  }
  return pattern.slice(token).every(rest => rest === 'any');
}

function parsePattern(text: string): Pattern {
  const tokens: Token[] = [];
  const chars = [...text];
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*') tokens.push('any');
    else if (char === '?') tokens.push(() => true);
    else if (char === '[') {
      const { test, end } = parseClass(chars, i);
      tokens.push(test);
      i = end;
    } else {
      if (char === '\\') i += 1;
      const literal = chars[i];
      tokens.push(other => other === literal);
    }
  }
  return tokens;
}

/** `[a-z]` or `[^a-z]`, from its bracket on. */
function parseClass(
  chars: readonly string[],
  start: number,
): { readonly test: (char: string) => boolean; readonly end: number } {
  const isNegated = chars[start + 1] === '^';
  const ranges: (readonly [low: string, high: string])[] = [];
  let at = start + (isNegated ? 2 : 1);
  const read = (): string => {
    if (chars[at] === '\\') at += 1;
    const char = chars[at++];
    if (char !== undefined) return char;
    throw new InvalidStep(`the pattern ${JSON.stringify(chars.join(''))} has a "[" without its "]"`);
  };
  while (ranges.length === 0 || chars[at] !== ']') {
    const low = read();
    if (chars[at] !== '-') ranges.push([low, low]);
    else {
      at += 1;
      ranges.push([low, read()]);
    }
  }
  return { test: char => ranges.some(([low, high]) => low <= char && char <= high) !== isNegated, end: at };
}
