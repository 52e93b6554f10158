// A builder on the bench: orders for it, what it pushed and reported, and how it failed.
import { rm } from 'node:fs/promises';
import type { Backend, BuildCredentials, BuildInput } from '../../src/builds/backend.ts';
import { BuildFailure } from '../../src/builds/execution.ts';
import type { ProgressEvent } from '../../src/builds/progress.ts';
import type { Failure } from '../../src/builds/record.ts';
import { createOrder, type OrderOptions } from './build-order.ts';
import { type Pushed, readPushed } from './pushed-image.ts';

/** A builder, and the registries that it reaches. */
export interface BackendPlace {
  readonly backend: Backend;
  /** An existing folder: what is built is prepared below it. */
  readonly folder: string;
  /** `host:port` of a registry for everyone. */
  readonly registry: string;
  /** An image there, `host:port/repository:tag`, for linux/amd64, linux/arm64 and linux/arm/v7: busybox at /bin/sh, PATH=/bin. */
  readonly base: string;
  /** A registry that wants credentials. */
  readonly guarded: { readonly registry: string; readonly credentials: BuildCredentials };
  close(): Promise<void>;
}

/** Without an image it is pushed to a tag of its own in the registry for everyone. */
type BenchOrder = Omit<OrderOptions, 'image'> & { readonly image?: string };

export interface Bench {
  readonly place: BackendPlace;
  prepare(options: BenchOrder): Promise<BuildInput>;
  build(options: BenchOrder): Promise<Built>;
  /** Throws where the build succeeds, or throws anything but a BuildFailure. */
  fail(options: BenchOrder): Promise<Failed>;
}

interface Built {
  readonly digest: string;
  readonly events: readonly ProgressEvent[];
  readonly pushed: Pushed;
}

interface Failed {
  readonly failure: Failure;
  readonly events: readonly ProgressEvent[];
}

export function createBench(place: BackendPlace): Bench {
  let count = 0;

  function prepare(options: BenchOrder): Promise<BuildInput> {
    count += 1;
    return createOrder(place.folder, { image: `${place.registry}/builds/bench:${count}`, ...options });
  }

  async function run(options: BenchOrder, events: ProgressEvent[]) {
    const order = await prepare(options);
    const { signal } = new AbortController();
    try {
      const { digest } = await place.backend.build(order, { signal, report: entry => events.push(entry) });
      return { digest, image: order.target.name };
    } finally {
      await rm(order.directory, { recursive: true, force: true });
    }
  }

  return {
    place,
    prepare,
    async build(options) {
      const events: ProgressEvent[] = [];
      const { digest, image } = await run(options, events);
      const [host = ''] = image.split('/');
      return { digest, events, pushed: await readPushed(image, options.credentials?.[host]) };
    },
    async fail(options) {
      const events: ProgressEvent[] = [];
      const error = await run(options, events).catch((error: unknown) => error);
      if (error instanceof BuildFailure) return { failure: error.failure, events };
      throw new Error('expected a BuildFailure', { cause: error });
    },
  };
}
