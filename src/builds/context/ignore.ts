// What a .dockerignore leaves out of a build context.
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Work } from '../work.ts';
import { InvalidContext } from './invalid-context.ts';
import { createPathPatterns, InvalidPathPattern, linesOf, type PathPatterns } from './path-patterns.ts';

export interface IgnoreRules {
  /** Rejects as PathPatterns has it. */
  ignores(name: string): Promise<boolean>;
  /** Whether something below an ignored directory may be wanted after all. */
  readonly hasExceptions: boolean;
}

const MAX_BYTES = 1024 * 1024;

/** From `<containerFile>.dockerignore` where there is one, else from `.dockerignore`, in the directory. Throws InvalidContext. */
export async function readIgnoreRules(
  directory: string,
  containerFile: string | undefined,
  work: Work,
): Promise<IgnoreRules> {
  const own =
    containerFile === undefined ? undefined : await readRules(directory, `${containerFile}.dockerignore`, work);
  if (own === undefined) {
    const shared = (await readRules(directory, '.dockerignore', work)) ?? createPathPatterns([], work);
    return { hasExceptions: shared.hasExceptions, ignores: shared.match };
  }
  // Builders would look at it again.
  return { hasExceptions: own.hasExceptions, ignores: async name => name === '.dockerignore' || own.match(name) };
}

async function readRules(directory: string, name: string, work: Work): Promise<PathPatterns | undefined> {
  const text = await readText(join(directory, name));
  try {
    return text === undefined ? undefined : createPathPatterns(linesOf(text), work);
  } catch (cause) {
    if (!(cause instanceof InvalidPathPattern)) throw cause;
    throw new InvalidContext(`build context: ${name}: ${cause.message}`, { cause });
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES) throw new InvalidContext(`build context: ${path}: more than ${MAX_BYTES} bytes`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
