// COPY and ADD: which files go where.
import type { AddInstruction, CopyInstruction } from '../../containerfile/instruction.ts';
import type { PathPatterns } from '../../context/path-patterns.ts';
import { findArchive, unpackArchive } from './add-archive.ts';
import { createDraft, type Draft } from './draft.ts';
import { type ChangeMode, parseMode, parseOctalMode } from './mode.ts';
import { createFile, type DirectoryNode, emptyDirectory } from './node.ts';
import { findOwner, isNumericOwner, type Owner } from './owner.ts';
import { findNode, followPath, type Path, splitPath } from './path.ts';
import type { ReadOptions } from './read-layers.ts';
import { createSelection, parsePatterns, type Selection } from './selection.ts';
import type { StageScope } from './stage-scope.ts';
import { InvalidStep } from './step.ts';
import { makeDirectories, transfer } from './transfer.ts';
import { findMatches, hasWildcard } from './wildcard.ts';

interface CopyOptions {
  readonly scope: StageScope;
  readonly workingDir: string;
  /** What is copied from: the build context, a stage or an image. */
  readonly source: DirectoryNode;
  readonly reading: ReadOptions;
}

const HEREDOC_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
const PERMISSIONS = 0o777;
const REMOTE = /^(?:https?:\/\/|git:\/\/|ssh:\/\/|git@|(?:github\.com|gitlab\.com)\/)/;

/** Whether it is an address or a repository, and no path. */
export function isRemote(source: string): boolean {
  return REMOTE.test(source);
}

/** Whether it becomes a layer of its own, without a look at what it lies on. */
export function isLinked({ isLinked, chmod }: CopyInstruction | AddInstruction): boolean {
  return isLinked && chmod === undefined;
}

/** A draft on `root` with the files copied. Throws InvalidStep or InvalidSyntax. */
export async function copyFiles(
  root: DirectoryNode,
  instruction: CopyInstruction | AddInstruction,
  options: CopyOptions,
): Promise<Draft> {
  const { scope, workingDir } = options;
  const draft = createDraft(root);
  const chmod = instruction.chmod === undefined ? undefined : scope.expand(instruction.chmod);
  const chown = instruction.chown === undefined ? undefined : scope.expand(instruction.chown);
  if (chown && isLinked(instruction) && !isNumericOwner(chown)) {
    throw new InvalidStep(`--chown=${chown} is a name, which --link cannot look up; use numbers`);
  }
  const placement: Placement = {
    destination: toAbsolute(scope.expand(instruction.destination), workingDir),
    owner: chown ? await findOwner(root, chown) : undefined,
    changeMode: chmod ? parseMode(chmod) : undefined,
    directoryMode: directoryMode(chmod),
  };
  const excluded = parsePatterns(instruction.excludes, options.reading.work);
  for (const written of instruction.sources) {
    options.reading.signal.throwIfAborted();
    await copySource(draft, scope.expand(written), { instruction, excluded, placement, options });
  }
  for (const { name, content, isExpanded } of instruction.heredocs) {
    const text = isExpanded ? scope.expandContent(content) : content;
    const file = createFile(new TextEncoder().encode(text), HEREDOC_MODE);
    const { work } = options.reading;
    await transfer(draft, { ...emptyDirectory, children: new Map([[name, file]]) }, [name], { ...placement, work });
  }
  return draft;
}

/** What is made on the way gets an octal mode too, but no more of it than permissions. */
function directoryMode(chmod: string | undefined): number {
  const octal = chmod ? parseOctalMode(chmod) : undefined;
  return octal === undefined ? DIRECTORY_MODE : octal & PERMISSIONS;
}

/** An absolute path; a slash or dot at its end, which says that it is a directory, stays. */
export function toAbsolute(path: string, workingDir: string): string {
  return path.startsWith('/') ? path : `${workingDir || '/'}/${path || './/'}`;
}

interface Placement {
  readonly destination: string;
  readonly owner: Owner | undefined;
  readonly changeMode: ChangeMode | undefined;
  readonly directoryMode: number;
}

interface Copy {
  readonly instruction: CopyInstruction | AddInstruction;
  readonly excluded: PathPatterns;
  readonly placement: Placement;
  readonly options: CopyOptions;
}

async function copySource(draft: Draft, text: string, copy: Copy): Promise<void> {
  const { instruction, placement, options } = copy;
  const { source, reading } = options;
  if (isRemote(text))
    throw new InvalidStep(`${JSON.stringify(text)} is remote, which the embedded builder does not fetch`);
  const { work } = reading;
  const { matches, selection } = await findSources(text, copy);
  for (const path of matches) {
    const unpacks = instruction.kind === 'add' && (instruction.unpacks ?? true);
    const archive = unpacks ? await findArchive(source, path) : undefined;
    if (archive === undefined) {
      await transfer(draft, source, path, { ...placement, selection, work });
      continue;
    }
    const target = followPath(draft.root, splitPath(placement.destination));
    makeDirectories(draft, target, { owner: placement.owner, directoryMode: DIRECTORY_MODE });
    await unpackArchive(draft, target, { archive, owner: placement.owner, reading });
  }
}

interface Sources {
  readonly matches: readonly Path[];
  readonly selection: Selection;
}

async function findSources(text: string, { instruction, excluded, options }: Copy): Promise<Sources> {
  const {
    source,
    reading: { work },
  } = options;
  if (instruction.kind === 'add' || !instruction.keepsParents) {
    return { matches: await findMatches(source, text, work), selection: createSelection(undefined, excluded) };
  }
  // What stands before "/./" is left out of the parents that are kept.
  const pivot = text.indexOf('/./');
  const [above, below] = pivot < 0 ? ['/', text] : [text.slice(0, pivot), text.slice(pivot + 3)];
  const pattern = splitPath(below).join('/');
  const isPlain = !hasWildcard(above) && !hasWildcard(pattern);
  const path = [...splitPath(above), ...splitPath(below)];
  if (isPlain && !findNode(source, followPath(source, path))) throw new InvalidStep(`/${path.join('/')} is not there`);
  const selection = createSelection(parsePatterns([pattern], work), excluded);
  return { matches: await findMatches(source, above, work), selection };
}
