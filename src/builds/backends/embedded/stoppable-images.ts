// Base images of registries that hang: a build that is stopped does not wait for them.
import type { BaseImage, BaseImages } from '../../images.ts';

type Body = ReadableStream<Uint8Array>;

/** Every function rejects with the signal's reason when that aborts, a body breaks with it, and its source is cancelled. */
export function stoppableImages(images: BaseImages, signal: AbortSignal): BaseImages {
  const stoppable = <T>(work: Promise<T>) => untilAborted(work, signal);
  const ofImage = ({ root, readManifest, readConfig, openBlob }: BaseImage): BaseImage => ({
    root,
    readManifest: descriptor => stoppable(readManifest(descriptor)),
    readConfig: descriptor => stoppable(readConfig(descriptor)),
    openBlob: digest => openBody(openBlob(digest), signal),
  });
  return {
    resolve: reference => stoppable(images.resolve(reference)),
    open: async (reference, digest) => ofImage(await stoppable(images.open(reference, digest))),
  };
}

async function openBody(opening: Promise<Body>, signal: AbortSignal): Promise<Body> {
  try {
    const body = await untilAborted(opening, signal);
    return body.pipeThrough(new TransformStream<Uint8Array, Uint8Array>(), { signal });
  } catch (error) {
    opening.then(body => body.cancel(error)).catch(() => {});
    throw error;
  }
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
