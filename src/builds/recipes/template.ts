// Texts of recipes: what a pull asked for is put in where a placeholder stands.
import { resolve, sep } from 'node:path';
import type { Values } from './pattern.ts';

const PLACEHOLDER = /\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

/** The names of the placeholders in a text. */
export function placeholdersOf(text: string): readonly string[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, name = '']) => name);
}

/** What is no value's name stays as it is. A value that looks like a placeholder is not filled again. */
export function fillText(text: string, values: Values): string {
  return text.replace(PLACEHOLDER, (placeholder, name: string) => values.get(name) ?? placeholder);
}

/**
 * The absolute path; undefined where a value would lead it out of the folder that it begins with, which is all before the first
 * component with a placeholder.
 */
export function fillPath(path: string, values: Values, directory: string): string | undefined {
  const components = path.split('/');
  const first = components.findIndex(component => placeholdersOf(component).length > 0);
  if (first < 0) return resolve(directory, path);
  const folder = resolve(directory, components.slice(0, first).join('/') || (path.startsWith('/') ? '/' : '.'));
  const filled = components.slice(first).map(component => fillText(component, values));
  const isSafe = filled.join('/').split('/').every(isPlain);
  const found = resolve(folder, ...filled);
  return isSafe && found.startsWith(folder.endsWith(sep) ? folder : folder + sep) ? found : undefined;
}

/** A component that names something in its folder. */
function isPlain(component: string): boolean {
  return component !== '' && component !== '.' && component !== '..' && !component.includes('\0');
}
