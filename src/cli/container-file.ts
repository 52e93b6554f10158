// Finds the Containerfile that `veneer build` is to build.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describeFault, NothingToSend } from './archive.ts';

export interface ContainerFile {
  readonly text: string;
  /** Absent where it came from standard input. */
  readonly path?: string;
}

interface ContainerFilePlaces {
  /** What -f says: a path, or `-` for standard input. */
  readonly file: string | undefined;
  /** The directory of the build context, if it is one. */
  readonly directory: string | undefined;
  readonly stdin: Readable;
}

const NAMES = ['Containerfile', 'Dockerfile'] as const;

/** What -f names, else the Containerfile or Dockerfile in the directory. Throws NothingToSend. */
export async function readContainerFile({ file, directory, stdin }: ContainerFilePlaces): Promise<ContainerFile> {
  if (file === '-') return { text: await text(stdin) };
  if (file !== undefined) return (await find(file)) ?? refuse(`there is no ${file}`);
  if (directory === undefined)
    return refuse('what is to be built? name a directory, such as ".", or a Containerfile with -f');
  for (const name of NAMES) {
    const found = await find(join(directory, name));
    if (found) return found;
  }
  return refuse(`there is no ${NAMES.join(' and no ')} in ${directory}: name it with -f`);
}

async function find(path: string): Promise<ContainerFile | undefined> {
  try {
    return { text: await readFile(path, 'utf8'), path };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw describeFault(cause, path);
  }
}

function refuse(message: string): never {
  throw new NothingToSend(message);
}
