// Which real clients are on this machine. .ci/install-clients brings them; CI must have all of them.
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

const bin = process.env.VENEER_CLIENTS_BIN ?? '/opt/veneer-clients/bin';
const busybox = join(bin, '..', 'busybox');

export const ARCHITECTURES = ['amd64', 'arm64', 'arm'] as const;

/** The path of a tool that was installed beside the others. */
export function clientPath(name: string): string {
  return join(bin, name);
}

/** For PATH: what was installed beside the others comes first. */
export function searchPath(): string {
  return [bin, process.env.PATH ?? ''].join(delimiter);
}

/** The path of the static busybox of an architecture. */
export function busyboxPath(architecture: (typeof ARCHITECTURES)[number]): string {
  return join(busybox, architecture);
}

/**
 * Why a suite that needs these commands cannot run here, or undefined when it can.
 * In CI nothing may be missing: it throws there.
 */
export function findMissing(names: readonly string[]): string | undefined {
  return tellMissing([
    ...findMissingCommands(names),
    ...ARCHITECTURES.map(busyboxPath).filter(path => !isExecutable(path)),
    ...(process.getuid?.() === 0 ? [] : ['root']),
  ]);
}

/** The same for a suite that needs nothing but commands. */
export function findMissingTools(names: readonly string[]): string | undefined {
  return tellMissing(findMissingCommands(names));
}

function findMissingCommands(names: readonly string[]): readonly string[] {
  const folders = [bin, ...(process.env.PATH ?? '').split(delimiter)];
  return names.filter(name => !folders.some(folder => isExecutable(resolve(folder, name))));
}

function tellMissing(missing: readonly string[]): string | undefined {
  if (missing.length === 0) return undefined;
  const reason = `missing: ${missing.join(', ')}`;
  if (process.env.CI === 'true') throw new Error(`${reason}; run .ci/install-clients`);
  return reason;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
