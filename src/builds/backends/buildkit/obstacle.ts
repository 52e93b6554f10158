// What BuildKit's clients cannot take, or would take for something else.
import type { ContainerFileSpec } from '../../spec.ts';

/** Build arguments that BuildKit itself understands, and that would give the result another form than the spec says. */
const RESERVED = /^BUILDKIT_(?:ATTEST_.*|MULTI_PLATFORM)$/;
/** What Linux allows for one argument of a command is 128 KiB. */
const MAX_BYTES = 120 * 1024;

/** Why a spec cannot be handed over on a command line; undefined where it can. */
export function findCommandObstacle({ args, labels }: ContainerFileSpec): string | undefined {
  const reserved = Object.keys(args).find(name => RESERVED.test(name));
  if (reserved)
    return `the build argument ${reserved} is reserved; attestations and platforms are options of the build`;
  for (const [name, value] of [...Object.entries(args), ...Object.entries(labels)]) {
    if (/[\0=]/.test(name) || value.includes('\0'))
      return `"${name.slice(0, 80)}" has a character that no build argument or label can have`;
    if (Buffer.byteLength(name) + Buffer.byteLength(value) > MAX_BYTES)
      return `the value of "${name.slice(0, 80)}" is over 120 KiB`;
  }
  return undefined;
}
