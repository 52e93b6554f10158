// Copies of images into other repositories: as they are (a mirror), or changed (frozen). Every byte is verified on its way.
import type { Make } from '../builds/execution.ts';
import type { CopySpec } from '../builds/spec.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName } from '../pull/origin.ts';
import { copyFailure } from './copy-failure.ts';
import { type CopyImageDeps, type CopyImageOptions, copyImage } from './copy-image.ts';
import type { Changes, CopiedImage } from './copy-source.ts';

/** Of all platforms, or of some: one gives its image, several an index of exactly those. Without changes, what is copied keeps its digest. */
export function createCopy(deps: CopyImageDeps): Make<CopySpec> {
  return async ({ source, platforms, changes }, options) => {
    const locate = () => {
      const origin = deps.origins.locate(source.registry, source.repository);
      return { origin, name: imageName(origin, source.tag), digest: source.digest, platforms, changes };
    };
    return { digest: await copy(locate, options, deps) };
  };
}

interface FinishOrder extends CopyImageOptions {
  /** The image as it was built: the full name of the repository that it was pushed to, and its digest. */
  readonly source: { readonly repository: string; readonly digest: Digest };
  readonly changes: Changes;
}

/** Changes a built image, and pushes what it became. Throws BuildFailure, or the signal's reason. */
type Finish = (order: FinishOrder) => Promise<Digest>;

export function createFinish(deps: CopyImageDeps): Finish {
  return ({ source, changes, ...options }) => {
    const locate = () => {
      const origin = deps.origins.locateName(source.repository);
      return { origin, name: imageName(origin, undefined), digest: source.digest, changes };
    };
    return copy(locate, options, deps);
  };
}

async function copy(locate: () => CopiedImage, options: CopyImageOptions, deps: CopyImageDeps): Promise<Digest> {
  try {
    options.signal.throwIfAborted();
    return await copyImage(locate(), options, deps);
  } catch (error) {
    options.signal.throwIfAborted();
    throw copyFailure(error);
  }
}
