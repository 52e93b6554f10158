// The images that a build may read: those that its plan has looked at, and asked for on behalf of the caller. A trigger of a base, or a frontend
// that the file names, may name others.
import { parsePlatform } from '../oci/platform.ts';
import { type BaseUse, findBases } from './containerfile/bases.ts';
import { InvalidContainerFile } from './containerfile/invalid.ts';
import { parseContainerFile } from './containerfile/parse.ts';
import { BuildFailure } from './maker.ts';
import type { ContainerFileSpec } from './spec.ts';

/** Their names as they are written, as the plan has found them. Throws BuildFailure for a Containerfile that is none. */
export function listReadImages(spec: ContainerFileSpec): readonly string[] {
  return listUses(spec).map(({ reference }) => reference);
}

/** The same with where and for what they are read. */
export function listUses({ containerFile, args, stage, platforms }: ContainerFileSpec): readonly BaseUse[] {
  const options = { args, stage, platforms: platforms.map(parsePlatform) };
  try {
    return findBases(parseContainerFile(containerFile), options);
  } catch (error) {
    if (!(error instanceof InvalidContainerFile)) throw error;
    throw new BuildFailure({ kind: 'build', reason: error.message }, { cause: error });
  }
}

/** Why an image is not read, in words for people. */
export function mayNotRead(image: string): string {
  return `${image} may not be read: the Containerfile does not name it, but a trigger of a base or a frontend; name it with FROM or COPY --from`;
}
