// Names in a build context: the grammar that keeps every name, and every symlink, inside.
import { invalidEntry } from './invalid-context.ts';

/** In bytes: what file systems take, and what a name is worth in memory. */
const MAX_NAME_BYTES = 1024;
const MAX_COMPONENT_BYTES = 255;

/**
 * The components of a name, without those that mean nothing (`.` and empty ones); none: the root of the context. Throws InvalidContext
 * for a name that is absolute, climbs, is not text, or is too long.
 */
export function parseEntryName(name: string): readonly string[] {
  checkText(name, 'name', name);
  if (name.startsWith('/')) throw invalidEntry(name, 'its name is absolute; expected one relative to the context');
  const components = componentsOf(name);
  if (components.includes('..')) throw invalidEntry(name, 'its name has ".."');
  return components;
}

/**
 * Throws InvalidContext for a symlink that is absolute or leads out of the context. What is followed where differs by builder, and one
 * that follows such a link would read this machine's files. A target may climb only at its start: from there on it passes directories
 * and links of the context alone, each of which stays inside, so that no chain of links leads out either.
 */
export function checkSymlink(components: readonly string[], target: string): void {
  const name = components.join('/');
  if (target === '') throw invalidEntry(name, 'the symlink has no target');
  checkText(name, 'target', target);
  if (target.startsWith('/'))
    throw invalidEntry(name, 'the symlink is absolute; expected one that stays in the context');
  const steps = componentsOf(target);
  const climbs = steps.findIndex(step => step !== '..');
  const climbed = climbs === -1 ? steps.length : climbs;
  if (steps.slice(climbed).includes('..'))
    throw invalidEntry(name, 'the symlink has ".." after the start of its target');
  if (climbed > components.length - 1) throw invalidEntry(name, 'the symlink leads out of the context');
}

function componentsOf(path: string): readonly string[] {
  return path.split('/').filter(component => component !== '' && component !== '.');
}

function checkText(name: string, what: 'name' | 'target', text: string): void {
  if (text.includes('\0')) throw invalidEntry(name, `its ${what} has a NUL character`);
  // A tar's bytes that are not UTF-8 arrive as U+FFFD: two names could become one.
  if (!text.isWellFormed() || text.includes('\ufffd')) throw invalidEntry(name, `its ${what} is not UTF-8`);
  if (Buffer.byteLength(text) > MAX_NAME_BYTES)
    throw invalidEntry(name, `its ${what} has more than ${MAX_NAME_BYTES} bytes`);
  if (componentsOf(text).some(component => Buffer.byteLength(component) > MAX_COMPONENT_BYTES)) {
    throw invalidEntry(name, `a part of its ${what} has more than ${MAX_COMPONENT_BYTES} bytes`);
  }
}
