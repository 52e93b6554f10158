// What a .dockerignore leaves out of a build context.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import dockerignore from '@balena/dockerignore';
import { InvalidContext } from './invalid-context.ts';

export interface IgnoreRules {
  ignores(name: string): boolean;
  /** Whether something below an ignored directory may be wanted after all. */
  readonly hasExceptions: boolean;
}

const MAX_BYTES = 1024 * 1024;

/** From `<containerFile>.dockerignore` where there is one, else from `.dockerignore`, in the directory. Throws InvalidContext. */
export async function readIgnoreRules(directory: string, containerFile: string | undefined): Promise<IgnoreRules> {
  const own =
    containerFile === undefined ? undefined : await readText(join(directory, `${containerFile}.dockerignore`));
  if (own === undefined) return createRules((await readText(join(directory, '.dockerignore'))) ?? '');
  const { ignores, hasExceptions } = createRules(own);
  // Builders would look at it again.
  return { hasExceptions, ignores: name => name === '.dockerignore' || ignores(name) };
}

function createRules(text: string): IgnoreRules {
  // The types of this CommonJS module give its function no other name.
  const rules = dockerignore.default({ ignorecase: false }).add(text.replace(/^\ufeff/, ''));
  return {
    hasExceptions: /^\s*!/m.test(text),
    ignores(name) {
      try {
        return rules.ignores(name);
      } catch (cause) {
        if (!(cause instanceof SyntaxError)) throw cause;
        throw new InvalidContext('build context: the ignore file has a pattern that cannot be read', { cause });
      }
    },
  };
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.byteLength > MAX_BYTES) throw new InvalidContext(`build context: ${path}: more than ${MAX_BYTES} bytes`);
    return bytes.toString();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
