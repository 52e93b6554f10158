// Singularity images: a built or copied image is passed to the configured converter as an OCI image layout, and the resulting file is
// pushed as an artifact for `singularity pull oras://` and `oras pull`. The image itself has no tag of its own.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import { type Digest, digestOf, encodeDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { ImageManifest } from '../../oci/manifest.ts';
import { formatSize } from '../../oci/wording.ts';
import { BuildFailure, type Execute, type ExecuteOptions, failUnavailable, kindOfRegistryError } from '../execution.ts';
import { InvalidLayout, writeLayout } from '../image-layout.ts';
import type { BaseImage, BaseImages, Destination, OpenDestination } from '../images.ts';
import { childEnvironment, type Environment, runProcess } from '../process.ts';
import type { Spec } from '../spec.ts';
import { tagOf } from './result.ts';
import type { Workspaces } from './workspace.ts';

interface SifOptions {
  /** The words of the command: `{layout}` is the folder of the image, `{output}` the file to write. Undefined: there is none. */
  readonly command: readonly string[] | undefined;
  readonly timeoutMs: number;
  /** For config and layers of the image, compressed. */
  readonly maxImageBytes: number;
  /** For the resulting file. */
  readonly maxSifBytes: number;
}

interface SifDeps {
  readonly options: SifOptions;
  readonly images: Pick<BaseImages, 'open'>;
  readonly openDestination: OpenDestination;
  readonly workspaces: Workspaces;
  readonly environment: Environment;
  readonly removeTag: (repository: string, tag: string) => Promise<void>;
}

const STEP = 'SIF';
const LAYER_TYPE = 'application/vnd.sylabs.sif.layer.v1.sif';
const CONFIG_TYPE = 'application/vnd.sylabs.sif.config.v1+json';
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
/** The interval between checks of the file's size while it is written. */
const CHECK_MS = 500;

/** Wraps an executor, for specs of both formats. */
export function withSif<S extends Spec>(execute: Execute<S>, deps: SifDeps): Execute<S> {
  return async (spec, options) => {
    if (spec.format !== 'sif') return execute(spec, options);
    const { repository } = spec.target;
    // The requested tag is that of the SIF.
    const tag = `${options.id}.oci`;
    try {
      const { digest } = await execute(spec, { ...options, image: `${repository}:${tag}` });
      return await deps.workspaces.use(options.id, folder =>
        convertAndPush(deps, { repository, digest, folder, options }),
      );
    } catch (error) {
      options.signal.throwIfAborted();
      throw toFailure(error);
    } finally {
      await deps.removeTag(repository, tag).catch(() => {});
    }
  };
}

interface Conversion {
  readonly repository: string;
  /** The digest of the image. */
  readonly digest: Digest;
  /** Removed afterwards. */
  readonly folder: string;
  readonly options: ExecuteOptions;
}

async function convertAndPush(deps: SifDeps, conversion: Conversion) {
  const { repository, digest, folder, options } = conversion;
  const { signal, report, image } = options;
  const base = await deps.images.open(`${repository}:${tagOf(image)}`, digest);
  const [layout, output] = [join(folder, 'image'), join(folder, 'image.sif')];
  await mkdir(layout);
  await writeLayout(layout, {
    ...{ manifest: await onlyImage(base), openBlob: base.openBlob },
    ...{ maxBytes: deps.options.maxImageBytes, signal },
  });
  report({ kind: 'step', step: STEP, state: 'started' });
  await convert(deps, { folder, layout, output, options });
  report({ kind: 'step', step: STEP, state: 'done' });
  await options.confirm?.();
  return { digest: await push(output, image, { destination: deps.openDestination(repository), signal }) };
}

/** Accepts an index of a single image. */
async function onlyImage({ root, readManifest }: BaseImage): Promise<ImageManifest> {
  const [entry, ...others] = root.kind === 'index' ? root.manifests : [];
  const manifest = entry && others.length === 0 ? await readManifest(entry) : root;
  if (manifest.kind === 'image') return manifest;
  throw fail('a SIF can only have one image, of one platform');
}

interface Paths {
  readonly folder: string;
  readonly layout: string;
  readonly output: string;
  readonly options: Pick<ExecuteOptions, 'signal' | 'report'>;
}

async function convert({ options: limits, environment }: SifDeps, { folder, layout, output, options }: Paths) {
  const words: Readonly<Record<string, string>> = { layout, output };
  const [command = '', ...args] = (limits.command ?? []).map(word =>
    word.replaceAll(/\{(layout|output)\}/g, (_, name) => words[name] ?? ''),
  );
  if (command === '') throw fail('no converter is configured: set builds.sif in veneer.yaml');
  const late = AbortSignal.timeout(limits.timeoutMs);
  await using size = watchSize(output, limits.maxSifBytes);
  try {
    const { code, endedBy } = await runProcess(command, args, {
      // HOME is below the folder of the build, so that processes left by a crash are ended at the next start.
      env: childEnvironment(environment, { HOME: folder, TMPDIR: folder }),
      cwd: folder,
      signal: AbortSignal.any([options.signal, late, size.signal]),
      onLine: line =>
        options.report({
          kind: 'output',
          step: STEP,
          text: stripVTControlCharacters(line).replaceAll(folder, '<build>'),
        }),
    });
    if (code !== 0) throw fail(`${command} failed (${endedBy ?? `exit code ${code}`}): the log has more`);
    await size.check();
  } catch (error) {
    if (error === late.reason)
      throw fail(`${command} took longer than ${limits.timeoutMs / 1000} s (builds.sif.timeout)`);
    return failUnavailable(error);
  }
}

function watchSize(output: string, maxBytes: number) {
  const stop = new AbortController();
  async function check(): Promise<void> {
    const { size } = await stat(output).catch(() => ({ size: 0 }));
    if (size <= maxBytes) return;
    stop.abort(fail(`the SIF has more than ${formatSize(maxBytes)} (builds.sif.maxSize)`));
    stop.signal.throwIfAborted();
  }
  const timer = setInterval(() => void check().catch(() => {}), CHECK_MS);
  return {
    signal: stop.signal,
    check,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
    },
  };
}

interface Pushing {
  readonly destination: Destination;
  readonly signal: AbortSignal;
}

/** The digest of the artifact. */
async function push(file: string, image: string, { destination, signal }: Pushing): Promise<Digest> {
  const sif = await describeFile(file, signal);
  const config = new TextEncoder().encode('{}');
  const title = {
    'org.opencontainers.image.title': `${image.slice(image.lastIndexOf('/') + 1).replace(':', '_')}.sif`,
  };
  const descriptor = { mediaType: CONFIG_TYPE, digest: digestOf(config), size: config.byteLength };
  const raw = new TextEncoder().encode(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: MANIFEST_TYPE, config: descriptor },
      layers: [{ mediaType: LAYER_TYPE, ...sif, annotations: title }],
    }),
  );
  await destination.putBlob(descriptor, async () => new Blob([config]).stream());
  await destination.putBlob({ mediaType: LAYER_TYPE, ...sif }, async () => openFile(file));
  signal.throwIfAborted();
  const digest = digestOf(raw);
  await destination.putManifest({ raw, mediaType: MANIFEST_TYPE, digest, tags: [tagOf(image)] });
  return digest;
}

async function describeFile(file: string, signal: AbortSignal): Promise<Pick<ContentDescriptor, 'digest' | 'size'>> {
  const hash = createHash('sha256');
  let size = 0;
  try {
    for await (const chunk of createReadStream(file, { signal })) {
      hash.update(chunk);
      size += chunk.length;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw fail('the converter has written no file', error);
  }
  if (size === 0) throw fail('the converter has written an empty file');
  return { digest: encodeDigest('sha256', hash), size };
}

function openFile(file: string): ReadableStream<Uint8Array> {
  return Readable.toWeb(createReadStream(file));
}

function fail(reason: string, cause?: unknown): BuildFailure {
  return new BuildFailure({ kind: 'build', reason, step: STEP }, { cause });
}

function toFailure(error: unknown): unknown {
  if (error instanceof InvalidLayout) return fail(`${error.message} (builds.sif.maxImage)`, error);
  if (error instanceof RegistryError)
    return new BuildFailure({ kind: kindOfRegistryError(error), reason: error.message, step: STEP }, { cause: error });
  return error;
}
